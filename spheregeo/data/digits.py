"""Files of handwritten digits in the layouts that MNIST comes in: arrays of an .npz, or IDX files.

::

    x (n, H, W) uint8, y (n,)                                   one part, in one .npz
    x_train, y_train, x_test, y_test                            two parts, in one .npz
    train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-...  two parts in a folder, each file plain or with .gz
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

from spheregeo.data.files import need_file, read_array
from spheregeo.files import reading

Part = tuple[np.ndarray, np.ndarray]  # pictures (n, H, W) uint8, classes (n,)
_MOST = 2**31  # bytes of an IDX file's array


def read_digits(path: str | Path, most: int = 255) -> dict[str, Part]:
    """Read pictures and classes of a file or a folder.

    Args:
        path: an .npz, or the folder of IDX files.
        most: number of classes that there may be.

    Returns: the parts "train" and "test", or "all" where the file has one part.

    Shape: pictures (n, H, W) uint8 and classes (n,) int64, for each part.
    Raises: FileNotFoundError; ValueError naming the file for another layout and for classes that are none.
    """
    path = Path(path)
    if path.is_dir():
        found = {part: _idx_part(path, word, most) for part, word in (("train", "train"), ("test", "t10k"))}
    else:
        found = _npz_parts(path, most)
    shapes = {x.shape[1:] for x, _ in found.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{path} holds pictures of {' and '.join(map(str, shapes))} pixels; expected one size"
        )
    return found


def _npz_parts(path: Path, most: int) -> dict[str, Part]:
    stored = read_array(path)
    names = {"all": ("x", "y"), "train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
    held = set(stored) if isinstance(stored, dict) else set()
    parts = [part for part, pair in names.items() if set(pair) <= held]
    if not isinstance(stored, dict) or parts not in (["all"], ["train", "test"]):
        raise ValueError(
            f"{path} is no npz file with arrays x and y, or x_train, y_train, x_test and y_test; see the card "
            "datasets/spherical-mnist"
        )
    return {
        part: _checked(path, stored[names[part][0]], stored[names[part][1]], names[part], most)
        for part in parts
    }


def _checked(path: Path, x: np.ndarray, y: np.ndarray, names: tuple[str, str], most: int) -> Part:
    first, second = names
    if x.ndim != 3 or x.dtype != np.uint8 or y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"{path} holds {first} {x.shape} {x.dtype} and {second} {y.shape}; expected {first} (n, height, width) uint8 and "
            f"{second} (n,)"
        )
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= most:
        raise ValueError(
            f"{path} holds classes {second} {y.min()} ... {y.max()}; expected whole numbers 0 ... {most - 1}"
        )
    return x, y.astype(np.int64)


def _idx_part(folder: Path, word: str, most: int) -> Part:
    pictures, classes = (
        _find(folder, f"{word}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    x, y = read_idx(pictures), read_idx(classes)
    return _checked(pictures, x, y, ("pictures", f"{classes.name} with"), most)


def _find(folder: Path, name: str) -> Path:
    places = [folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")]
    return next((p for p in places if p.is_file()), places[0])


def read_idx(path: str | Path) -> np.ndarray:
    """Read the array of an IDX file of bytes, plain or packed by gzip.

    Args:
        path: the file.

    Raises: FileNotFoundError; ValueError naming the file when it is torn or holds anything but bytes.
    Reference: LeCun, Cortes & Burges 1998, the MNIST database, "file formats".
    """
    path = need_file(path, "an IDX file")
    with reading(path, "an IDX file"):
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != 8 or not 1 <= head[3] <= 4:
                raise ValueError(f"it begins with {head.hex(' ')}; expected 00 00 08 and the number of axes")
            sizes = np.frombuffer(stream.read(4 * head[3]), ">u4").astype(int).tolist()
            wanted = math.prod(sizes)
            if len(sizes) != head[3] or wanted > _MOST:
                raise ValueError(
                    f"it states {len(sizes)} sizes {sizes}; expected {head[3]} of at most {_MOST} bytes"
                )
            content = stream.read(wanted + 1)
        if len(content) != wanted:
            more = "more" if len(content) > wanted else f"{len(content)}"
            raise ValueError(
                f"its head asks for {wanted} bytes of shape {sizes} but {more} follow; copy it again"
            )
        return np.frombuffer(content, np.uint8).reshape(sizes)

"""ModelNet (Wu et al. 2015, arXiv:1406.5670) in the layouts in which it is passed on, and ScanObjectNN (Uy et al. 2019,
arXiv:1908.04616).

::

    CLASS/train/NAME.off, CLASS/test/NAME.off       "off": the original meshes; points are drawn from their surfaces; z upwards
    ply_data_train0.h5 ..., ply_data_test0.h5 ...   "hdf5": 2048 points each, with shape_names.txt; y upwards
    modelnet40_train.txt, CLASS/NAME.txt            "text": 10,000 points and normals each; y upwards
    ANY_train.npz, ANY_val.npz and/or ANY_test.npz  "npz": points_int16 (n, P, 3), label (n,), classes; z upwards

The axis that points upwards is compared with the tables among the clouds. No layout but "npz" has a validation split: every tenth
training cloud of a class is held out for it, since the test split must choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.class_folder import Entry, files_in
from spheregeo.data.files import read_class_names, read_lines, read_stored
from spheregeo.data.points.arrays import ArrayClouds, check_up, drawn_clouds, split_rows
from spheregeo.data.points.dataset import AXES
from spheregeo.files import reading

__all__ = ["read_modelnet", "read_scanobjectnn"]

SHORT = 32767  # an int16 coordinate of the unit sphere's radius
PACKED = 4096  # an HDF5 file holds at most so many times its own size: more than its compression reaches
UPS = ("auto", *AXES, "unknown")
SCAN_CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink", "sofa",
    "toilet",
)  # fmt: skip
SCAN_VARIANTS = (
    "objectdataset", "objectdataset_augmented25_norot", "objectdataset_augmented25rot", "objectdataset_augmentedrot",
    "objectdataset_augmentedrot_scale75",
)  # fmt: skip


def axis_of(up: str, usual: int) -> int | None:
    """The number of an axis given by name: "x", "y", "z"; "auto" for the layout's own, "unknown" for none. Raises: ValueError."""
    if up not in UPS:
        raise ValueError(f"up is {up!r}; expected one of {', '.join(map(repr, UPS))}")
    return usual if up == "auto" else None if up == "unknown" else AXES.index(up)


def read_hdf5(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrays of an HDF5 file by name.

    Raises: FileNotFoundError; ImportError without h5py; ValueError for a file that is torn or lacks a wanted array.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} needs h5py: pip install 'spheregeo[train]'") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected an HDF5 file with {', '.join(wanted)}")
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        held = sorted(file)
        missing = [name for name in wanted if name not in held]
        if missing:
            raise ValueError(f"{path} holds {', '.join(held) or 'nothing'}; expected {', '.join(wanted)}")
        return {name: _numbers(file[name], path) for name in (*wanted, *optional) if name in held}


def _numbers(stored: Any, path: Path) -> np.ndarray:
    """The numbers of an HDF5 dataset; its header may ask for no more of them than the file can hold."""
    kind, size = getattr(stored, "dtype", None), path.stat().st_size
    if kind is None or kind.kind not in "iuf":
        raise ValueError(f"{path}: {stored.name} holds {kind or 'a group'}; expected numbers")
    if stored.nbytes > PACKED * size:
        raise ValueError(f"{path}: {stored.name} asks for {stored.nbytes} bytes but the file has {size}")
    return np.asarray(stored[()])


# ---- layouts: each gives the whole training part and the part for the test


def _read_npz(root: Path, up: str, **_: Any) -> dict[str, ArrayClouds]:
    parts = {}
    for split in ("train", "val", "test"):
        found = sorted(root.glob(f"*{split}.npz"))
        if len(found) > 1:
            raise ValueError(f"{root} holds {len(found)} files *{split}.npz; expected one")
        if not found:
            continue
        stored = read_stored(found[0], "an archive of clouds")
        if not isinstance(stored, dict) or any(
            name not in stored for name in ("points_int16", "label", "classes")
        ):
            held = ", ".join(stored) if isinstance(stored, dict) else "one array"
            raise ValueError(f"{found[0]} holds {held}; expected points_int16, label and classes")
        if stored["points_int16"].dtype != np.int16:
            raise ValueError(f"{found[0]}: points_int16 is {stored['points_int16'].dtype}; expected int16")
        names = stored.get("name")
        with reading(found[0], "an archive of clouds"):
            parts[split] = ArrayClouds(
                stored["points_int16"], stored["label"], [str(c) for c in stored["classes"].reshape(-1)],
                names=None if names is None else names.reshape(-1).tolist(), up=axis_of(up, 2), unit=1 / SHORT,
                source=str(found[0]),
            )  # fmt: skip
    return parts


def _read_hdf5(root: Path, up: str, **_: Any) -> dict[str, ArrayClouds]:
    names = read_class_names(root / "shape_names.txt")
    parts = {}
    for split in ("train", "test"):
        paths = sorted(root.glob(f"ply_data_{split}*.h5"))
        if not paths:
            raise FileNotFoundError(f"{root} holds no ply_data_{split}*.h5; expected those of both splits")
        pieces = [_piece(path, names) for path in paths]
        for path, piece in zip(paths, pieces, strict=True):
            if piece.points.shape[1] != pieces[0].points.shape[1]:
                raise ValueError(
                    f"{path} has {piece.points.shape[1]} points a cloud but {paths[0].name} {pieces[0].points.shape[1]}"
                )
        normals = [piece.normals for piece in pieces if piece.normals is not None]
        parts[split] = ArrayClouds(
            np.concatenate([piece.points for piece in pieces]),
            np.concatenate([piece.labels for piece in pieces]), names,
            normals=np.concatenate(normals) if len(normals) == len(pieces) else None,
            up=axis_of(up, 1), source=f"{root} ({split})",
        )  # fmt: skip
    return parts


def _piece(path: Path, names: Sequence[str]) -> ArrayClouds:
    stored = read_hdf5(path, ("data", "label"), ("normal",))
    return ArrayClouds(stored["data"], stored["label"], names, normals=stored.get("normal"), source=str(path))


def _read_off(root: Path, up: str, num_points: int, seed: int, cache: Path | None) -> dict[str, ArrayClouds]:
    folders = [p for p in sorted(root.iterdir()) if (p / "train").is_dir() and (p / "test").is_dir()]
    names = [p.name for p in folders]
    parts = {}
    for split in ("train", "test"):
        entries: list[Entry] = [
            (path, label) for label, p in enumerate(folders) for path in files_in(p / split, (".off",))
        ]
        if not entries:
            raise FileNotFoundError(f"{root} has no CLASS/{split}/NAME.off; expected the meshes of ModelNet")
        parts[split] = drawn_clouds(entries, names, root, num_points, seed, cache, axis_of(up, 2))
    return parts


def _read_text(root: Path, up: str, num_points: int, seed: int, cache: Path | None) -> dict[str, ArrayClouds]:
    lists = {s: sorted(root.glob(f"modelnet*_{s}.txt")) for s in ("train", "test")}
    if any(len(found) != 1 for found in lists.values()):
        raise ValueError(
            f"{root} holds {len(lists['train'])} lists modelnet*_train.txt and {len(lists['test'])} modelnet*_test.txt; "
            "expected one of each: move those of the other ModelNet away"
        )
    stems = {split: [line for line in read_lines(found[0]) if line] for split, found in lists.items()}
    names = sorted({stem.rpartition("_")[0] for found in stems.values() for stem in found})
    parts = {}
    for split, found in stems.items():
        entries: list[Entry] = []
        for stem in found:
            name = stem.rpartition("_")[0]
            entries.append((root / name / f"{stem}.txt", names.index(name)))
            if not entries[-1][0].is_file():
                raise FileNotFoundError(f"{lists[split][0]} names {stem} but {entries[-1][0]} does not exist")
        parts[split] = drawn_clouds(
            entries, names, root, num_points, seed, cache, axis_of(up, 1), "x y z nx ny nz"
        )
    return parts


def _has_off(root: Path) -> bool:
    return any((p / "train").is_dir() and (p / "test").is_dir() for p in root.iterdir() if p.is_dir())


LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[..., dict[str, ArrayClouds]]]] = {
    "npz": (lambda root: any(root.glob("*train.npz")), _read_npz),
    "hdf5": (lambda root: any(root.glob("ply_data_train*.h5")), _read_hdf5),
    "text": (lambda root: any(root.glob("modelnet*_train.txt")), _read_text),
    "off": (_has_off, _read_off),
}


def three_splits(parts: dict[str, ArrayClouds], held_out: int) -> dict[str, ArrayClouds]:
    """Train, val and test of the parts that there are: without both of val and test, validation takes from the training part.

    Raises: FileNotFoundError without a training part, or without any other.
    """
    if "train" not in parts or len(parts) < 2:
        raise FileNotFoundError(
            f"the data have {', '.join(parts) or 'no part'}; expected a training part and one for the test"
        )
    if len(parts) == 3:
        return parts
    test = parts["test"] if "test" in parts else parts["val"]
    kept, held = split_rows(parts["train"].labels, held_out)
    return {"train": parts["train"].part(kept), "val": parts["train"].part(held), "test": test}


def read_modelnet(
    root: str | Path,
    *,
    layout: str = "auto",
    held_out: int = 10,
    num_points: int = 2048,
    seed: int = 0,
    cache: str | Path | None = None,
    up: str = "auto",
) -> dict[str, ArrayClouds]:
    """The three splits of ModelNet40 or ModelNet10 in a folder.

    Args:
        root: the folder, in one of the layouts above.
        layout: "npz", "hdf5", "text" or "off"; "auto" looks which one it is.
        held_out: every so many-th training cloud of a class validates, where the data have no split for it; 0 trains on all, and
            validates on them too.
        num_points: points that are drawn from a mesh, or kept of a text file.
        seed: of that draw.
        cache: folder for the points drawn; ``root/.spheregeo`` if None. Other layouts need none.
        up: axis against gravity, "x", "y" or "z"; "auto" for the layout's own, "unknown" for none.

    Raises: FileNotFoundError, ValueError for another layout, an axis that the tables contradict, faulty files.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"root {root} is not a folder; expected one with ModelNet (see --data.root)")
    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected 'auto' or one of {', '.join(map(repr, LAYOUTS))}")
    if num_points < 1:
        raise ValueError(f"num_points is {num_points}; expected at least 1")
    found = [name for name, (fits, _) in LAYOUTS.items() if fits(root)] if layout == "auto" else [layout]
    if not found:
        raise FileNotFoundError(
            f"{root} holds neither *_train.npz, ply_data_train*.h5, modelnet*_train.txt nor CLASS/train/*.off; "
            "see datasets/modelnet/README.md"
        )
    where = Path(cache) if cache is not None else root / ".spheregeo"
    parts = LAYOUTS[found[0]][1](root, up=up, num_points=num_points, seed=seed, cache=where)
    for part in parts.values():
        check_up(part)
    return three_splits(parts, held_out)


def read_scanobjectnn(
    root: str | Path,
    *,
    variant: str = "objectdataset_augmentedrot_scale75",
    background: bool = True,
    held_out: int = 10,
) -> dict[str, ArrayClouds]:
    """The three splits of ScanObjectNN: scans of fifteen kinds of things, y upwards.

    Args:
        root: folder with training_VARIANT.h5 and test_VARIANT.h5, such as h5_files/main_split.
        variant: "objectdataset" as scanned, "objectdataset_augmentedrot_scale75" the hardest (PB_T50_RS), or one between.
        background: keep the points of the background; without them clouds differ in size.
        held_out: every so many-th training cloud of a class validates; 0 trains and validates on all.

    Raises: FileNotFoundError, ValueError.
    """
    root = Path(root)
    if variant not in SCAN_VARIANTS:
        raise ValueError(f"variant is {variant!r}; expected one of {', '.join(map(repr, SCAN_VARIANTS))}")
    parts = {}
    for split, word in (("train", "training"), ("test", "test")):
        path = root / f"{word}_{variant}.h5"
        stored = read_hdf5(path, ("data", "label"), ("mask",))
        if not background and "mask" not in stored:
            raise ValueError(f"{path} has no mask, so the background is not known; expected one")
        mask = None if background else stored["mask"].reshape(len(stored["mask"]), -1) >= 0
        parts[split] = ArrayClouds(
            stored["data"], stored["label"], SCAN_CLASSES, mask=mask, up=1, source=str(path)
        )
    return three_splits(parts, held_out)

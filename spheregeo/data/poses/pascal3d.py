r"""PASCAL3D+: photographs with a bounding box and the viewpoint of each thing, in the layout of release 1.1.

::

    root/Annotations/CLASS_imagenet/NAME.mat, CLASS_pascal/NAME.mat     record.objects: class, bbox, viewpoint, difficult ...
    root/Images/CLASS_imagenet/NAME.JPEG, CLASS_pascal/NAME.jpg
    root/Image_sets/CLASS_imagenet_train.txt, CLASS_imagenet_val.txt    names, one a line
    root/PASCAL/VOCdevkit/VOC2012/ImageSets/Main/CLASS_train.txt, CLASS_val.txt   a name and a number a line

Training takes the images of ImageNet and PASCAL's training images, the test PASCAL's validation images; every tenth training
image is for validation. With azimuth a, elevation e and in-plane turn t the camera stands at (cos e sin a, −cos e cos a, sin
e), with the thing's z axis up, and the rotation is R_z(t) R_x(e − 90°) R_z(−a).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.common import check_split
from spheregeo.data.files import need_file, read_lines
from spheregeo.data.images.files import read_picture, resized
from spheregeo.data.poses.dataset import PoseDataset, check_symmetric
from spheregeo.data.poses.layouts import PASCAL3D
from spheregeo.files import reading
from spheregeo.groups import axis_angle

__all__ = ["Pascal3D"]


def viewpoint_rotation(azimuth: float, elevation: float, theta: float) -> np.ndarray:
    """Return the rotation of a thing that is seen from a viewpoint.

    Args:
        azimuth: of the camera about the thing's z axis, 0 at −y, towards +x.
        elevation: of the camera above the thing's equator.
        theta: turn of the image about the view axis, counter-clockwise.

    Shape: -> (3, 3) float64. Units: degrees.
    """
    a, e, t = (math.radians(v) for v in (azimuth, elevation, theta))
    parts = axis_angle((0, 0, 1), t), axis_angle((1, 0, 0), e - math.pi / 2), axis_angle((0, 0, 1), -a)
    return (parts[0] @ parts[1] @ parts[2]).numpy()


# scipy's reader of MATLAB files can crash on a damaged one, and would take the process along: it runs in one of its own, which
# answers with a line for each file.
_LOAD = """
import json, sys
import numpy as np
from scipy.io import loadmat

def first(record):
    thing = np.atleast_1d(record.objects)[0]
    view = np.atleast_1d(thing.viewpoint)
    view = view[0] if view.size else None
    hard = any(bool(getattr(thing, name, 0)) for name in ("occluded", "difficult", "truncated"))
    fine = view is not None and float(getattr(view, "distance", 0)) != 0
    if hard or not fine:
        return None
    angles = [float(getattr(view, name)) for name in ("azimuth", "elevation", "theta")]
    return [str(getattr(thing, "class")), np.asarray(thing.bbox, float).reshape(-1).tolist(), angles]

for line in sys.stdin:
    try:
        found = {"thing": first(loadmat(line[:-1], squeeze_me=True, struct_as_record=False)["record"])}
    except Exception as error:
        found = {"fault": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
"""
_PATIENCE = 600.0  # seconds for all annotations
Thing = tuple[str, np.ndarray, np.ndarray]


def read_annotations(paths: Sequence[Path]) -> list[Thing | None]:
    """Return class, bounding box (left, top, right, bottom) and rotation (3, 3) of the first thing in each annotation file.

    Args:
        paths: the .mat files.

    Returns: None for things that are occluded, truncated, difficult, or have no fine viewpoint.
    Raises: FileNotFoundError; ValueError naming the first file of another layout.
    """
    for path in paths:
        need_file(path, "an annotation of PASCAL3D+")
    text = "".join(f"{path.resolve()}\n" for path in paths)
    command = [sys.executable, "-I", "-c", _LOAD]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    lines = done.stdout.splitlines()
    if len(lines) < len(paths):
        with reading(paths[len(lines)], "an annotation of PASCAL3D+"):
            raise ValueError(f"the reader ended (status {done.returncode}); is the file complete?")
    return [_thing(path, json.loads(line)) for path, line in zip(paths, lines, strict=True)]


def _thing(path: Path, found: dict[str, Any]) -> Thing | None:
    with reading(path, "an annotation of PASCAL3D+"):
        if "fault" in found:
            raise ValueError(found["fault"])
        if found["thing"] is None:
            return None
        name, box, angles = found["thing"]
        if len(box) != 4 or not np.isfinite(box).all():
            raise ValueError(f"the bounding box is {box}; expected left, top, right, bottom")
        if not np.isfinite(angles).all():
            raise ValueError(f"azimuth, elevation and theta are {angles}; expected numbers")
        if not (box[0] < box[2] and box[1] < box[3]):
            return None
        return name, np.array(box), viewpoint_rotation(*angles)


class Pascal3D(PoseDataset):
    """Things of twelve classes cut out of photographs, with their rotations.

    Args:
        root: the folder PASCAL3D+_release1.1.
        split: train, val or test.
        size: rows and columns of the images.
        margin: share of the bounding box that is added on each side; then the box is widened to a square about its middle.
        symmetric: names of the classes whose things some rotation takes to themselves.

    Shape: images (3, *size) float32 in [0, 1]; black beyond the photograph.
    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    Reference: Xiang, Mottaghi & Savarese 2014, WACV, "Beyond PASCAL: a benchmark for 3D object detection in the wild".
    """

    class_names = PASCAL3D

    def __init__(
        self, root: str | Path, split: str = "train", size: Sequence[int] = (128, 128), margin: float = 0.1,
        symmetric: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.split, self.size, self.margin = Path(root), check_split(split), list(size), margin
        if not (self.root / "Annotations").is_dir():
            raise FileNotFoundError(f"{self.root} has no folder Annotations; expected PASCAL3D+_release1.1")
        self.symmetric = check_symmetric(symmetric, self.class_names)
        part = "test" if split == "test" else "train"
        self.entries: list[tuple[Path, int, np.ndarray, np.ndarray]] = []
        listed = list(_files(self.root, part))
        things = read_annotations([annotation for _, annotation in listed])
        for (image, _), found in zip(listed, things, strict=True):
            if found is not None and found[0] in self.class_names:
                self.entries.append((image, self.class_names.index(found[0]), *found[1:]))
        if part == "train":
            self.entries = [e for k, e in enumerate(self.entries) if (k % 10 == 8) == (split == "val")]
        if not self.entries:
            raise ValueError(
                f"the {split} split of {self.root} is empty; expected lists in Image_sets and PASCAL"
            )
        self.labels = [entry[1] for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def rotation(self, index: int) -> np.ndarray:
        return self.entries[index][3]

    def load(self, index: int) -> np.ndarray:
        path, _, box, _ = self.entries[index]
        return resized(cut_square(read_picture(path, 3), box, self.margin), self.size)


def cut_square(image: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """Return the square about a bounding box, black beyond the image.

    Args:
        image: the image.
        box: left, top, right, bottom, in pixels.
        margin: share of the longer side that is added on each side.

    Shape: (C, H, W) -> (C, n, n).
    """
    centre = (box[:2] + box[2:]) / 2
    side = max(2, round(float((box[2:] - box[:2]).max()) * (1 + 2 * margin)))
    left, top = np.round(centre - side / 2).astype(int)
    out = np.zeros((len(image), side, side), image.dtype)
    height, width = image.shape[1:]
    x, y = slice(max(left, 0), min(left + side, width)), slice(max(top, 0), min(top + side, height))
    part = image[:, y, x]
    if part.size:
        out[
            :, y.start - top : y.start - top + part.shape[1], x.start - left : x.start - left + part.shape[2]
        ] = part
    return out


def _files(root: Path, part: str) -> Iterator[tuple[Path, Path]]:
    """Image and annotation of every listed name whose annotation there is."""
    voc = root / "PASCAL" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    for name in PASCAL3D:
        lists = [(f"{name}_pascal", voc / f"{name}_{'val' if part == 'test' else 'train'}.txt", ".jpg")]
        if part == "train":
            sets = root / "Image_sets"
            lists += [
                (f"{name}_imagenet", sets / f"{name}_imagenet_{s}.txt", ".JPEG") for s in ("train", "val")
            ]
        for folder, path, suffix in lists:
            for line in read_lines(path) if path.is_file() else []:
                stem = Path(line.split()[0]).name if line else ""
                annotation = root / "Annotations" / folder / f"{stem}.mat"
                if stem and annotation.is_file():
                    yield root / "Images" / folder / f"{stem}{suffix}", annotation

"""A folder of images with a table of their rotations.

::

    root/NAME.png                    or .jpg, .webp, .bmp, .npy, .tif, in any sub-folders
    root/rotations.csv               a head line, then a line for each image: its path below root, r00 ... r22 (the matrix row
                                     by row) or qw, qx, qy, qz (a quaternion), and optionally class
    root/rotations.npz               instead of the table: names, rotations (N, 3, 3) or (N, 4), and optionally classes, names
    root/train.txt, val.txt, test.txt   paths as in the table, one a line; all three or none
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import listed
from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.files import read_stored
from spheregeo.data.images.files import read_picture, resized
from spheregeo.data.molecules.tables import numeric, read_table
from spheregeo.data.poses.dataset import PoseDataset, as_rotations, check_camera, check_symmetric
from spheregeo.files import reading

__all__ = ["PoseFolder"]

MATRIX = [f"r{i}{j}" for i in range(3) for j in range(3)]
QUATERNION = ["qw", "qx", "qy", "qz"]
ONE = "thing"  # the class where a table names none
Table = tuple[list[str], np.ndarray, list[str]]


class PoseFolder(PoseDataset):
    """A folder of images with a table of rotations.

    Without lists, of the table's lines the 9th, 19th ... are for validation and the 10th, 20th ... for the test.

    Args:
        root: the folder, with rotations.csv or rotations.npz.
        split: train, val or test.
        camera: axes of the camera in whose frame the rotations are: "opengl" (x to the right, y up, z towards the viewer) or
            "opencv" (y down, z forward).
        channels: 1 for grey images, 3 for colours; as the files have them if None.
        size: rows and columns to which images are resized; as they are if None.
        symmetric: names of the classes whose things some rotation takes to themselves.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self, root: str | Path, split: str = "train", camera: str = "opengl", channels: int | None = None,
        size: Sequence[int] | None = None, symmetric: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.split, self.channels = Path(root), check_split(split), channels
        self.size = None if size is None else list(size)
        names, rotations, classes = read_rotations(self.root, check_camera(camera))
        self.class_names = tuple(sorted(set(classes)))
        self.symmetric = check_symmetric(symmetric, self.class_names)
        row = {name: k for k, name in enumerate(names)}
        lines = listed(self.root, split, SPLITS)
        if lines is None:
            rows = [k for k in range(len(names)) if SPLITS[(k % 10 == 8) + 2 * (k % 10 == 9)] == split]
        else:
            absent = [line for line in lines if line not in row]
            if absent:
                raise ValueError(
                    f"{self.root / f'{split}.txt'} names {absent[0]!r}, which the table of rotations does not hold "
                    f"({len(absent)} such names)"
                )
            rows = [row[line] for line in lines]
        if not rows:
            raise ValueError(
                f"the {split} split of {self.root} is empty ({len(names)} images); add images, or write train.txt, val.txt and "
                "test.txt with paths"
            )
        self.names = [names[k] for k in rows]
        self.rotations = rotations[rows]
        self.labels = [self.class_names.index(classes[k]) for k in rows]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def rotation(self, index: int) -> np.ndarray:
        found: np.ndarray = self.rotations[index]
        return found

    def load(self, index: int) -> np.ndarray:
        image = read_picture(self.root / self.names[index], self.channels)
        return image if self.size is None else resized(image, self.size)


def read_rotations(root: Path, camera: str) -> Table:
    """Return paths, rotations (N, 3, 3) in our camera's frame and names of classes of a folder's table.

    Args:
        root: the folder.
        camera: axes of the camera in whose frame the rotations are.

    Raises: FileNotFoundError without a table; ValueError for another layout.
    """
    table, arrays = root / "rotations.csv", root / "rotations.npz"
    if table.is_file():
        names, values, classes = _from_table(table)
        path = table
    elif arrays.is_file():
        names, values, classes = _from_arrays(arrays)
        path = arrays
    else:
        raise FileNotFoundError(
            f"{root} holds no rotations.csv and no rotations.npz; expected one (see --data.root)"
        )
    with reading(path, "a table of rotations"):
        twice = (
            sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        )
        if twice:
            raise ValueError(f"it names {twice[0]!r} twice")
        outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside:
            raise ValueError(f"it names {outside[0]!r}; expected paths below the folder")
        return names, as_rotations(values, camera, names), classes


def _from_table(path: Path) -> Table:
    columns = read_table(path)
    first = next(iter(columns))
    kind = next((kind for kind in (MATRIX, QUATERNION) if set(kind) <= set(columns)), None)
    if kind is None:
        raise ValueError(
            f"{path} has the columns {', '.join(columns)}; expected a path, then r00 ... r22 or qw, qx, qy, qz"
        )
    names = columns[first]
    values = np.stack([numeric(columns, name, path) for name in kind], 1)
    return names, values, columns.get("class", [ONE] * len(names))


def _from_arrays(path: Path) -> Table:
    stored = read_stored(path, "a table of rotations")
    with reading(path, "a table of rotations"):
        if not isinstance(stored, dict) or not {"names", "rotations"} <= set(stored):
            held = ", ".join(stored) if isinstance(stored, dict) else "one array"
            raise ValueError(f"it holds {held or 'no arrays'}; expected names and rotations")
        names = [str(name) for name in stored["names"].reshape(-1)]
        classes = (
            [str(name) for name in stored["classes"].reshape(-1)]
            if "classes" in stored
            else [ONE] * len(names)
        )
        if not len(names) == len(stored["rotations"]) == len(classes):
            raise ValueError(
                f"it has {len(names)} names, {len(stored['rotations'])} rotations and {len(classes)} classes; expected as many"
            )
        return names, stored["rotations"].astype(np.float64), classes

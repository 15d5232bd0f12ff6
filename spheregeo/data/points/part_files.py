"""Clouds with parts from files: a folder of labelled clouds, and ShapeNet-Part (Yi et al. 2016) in the layouts in which it is
passed on.

::

    CATEGORY/NAME.ply                    a folder; .ply, .pcd, .txt or .npz with a column part or label; a sub-folder a category
    ply_data_train0.h5, ply_data_val0.h5, ply_data_test0.h5 ...   "hdf5": data (n, 2048, 3), label (n, 1), pid (n, 2048)
    synsetoffset2category.txt, train_test_split/shuffled_train_file_list.json ..., SYNSET/NAME.txt    "text": x y z nx ny nz part
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import Entry, class_entries
from spheregeo.data.common import IGNORE, check_split
from spheregeo.data.files import read_lines, read_text
from spheregeo.data.points.dataset import Cloud, PartDataset, check_cloud, check_spread
from spheregeo.data.points.files import PART_SUFFIXES, read_cloud
from spheregeo.data.points.modelnet import read_hdf5
from spheregeo.data.sphere.dataset import MEMORY_BUDGET
from spheregeo.files import reading

__all__ = ["PartFiles", "PartFolder", "ShapeNetPart"]

# Yi et al. 2016: the sixteen categories in the order of their numbers, with the number of their parts.
SHAPENET = {
    "airplane": 4, "bag": 2, "cap": 2, "car": 4, "chair": 4, "earphone": 3, "guitar": 3, "knife": 2, "lamp": 4, "laptop": 2,
    "motorbike": 6, "mug": 2, "pistol": 3, "rocket": 3, "skateboard": 3, "table": 3,
}  # fmt: skip
SHAPENET_NAMES = tuple(f"{name} {k}" for name, count in SHAPENET.items() for k in range(count))
SHAPENET_PARTS = tuple(
    tuple(k for k, part in enumerate(SHAPENET_NAMES) if part.rpartition(" ")[0] == name) for name in SHAPENET
)
Y_UP = 1


class PartFiles(PartDataset):
    """Files of clouds with parts, each read when it is asked for and kept while memory allows.

    Args:
        root: folder below which the files lie, for names in messages.
        entries: (file, category) of each.
        class_names: names of the categories.
        part_names: names of the parts.
        category_parts: parts of each category.
        numbers: for each category the numbers that its files hold in place of its parts; None where they hold the parts.
        up: the axis against gravity, 0 to 2; None where it is not known.
        columns: names of the columns of text files, see :func:`read_cloud`.
        drop_nan: leave out points that are NaN or infinite.

    Raises: ValueError, when a file is read, for a number that is no part of the file's category. Negative numbers stand for
        points whose part is not known.
    """

    def __init__(
        self,
        root: str | Path,
        entries: Sequence[Entry],
        class_names: Sequence[str],
        part_names: Sequence[str],
        category_parts: Sequence[Sequence[int]],
        *,
        numbers: Sequence[Sequence[int]] | None = None,
        up: int | None = None,
        columns: str = "",
        drop_nan: bool = False,
    ) -> None:
        self.root, self.entries, self.up = Path(root), list(entries), up
        self.class_names, self.part_names = tuple(class_names), tuple(part_names)
        self.category_parts = tuple(map(tuple, category_parts))
        self.numbers, self.columns, self.drop_nan = numbers, columns, drop_nan
        self.labels = [category for _, category in self.entries]
        self._clouds: dict[int, Cloud] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            path, category = self.entries[index]
            cloud = read_cloud(path, columns=self.columns, drop_nan=self.drop_nan, parts=True)
            check_spread(cloud.points, str(path))
            assert cloud.parts is not None
            cloud = Cloud(
                cloud.points, cloud.normals, cloud.dropped, self._parts(cloud.parts, category, path)
            )
            size = cloud.points.nbytes + (0 if cloud.normals is None else cloud.normals.nbytes)
            if self._held + size > MEMORY_BUDGET:
                return cloud
            self._clouds[index], self._held = cloud, self._held + size
        return self._clouds[index]

    def _parts(self, found: np.ndarray, category: int, path: Path) -> np.ndarray:
        own = np.asarray(self.category_parts[category], np.int64)
        held = own if self.numbers is None else np.asarray(self.numbers[category], np.int64)
        order = held.argsort()
        at = order[np.searchsorted(held[order], found).clip(max=len(held) - 1)]
        wrong = (found >= 0) & (held[at] != found)
        if wrong.any():
            raise ValueError(
                f"{path} has a part {found[wrong][0]}; those of {self.class_names[category]!r} in the training data are "
                f"{', '.join(map(str, sorted(held.tolist())))}, and negative where a part is not known"
            )
        return np.where(found >= 0, own[at], IGNORE)


class PartFolder(PartFiles):
    """A folder with a sub-folder of clouds with parts for each category; parts are the numbers that the training files hold.

    Args:
        root: the folder.
        split: train, val or test.
        up: the axis against gravity, 0 to 2; None where it is not known.
        columns: names of the columns of text files, see :func:`read_cloud`.
        drop_nan: leave out points that are NaN or infinite.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        up: int | None = None,
        columns: str = "",
        drop_nan: bool = False,
    ) -> None:
        root, split = Path(root), check_split(split)
        if not root.is_dir():
            raise FileNotFoundError(
                f"root {root} is not a folder; expected one with labelled clouds (see --data.root)"
            )
        names, train = class_entries(root, "train", PART_SUFFIXES)
        entries = train if split == "train" else class_entries(root, split, PART_SUFFIXES)[1]
        if not entries or not train:
            raise ValueError(
                f"the {split if not entries else 'train'} split of {root} is empty; add clouds, or list paths in train.txt, "
                "val.txt and test.txt"
            )
        numbers: list[set[int]] = [set() for _ in names]
        for path, category in train:
            parts = read_cloud(path, columns=columns, drop_nan=drop_nan, parts=True).parts
            assert parts is not None
            numbers[category] |= set(np.unique(parts[parts >= 0]).tolist())
        held = [sorted(found) for found in numbers]
        if any(not found for found in held) or sum(map(len, held)) > IGNORE:
            raise ValueError(
                f"{root} has {', '.join(f'{len(h)} parts of {n!r}' for n, h in zip(names, held, strict=True))}; expected one "
                f"at least of each, {IGNORE} in all at most"
            )
        part_names = [f"{name} {number}" for name, found in zip(names, held, strict=True) for number in found]
        ends = np.cumsum([0, *map(len, held)]).tolist()
        of = [range(a, b) for a, b in pairwise(ends)]
        super().__init__(
            root, entries, names, part_names, of, numbers=held, up=up, columns=columns, drop_nan=drop_nan
        )


class ShapeNetPart(PartDataset):
    """ShapeNet-Part in its HDF5 layout: one split in memory.

    Args:
        root: folder with ply_data_train*.h5, ply_data_val*.h5 and ply_data_test*.h5.
        split: train, val or test.
        up: the axis against gravity, 0 to 2.

    Shape: points (2048, 3), parts (2048,).
    Raises: FileNotFoundError, ValueError naming the file for arrays of other shapes and numbers out of range.
    """

    class_names = tuple(SHAPENET)
    part_names = SHAPENET_NAMES
    category_parts = SHAPENET_PARTS

    def __init__(self, root: str | Path, split: str = "train", up: int | None = Y_UP) -> None:
        self.root, self.split, self.up = Path(root), check_split(split), up
        paths = sorted(self.root.glob(f"ply_data_{split}*.h5"))
        if not paths:
            raise FileNotFoundError(
                f"{self.root} holds no ply_data_{split}*.h5; expected those of train, val and test"
            )
        pieces = [self._piece(path) for path in paths]
        sizes = {points.shape[1] for points, *_ in pieces}
        if len(sizes) > 1:
            raise ValueError(
                f"{paths[0].parent} has files of {sorted(sizes)} points a cloud; expected one number"
            )
        self.points, self.categories, self.parts = (
            np.concatenate(part) for part in zip(*pieces, strict=True)
        )
        self.labels = self.categories.tolist()

    @staticmethod
    def _piece(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        stored = read_hdf5(path, ("data", "label", "pid"))
        points, category, parts = stored["data"], stored["label"].reshape(-1), stored["pid"]
        if (
            points.ndim != 3
            or points.shape[2] != 3
            or parts.shape != points.shape[:2]
            or len(category) != len(points)
        ):
            raise ValueError(
                f"{path} has data {points.shape}, label {stored['label'].shape} and pid {parts.shape}; expected (n, P, 3), "
                "(n, 1) and (n, P)"
            )
        if len(category) and not 0 <= category.min() <= category.max() < len(SHAPENET):
            raise ValueError(
                f"{path} has labels {category.min()} to {category.max()}; expected 0 to {len(SHAPENET) - 1}"
            )
        category, parts = category.astype(np.int64), parts.astype(np.int64)
        first = np.array([own[0] for own in SHAPENET_PARTS])[category][:, None]
        last = np.array([own[-1] for own in SHAPENET_PARTS])[category][:, None]
        wrong = ((parts < first) | (parts > last)).any(1)
        if wrong.any():
            at = int(wrong.argmax())
            name = ShapeNetPart.class_names[category[at]]
            raise ValueError(
                f"{path}: cloud {at} is a {name} with parts {parts[at].min()} to {parts[at].max()}; expected "
                f"{first[at, 0]} to {last[at, 0]}"
            )
        return points, category, parts

    def __len__(self) -> int:
        return len(self.points)

    def name(self, index: int) -> str:
        return f"{self.split} {index} ({self.class_names[self.labels[index]]})"

    def load(self, index: int) -> Cloud:
        return check_cloud(self.points[index], None, self.name(index), None, self.parts[index])


def shapenet_part_text(root: str | Path, split: str = "train", up: int | None = Y_UP) -> PartFiles:
    """ShapeNet-Part in its text layout: one file of x y z nx ny nz part for each cloud.

    Args:
        root: folder with synsetoffset2category.txt and train_test_split.
        split: train, val or test.
        up: the axis against gravity, 0 to 2.

    Raises: FileNotFoundError, ValueError for lists that are none, or name other categories.
    """
    root = Path(root)
    synsets: dict[str, int] = {}
    for line in filter(None, read_lines(root / "synsetoffset2category.txt")):
        name, _, synset = line.partition("\t") if "\t" in line else line.partition(" ")
        if name.lower() not in SHAPENET or not synset.strip():
            raise ValueError(
                f"{root / 'synsetoffset2category.txt'} has the line {line[:60]!r}; expected one of "
                f"{', '.join(SHAPENET)} and its synset"
            )
        synsets[synset.strip()] = list(SHAPENET).index(name.lower())
    listed = root / "train_test_split" / f"shuffled_{check_split(split)}_file_list.json"
    text = read_text(listed, "a list of files")
    with reading(listed, "a list of files"):
        names = json.loads(text)
    entries: list[Entry] = []
    for name in names if isinstance(names, list) else [names]:
        words = str(name).split("/")
        if len(words) < 2 or words[-2] not in synsets:
            raise ValueError(
                f"{listed} names {str(name)[:80]!r}; expected shape_data/SYNSET/NAME of a known synset"
            )
        entries.append((root / words[-2] / f"{words[-1]}.txt", synsets[words[-2]]))
    return PartFiles(
        root, entries, tuple(SHAPENET), SHAPENET_NAMES, SHAPENET_PARTS, up=up, columns="x y z nx ny nz part"
    )

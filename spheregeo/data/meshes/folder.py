"""Folders of labelled meshes: a sub-folder a class, or SHREC'11 with its list of classes.

::

    root/CLASS/NAME.off             (.ply, .obj, .stl): of each class's sorted names every 9th is for validation, every 10th
                                    for the test, unless
    root/train.txt, val.txt, test.txt   list paths below the root, one a line (all three or none), or
    root/CLASS/train/NAME.off, root/CLASS/test/NAME.off (and val/) say so by their folders
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import Entry, class_entries, files_in, listed, numbered_files
from spheregeo.data.common import check_split
from spheregeo.data.files import read_lines
from spheregeo.data.meshes.dataset import MeshDataset, MeshItem
from spheregeo.data.meshes.files import MESH_SUFFIXES, sound_mesh

__all__ = ["MeshFolder", "Shrec11"]

SHREC11_SPLITS = (16, 10)
SHREC11_PER_CLASS = 20


def _meshes_in(folder: Path) -> list[Path]:
    return files_in(folder, MESH_SUFFIXES)


class LabelledMeshes(MeshDataset):
    """Base of datasets that are files and classes; a subclass fills ``entries``."""

    entries: list[Entry]

    def __init__(self, root: str | Path, split: str, repair: bool) -> None:
        super().__init__()
        self.root, self.split, self.repair = Path(root), check_split(split), repair
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with meshes (see --data.root)"
            )

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> MeshItem:
        path, label = self.entries[index]
        return {"mesh": sound_mesh(path, self.repair), "label": label}

    def _check_filled(self) -> None:
        if not self.entries:
            raise ValueError(
                f"the {self.split} split of {self.root} is empty; add meshes, or list paths in "
                "train.txt, val.txt and test.txt"
            )


class MeshFolder(LabelledMeshes):
    """A folder with a sub-folder of meshes for each class; classes are the sub-folders' sorted names.

    Args:
        root: the folder.
        split: train, val or test.
        repair: mend faulty meshes where that is possible; they are an error otherwise.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(self, root: str | Path, split: str = "train", repair: bool = True) -> None:
        super().__init__(root, split, repair)
        self.class_names, self.entries = class_entries(self.root, split, MESH_SUFFIXES)
        self._check_filled()


def read_classes(path: str | Path) -> dict[str, list[int]]:
    """Members of each class of a Princeton classification file (``PSB 1``): name, parent and count, then numbers.

    Raises: FileNotFoundError, ValueError for other files.
    """
    words = " ".join(read_lines(path)).split()
    try:
        if words[0] != "PSB":
            raise ValueError("it does not begin with PSB")
        classes, total, at, found = int(words[2]), int(words[3]), 4, {}
        for _ in range(classes):
            name, count = words[at], int(words[at + 2])
            found[name] = [int(w) for w in words[at + 3 : at + 3 + count]]
            at += 3 + count
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} is no classification file of the Princeton benchmark ({error})") from error
    if sum(map(len, found.values())) != total or at != len(words):
        raise ValueError(f"{path} lists {sum(map(len, found.values()))} meshes; its head says {total}")
    return found


class Shrec11(LabelledMeshes):
    """SHREC'11 non-rigid shapes: 30 classes of 20 meshes, 16 or 10 of each for training.

    Layouts: ``T0.off`` … ``T599.off`` (anywhere below the root) with ``categories.txt`` or ``*.cla``; or a folder per class, with
    ``train/`` and ``test/`` below or without. Splits: ``train.txt`` and ``test.txt`` (file names, one per line) in the root or in
    ``splits/SIZE/`` if they are there; else 16 or 10 meshes of each class, drawn by ``fold``.

    Args:
        root: the folder.
        size: training meshes of each class, 16 or 10.
        fold: which random split.
        held_out: of the training meshes of each class, how many validate; 0: the training meshes, as in published runs.
        split: train, val or test.
        repair: mend faulty meshes where that is possible; they are an error otherwise.

    Raises: FileNotFoundError, ValueError for a layout that is not understood.
    Reference: Lian et al. 2011, SHREC '11 track: shape retrieval on non-rigid 3D watertight meshes.
    """

    def __init__(
        self,
        root: str | Path,
        size: int = 16,
        fold: int = 0,
        held_out: int = 2,
        split: str = "train",
        repair: bool = True,
    ) -> None:
        super().__init__(root, split, repair)
        if size not in SHREC11_SPLITS:
            raise ValueError(f"size is {size}; expected one of {', '.join(map(str, SHREC11_SPLITS))}")
        if not 0 <= held_out < size or fold < 0:
            raise ValueError(
                f"held_out is {held_out} and fold {fold}; expected 0 <= held_out < {size}, fold >= 0"
            )
        members = self._members()
        self.class_names = tuple(members)
        parts = [self._split(k, paths, size, fold) for k, paths in enumerate(members.values())]
        self.entries = []
        for label, (train, test) in enumerate(parts):
            held = train[len(train) - held_out :]
            kept = train[: len(train) - held_out]
            chosen = {"train": kept, "val": held or train, "test": test}[split]
            self.entries += [(path, label) for path in chosen]
        self._check_filled()

    def _members(self) -> dict[str, list[Path]]:
        for pattern in ("categories.txt", "*.cla"):
            lists = [path for path in sorted(self.root.rglob(pattern)) if path.is_file()]
            if lists:
                break
        if len(lists) > 1:
            raise ValueError(f"{lists[1]} is a list of classes and {lists[0]}, too; keep one of them")
        if lists:
            numbered = numbered_files(self.root, MESH_SUFFIXES, r"^T(\d+)$")
            found = {}
            for name, numbers in read_classes(lists[0]).items():
                absent = [n for n in numbers if n not in numbered]
                if absent:
                    raise FileNotFoundError(
                        f"{lists[0]} names mesh {absent[0]} ({len(absent)} of class {name} are absent); "
                        f"expected T{absent[0]}.off below {self.root}"
                    )
                found[name] = [numbered[n] for n in sorted(numbers)]
            return dict(sorted(found.items()))
        folders = [p for p in sorted(self.root.iterdir()) if p.is_dir()]
        found = {}
        for folder in folders:
            paths = [
                p
                for sub in (folder, folder / "train", folder / "test")
                if sub.is_dir()
                for p in _meshes_in(sub)
            ]
            stems = [p.stem for p in paths]
            twice = next((p for p in paths if stems.count(p.stem) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"{twice} is there twice, with another suffix or in another folder; keep one of them"
                )
            if paths:
                found[folder.name] = sorted(paths, key=lambda p: p.name)
        if not found:
            raise FileNotFoundError(
                f"{self.root} has neither categories.txt with T0.off ... nor a folder for each class; see "
                "datasets/shrec11/README.md"
            )
        return found

    def _split(self, label: int, paths: list[Path], size: int, fold: int) -> tuple[list[Path], list[Path]]:
        for folder in (self.root / "splits" / str(size), self.root):
            lists = {name: listed(folder, name, ("train", "test")) for name in ("train", "test")}
            if lists["train"] is not None and lists["test"] is not None:
                sides = [{Path(line).stem for line in lists[name] or ()} for name in ("train", "test")]
                if sides[0] & sides[1]:
                    raise ValueError(
                        f"{folder} lists {sorted(sides[0] & sides[1])[0]} for training and for the test"
                    )
                return tuple([p for p in paths if p.stem in side] for side in sides)  # type: ignore[return-value]
        if len(paths) < size + 1:
            raise ValueError(
                f"class {self.class_names[label]} has {len(paths)} meshes; expected {SHREC11_PER_CLASS}"
            )
        order = np.random.default_rng([fold, label]).permutation(len(paths))
        return [paths[i] for i in sorted(order[:size])], [paths[i] for i in sorted(order[size:])]

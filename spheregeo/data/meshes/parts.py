"""Meshes whose vertices or faces have labels, such as parts of bodies: folders of any such meshes, and human bodies.

::

    root/train/NAME.off, root/test/NAME.off (and val/)   or root/NAME.off: of the sorted names every 9th is for validation and
                                                         every 10th for the test, unless train.txt, val.txt, test.txt list names
    NAME.txt (.seg, .eseg, .npy, .npz)                   beside the mesh, or in root/labels/, root/seg/ or root/segs/
    root/classes.txt                                     names of the classes, one a line; optional

A file of labels has one whole number for each vertex, face or edge, which its length says; edges are in the order in which the
faces name them first, and a face has the label of most of its edges. Negative numbers and 255 are no labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from spheregeo.data.class_folder import files_by_split, listed
from spheregeo.data.common import IGNORE, SPLITS, check_split
from spheregeo.data.files import read_array, read_class_names, read_lines
from spheregeo.data.meshes.dataset import MeshDataset, MeshItem, scaled_mesh
from spheregeo.data.meshes.files import MESH_SUFFIXES, read_mesh
from spheregeo.files import reading
from spheregeo.lazy import cached_property
from spheregeo.mesh import check, repair

__all__ = ["HumanParts", "MeshParts"]

ELEMENTS = ("vertices", "faces")
LABEL_SUFFIXES = (".txt", ".seg", ".eseg", ".npy", ".npz")
LABEL_FOLDERS = ("labels", "seg", "segs")
MOST = 255  # classes


def read_numbers(path: Path) -> np.ndarray:
    """The whole numbers of a file of labels, as they stand. Shape: (n,) int64.

    Raises: FileNotFoundError; ValueError for what is no list of whole numbers.
    """
    what = "labels, one whole number for each vertex, face or edge"
    with reading(path, what):
        if path.suffix.lower() in (".npy", ".npz"):
            stored = read_array(path)
            if isinstance(stored, dict):
                if len(stored) != 1 and "labels" not in stored:
                    raise ValueError(
                        f"it holds {', '.join(stored) or 'no array'}; expected one array, or one named labels"
                    )
                stored = stored["labels"] if "labels" in stored else next(iter(stored.values()))
            values = stored.reshape(-1) if stored.ndim == 1 or 1 in stored.shape else stored
        else:
            values = np.array([float(word) for line in read_lines(path) for word in line.split()])
        if values.ndim != 1 or not len(values):
            raise ValueError(f"it has shape {values.shape}; expected {what}")
        whole = values.astype(np.int64)
        if not np.isfinite(values.astype(np.float64)).all() or (whole != values).any():
            raise ValueError("it holds numbers that are not whole; expected class numbers")
        return whole


def edges_in_order(faces: np.ndarray) -> np.ndarray:
    """Number of each face's sides among the edges, counted as the faces name them first. Shape: (F, 3) -> (F, 3)."""
    pairs = np.sort(np.stack([faces, faces[:, [1, 2, 0]]], 2).reshape(-1, 2), axis=1)
    _, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: np.ndarray = rank[which.reshape(-1)].reshape(-1, 3)
    return numbered


def majority(labels: np.ndarray) -> np.ndarray:
    """The label of most of three, the first where all differ. Shape: (F, 3) -> (F,)."""
    a, b, c = labels.T
    return np.where(b == c, b, a)


def labelled_elements(
    numbers: np.ndarray, vertices: np.ndarray, faces: np.ndarray, elements: str | None
) -> tuple[np.ndarray, str]:
    """Labels of vertices or faces from numbers of vertices, faces or edges, and which of the two they are.

    Args:
        numbers: as read.
        vertices, faces: of the mesh.
        elements: "vertices" or "faces" where the length fits both, or must be one of them; None to go by the length.

    Raises: ValueError for a length that fits nothing.
    """
    sizes = {"faces": len(faces), "vertices": len(vertices)}
    fits = [name for name, size in sizes.items() if size == len(numbers) and elements in (None, name)]
    if fits:
        return numbers, fits[0]
    sides = edges_in_order(faces)
    count = int(sides.max(initial=-1)) + 1
    if len(numbers) == count and elements in (None, "faces"):
        return majority(numbers[sides]), "faces"
    raise ValueError(
        f"there are {len(numbers)} labels for a mesh of {len(vertices)} vertices, {len(faces)} faces and {count} edges; "
        f"expected one for each {'vertex, face or edge' if elements is None else elements}"
    )


def carried(
    labels: np.ndarray, elements: str, old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Labels of another mesh of the same shape: each element has that of the nearest one.

    Args:
        labels: of the old mesh.
        elements: "vertices" or "faces", which are compared by their centroids.
        old, new: vertices and faces.

    Shape: (V,) or (F,) -> (V',) or (F',).
    """
    before, after = (v if elements == "vertices" else v[f].mean(1) for v, f in (old, new))
    _, near = cKDTree(before).query(after)
    found: np.ndarray = labels[near]
    return found


class LabelledParts(MeshDataset):
    """Base of datasets of mesh files and label files; a subclass fills ``entries`` and names all ``label_files``.

    Args:
        root: the folder.
        split: train, val or test.
        elements: "vertices" or "faces"; by the length of the first file of labels if None.
        first: number of the first class; the smallest of all files if None.
        repair: mend faulty meshes where that is possible; they are an error otherwise.
    """

    entries: list[tuple[Path, Path]]
    label_files: list[Path]

    def __init__(
        self, root: str | Path, split: str, elements: str | None, first: int | None, repair: bool
    ) -> None:
        super().__init__()
        self.root, self.split, self.repair = Path(root), check_split(split), repair
        if elements not in (None, *ELEMENTS):
            raise ValueError(
                f"elements is {elements!r}; expected 'vertices' or 'faces', or None to go by the files"
            )
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with meshes (see --data.root)"
            )
        self._elements, self._first = elements, first

    @cached_property
    def _numbers(self) -> tuple[int, int]:
        """Smallest and largest class number of all files."""
        spans = [known for path in self.label_files if len(known := _known(read_numbers(path)))]
        if not spans:
            raise ValueError(
                f"the label files of {self.root} hold no class number; expected whole numbers from 0 on"
            )
        least, most = min(int(s.min()) for s in spans), max(int(s.max()) for s in spans)
        first = least if self._first is None else self._first
        if most - first >= MOST or least < first:
            raise ValueError(
                f"the label files of {self.root} hold classes {least} to {most}, the first being {first}; expected at most {MOST}"
            )
        return first, most

    @cached_property
    def elements(self) -> str:
        """What has labels, "vertices" or "faces"."""
        path, labels = self.entries[0]
        with reading(labels, "labels of a mesh"):
            return labelled_elements(read_numbers(labels), *read_mesh(path), self._elements)[1]

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the classes, from classes.txt if it is there."""
        first, last = self._numbers
        table = self.root / "classes.txt"
        if not table.is_file():
            return tuple(f"part {k}" for k in range(first, last + 1))
        names = read_class_names(table)
        if len(names) <= last - first:
            raise ValueError(
                f"{table} names {len(names)} classes but labels run from {first} to {last}; add the others"
            )
        return names

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> MeshItem:
        path, label_file = self.entries[index]
        vertices, faces = read_mesh(path)
        with reading(label_file, f"labels of {path.name}"):
            labels, elements = labelled_elements(read_numbers(label_file), vertices, faces, self.elements)
        known = (labels >= 0) & (labels != IGNORE)
        labels = np.where(known, labels - self._numbers[0], IGNORE)
        with reading(path, "a sound mesh"):
            if self.repair and not check(vertices, faces).ok:
                mended, _ = repair(vertices, faces)
                new = mended.points.numpy(), mended.faces.numpy()
                labels = carried(labels, elements, (vertices, faces), new)
                vertices, faces = new
            mesh = scaled_mesh(vertices, faces)
        return {"mesh": mesh, "part": torch.from_numpy(labels)}

    def _check_filled(self) -> None:
        if not self.entries:
            raise ValueError(f"the {self.split} split of {self.root} is empty; add meshes with labels")


def _known(numbers: np.ndarray) -> np.ndarray:
    return numbers[(numbers >= 0) & (numbers != IGNORE)]


def _labels_of(path: Path, root: Path) -> Path:
    """The file of labels of a mesh. Raises: FileNotFoundError; ValueError for several."""
    inside = path.relative_to(root)
    places = [path, *(root / folder / at for folder in LABEL_FOLDERS for at in (inside, inside.name))]
    found = [
        p.with_suffix(s) for p in dict.fromkeys(places) for s in LABEL_SUFFIXES if p.with_suffix(s).is_file()
    ]
    if not found:
        raise FileNotFoundError(
            f"{path} has no labels; expected {path.with_suffix('.txt').name} (or {', '.join(LABEL_SUFFIXES[1:])}) beside it "
            f"or in {root / LABEL_FOLDERS[0]}"
        )
    if len(found) > 1:
        raise ValueError(f"{path} has labels in {found[0]} and in {found[1]}; keep one of them")
    return found[0]


class MeshParts(LabelledParts):
    """A folder of meshes with a label for each vertex, face or edge, in files of their own.

    Args:
        root: the folder.
        split: train, val or test.
        elements: "vertices" or "faces"; by the length of the first file of labels if None.
        first: number of the first class; the smallest of all files if None.
        repair: mend faulty meshes where that is possible, their labels with them; they are an error otherwise.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        elements: str | None = None,
        first: int | None = None,
        repair: bool = True,
    ) -> None:
        super().__init__(root, split, elements, first, repair)
        lines = listed(self.root, split, SPLITS)
        if lines is None:
            by_split = files_by_split(self.root, MESH_SUFFIXES)
        else:
            by_split = {
                name: [self.root / line for line in listed(self.root, name, SPLITS) or ()] for name in SPLITS
            }
        paths = by_split[split]
        self.entries = [(path, _labels_of(path, self.root)) for path in paths]
        self.label_files = [_labels_of(path, self.root) for each in by_split.values() for path in each]
        self._check_filled()


class HumanParts(LabelledParts):
    """Human bodies with labelled faces (Maron et al. 2017): eight parts, 370 training and 18 test meshes of other scans.

    Layouts: ``meshes/train/...``, ``meshes/test/shrec/...`` with ``segs/`` beside, as published; or ``train/``, ``test/`` and
    ``seg/`` with a label for each edge, as MeshCNN has the simplified bodies. Every tenth training mesh validates.

    Args:
        root: the folder.
        split: train, val or test.
        repair: mend faulty meshes where that is possible, their labels with them; they are an error otherwise.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    Reference: Maron et al. 2017, "Convolutional neural networks on surfaces via seamless toric covers"; Hanocka et al. 2019.
    """

    def __init__(self, root: str | Path, split: str = "train", repair: bool = True) -> None:
        super().__init__(root, split, "faces", None, repair)
        if (self.root / "meshes").is_dir():
            train = _meshes_below(self.root / "meshes" / "train")
            at = {
                "train": [p for k, p in enumerate(train) if k % 10 != 9],
                "val": train[9::10],
                "test": _meshes_below(self.root / "meshes" / "test"),
            }
            of = {path: published_labels(path, self.root) for paths in at.values() for path in paths}
        else:
            at = files_by_split(self.root, MESH_SUFFIXES)
            of = {path: _labels_of(path, self.root) for paths in at.values() for path in paths}
        self.entries = [(path, of[path]) for path in at[split]]
        self.label_files = sorted(set(of.values()))
        if not self.entries:
            raise FileNotFoundError(
                f"{self.root} has no {split} meshes; expected meshes/ and segs/ as published, or train/, test/ and seg/ as "
                "MeshCNN has them (see datasets/human-parts/README.md)"
            )


def _meshes_below(folder: Path) -> list[Path]:
    files: Iterable[Path] = folder.rglob("*") if folder.is_dir() else ()
    return sorted(p for p in files if p.suffix.lower() in MESH_SUFFIXES and p.is_file())


def published_labels(path: Path, root: Path) -> Path:
    """The file of labels of a published human body: its own, or the one that all meshes of a source share.

    Raises: FileNotFoundError.
    """
    inside = path.relative_to(root / "meshes")
    split, source = inside.parts[0], inside.parts[1]
    segs = root / "segs" / split
    number = path.stem.split("_")[0]
    pose = next((part.removeprefix("meshes_") for part in inside.parts if part.startswith("meshes_")), "")
    places = [
        segs / source / f"{path.stem}.txt",
        segs / source / f"{source}_corrected.txt",
        segs / source / f"{source}_{number}_full.txt",
        segs / "mit" / f"mit_{pose}_corrected.txt",
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{path} has no labels; expected one of {', '.join(str(p.relative_to(root)) for p in places[:3])} below {root}"
        )
    return found

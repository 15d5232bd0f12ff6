"""FAUST (Bogo, Romero, Loper & Black 2014): ten people in ten poses each, with correspondences; original or remeshed.

Mesh number n shows person n // 10 in pose n % 10. Three layouts are read: one ``.npz`` with all meshes (see the dataset's card);
``tr_reg_NNN.off`` (``.ply``, ``.obj``) with ``tr_reg_NNN.vts``, the 1-based vertices of corresponding points, as in the remeshed
sets of Ren et al. 2018; and the original registrations, whose vertices correspond one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spheregeo.data.class_folder import numbered_files
from spheregeo.data.files import read_array, read_lines
from spheregeo.data.meshes.dataset import NO_TARGET, MeshDataset, MeshItem, Template, scaled_mesh
from spheregeo.data.meshes.files import MESH_SUFFIXES, read_mesh
from spheregeo.files import reading
from spheregeo.lazy import cached_property

__all__ = ["Faust"]

POSES = 10
ARRAYS = ("verts", "faces", "nv", "nf")


class FaustSet:
    """All meshes of FAUST under a folder: vertices, faces and corresponding points of each, as plain arrays.

    Raises: FileNotFoundError, ValueError naming what was found, what was expected and what to do.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        archives = [self.root] if self.root.suffix == ".npz" else sorted(self.root.glob("*.npz"))
        files = numbered_files(self.root, MESH_SUFFIXES, r"tr_reg_(\d+)$")
        if len(archives) == 1:
            self._archive = archives[0]
            self._read_archive(archives[0])
        elif files:
            self.files: dict[int, Path] | None = files
            self.numbers = sorted(files)
        else:
            raise FileNotFoundError(
                f"{self.root} holds {len(archives)} .npz files and no tr_reg_NNN mesh; expected one archive of FAUST "
                "or its meshes there (see datasets/faust/README.md, and --data.root)"
            )

    def _read_archive(self, path: Path) -> None:
        stored = read_array(path)
        if not isinstance(stored, dict) or any(name not in stored for name in ARRAYS):
            raise ValueError(
                f"{path} holds {', '.join(sorted(stored)) if isinstance(stored, dict) else 'one array'}; "
                f"expected {', '.join(ARRAYS)} and, for correspondences, corr and nc"
            )
        for name in ARRAYS:
            if stored[name].ndim != 1 + (name in ("verts", "faces")):
                raise ValueError(f"{path}: {name} has shape {stored[name].shape}; expected one row a value")
        if not len(stored["nv"]):
            raise ValueError(f"{path} holds no mesh; expected one at least")
        for size in ("nv", "nf", "nc"):
            counts = stored.get(size, np.zeros(1, int))
            if counts.ndim != 1 or counts.dtype.kind not in "iu" or counts.min(initial=0) < 0:
                raise ValueError(f"{path}: {size} is no list of counts; expected one whole number a mesh")
            if size in stored and len(counts) != len(stored["nv"]):
                raise ValueError(f"{path}: {size} counts {len(counts)} meshes but nv {len(stored['nv'])}")
        self.files = None
        self._stored = stored
        self._ends: dict[str, np.ndarray] = {
            size: np.concatenate([[0], np.cumsum(stored[size].astype(np.int64))])
            for size in ("nv", "nf", "nc")
            if size in stored
        }
        for name, size in (("verts", "nv"), ("faces", "nf"), ("corr", "nc")):
            if size in stored and len(stored[name]) != self._ends[size][-1]:
                raise ValueError(
                    f"{path} has {len(stored[name])} rows of {name} but {size} adds up to {self._ends[size][-1]}"
                )
        self.numbers = list(range(len(stored["nv"])))

    def where(self, number: int) -> Path:
        """The file that holds a mesh."""
        return self._archive if self.files is None else self.files[number]

    def _part(self, name: str, size: str, number: int) -> np.ndarray:
        return self._stored[name][self._ends[size][number] : self._ends[size][number + 1]]

    def mesh(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) float64 and faces (F, 3) int64 as stored."""
        if self.files is not None:
            return read_mesh(self.files[number])
        faces = self._part("faces", "nf", number).astype(np.int64)
        return self._part("verts", "nv", number).astype(np.float64), faces

    def corresponding(self, number: int) -> np.ndarray | None:
        """Vertex (0-based) of each corresponding point on a mesh, in the order that all meshes share; None where unknown."""
        if self.files is None:
            return self._part("corr", "nc", number).astype(np.int64) - 1 if "nc" in self._ends else None
        found = self._list_of(number)
        if found is None:
            return None
        with reading(found, "a list of vertices, one a line"):
            return np.array([int(word) for line in read_lines(found) for word in line.split()], np.int64) - 1

    def _list_of(self, number: int) -> Path | None:
        """The file that lists the corresponding points of a mesh."""
        return next(iter(sorted(self.root.rglob(f"{self.where(number).stem}.vts"))), None)

    def check_points(self, number: int, points: np.ndarray, vertices: int, expected: int) -> None:
        """Raises: ValueError for corresponding points of another number, none, or outside a mesh of so many vertices."""
        if len(points) != expected or not len(points) or points.min() < 0 or points.max() >= vertices:
            where = self.where(number) if self.files is None else self._list_of(number)
            ends = f" with vertices {points.min()} to {points.max()}" if len(points) else ""
            raise ValueError(
                f"{where}: tr_reg_{number:03d} has {len(points)} corresponding points{ends}; expected "
                f"{expected or 'some'}, of {vertices} vertices"
            )

    @cached_property
    def template(self) -> Template:
        """The first mesh and its corresponding points; all its vertices where the files name none."""
        first = self.numbers[0]
        vertices, faces = self.mesh(first)
        points = self.corresponding(first)
        with reading(self.where(first), "a mesh of FAUST"):
            mesh = scaled_mesh(vertices, faces)
        if points is None:
            return Template(mesh, torch.arange(len(vertices)))
        self.check_points(first, points, len(vertices), len(points))
        return Template(mesh, torch.from_numpy(points))


class Faust(MeshDataset):
    """Some people of FAUST in all poses: the label is the pose, the target the corresponding point of the template.

    Args:
        source: the folder, or a :class:`~spheregeo.data.meshes.faust.FaustSet` that several splits share.
        subjects: numbers of the people, 0 to 9.

    Raises: FileNotFoundError, ValueError for a layout that is not understood, or people who are not there.
    """

    class_names = tuple(f"pose {k}" for k in range(POSES))

    def __init__(self, source: str | Path | FaustSet, subjects: Sequence[int]) -> None:
        super().__init__()
        self.source = source if isinstance(source, FaustSet) else FaustSet(source)
        self.subjects = tuple(int(s) for s in subjects)
        self.numbers = [n for n in self.source.numbers if n // POSES in self.subjects]
        there = sorted({n // POSES for n in self.source.numbers})
        missing = sorted(set(self.subjects) - set(there))
        if missing or not self.subjects:
            raise ValueError(
                f"subjects is {list(self.subjects)} but {self.source.root} has people {there}; choose some of those"
            )
        self.template = self.source.template

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        return f"tr_reg_{self.numbers[index]:03d}"

    def load(self, index: int) -> MeshItem:
        number = self.numbers[index]
        vertices, faces = self.source.mesh(number)
        with reading(self.source.where(number), f"a mesh of FAUST ({self.name(index)})"):
            item: MeshItem = {"mesh": scaled_mesh(vertices, faces), "label": number % POSES}
        points = self.source.corresponding(number)
        assert self.template is not None
        if points is None and len(vertices) == self.template.mesh.num_points:
            points = np.arange(len(vertices))  # the registrations: one connectivity for all
        if points is not None:
            self.source.check_points(number, points, len(vertices), self.template.num_points)
            target = np.full(len(vertices), NO_TARGET, np.int64)
            target[points[::-1]] = np.arange(len(points))[::-1]  # of several points on a vertex, the first
            item["target"] = torch.from_numpy(target)
        return item

"""A force field that was compiled to a file, as an ASE calculator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from spheregeo.data.molecules.files import from_frames
from spheregeo.models import MoleculeGraph, molecule_graph
from spheregeo.tasks.molecules.atoms import check_apart
from spheregeo.tasks.molecules.dynamics.evaluator import system_key, within_skin

FORCES = "forces.pt2"  # name of the file in the folder of an export
METADATA = "spheregeo"
FEWEST = 2  # atoms and edges that a program takes


class Frame(NamedTuple):
    """What a compiled force field tells of itself.

    Attributes:
        cutoff: of its pairs, in Å.
        dtype: of its positions, such as "float64".
        elements: atomic numbers that its training has seen.
    """

    cutoff: float
    dtype: str
    elements: list[int]


class _Kept(NamedTuple):
    """A system as it was when its neighbours were found."""

    key: tuple[bytes, bytes, bytes]
    places: np.ndarray  # (P, 3) float64
    centre: np.ndarray  # (3,)
    numbers: Tensor
    edges: Tensor  # within the cutoff and the skin
    offset: Tensor  # (E, 3) float64


class ProgramCalculator(Calculator):
    """Energy, forces and stress by a compiled file that ``spheregeo export --to aot-inductor`` wrote.

    Neighbours are found within the cutoff and a skin, and anew once an atom has moved by half the skin; a step takes the pairs
    within the cutoff alone. **A file is code for this machine's processor: loading it runs it.**

    Units: eV, eV/Å, eV/Å³ (ASE's sign: negative under pressure), Å.
    Equivariance: that of the network that was compiled.
    Raises: FileNotFoundError for no file; ValueError for a file of another origin, elements that the training has not seen, NaN
        or coincident positions; ASE's PropertyNotImplementedError for the stress of a system without three cell vectors.

    Args:
        path: the file, or the folder of the export.
        skin: width in Å; 0 finds neighbours at each step.
        options: as ASE's Calculator.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - ASE declares it so

    def __init__(self, path: str | Path, skin: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        path = Path(path)
        path = path / FORCES if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there; expected a file of spheregeo export --to aot-inductor"
            )
        try:
            self.program: Any = torch._inductor.aoti_load_package(str(path))
            self.frame = Frame(**json.loads(self.program.get_metadata()[METADATA]))
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} is no compiled force field of spheregeo export --to aot-inductor: {reason}"
            ) from error
        self.skin, self.dtype = float(skin), getattr(torch, self.frame.dtype)
        self.searches = 0
        self._kept: _Kept | None = None

    def reset(self) -> None:
        """Forget all earlier systems."""
        super().reset()
        self._kept = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results`` for the atoms; see ASE's Calculator."""
        wanted = properties or ["energy"]
        super().calculate(atoms, wanted, system_changes)
        system: Any = self.atoms
        volume = bool(system.pbc.any() and system.cell.rank == 3)
        if "stress" in wanted and not volume:
            raise PropertyNotImplementedError(
                "the stress is defined for periodic systems with three cell vectors"
            )
        kept = self._at(system)
        positions = torch.from_numpy(system.positions - kept.centre)
        edges, offset = kept.edges, kept.offset
        vectors = MoleculeGraph(edges, offset).vectors(positions)
        near = (vectors.square().sum(1) <= self.frame.cutoff**2).nonzero()[:, 0]
        edges, offset = edges.index_select(1, near), offset.index_select(0, near)
        if len(near):
            check_apart(MoleculeGraph(edges, offset), positions)
        edges, offset = self._filled(edges, offset, len(system) - 1)
        energy, forces, virial = self.program(
            positions.to(self.dtype), kept.numbers, edges, offset.to(self.dtype)
        )
        self.results = {
            "energy": float(energy),
            "free_energy": float(energy),
            "forces": forces.double().numpy(),
        }
        if volume:
            strain = virial.double().numpy()
            self.results["stress"] = full_3x3_to_voigt_6_stress((strain + strain.T) / 2 / system.get_volume())

    def _filled(self, edges: Tensor, offset: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """At least as many edges as a program takes: the last atom with itself beyond the cutoff counts for nothing."""
        more = FEWEST - edges.shape[1]
        if more <= 0:
            return edges, offset
        far = offset.new_zeros(more, 3)
        far[:, 0] = 2 * self.frame.cutoff
        return torch.cat([edges, edges.new_full((2, more), last)], 1), torch.cat([offset, far])

    def _at(self, atoms: Atoms) -> _Kept:
        """The neighbours at hand, found anew where an atom has moved too far or the system is another."""
        key = system_key(atoms)
        kept = self._kept
        if kept is not None and kept.key == key and within_skin(atoms, kept.places, self.skin):
            return kept
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.frame.elements))
        if unknown and self.frame.elements:
            raise ValueError(
                f"atoms have elements {unknown}; expected those of the training, {self.frame.elements}"
            )
        if len(atoms) < FEWEST:
            raise ValueError(f"atoms are {len(atoms)}; a compiled force field takes at least {FEWEST}")
        batch = from_frames([atoms]).batch([0])
        centre = atoms.positions.mean(0)
        positions = torch.from_numpy(atoms.positions - centre)
        graph = molecule_graph(
            positions, self.frame.cutoff + self.skin, batch["batch"], batch.get("cell"), batch.get("pbc")
        )
        offset = positions.new_zeros(graph.edge_index.shape[1], 3) if graph.offset is None else graph.offset
        self.searches += 1
        self._kept = _Kept(
            key, atoms.positions.copy(), centre, batch["numbers"], graph.edge_index, offset.double()
        )
        return self._kept

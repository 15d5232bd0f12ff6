"""Many molecules as flat tensors: atoms end to end, targets by name with their units.

A batch is a dict of tensors, the same for every dataset:

=============  ===========  =======  ==========================================================================
key            shape        dtype    meaning
=============  ===========  =======  ==========================================================================
``numbers``    (P,)         int64    atomic numbers, 1 ... 118
``positions``  (P, 3)       float64  Å
``batch``      (P,)         int64    the atom's molecule within the batch, non-decreasing
``index``      (B,)         int64    the molecule's number in its source: the same in every epoch and every split
``target``     (B, T)       float64  targets in their units; NaN where one is not known
``vectors``    (B, V, 3)    float64  targets that are vectors, likewise
``atomic``     (P, A)       float64  targets of each atom, likewise
``energy``     (B,)         float64  eV, where there are forces
``forces``     (P, 3)       float64  eV/Å; NaN for all atoms of a molecule whose forces are not known
``stress``     (B, 3, 3)    float64  eV/Å³, (1/V) ∂E/∂ε as ASE has it; NaN where it is not known; only where some system has one
``tags``       (P,)         int64    0 below the surface, 1 surface, 2 adsorbate; only where the source has tags
``fixed``      (P,)         bool     whether the atom is held in place; only where some atom is
``weight``     (B, 3)       float64  weights of energy, forces and stress in the loss; only where some are not 1
``type``       (B,)         int64    the configuration type, as a place in ``type_names``; only where the source has types
``replayed``   (B,)         bool     whether a molecule is one of an earlier training; only where some is
``cell``       (B, 3, 3)    float64  rows are the cell's vectors in Å; only where some molecule is periodic
``pbc``        (B, 3)       bool     along which of them the system repeats itself
=============  ===========  =======  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.checks import nearest
from spheregeo.data.molecules.units import factor

__all__ = ["Molecules"]

MAX_NUMBER = 118
TOO_CLOSE = 0.01  # Å; atoms nearer than that are one atom written twice
TOO_FAR = 1e6  # Å; coordinates beyond are no molecule's
Batch = dict[str, Tensor]
Kind = Literal["molecule", "vector", "atom"]  # whose number a target is


def symbol(number: int) -> str:
    """The chemical symbol of an atomic number."""
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


def ranges(start: Tensor, count: Tensor) -> Tensor:
    """``start[0], start[0] + 1, ...`` (``count[0]`` of them), then the same for 1, 2, ...: one flat index (sum of count,)."""
    before = count.cumsum(0) - count
    return torch.arange(int(count.sum()), device=start.device) + torch.repeat_interleave(
        start - before, count
    )


def check_atoms(numbers: Tensor, positions: Tensor, ptr: Tensor, names: Sequence[str] | None = None) -> None:
    """Raises: ValueError for a molecule without atoms, an unknown element, NaN coordinates or two atoms at one place."""

    def name(molecule: int) -> str:
        return f"molecule {names[molecule] if names is not None else molecule}"

    def owner(atom: int) -> int:
        return int(torch.searchsorted(ptr, torch.tensor(atom), right=True)) - 1

    counts = ptr.diff()
    if len(counts) == 0:
        raise ValueError("there are no molecules; expected at least one")
    if bool((counts < 1).any()):
        raise ValueError(f"{name(int((counts < 1).nonzero()[0]))} has no atoms; expected at least one")
    wrong = ((numbers < 1) | (numbers > MAX_NUMBER)).nonzero()
    if len(wrong):
        atom = int(wrong[0])
        raise ValueError(
            f"{name(owner(atom))} has an atom of atomic number {int(numbers[atom])}; expected 1 (H) to {MAX_NUMBER}: "
            "dummy atoms (X) have to be left out"
        )
    wrong = (~(positions.abs() <= TOO_FAR).all(1)).nonzero()
    if len(wrong):
        atom = int(wrong[0])
        raise ValueError(
            f"{name(owner(atom))} has coordinates {positions[atom].tolist()} at atom {atom - int(ptr[owner(atom)])}; "
            f"expected finite numbers in Å, at most {TOO_FAR:.0e}"
        )
    # A fourth coordinate keeps molecules apart: one tree for all of them.
    molecule = torch.repeat_interleave(torch.arange(len(counts)), counts)
    apart = torch.cat([positions, molecule[:, None].double()], 1).numpy()
    pairs = cKDTree(apart).query_pairs(TOO_CLOSE, output_type="ndarray")
    if len(pairs):
        i, j = sorted(int(k) for k in pairs[0])
        first = int(ptr[owner(i)])
        raise ValueError(
            f"{name(owner(i))} has atoms {i - first} and {j - first} at the same place; is an atom listed twice, or are the "
            "coordinates missing?"
        )


@dataclass(frozen=True, eq=False)
class Molecules:
    """N molecules as flat tensors, checked when they are made; :meth:`of` makes them from lists.

    Args:
        numbers: atomic numbers of all atoms, molecule after molecule.
        positions: coordinates of all atoms.
        ptr: offsets of the molecules' atoms.
        targets: values of each target by name, NaN where one is not known.
        units: unit of each target by name, vectors and those of atoms included.
        energy: energies.
        forces: forces on all atoms, NaN for all atoms of a molecule whose forces are not known.
        cell: rows are the vectors of each molecule's periodic cell.
        pbc: along which of them the system repeats.
        stress: stresses, symmetric, NaN where one is not known.
        tags: what each atom is: 0 below the surface, 1 surface, 2 adsorbate.
        fixed: whether each atom is held in place.
        weights: weights of each molecule's energy, forces and stress in the loss.
        types: configuration type of each molecule, as a place in ``type_names``.
        type_names: names of the configuration types.
        replayed: whether each molecule is one of an earlier training's, mixed in.
        groups: number of the system, the trajectory or the relaxation that each molecule is a frame of.
        names: what the molecules are called.
        index: numbers of the molecules in their source; counted from 0 if None.
        vectors: values of each target that is a vector of the molecule, such as its dipole.
        atomic: values of each target that is a number of each atom, such as its charge.

    Shape: numbers (P,), positions (P, 3), ptr (N + 1,), targets (N,) each, energy (N,), forces (P, 3), cell (N, 3, 3),
        pbc (N, 3), stress (N, 3, 3), tags (P,), fixed (P,), weights (N, 3), types (N,), replayed (N,), groups (N,), index (N,),
        vectors (N, 3) each, atomic (P,) each.
    Units: Å; eV, eV/Å and eV/Å³ for energy, forces and stress; ``units`` for the targets.
    Raises: ValueError for unknown elements, molecules without atoms, NaN or coincident positions, lengths that do not fit.

    Example:
        >>> from spheregeo.data import Molecules
        >>> water = Molecules.of([[8, 1, 1]], [[[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]])
        >>> len(water), water.elements
        (1, [1, 8])
    """

    numbers: Tensor
    positions: Tensor
    ptr: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    energy: Tensor | None = None
    forces: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None
    names: tuple[str, ...] | None = None
    index: Tensor | None = None
    vectors: dict[str, Tensor] = field(default_factory=dict)
    atomic: dict[str, Tensor] = field(default_factory=dict)
    stress: Tensor | None = None
    tags: Tensor | None = None
    fixed: Tensor | None = None
    weights: Tensor | None = None
    types: Tensor | None = None
    type_names: tuple[str, ...] = ()
    groups: Tensor | None = None
    replayed: Tensor | None = None

    def __post_init__(self) -> None:
        atoms, count = len(self.numbers), len(self.ptr) - 1
        shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
            "positions": (self.positions, (atoms, 3)),
            "energy": (self.energy, (count,)),
            "forces": (self.forces, (atoms, 3)),
            "cell": (self.cell, (count, 3, 3)),
            "pbc": (self.pbc, (count, 3)),
            "stress": (self.stress, (count, 3, 3)),
            "tags": (self.tags, (atoms,)),
            "fixed": (self.fixed, (atoms,)),
            "weights": (self.weights, (count, 3)),
            "types": (self.types, (count,)),
            "groups": (self.groups, (count,)),
            "replayed": (self.replayed, (count,)),
            **{f"target {name!r}": (values, (count,)) for name, values in self.targets.items()},
            **{f"target {name!r}": (values, (count, 3)) for name, values in self.vectors.items()},
            **{f"target {name!r}": (values, (atoms,)) for name, values in self.atomic.items()},
        }
        if self.names is not None and len(self.names) != count:
            raise ValueError(f"names has {len(self.names)} entries; expected {count}, one of each molecule")
        for name, (tensor, shape) in shapes.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(count))
            check_atoms(self.numbers, self.positions, self.ptr, self.names)
            self._check_values()

    def _check_values(self) -> None:
        """Raises: ValueError for infinite values, unknown energies, or a molecule with forces on some of its atoms only."""
        if self.energy is not None and not bool(torch.isfinite(self.energy).all()):
            raise ValueError("the energy holds NaN or infinite values; leave such frames out")
        if self.forces is not None:
            unknown = self.forces.isnan()
            ends = torch.cat([unknown.new_zeros(1).long(), unknown.sum(1).cumsum(0)])[self.ptr].diff()
            if bool(self.forces.isinf().any()) or bool(((ends > 0) & (ends < 3 * self.counts)).any()):
                raise ValueError("the forces hold NaN or infinite values; leave such frames out")
        if self.stress is not None:
            self._check_stress()
        for name, values in {**self.targets, **self.vectors, **self.atomic}.items():
            if bool(values.isinf().any()):
                raise ValueError(
                    f"target {name!r} holds infinite values; leave them empty where it is unknown"
                )

    def _check_stress(self) -> None:
        """Raises: ValueError for stresses that are infinite or not symmetric, or of systems without a volume."""
        assert self.stress is not None
        known = ~self.stress.isnan().flatten(1).all(1)
        some = self.stress[known]
        if not bool(torch.isfinite(some).all()):
            raise ValueError("the stress holds NaN or infinite values; leave such frames out")
        if bool(
            ((some - some.mT).abs() > 1e-6 * some.abs().amax().clamp_min(1e-3)).any() if len(some) else False
        ):
            raise ValueError("the stress is not symmetric; expected xy = yx, and likewise for xz and yz")
        cells = None if self.cell is None else self.cell[known]
        if len(some) and (cells is None or bool((torch.linalg.det(cells).abs() < 1e-6).any())):
            raise ValueError(
                "the stress of a system whose cell has no volume is given; expected three independent cell vectors"
            )

    @staticmethod
    def of(
        numbers: Sequence[Any],
        positions: Sequence[Any],
        targets: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Molecules:
        """Molecules from lists: atomic numbers (n_k,) and positions (n_k, 3) of each, and what else there is.

        Args: further arguments as the fields of this class; forces as a list of (n_k, 3), tags
        and fixed as lists of (n_k,).
        """
        counts = [len(z) for z in numbers]
        if counts != [len(p) for p in positions]:
            raise ValueError("numbers and positions differ in their numbers of atoms")
        ptr = torch.tensor([0, *np.cumsum(counts).tolist()], dtype=torch.int64)
        flat = np.concatenate(
            [np.zeros((0, 3)), *(np.asarray(p, np.float64).reshape(-1, 3) for p in positions)]
        )
        if "forces" in more and more["forces"] is not None:
            stacked = np.concatenate([np.asarray(f, np.float64).reshape(-1, 3) for f in more["forces"]])
            more["forces"] = torch.from_numpy(stacked)
        for name in ("energy", "cell", "stress", "weights"):
            if more.get(name) is not None:
                more[name] = torch.as_tensor(np.asarray(more[name], np.float64))
        for name in ("types", "groups"):
            if more.get(name) is not None:
                more[name] = torch.as_tensor(np.asarray(more[name], np.int64))
        if more.get("pbc") is not None:
            more["pbc"] = torch.as_tensor(np.asarray(more["pbc"], bool))
        for name, kind in (("tags", np.int64), ("fixed", bool)):
            if more.get(name) is not None:
                more[name] = torch.from_numpy(np.concatenate([np.asarray(v, kind) for v in more[name]]))
        for name in ("vectors", "atomic"):
            given = more.get(name) or {}
            more[name] = {k: torch.as_tensor(np.asarray(v, np.float64)) for k, v in given.items()}
        z = np.concatenate([np.zeros(0, np.int64), *(np.asarray(n, np.int64) for n in numbers)])
        return Molecules(
            torch.from_numpy(z),
            torch.from_numpy(flat),
            ptr,
            {k: torch.as_tensor(np.asarray(v, np.float64)) for k, v in (targets or {}).items()},
            dict(units or {}),
            **more,
        )

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def counts(self) -> Tensor:
        """Atoms of each molecule (N,)."""
        return self.ptr.diff()

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, sorted."""
        return [int(z) for z in self.numbers.unique()]

    def name(self, k: int) -> str:
        """What molecule k is called in tables: its name in the file, or its number in the source."""
        assert self.index is not None
        return self.names[k] if self.names is not None else str(int(self.index[k]))

    def select(self, chosen: Tensor | Sequence[int] | np.ndarray) -> Molecules:
        """The chosen molecules, in that order; each keeps its ``index`` in the source."""
        chosen = torch.as_tensor(np.asarray(chosen), dtype=torch.int64)
        assert self.index is not None
        if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(self)):
            raise ValueError(
                f"indices {int(chosen.min())} ... {int(chosen.max())} are chosen of {len(self)} molecules"
            )
        counts = self.counts[chosen]
        atoms = ranges(self.ptr[chosen], counts)

        def rows(tensor: Tensor | None, of: Tensor) -> Tensor | None:
            return None if tensor is None else tensor[of]

        return replace(
            self,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            targets={k: v[chosen] for k, v in self.targets.items()},
            energy=rows(self.energy, chosen),
            forces=rows(self.forces, atoms),
            cell=rows(self.cell, chosen),
            pbc=rows(self.pbc, chosen),
            stress=rows(self.stress, chosen),
            tags=rows(self.tags, atoms),
            fixed=rows(self.fixed, atoms),
            weights=rows(self.weights, chosen),
            types=rows(self.types, chosen),
            groups=rows(self.groups, chosen),
            replayed=rows(self.replayed, chosen),
            names=None if self.names is None else tuple(self.names[int(k)] for k in chosen),
            index=self.index[chosen],
            vectors={k: v[chosen] for k, v in self.vectors.items()},
            atomic={k: v[atoms] for k, v in self.atomic.items()},
        )

    def in_units(self, units: Mapping[str, str]) -> Molecules:
        """The same with some targets in other units. Raises: ValueError as :func:`~spheregeo.data.molecules.units.factor`."""
        known = {**self.targets, **self.vectors, **self.atomic}
        for name in units:
            if name not in known:
                raise ValueError(
                    f"units name {name!r}, but the targets are {', '.join(known)}{nearest(name, known)}"
                )

        def turned(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: v * factor(self.units[k], units[k]) if k in units else v for k, v in values.items()}

        return replace(
            self, targets=turned(self.targets), vectors=turned(self.vectors), atomic=turned(self.atomic),
            units={**self.units, **units},
        )  # fmt: skip

    def kind(self, name: str) -> Kind:
        """What a target is: "molecule" for a number, "vector" for a vector of the molecule, "atom" for a number of each atom.

        Args:
            name: name of the target.

        Raises: ValueError for an unknown one.
        """
        places: dict[Kind, dict[str, Tensor]] = {
            "molecule": self.targets, "vector": self.vectors, "atom": self.atomic,
        }  # fmt: skip
        for kind, place in places.items():
            if name in place:
                return kind
        known = [*self.targets, *self.vectors, *self.atomic]
        raise ValueError(f"target {name!r} is none of the data's: {', '.join(known)}{nearest(name, known)}")

    def batch(self, chosen: Sequence[int] | Tensor, targets: Sequence[str] = ()) -> Batch:
        """The chosen molecules as one batch, see the head of this module."""
        part = self.select(chosen)
        assert part.index is not None
        found: Batch = {
            "numbers": part.numbers,
            "positions": part.positions,
            "batch": torch.repeat_interleave(torch.arange(len(part)), part.counts),
            "index": part.index,
        }
        kinds = {name: self.kind(name) for name in targets}
        for key, kind, values in (
            ("target", "molecule", part.targets), ("vectors", "vector", part.vectors), ("atomic", "atom", part.atomic),
        ):  # fmt: skip
            if any(one == kind for one in kinds.values()):
                found[key] = torch.stack([values[name] for name in targets if kinds[name] == kind], 1)
        for name in ("energy", "forces", "stress", "tags", "fixed"):
            if getattr(part, name) is not None:
                found[name] = getattr(part, name)
        for key, rows in (("weight", part.weights), ("type", part.types), ("replayed", part.replayed)):
            if rows is not None:
                found[key] = rows
        if part.pbc is not None and part.cell is not None and bool(part.pbc.any()):
            found |= {"cell": part.cell, "pbc": part.pbc}
        return found


def composition(numbers: Tensor, batch: Tensor, count: int) -> Tensor:
    """How often each element occurs in each molecule: (count, MAX_NUMBER + 1) float64."""
    width = MAX_NUMBER + 1
    cell = batch * width + numbers
    return torch.bincount(cell, minlength=count * width).reshape(count, width).double()


def fit_references(molecules: Molecules, values: Tensor) -> Tensor:
    """The value of each element (MAX_NUMBER + 1,) whose sum over a molecule's atoms is nearest to ``values`` (N,), squared.

    Elements that do not occur, and directions that the data leave open (all molecules alike), get the smallest numbers.
    """
    batch = torch.repeat_interleave(torch.arange(len(molecules)), molecules.counts)
    known = torch.isfinite(values)
    counts = composition(molecules.numbers, batch, len(molecules))[known]
    present = (counts.sum(0) > 0).nonzero()[:, 0]
    found = values.new_zeros(MAX_NUMBER + 1)
    solution = np.linalg.lstsq(counts[:, present].numpy(), values[known].numpy(), rcond=None)[0]
    found[present] = torch.from_numpy(solution)
    return found

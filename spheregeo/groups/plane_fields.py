r"""Kernels between fields on the plane that commute with turns and reflections, found by averaging over the group.

A kernel K(r, φ) = A cos μφ + B sin μφ (times a profile of r) commutes with the group where

    ρ_out(g) K(g⁻¹ p) ρ_in(g)⁻¹ = K(p)    for all g.

The pair (A, B) itself turns as a field of order μ, so these kernels are the vectors that τ_μ ⊗ ρ_out ⊗ ρ_in leaves alone, and the
mean of those matrices over the group is the projector onto them: its trace counts them, for irreps, regular and quotient fields.
SO(2) and O(2) are averaged over as many turns as their band limit needs, which is exact.
Reference: Weiler & Cesa 2019, arXiv:1911.08251; Lang & Weiler 2021, arXiv:2010.10952.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spheregeo.groups.fields import FieldType
from spheregeo.groups.planar import PlanarGroup, PlanarType


@dataclass(frozen=True)
class PlaneSymmetry:
    """SO(2), O(2), C_n or D_n: turns about the origin, all or n of them, with or without the reflection x → −x.

    Args:
        n: number of turns; None for all.
        reflections: whether the reflection belongs to it.

    Raises: ValueError, in ``of``, for text that names no such group.

    Example:
        >>> PlaneSymmetry.of("O2"), str(PlaneSymmetry.of("C8"))
        (PlaneSymmetry(n=None, reflections=True), 'C8')
    """

    n: int | None
    reflections: bool = False

    @classmethod
    def of(cls, spec: str | PlanarGroup | PlaneSymmetry) -> PlaneSymmetry:
        """Return the symmetry itself, or the one that "SO2", "O2", "C8" or "D8" names.

        Args:
            spec: the symmetry, a finite group, or a name.

        Raises: ValueError for other text.
        """
        if isinstance(spec, PlaneSymmetry):
            return spec
        if isinstance(spec, PlanarGroup):
            return cls(spec.n, spec.reflections)
        if spec in ("SO2", "O2"):
            return cls(None, spec == "O2")
        try:
            return cls.of(PlanarGroup.of(spec))
        except ValueError as error:
            raise ValueError(
                f"group is {spec!r}; expected 'SO2', 'O2', or a name such as 'C8' or 'D8'"
            ) from error

    def sample(self, band: int) -> PlanarGroup:
        """Return the finite group whose mean is the mean over this one, for functions of frequencies up to ``band``.

        Args:
            band: highest frequency of what is averaged.
        """
        return PlanarGroup(band + 1 if self.n is None else self.n, self.reflections)

    def __str__(self) -> str:
        if self.n is None:
            return "O2" if self.reflections else "SO2"
        return str(PlanarGroup(self.n, self.reflections))


@dataclass(frozen=True)
class FieldKind:
    """One field: a pair of order m (or a scalar), or the channels of a regular or quotient field of a finite group.

    Args:
        order, parity: as in :class:`~spheregeo.groups.fields.Term`; order None for a field of a finite group.
        group, subgroup: as in :class:`~spheregeo.groups.PlanarType`.
    """

    order: int | None
    parity: int = 1
    group: PlanarGroup | None = None
    subgroup: str | None = None

    @property
    def width(self) -> int:
        """Number of channels."""
        if self.order is not None:
            return 2 if self.order else 1
        return PlanarType(((1, self.subgroup),), self.group).dim

    @property
    def band(self) -> int:
        """Highest frequency of the entries of its matrices; 0 for fields of a finite group, which are not interpolated."""
        return self.order or 0

    def matrices(self, group: PlanarGroup) -> Tensor:
        """Matrices ρ(h), by which elements of a finite group act on components. Shape: (size, width, width) float64."""
        if self.order is None:
            one = PlanarType(((1, self.subgroup),), self.group)
            return torch.stack(
                [torch.eye(one.dim, dtype=torch.float64)[one.permutation(h)] for h in range(group.size)]
            )
        turns = torch.ones(group.n, 1, 1, dtype=torch.float64)
        if self.order:  # powers of products, which keep the zeros and ones of quarter turns
            turns = torch.eye(2, dtype=torch.float64).expand(group.n, 2, 2)
            for _ in range(self.order):
                turns = turns @ group.matrices[: group.n]
        if not group.reflections:
            return turns
        signs = [float(self.parity)] if not self.order else [(-1.0) ** self.order, -((-1.0) ** self.order)]
        return torch.cat([turns, turns * torch.tensor(signs, dtype=torch.float64)])


def field_kinds(field_type: FieldType | PlanarType) -> list[tuple[int, FieldKind]]:
    """(number of fields, kind) of each term of a type, in the order of its channels."""
    if isinstance(field_type, FieldType):
        return [(term.multiplicity, FieldKind(term.order, term.parity)) for term in field_type.terms]
    return [
        (number, FieldKind(0) if sub is None else FieldKind(None, 1, field_type.group, sub))
        for number, sub in field_type.terms
    ]


def plane_type(spec: str | FieldType | PlanarType) -> FieldType | PlanarType:
    """The type itself, or the one that text describes: "8x0 + 4x1" of orders, or "3x0 + 16xC8" of a finite group.

    Raises: ValueError for text that is neither.
    """
    if not isinstance(spec, str):
        return spec
    return PlanarType.of(spec) if re.search("[CD]", spec) else FieldType(spec)


@lru_cache(maxsize=1024)
@torch.inference_mode(False)  # kept tensors serve training, too
def steerable_matrices(into: FieldKind, out: FieldKind, symmetry: PlaneSymmetry, frequency: int) -> Tensor:
    """Orthonormal basis of the pairs (A, B) for which A cos μφ + B sin μφ commutes with the group; A alone at μ = 0.

    Shape: (dimension, 2 or 1, out.width, into.width) float64.
    """
    group = symmetry.sample(into.band + out.band + frequency)
    parts = [kind.matrices(group) for kind in (FieldKind(frequency), out, into)]
    return _invariants(parts)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # kept tensors serve training, too
def invariant_vectors(kind: FieldKind, symmetry: PlaneSymmetry) -> Tensor:
    """Basis of the constants that a field may have, of greatest entry 1. Shape: (dimension, width) float64."""
    found = _invariants([kind.matrices(symmetry.sample(kind.band))])
    return found / found.abs().amax(1, keepdim=True) if len(found) else found


def _invariants(parts: list[Tensor]) -> Tensor:
    """Orthonormal basis of the tensors that a product of representations leaves alone.

    Columns of the projector in turn, made orthogonal until there are as many as its trace: the same on every machine.

    Shape: (size, n, n) for each factor -> (dimension, *n).
    """
    count = round(float(math.prod(part.diagonal(dim1=1, dim2=2).sum(1) for part in parts).mean()))  # type: ignore[union-attr]
    widths = [part.shape[1] for part in parts]
    rows = parts[0].new_zeros(0, math.prod(widths))
    for entry in itertools.product(*map(range, widths)):
        if len(rows) == count:
            break
        column = torch.ones(len(parts[0]), 1, dtype=rows.dtype)
        for part, i in zip(parts, entry):
            column = (column[:, :, None] * part[:, None, :, i]).flatten(1)
        rest = column.mean(0)
        for _ in range(2):  # once more for the digits
            rest = rest - (rest @ rows.T) @ rows
        size = rest.norm()
        if size > 1e-5:
            rows = torch.cat([rows, (rest / size)[None]])
    rows[rows.abs() < 1e-14] = 0
    return rows.view(count, *widths)

r"""Kinds of fields, and what a rotation or reflection R does to them.

A field is a sum of blocks. Scalars ``4x0`` (``0e``) keep their channels, pseudo-scalars ``0o`` change sign under reflections,
irreps ``2x1o`` turn by D(R); tangent fields ``2x1`` of order m are pairs of components in the frame of their point. All become
irreps in one way: a pair (c, s) in the frame (e_1, e_2, n) is the element c u_c + s u_s of the irrep of degree m, where u_c and
u_s are the polynomials Re (x + iy)^m and Im (x + iy)^m turned from (x, y, z) into the frame. So (R f)(p) = D(R) f(R⁻¹ p) for
every kind, and fields with frames can be interpolated component by component.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.groups import FieldType
from spheregeo.harmonics import component_harmonics, wigner_D

_TERM = re.compile(r"(?:(\d+)\s*[x×]\s*)?(\d+)\s*([eo]?)")
NAMES_IN = ("in_type", "irreps_in", "field_type", "irreps")
NAMES_OUT = ("out_type", "irreps_out", "field_type", "irreps")


@dataclass(frozen=True)
class FieldTerm:
    """``multiplicity`` fields of one kind: a tangent field of order ``degree``, or an irrep of that degree and parity."""

    multiplicity: int
    degree: int
    parity: int
    tangent: bool

    @property
    def width(self) -> int:
        """Channels of one field."""
        return (2 if self.tangent else 2 * self.degree + 1) if self.degree else 1


@dataclass(frozen=True)
class FieldSpec:
    """The kind of the fields that a module takes or returns.

    Args:
        blocks: terms of the sum, in the order of the channels.

    Shape: ``dim`` channels as the module has them, ``lifted.dim`` channels as irreps.

    Example:
        >>> field = FieldSpec.of("4x0 + 2x1 + 1x2e")
        >>> field.dim, str(field.lifted)
        (13, '4x0e+2x1o+1x2e')
    """

    blocks: tuple[FieldTerm, ...]

    @classmethod
    def of(cls, spec: Any, name: str = "field") -> FieldSpec:
        """Read a field's kind.

        Args:
            spec: text such as "4x0 + 2x1" (tangent fields), "4x0e + 2x1o" (irreps; degrees above 0 have a parity) or a sum of
                both; a :class:`~spheregeo.groups.FieldType`; e3nn irreps; or a number of scalar channels.
            name: of the argument, for errors.

        Raises: ValueError for text that is no such sum; TypeError for another type.
        """
        if isinstance(spec, FieldSpec):
            return spec
        if isinstance(spec, int):
            return cls((FieldTerm(spec, 0, 1, False),))
        if isinstance(spec, FieldType):
            return cls(
                tuple(FieldTerm(t.multiplicity, t.order, _natural(t), t.order > 0) for t in spec.terms)
            )
        if isinstance(spec, Irreps):
            return cls(tuple(FieldTerm(mul, ir.l, ir.p, False) for mul, ir in spec))
        if not isinstance(spec, str):
            raise TypeError(
                f"{name} is {spec!r}; expected text such as '4x0 + 2x1' or '4x0e + 2x1o', a FieldType or Irreps"
            )
        blocks = []
        for text in spec.split("+"):
            match = _TERM.fullmatch(text.strip())
            if match is None:
                raise ValueError(
                    f"{name} is {spec!r}; expected 'scalar', tangent fields such as '4x0 + 2x1', irreps such as '4x0e + 2x1o'"
                )
            count, degree, parity = int(match[1] or 1), int(match[2]), match[3]
            tangent = degree > 0 and not parity
            sign = (-1) ** degree if tangent else -1 if parity == "o" else 1
            blocks.append(FieldTerm(count, degree, sign, tangent))
        return cls(tuple(blocks))

    @property
    def dim(self) -> int:
        """Channels."""
        return sum(block.multiplicity * block.width for block in self.blocks)

    @property
    def lifted(self) -> Irreps:
        """The irreps that the channels are components of."""
        return Irreps([(b.multiplicity, (b.degree, b.parity)) for b in self.blocks])

    @property
    def has_frames(self) -> bool:
        """Whether some components are given in tangent frames."""
        return any(block.tangent for block in self.blocks)

    @property
    def invariant(self) -> bool:
        """Whether R leaves all channels as they are."""
        return all(block.degree == 0 and block.parity == 1 for block in self.blocks)

    def lift(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """Channels to components of irreps.

        Shape: x (..., dim, N), frames (N, 2, 3) float64 -> (..., lifted.dim, N).
        """
        return self._between(x, frames, up=True)

    def project(self, z: Tensor, frames: Tensor | None) -> Tensor:
        """Components of irreps to channels, the transpose of :meth:`lift`.

        Shape: z (..., lifted.dim, N), frames (N, 2, 3) float64 -> (..., dim, N).
        """
        return self._between(z, frames, up=False)

    def _between(self, x: Tensor, frames: Tensor | None, up: bool) -> Tensor:
        if not self.has_frames:
            return x
        assert frames is not None
        parts, start = [], 0
        for block in self.blocks:
            width = block.width if up else 2 * block.degree + 1
            part = x[..., start : start + block.multiplicity * width, :]
            start += block.multiplicity * width
            if block.tangent:
                part = part.unflatten(-2, (block.multiplicity, width))
                basis = tangent_basis(frames, block.degree)  # (N, 2 l + 1, 2)
                equation = "nij,...ajn->...ain" if up else "nij,...ain->...ajn"
                part = torch.einsum(equation, basis, part).flatten(-3, -2)
            parts.append(part)
        return torch.cat(parts, -2)

    def turn(self, z: Tensor, rotation: Tensor) -> Tensor:
        """D(R) z for components of irreps. Shape: z (..., lifted.dim, N), rotation (3, 3) -> as z."""
        if self.invariant:
            return z
        return wigner_D(self.lifted, rotation.double()).to(z) @ z

    def __str__(self) -> str:
        return " + ".join(
            f"{b.multiplicity}x{b.degree}{'' if b.tangent else 'e' if b.parity == 1 else 'o'}"
            for b in self.blocks
        )


def _natural(term: Any) -> int:
    return int(term.parity if term.order == 0 else (-1) ** term.order)


@lru_cache(maxsize=32)
def _pair_at_pole(order: int) -> Tensor:
    """Re and Im of (x + iy)^order as unit elements of the irrep of that degree. Shape: (2 order + 1, 2)."""
    points = torch.randn(8 * order + 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = points / points.norm(dim=1, keepdim=True)
    harmonics = component_harmonics(points, order)[:, order * order :]
    power = torch.complex(points[:, 0], points[:, 1]) ** order
    pair = torch.linalg.lstsq(harmonics, torch.stack([power.real, power.imag], 1)).solution
    return pair / pair.norm(dim=0)


def tangent_basis(frames: Tensor, order: int) -> Tensor:
    """The pair of an order as elements of the irrep of that degree, at each point.

    Shape: frames (N, 2, 3) right-handed -> (N, 2 order + 1, 2), orthonormal columns.
    """
    normal = torch.linalg.cross(frames[:, 0], frames[:, 1])
    turns = torch.stack([frames[:, 0], frames[:, 1], normal], 2)  # x, y, z to e_1, e_2, n
    return wigner_D(order, turns) @ _pair_at_pole(order)


def declared_field(module: object, side: str) -> FieldSpec | None:
    """The kind of field that a module declares; None where it declares nothing.

    Args:
        module: looked at are ``field_in`` or ``field_out``, then the attributes in which layers keep field types and irreps; a
            ``Sequential`` is asked child by child, from the first for its input, from the last for its output.
        side: "in" or "out".
    """
    found = _declared(module, side)
    return found if isinstance(found, FieldSpec) else None


def _declared(module: object, side: str) -> FieldSpec | str | None:
    """As :func:`declared_field`; "scalar" where the child that decides has plain channels."""
    own = getattr(module, f"field_{side}", None)
    if own is not None:
        return "scalar" if own == "scalar" else FieldSpec.of(own, f"field_{side}")
    for name in NAMES_IN if side == "in" else NAMES_OUT:
        kind = getattr(module, name, None)
        if isinstance(kind, (FieldType, Irreps)):
            return FieldSpec.of(kind)
    if isinstance(module, nn.Sequential):
        for child in module if side == "in" else reversed(module):
            found = _declared(child, side)
            if found is not None:
                return found
    if isinstance(getattr(module, f"{side}_channels", None), int):
        return "scalar"
    return None

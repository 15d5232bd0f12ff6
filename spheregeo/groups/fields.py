r"""Types of tangent fields: which representations of SO(2), or O(2), the channels at a point carry.

A field of order m >= 1 is a pair (c, s), a complex number F = c + i s; a frame turned by +alpha changes it to
exp(-i m alpha) F, that is by rho_m(-alpha), with

    rho_0 = 1,   rho_m(a) = [[cos ma, -sin ma], [sin ma, cos ma]].

A frame whose second vector is reversed changes (c, s) to (c, -s); order-0 fields are then even (kept) or odd (negated).
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615; Weiler & Cesa 2019, arXiv:1911.08251,
for O(2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from spheregeo.checks import check_tensor

_TERM = re.compile(r"(\d+)\s*[x×]\s*(\d+)\s*([eo]?)")


@dataclass(frozen=True)
class Term:
    """``multiplicity`` fields of one order; ``parity`` is −1 for scalars that change sign in a reflected frame, else +1.

    Raises: ValueError for a multiplicity below 1, a negative order, or a parity that the order cannot have.
    """

    multiplicity: int
    order: int
    parity: int = 1

    def __post_init__(self) -> None:
        if self.multiplicity < 1:
            raise ValueError(f"multiplicity is {self.multiplicity}; expected at least 1 (leave the term out)")
        if self.order < 0:
            raise ValueError(f"order is {self.order}; expected 0 or more: order −m is order m, conjugated")
        if self.parity not in (1, -1) or (self.parity == -1 and self.order > 0):
            raise ValueError(f"parity is {self.parity} at order {self.order}; expected 1, or −1 at order 0")

    @property
    def width(self) -> int:
        """Channels of one field: 1 at order 0, else 2."""
        return 1 if self.order == 0 else 2

    @property
    def dim(self) -> int:
        """Channels of all fields of the term."""
        return self.multiplicity * self.width

    def __str__(self) -> str:
        return f"{self.multiplicity}x{self.order}{'o' if self.parity < 0 else ''}"


@dataclass(frozen=True, init=False, repr=False)
class FieldType:
    """A stack of tangent fields, such as ``FieldType("16x0 + 8x1 + 4x2")``: 16 scalars, 8 of order 1, 4 of order 2.

    Scalars may have a parity under reflections: ``"4x0e + 2x0o"``; ``"0"`` alone is even. Fields lie one after another,
    the pair (c, s) of a field side by side. Neighbouring terms of one kind are merged, so types are equal where their
    channels are. Values are frozen and hashable, and ``FieldType(str(t)) == t``.

    ``blocks`` holds (channels, multiplicity, order) of each term; ``signs`` the factor ±1 that each channel takes in a
    reflected frame; ``num_fields`` counts a pair once.

    Shape: ``dim`` channels.
    Raises: ValueError for text that is not a sum of terms ``MULTIPLICITYxORDER``.
    """

    terms: tuple[Term, ...]
    dim: int = field(init=False, compare=False)
    max_order: int = field(init=False, compare=False)
    num_fields: int = field(init=False, compare=False)
    blocks: tuple[tuple[slice, int, int], ...] = field(init=False, compare=False)
    signs: tuple[int, ...] = field(init=False, compare=False)

    def __init__(self, spec: str | FieldType | Iterable[Term]) -> None:
        if isinstance(spec, str):
            terms = _parse(spec)
        elif isinstance(spec, FieldType):
            terms = spec.terms
        else:
            terms = tuple(spec) if isinstance(spec, Iterable) else (spec,)
            if not all(isinstance(term, Term) for term in terms):
                raise TypeError(f"spec is {spec!r}; expected text such as '16x0 + 8x1', or Terms")
        if not terms:
            raise ValueError("a field type needs at least one term, such as '16x0 + 8x1'")
        merged = [terms[0]]
        for term in terms[1:]:
            last = merged[-1]
            if (term.order, term.parity) == (last.order, last.parity):
                merged[-1] = Term(last.multiplicity + term.multiplicity, term.order, term.parity)
            else:
                merged.append(term)
        blocks: list[tuple[slice, int, int]] = []
        signs: list[int] = []
        for term in merged:
            blocks.append((slice(len(signs), len(signs) + term.dim), term.multiplicity, term.order))
            signs += term.multiplicity * ([term.parity] if term.order == 0 else [1, -1])
        for name, value in {
            "terms": tuple(merged),
            "blocks": tuple(blocks),
            "signs": tuple(signs),
            "dim": len(signs),
            "max_order": max(term.order for term in merged),
            "num_fields": sum(term.multiplicity for term in merged),
        }.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, spec: str | FieldType) -> FieldType:
        """The type itself, or the one that text describes."""
        return spec if isinstance(spec, FieldType) else cls(spec)

    @classmethod
    def full(cls, multiplicity: int, max_order: int) -> Self:
        """``multiplicity`` fields of every order 0 … ``max_order``."""
        return cls(Term(multiplicity, order) for order in range(max_order + 1))

    def multiplicity(self, order: int) -> int:
        """Number of fields of an order, of either parity."""
        return sum(term.multiplicity for term in self.terms if term.order == order)

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        """Components of the same fields in frames turned by +angle: ρ(−angle) x.

        Shape: x (..., dim, *points), angle (*points) -> (..., dim, *points). Units: radians.
        """
        return self.transport(x, -angle)

    def transport(self, x: Tensor, angle: Tensor) -> Tensor:
        """ρ(angle) x: fields given in frames that stand at ``angle`` in the new ones.

        Shape: x (..., dim, *points), angle (*points) -> (..., dim, *points). Units: radians.
        Raises: ValueError where x does not have the type's channels before the axes of the angle.
        """
        axis = x.ndim - angle.ndim - 1
        if axis < 0 or x.shape[axis] != self.dim or x.shape[axis + 1 :] != angle.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and angle {tuple(angle.shape)}; expected x (..., {self.dim}, "
                f"*points) for fields of type '{self}', and angle (*points)"
            )
        parts = []
        for channels, multiplicity, order in self.blocks:
            part = x.narrow(axis, channels.start, channels.stop - channels.start)
            if order:
                cos = torch.cos(order * angle).to(x.dtype)
                sin = torch.sin(order * angle).to(x.dtype)
                c, s = part.unflatten(axis, (multiplicity, 2)).unbind(axis + 1)
                part = torch.stack([cos * c - sin * s, sin * c + cos * s], axis + 1).flatten(axis, axis + 1)
            parts.append(part)
        return torch.cat(parts, axis)

    def representation(self, angle: Tensor) -> Tensor:
        """The matrices ρ(angle), block diagonal. Shape: angle (...) -> (..., dim, dim)."""
        out = angle.new_zeros(*angle.shape, self.dim, self.dim)
        for channels, _, order in self.blocks:
            if order == 0:
                i = torch.arange(channels.start, channels.stop, device=angle.device)
                out[..., i, i] = 1
                continue
            i = torch.arange(channels.start, channels.stop, 2, device=angle.device)
            cos, sin = torch.cos(order * angle)[..., None], torch.sin(order * angle)[..., None]
            out[..., i, i] = cos
            out[..., i, i + 1] = -sin
            out[..., i + 1, i] = sin
            out[..., i + 1, i + 1] = cos
        return out

    def reflect(self, x: Tensor, axis: int = 1) -> Tensor:
        """Components of the same fields in frames whose second vector is reversed. Shape: dim channels on ``axis``.

        Raises: ValueError for another number of channels.
        """
        if x.shape[axis] != self.dim:
            raise ValueError(
                f"x has {x.shape[axis]} channels on axis {axis}; expected {self.dim} for type '{self}'"
            )
        shape = [1] * x.ndim
        shape[axis] = self.dim
        return x * torch.tensor(self.signs, dtype=x.dtype, device=x.device).view(shape)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))

    def __repr__(self) -> str:
        return f"FieldType('{self}')"


def reflection_mask(in_type: str | FieldType, out_type: str | FieldType) -> Tensor:
    """Which entries of W the kernels ρ_out(θ) W ρ_in(−θ) may use where frames may be reflected too: O(2), not SO(2) alone.

    The constraint K(−θ) = S_out K(θ) S_in, S the signs of the channels, becomes W = S_out W S_in.

    Shape: (dim_out, dim_in) bool, True where W is free.
    """
    rows = torch.tensor(FieldType.of(out_type).signs)
    columns = torch.tensor(FieldType.of(in_type).signs)
    return rows[:, None] == columns


def check_field(x: Tensor, field_type: FieldType, name: str = "x") -> None:
    """Raise ValueError unless x is (batch, dim, *points)."""
    check_tensor(x, name)
    if x.ndim < 2 or x.shape[1] != field_type.dim:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (batch, {field_type.dim}, *points), fields of type '{field_type}'"
        )


def _parse(text: str) -> tuple[Term, ...]:
    terms = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"field type is {text!r} and its term {part.strip()!r} cannot be read; "
                "expected a sum of MULTIPLICITYxORDER such as '16x0 + 8x1 + 4x2' (scalars may be 0e or 0o)"
            )
        multiplicity, order, parity = match.groups()
        if parity and int(order):
            raise ValueError(
                f"field type is {text!r}: {part.strip()!r} has a parity; only order 0 has one, e or o, since a "
                "reflection maps the two components of a higher order onto (c, −s)"
            )
        terms.append(Term(int(multiplicity), int(order), -1 if parity == "o" else 1))
    return tuple(terms)

"""``Stacks``: features on irreps as layers hand them to one another inside a network, one tensor for each distinct irrep.

A stack (..., 2l + 1, copies) holds all copies of one irrep, copies side by side in memory. A linear map is one matrix product
per stack, a gate one multiplication, and a convolution reads stacks block after block as they lie: nothing is put into another
order between layers. Rows in e3nn's ``mul_ir`` are for a network's border.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.nn.irreps.layout import (
    as_irreps,
    check_features,
    distinct_irreps,
    join_rows,
    places_of,
    split_rows,
)

Term = tuple[int, int, int]  # degree l, parity p, copies: plain numbers, which compilers read


def terms_of(irreps: Irreps) -> tuple[Term, ...]:
    """The stacks that features of these irreps have, in the order in which irreps first appear."""
    return tuple((ir.l, ir.p, irreps.count(ir)) for ir in distinct_irreps(irreps))


class Stacks:
    """Features on irreps, one tensor (..., 2l + 1, copies) for each distinct irrep.

    Every layer of ``nn.irreps`` and the convolutions of ``nn.space`` take stacks in place of a tensor and then return stacks.

    Args:
        parts: the stacks, in the order in which the irreps first appear.
        irreps: what they are, such as ``"16x0e + 8x1o"``; terms of one irrep are one stack.

    Shape: parts (..., 2l + 1, copies), all with the same leading axes (points, or none).
    Raises: ValueError for parts that do not fit the irreps.

    Example:
        >>> x = Stacks.from_mul_ir(torch.arange(5.0), "2x0e + 1x1o")
        >>> x["1o"].shape, x.to_mul_ir()
        (torch.Size([3, 1]), tensor([0., 1., 2., 3., 4.]))
    """

    def __init__(self, parts: Sequence[Tensor], irreps: str | Irreps) -> None:
        self.terms = terms_of(as_irreps(irreps))
        self.parts = tuple(parts)
        found, expected = (
            [tuple(part.shape[-2:]) for part in self.parts],
            [(2 * l + 1, n) for l, _, n in self.terms],
        )
        if found != expected or len({part.shape[:-2] for part in self.parts}) > 1:
            raise ValueError(
                f"parts have shapes {[tuple(part.shape) for part in self.parts]}; expected {expected} after the same leading "
                f"axes, for irreps {irreps}"
            )

    @classmethod
    def of(cls, parts: Sequence[Tensor], terms: tuple[Term, ...]) -> Stacks:
        """Stacks of known terms, see :func:`terms_of`; nothing is checked."""
        new = cls.__new__(cls)
        new.parts, new.terms = tuple(parts), terms
        return new

    @classmethod
    def from_mul_ir(cls, x: Tensor, irreps: str | Irreps) -> Stacks:
        """Stacks of rows in e3nn's layout.

        Shape: x (..., irreps.dim) -> parts (..., 2l + 1, copies).
        Raises: ValueError for another number of components.
        """
        irreps = as_irreps(irreps)
        check_tensor(x)
        if x.ndim < 1 or x.shape[-1] != irreps.dim:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (..., {irreps.dim}), features of {irreps}"
            )
        return cls.of(split_rows(x, places_of(irreps)), terms_of(irreps))

    def to_mul_ir(self, irreps: str | Irreps | None = None) -> Tensor:
        """Rows in e3nn's layout.

        Args:
            irreps: the same irreps in any order and number of terms; by default one term for each stack.

        Shape: parts (..., 2l + 1, copies) -> (..., irreps.dim).
        Raises: ValueError for irreps that differ in more than order.
        """
        irreps = self.irreps if irreps is None else as_irreps(irreps)
        given = {term[:2]: i for i, term in enumerate(self.terms)}
        if sorted(terms_of(irreps)) != sorted(self.terms):
            raise ValueError(f"irreps is {irreps}; expected those of the stacks, {self.irreps}")
        order = [given[term[:2]] for term in terms_of(irreps)]
        return join_rows([self.parts[i] for i in order], places_of(irreps))

    @property
    def irreps(self) -> Irreps:
        """What the features are, one term for each stack."""
        return Irreps([(copies, (l, p)) for l, p, copies in self.terms])

    @property
    def shape(self) -> torch.Size:
        """The leading axes, which all stacks share."""
        return self.parts[0].shape[:-2]

    def __getitem__(self, ir: str | Irrep) -> Tensor:
        ir = Irrep(ir)
        for (l, p, _), part in zip(self.terms, self.parts, strict=True):
            if (l, p) == (ir.l, ir.p):
                return part
        raise KeyError(f"there is no stack of {ir}; irreps are {self.irreps}")

    def __repr__(self) -> str:
        return f"Stacks('{self.irreps}', {tuple(self.shape)})"

    def __add__(self, other: Stacks) -> Stacks:
        if self.terms != other.terms:
            raise ValueError(
                f"irreps are {self.irreps} and {other.irreps}; expected the same in the same order"
            )
        return Stacks.of([a + b for a, b in zip(self.parts, other.parts, strict=True)], self.terms)

    def map(self, function: Callable[[Tensor], Tensor]) -> Stacks:
        """The stacks that a function of one stack, which keeps the last two axes, makes of each."""
        return Stacks.of([function(part) for part in self.parts], self.terms)

    def rows(self, index: Tensor) -> Stacks:
        """The features of some points, in that order. Shape: index (M,) int64 -> parts (M, 2l + 1, copies)."""
        return self.map(lambda part: part.index_select(0, index))

    def take(self, *irs: str | Irrep) -> Stacks:
        """The stacks of these irreps alone, in this order. Raises: KeyError for one that is not there."""
        every = [Irrep(ir) for ir in irs]
        parts = [self[ir] for ir in every]
        return Stacks.of(
            parts, tuple((ir.l, ir.p, part.shape[-1]) for ir, part in zip(every, parts, strict=True))
        )

    def dot(self, other: Stacks) -> Tensor:
        """Inner products of the copies of two features, stack after stack, copy by copy; invariant.

        Shape: parts (..., 2l + 1, copies), twice -> (..., number of copies).
        """
        found = [
            (a * b).sum(-2) if a.shape[-2] > 1 else (a * b).squeeze(-2)
            for a, b in zip(self.parts, other.parts, strict=True)
        ]
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    def scale(self, factors: Tensor) -> Stacks:
        """Each copy times a number of its own. Shape: factors (..., number of copies), stack after stack."""
        each = factors.unsqueeze(-2).split([part.shape[-1] for part in self.parts], -1)
        return Stacks.of([part * factor for part, factor in zip(self.parts, each, strict=True)], self.terms)

    @staticmethod
    def cat(features: Sequence[Stacks]) -> Stacks:
        """Features side by side, as of the sum of their irreps: copies of one irrep are one stack."""
        found: dict[tuple[int, int], list[Tensor]] = {}
        for x in features:
            for (l, p, _), part in zip(x.terms, x.parts, strict=True):
                found.setdefault((l, p), []).append(part)
        parts = [several[0] if len(several) == 1 else torch.cat(several, -1) for several in found.values()]
        return Stacks.of(parts, tuple((*ir, part.shape[-1]) for ir, part in zip(found, parts, strict=True)))

    def planar(self) -> Tensor:
        """One vector, stack after stack, as the kernels of the sparse backend read features. Shape: (points · dim,)."""
        return torch.cat([part.reshape(-1) for part in self.parts])

    @staticmethod
    def from_planar(x: Tensor, terms: tuple[Term, ...], points: int) -> Stacks:
        """Stacks of such a vector, as views. Shape: (points · dim,) -> parts (points, 2l + 1, copies)."""
        parts = x.split([points * (2 * l + 1) * copies for l, _, copies in terms])
        shapes = [(points, 2 * l + 1, copies) for l, _, copies in terms]
        return Stacks.of([part.view(shape) for part, shape in zip(parts, shapes, strict=True)], terms)


class ToStacks(nn.Module):
    """Layer at a network's entrance: rows in e3nn's layout to stacks, see :class:`Stacks`.

    Args:
        irreps: what the rows are.

    Shape: (..., irreps.dim) -> stacks (..., 2l + 1, copies), views where each irrep is one term.
    Equivariance: O(3), exact.
    Raises: ValueError for rows of another length.

    Example:
        >>> ToStacks("2x0e + 1x1o")(torch.ones(4, 5))
        Stacks('2x0e+1x1o', (4,))
    """

    def __init__(self, irreps: str | Irreps) -> None:
        super().__init__()
        self.irreps = as_irreps(irreps)
        self._places, self._terms = places_of(self.irreps), terms_of(self.irreps)

    def forward(self, x: Tensor) -> Stacks:
        check_features(x, self.irreps)
        return Stacks.of(split_rows(x, self._places), self._terms)

    def extra_repr(self) -> str:
        return f"'{self.irreps}'"


class FromStacks(nn.Module):
    """Layer at a network's exit: stacks to rows in e3nn's layout, the inverse of :class:`ToStacks`.

    Args:
        irreps: what the rows are to be; the irreps of the stacks, in any number of terms.

    Shape: stacks (..., 2l + 1, copies) -> (..., irreps.dim).
    Equivariance: O(3), exact.
    Raises: ValueError for stacks of other irreps.

    Example:
        >>> FromStacks("1x0e + 1x1o + 1x0e")(ToStacks("2x0e + 1x1o")(torch.arange(5.0)))
        tensor([0., 2., 3., 4., 1.])
    """

    def __init__(self, irreps: str | Irreps) -> None:
        super().__init__()
        self.irreps = as_irreps(irreps)
        self._places, self._terms = places_of(self.irreps), terms_of(self.irreps)

    def forward(self, x: Stacks) -> Tensor:
        check_stacks(x, self._terms)
        return join_rows(x.parts, self._places)

    def extra_repr(self) -> str:
        return f"'{self.irreps}'"


def check_stacks(x: Stacks, terms: tuple[Term, ...], name: str = "x") -> None:
    """Raises: ValueError where stacks are not of these terms."""
    check_tensor(x.parts[0], name) if x.parts else None
    if x.terms != terms:
        expected = Irreps([(copies, (l, p)) for l, p, copies in terms])
        raise ValueError(f"{name} has stacks of {x.irreps}; expected {expected}, in this order")


class ByRows(nn.Module):
    """Stacks for a layer that takes rows alone, and keeps irreps if no others are given: ``by_rows(layer, stacks)``."""

    def __init__(self, irreps: Irreps, layout: str = "mul_ir", irreps_out: Irreps | None = None) -> None:
        super().__init__()
        out = irreps if irreps_out is None else irreps_out
        self.layout, self._places, self._terms = layout, places_of(irreps), terms_of(irreps)
        self._places_out, self._terms_out = places_of(out), terms_of(out)

    def forward(self, layer: Callable[[Tensor], Tensor], x: Stacks) -> Stacks:
        check_stacks(x, self._terms)
        y = layer(join_rows(x.parts, self._places, self.layout))
        return Stacks.of(split_rows(y, self._places_out, self.layout), self._terms_out)


Features = TypeVar("Features", Tensor, Stacks)  # rows in mul_ir, or stacks: layers return what they are given

r"""How tangent fields lie in memory, and how a kernel's weights become the matrices that mix their contractions.

A field of order m is one channel for m = 0 and a pair (c, s) = (Re F, Im F) of a complex number F for m > 0. Publicly
fields follow one another, c and s side by side; inside, *planar*: by order, all c of an order and then all its s.

With coefficients :math:`c_{jk}(t)` of frequency j and :math:`z_t = e^{img_t} F(q_t)`, the input carried to the target's
frame, the contractions behind output order n are :math:`G^{\pm} = \sum_t c_{\pm n-m,k}(t)\, z_t` and the layer is
:math:`y_n = A\, G^{+} + B\, \overline{G^{-}}`, where the complex A and B are halves of sums and differences of the
real weights: the 2x2 block [[cc, cs], [sc, ss]] of a pair of fields, as it stands in the edge's frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.constants import made
from spheregeo.lazy import cached_property


@dataclass(frozen=True)
class Orders:
    """The fields of a type as (multiplicity, order) terms, and where they go in planar memory."""

    terms: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, flat: Sequence[int]) -> Orders:
        """From multiplicity, order, multiplicity, order, ..."""
        return cls(tuple(zip(flat[::2], flat[1::2], strict=True)))

    @property
    def flat(self) -> list[int]:
        """Inverse of :meth:`of`."""
        return [number for term in self.terms for number in term]

    @cached_property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(order, first planar channel, fields) of each order present, ascending."""
        out, start = [], 0
        for order in sorted({order for count, order in self.terms if count}):
            count = sum(c for c, o in self.terms if o == order)
            out.append((order, start, count))
            start += count * (1 if order == 0 else 2)
        return out

    @property
    def dim(self) -> int:
        """Channels."""
        return sum(count * (1 if order == 0 else 2) for count, order in self.terms)

    @property
    def max_order(self) -> int:
        """The highest order present."""
        return max([0, *(order for count, order in self.terms if count)])

    @cached_property
    def permutation(self) -> Tensor:
        """Public channel of each planar one, (dim,)."""
        fields: dict[int, list[int]] = {}
        channel = 0
        for count, order in self.terms:
            step = 1 if order == 0 else 2
            fields.setdefault(order, []).extend(range(channel, channel + count * step, step))
            channel += count * step
        out: list[int] = []
        for order in sorted(fields):
            out += fields[order] if order == 0 else fields[order] + [c + 1 for c in fields[order]]
        return torch.tensor(out, dtype=torch.long)

    def planar(self, x: Tensor, dim: int) -> Tensor:
        """Public channels on axis ``dim`` to planar ones; contiguous."""
        if self._sorted:
            return x.contiguous()
        return x.index_select(dim, made(("planar", self.terms), lambda: self.permutation, x))

    def public(self, x: Tensor, dim: int) -> Tensor:
        """Inverse of :meth:`planar`."""
        if self._sorted:
            return x.contiguous()
        return x.index_select(dim, made(("public", self.terms), lambda: self.permutation.argsort(), x))

    @cached_property
    def _sorted(self) -> bool:
        return bool((self.permutation.diff() == 1).all())


def width(order: int) -> int:
    """Numbers in one field."""
    return 1 if order == 0 else 2


def layout(source: Orders, target: Orders, rings: int) -> tuple[list[list[int]], list[int]]:
    """Where each pair's contractions start in a row: offsets[out block][in block], and where each out block's end."""
    offsets, ends, at = [], [], 0
    for n, _, _ in target.blocks:
        row = []
        for m, _, count in source.blocks:
            row.append(at)
            at += rings * count * width(n) * width(m)
        offsets.append(row)
        ends.append(at)
    return offsets, ends


def lift(weight: Tensor, source: Orders, target: Orders) -> list[Tensor]:
    """Weights (O, I, R), planar, as one matrix (contractions, channels) for each output order."""
    out = []
    for n, first, outputs in target.blocks:
        rows = weight[first : first + outputs * width(n)].unflatten(0, (width(n), outputs))
        parts = []
        for m, begin, inputs in source.blocks:
            block = rows[:, :, begin : begin + inputs * width(m)].unflatten(2, (width(m), inputs))
            block = block.permute(2, 4, 3, 0, 1)  # (width m, R, C, width n, O)
            if n == 0:
                parts.append(block)
            elif m == 0:
                c, s = block[0, ..., 0, :], block[0, ..., 1, :]
                parts.append(torch.stack([torch.stack([c, s], -2), torch.stack([-s, c], -2)]))
            else:
                cc, sc, cs, ss = (block[i, ..., j, :] for i in (0, 1) for j in (0, 1))
                a, b, u, v = (cc + ss) / 2, (sc - cs) / 2, (cc - ss) / 2, (sc + cs) / 2
                pairs = [(a, b), (-b, a), (u, v), (v, -u)]  # G+ real, G+ imaginary, G- real, G- imaginary
                parts.append(torch.stack([torch.stack(pair, -2) for pair in pairs]))
        out.append(torch.cat([p.reshape(-1, width(n) * outputs) for p in parts]))
    return out


def unlift(matrices: list[Tensor], source: Orders, target: Orders, rings: int) -> Tensor:
    """Adjoint of :func:`lift`: gradients of the matrices to the gradient of the weights (O, I, R), planar."""
    out = matrices[0].new_zeros(target.dim, source.dim, rings)
    for (n, first, outputs), matrix in zip(target.blocks, matrices, strict=True):
        at = 0
        for m, begin, inputs in source.blocks:
            size = rings * inputs * width(n) * width(m)
            part = matrix[at : at + size].view(-1, rings, inputs, width(n), outputs)
            at += size
            if n == 0:
                block = part  # (width m, R, C, 1, O)
            elif m == 0:
                c = part[0, ..., 0, :] + part[1, ..., 1, :]
                s = part[0, ..., 1, :] - part[1, ..., 0, :]
                block = torch.stack([c, s], -2)[None]
            else:
                a = (part[0, ..., 0, :] + part[1, ..., 1, :]) / 2
                b = (part[0, ..., 1, :] - part[1, ..., 0, :]) / 2
                u = (part[2, ..., 0, :] - part[3, ..., 1, :]) / 2
                v = (part[2, ..., 1, :] + part[3, ..., 0, :]) / 2
                cos = torch.stack([a + u, b + v], -2)  # d cc, d sc
                sin = torch.stack([v - b, a - u], -2)  # d cs, d ss
                block = torch.stack([cos, sin])
            rows = out[first : first + outputs * width(n)].unflatten(0, (width(n), outputs))
            target_view = rows[:, :, begin : begin + inputs * width(m)].unflatten(2, (width(m), inputs))
            target_view.copy_(block.permute(3, 4, 0, 2, 1))
    return out

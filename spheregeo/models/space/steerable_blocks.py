"""Blocks of steerable networks on points: messages by steerable convolutions, and a feed-forward part at each point."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn import SampleDropout
from spheregeo.nn.irreps import IrrepsGate, IrrepsLayerNorm, IrrepsLinear, Stacks
from spheregeo.nn.space import EdgeGeometry, RadialNetwork, SteerableConv

SMALLEST = 1e-6


def pyramid(width: int, lmax: int) -> Irreps:
    """``width`` scalars, half as many vectors, a quarter as many of degree 2, ... all of the harmonics' parity; at least four.

    Raises: ValueError for a width below 4 or a negative degree.
    """
    if width < 4 or lmax < 0:
        raise ValueError(f"width is {width} and lmax {lmax}; expected at least 4, and zero or more")
    return Irreps([(max(4, width >> degree), (degree, (-1) ** degree)) for degree in range(lmax + 1)])


def split_scalars(irreps: Irreps) -> tuple[int, Irreps]:
    """Number of even scalars, which come first, and what follows them. Raises: ValueError for another order."""
    first, rest = irreps[0], Irreps(list(irreps[1:]))
    if str(first.ir) != "0e" or any(str(ir) == "0e" for _, ir in rest):
        raise ValueError(
            f"irreps is {irreps}; expected even scalars first, in one term, as in '16x0e + 8x1o'"
        )
    return first.mul, rest


class MessageBlock(nn.Module):
    """Norm, linear map, depthwise steerable convolution with weights from the edges' lengths, gate, linear map, plus the input.

    Shape: stacks of N_s points, geometry, basis (E, K), envelope (E,), extra (E, X) or None, rows of the targets among the
        sources (N_t,) or None -> stacks of N_t points.
    Equivariance: O(3) and translations, exact.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        lmax: int,
        basis: int,
        hidden: int,
        edge_dim: int,
        num_neighbors: float,
        extra: int = 0,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = IrrepsLayerNorm(irreps_in, share="separable")
        self.before = IrrepsLinear(irreps_in, irreps_in)
        self.gate = IrrepsGate(irreps_out)
        self.radial = RadialNetwork(basis, [hidden], edge_dim, extra)
        self.conv = SteerableConv(
            irreps_in,
            self.gate.irreps_in,
            lmax=lmax,
            edge_dim=edge_dim,
            depthwise=True,
            num_neighbors=num_neighbors,
            chunk=chunk,
        )
        self.bias = nn.Parameter(torch.zeros(split_scalars(self.gate.irreps_in)[0]))
        self.after = IrrepsLinear(irreps_out, irreps_out)
        self.skip = None if irreps_in == irreps_out else IrrepsLinear(irreps_in, irreps_out)

    def forward(
        self, x: Stacks, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor, extra: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Stacks:  # fmt: skip
        features = self.radial(basis, envelope, extra)
        y = self.conv(self.before(self.norm(x)), geometry, features)
        y = Stacks.of([y.parts[0] + self.bias, *y.parts[1:]], y.terms)
        own = x if rows is None else x.rows(rows)
        own = own if self.skip is None else self.skip(own)
        result: Stacks = own + self.after(self.gate(y))
        return result


class PointBlock(nn.Module):
    """Feed-forward block at each point: scalars from scalars and from inner products, and gates of the other copies.

    Two linear images u and v of the higher irreps give the invariants <u, v>/√(2l + 1), one a copy; a perceptron of scalars and
    invariants gives new scalars and a gate for each copy of u.

    Shape: stacks of N points -> the same; residual.
    Equivariance: O(3), exact.
    Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150, equations 9 and 10, for irreps of any degree.
    """

    def __init__(self, irreps: Irreps, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.scalars, rest = split_scalars(irreps)
        self.copies_count = rest.num_irreps
        self.norm = IrrepsLayerNorm(irreps, share="separable")
        if self.copies_count:
            self.left, self.right, self.after = (IrrepsLinear(rest, rest) for _ in range(3))
        count = self.scalars + self.copies_count
        self.mlp = nn.Sequential(
            nn.Linear(count, hidden), nn.SiLU(), SampleDropout(dropout), nn.Linear(hidden, count)
        )

    def forward(self, x: Stacks) -> Stacks:
        y = self.norm(x)
        scalars = y.parts[0].squeeze(1)
        if not self.copies_count:
            return x + Stacks.of([self.mlp(scalars).unsqueeze(1)], x.terms)
        rest = Stacks.of(y.parts[1:], y.terms[1:])
        u, v = self.left(rest), self.right(rest)
        products = [(a * b).sum(1) / math.sqrt(a.shape[1]) for a, b in zip(u.parts, v.parts, strict=True)]
        new, gates = self.mlp(torch.cat([scalars, *products], 1)).split([self.scalars, self.copies_count], 1)
        gated = self.after(u.scale(gates))
        return x + Stacks.of([new.unsqueeze(1), *gated.parts], x.terms)


def invariants_of(x: Stacks) -> Tensor:
    """Even scalars, which come first, and the lengths of all other copies. Shape: stacks of N points -> (N, number of copies)."""
    scalars, *rest = x.parts
    lengths = [(part.square().sum(1) + SMALLEST).sqrt() for part in rest]
    return torch.cat([scalars.squeeze(1), *lengths], 1)

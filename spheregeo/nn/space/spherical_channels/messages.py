r"""Messages between functions on the sphere, worked out in the frames of edges, of coefficients of orders up to mmax.

Turning a frame by γ about its edge multiplies z_m + i z_{-m} by exp(imγ). A perceptron of all coefficients does not commute with
that; its mean over T turns by 2π/T ("taps") commutes with those, and with all others up to what the perceptron makes of order T
and beyond, which falls exponentially with T. Nothing turns where mmax is 0.
"""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.stacks import Stacks
from spheregeo.nn.space.edge_frame import FrameGate, FrameProduct, FrameRotation
from spheregeo.nn.space.spherical_channels.activation import FrameSphereActivation
from spheregeo.nn.space.spherical_channels.frames import FrameWays, order_columns, scaled_orders

ACTIVATIONS = ("gate", "sphere")


def channel_irreps(channels: int, lmax: int) -> Irreps:
    """C functions on the sphere: C copies of each degree up to lmax, of the harmonics' parity.

    Example:
        >>> channel_irreps(4, 2)
        4x0e+4x1o+4x2e
    """
    check_least(channels=(channels, 1), lmax=(lmax, 0))
    return Irreps([(channels, (degree, (-1) ** degree)) for degree in range(lmax + 1)])


class TapMessage(ExactBuffers):
    """SCN's message: B (h ⊙ SiLU(A [z_i, z_j] + a)) in the frame of each edge, a mean over taps, summed over the edges.

    Args:
        channels: functions on the sphere.
        lmax: largest degree.
        mmax: orders that are kept in the frames.
        hidden: width H of the perceptron.
        taps: turns of the frame about its edge that are averaged; without effect where mmax is 0.
        num_neighbors: mean number of neighbours, a constant that scales sums.

    Shape: stacks of N points, frames, edge features h (E, H), envelope (E,) -> stacks of N points.
    Equivariance: SO(3) exact for mmax = 0. Otherwise up to a frame's roll: relative error of one message with random weights
        and unit features, mmax = 1: 1.1 with 1 tap, 6e-2 with 4, 2e-3 with 8, 5e-7 with 16, 2e-14 with 32; mmax = 2: 1.1, 3e-2,
        2e-4 and 5e-9 with 4, 8, 16 and 32. Smooth in the edges' vectors: means over two frames, see ``two_frames``.
        Reflections: for mmax = 0 alone.
    Raises: ValueError for sizes below 1, mmax outside 0 ... lmax.
    Reference: Zitnick et al. 2022, arXiv:2206.14331, sections 3.2 and 3.3.

    Example:
        >>> from spheregeo.nn.space import EdgeGeometry
        >>> message = TapMessage(4, lmax=1, mmax=1, hidden=8)
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]]))
        >>> ways = FrameWays.of(geometry, message.rotation, 1, roll=True)
        >>> message(Stacks.from_mul_ir(torch.randn(3, 16), "4x0e + 4x1o"), ways, torch.randn(3, 8), torch.ones(3))
        Stacks('4x0e+4x1o', (3,))
    """

    cosines: Tensor
    sines: Tensor

    def __init__(
        self, channels: int, lmax: int, mmax: int, hidden: int, taps: int = 4, num_neighbors: float = 1.0
    ) -> None:
        super().__init__()
        check_least(hidden=(hidden, 1), taps=(taps, 1), mmax=(mmax, 0))
        if mmax > lmax:
            raise ValueError(f"mmax is {mmax}; expected 0 to lmax, which is {lmax}")
        self.mmax, self.num_neighbors = mmax, float(num_neighbors)
        self.taps = taps if mmax else 1
        irreps = channel_irreps(channels, lmax)
        self.rotation = FrameRotation(irreps, mmax)
        self.widths = [(lmax + 1 - m) * channels for m in range(mmax + 1)]
        sizes = [(2 if m else 1) * width for m, width in enumerate(self.widths)]
        self.bias = nn.Parameter(torch.zeros(hidden))
        # for each order and component: rows of both ends' coefficients; and back
        self.into = nn.ParameterList(torch.empty(2, size, hidden) for size in sizes)
        self.onto = nn.ParameterList(torch.empty(hidden, size) for size in sizes)
        angles = torch.arange(self.taps, dtype=torch.float64) * (2 * math.pi / self.taps)
        turns = angles[:, None] * torch.arange(mmax + 1)
        self.keep("cosines", turns.cos())  # (taps, mmax + 1)
        self.keep("sines", turns.sin())
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights anew, so that unit features give hidden values and messages of order one."""
        total = sum(len(weight[0]) for weight in self.into)
        for into, onto in zip(self.into, self.onto):
            into.normal_(std=(2 * total) ** -0.5)
            onto.normal_(std=1.7 * len(onto) ** -0.5)
        self.bias.zero_()

    def forward(self, x: Stacks, ways: FrameWays, features: Tensor, envelope: Tensor) -> Stacks:
        planar, count = x.planar(), ways.edges
        ends = [self._orders(self.rotation.inward(planar, ways.coefficients, r), count) for r in ways[1:3]]
        base = self.bias.to(planar)
        along, across = [], []  # of each order m > 0: what cos(mγ) and sin(mγ) multiply
        for m, weight in enumerate(self.into):
            w = weight.to(planar)
            if not m:
                base = base + sum(end[0][:, 0] @ w[k] for k, end in enumerate(ends))
                continue
            plus, minus = (part for part in w.split(self.widths[m], 1))
            terms = [(e[m][:, 0], e[m][:, 1], plus[k], minus[k]) for k, e in enumerate(ends)]
            along.append(sum(p @ a + q @ b for p, q, a, b in terms))
            across.append(sum(p @ b - q @ a for p, q, a, b in terms))
        gates = features.to(planar)
        means = self._means(base, along, across, gates)
        if ways.other is not None and self.mmax:
            means = self._with_other(means, base, along, across, gates, ways.other.to(planar))
        scale = (envelope / math.sqrt(self.num_neighbors)).to(planar)[:, None]
        out = []
        for m, (weight, (c, s)) in enumerate(zip(self.onto, means, strict=True)):
            w = weight.to(planar)
            if not m:
                out.append((scale * c @ w).flatten())
                continue
            plus, minus = w.split(self.widths[m], 1)
            c, s = scale * c, scale * s
            out.append(torch.stack([c @ plus + s @ minus, c @ minus - s @ plus], 1).flatten())
        return self.rotation.outward(torch.cat(out), ways.coefficients, ways.targets)

    def _means(
        self, base: Tensor, along: list[Tensor], across: list[Tensor], gates: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Means over taps of the hidden values (E, H) times cos(mγ) and sin(mγ), for each order m.

        Args:
            base: what the perceptron gets from order 0, (E, H).
            along: what cos(mγ) multiplies, of each order above 0.
            across: what sin(mγ) multiplies, likewise.
            gates: features of the edges, (E, H).
        """
        cosines, sines = self.cosines.to(base), self.sines.to(base)
        pre = base[None].expand(self.taps, *base.shape)
        for m, (u, v) in enumerate(zip(along, across, strict=True), 1):
            pre = pre + cosines[:, m, None, None] * u + sines[:, m, None, None] * v
        hidden = torch.nn.functional.silu(pre) * gates
        return [
            tuple(torch.einsum("t,teh->eh", waves[:, m] / self.taps, hidden) for waves in (cosines, sines))  # type: ignore[misc]
            for m in range(self.mmax + 1)
        ]

    def _with_other(
        self, means: list[tuple[Tensor, Tensor]], base: Tensor, along: list[Tensor], across: list[Tensor],
        gates: Tensor, other: Tensor,
    ) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
        """The means of the first frames mixed with those of the second, by weight; arguments as those of :meth:`_means`."""
        c, s, weight = (column[:, None] for column in other.unbind(1))
        turns = [(torch.ones_like(c), torch.zeros_like(s))]
        for _ in along:
            a, b = turns[-1]
            turns.append((a * c - b * s, a * s + b * c))  # cosine and sine of m times the turn
        pairs = list(zip(turns[1:], along, across, strict=True))
        turned = self._means(
            base, [a * u + b * v for (a, b), u, v in pairs], [a * v - b * u for (a, b), u, v in pairs], gates
        )
        return [
            (p + weight * (a * u - b * v - p), q + weight * (b * u + a * v - q))
            for (p, q), (u, v), (a, b) in zip(means, turned, turns, strict=True)
        ]

    def _orders(self, z: Tensor, count: int) -> list[Tensor]:
        """Planar features as arrays (E, 1 or 2, rows), one for each order."""
        sizes = [(2 if m else 1) * width for m, width in enumerate(self.widths)]
        parts = z.split([count * size for size in sizes])
        return [part.view(count, 2 if m else 1, self.widths[m]) for m, part in enumerate(parts)]

    def extra_repr(self) -> str:
        return f"mmax={self.mmax}, taps={self.taps}"


class StrictMessage(nn.Module):
    """eSCN's message: in the frame of each edge an SO(2) product of both ends, times features of the edge, an activation, and
    another product; summed over the edges.

    Args:
        channels: functions on the sphere.
        lmax: largest degree.
        mmax: orders that are kept in the frames; None for all.
        hidden: copies of each degree between the products.
        activation: "gate" of whole copies, exact; or "sphere", pointwise on the sphere at ``resolution``.
        resolution: of :class:`FrameSphereActivation`.
        num_neighbors: mean number of neighbours, a constant that scales sums.

    Shape: stacks of N points, frames, edge features (E, ``num_features``), envelope (E,) -> stacks of N points.
    Equivariance: O(3), exact with "gate"; with "sphere" up to the samples.
    Raises: ValueError for sizes below 1, mmax below 0, or an unknown activation.
    Reference: Passaro & Zitnick 2023, arXiv:2302.03655, section 4.

    Example:
        >>> from spheregeo.nn.space import EdgeGeometry
        >>> message = StrictMessage(4, lmax=1, hidden=8)
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]]))
        >>> ways, features = FrameWays.of(geometry, message.rotation, 1), torch.randn(3, message.num_features)
        >>> message(Stacks.from_mul_ir(torch.randn(3, 16), "4x0e + 4x1o"), ways, features, torch.ones(3))
        Stacks('4x0e+4x1o', (3,))
    """

    def __init__(
        self,
        channels: int,
        lmax: int,
        hidden: int,
        mmax: int | None = None,
        activation: str = "gate",
        resolution: tuple[int, int] | None = None,
        num_neighbors: float = 1.0,
    ) -> None:
        super().__init__()
        mmax = lmax if mmax is None else mmax
        check_least(hidden=(hidden, 1), mmax=(mmax, 0))
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        irreps, between = channel_irreps(channels, lmax), channel_irreps(hidden, lmax)
        self.mmax, self.num_neighbors = min(mmax, lmax), float(num_neighbors)
        self.irreps = irreps
        self.rotation = FrameRotation(irreps, mmax)
        self.act: FrameGate | FrameSphereActivation
        if activation == "gate":
            self.act = FrameGate(between, mmax)
            self.wide = self.act.irreps_in
        else:
            self.act = FrameSphereActivation(hidden, lmax, mmax, resolution=resolution)
            self.wide = between
        self.num_features = int(self.wide.num_irreps)
        self.copies = int(irreps.num_irreps)
        self.columns = order_columns(self.wide, mmax), order_columns(self.irreps, mmax)
        self.first = FrameProduct([irreps, irreps], self.wide, 2 * lmax, mmax=mmax)
        self.second = FrameProduct([between], irreps, 2 * lmax, mmax=mmax)

    def forward(self, x: Stacks, ways: FrameWays, features: Tensor, envelope: Tensor) -> Stacks:
        planar, count = x.planar(), ways.edges
        ends = [self.rotation.inward(planar, ways.coefficients, rows) for rows in ways[1:3]]
        z = scaled_orders(self.first(ends, count), count, features.to(planar), self.columns[0])
        y = self.second([self.act(z, count)], count)
        scale = (envelope / math.sqrt(self.num_neighbors)).to(planar)[:, None]
        y = scaled_orders(y, count, scale.expand(-1, self.copies), self.columns[1])
        return self.rotation.outward(y, ways.coefficients, ways.targets)

    def extra_repr(self) -> str:
        return f"mmax={self.mmax}"

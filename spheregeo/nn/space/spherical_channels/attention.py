r"""Attention between functions on the sphere, in the frames of edges: EquiformerV2's message, smooth at the cutoff.

    y_i = Σ_j α_ij v_ij,    α_ij = e_ij exp(a_ij) / (1 + Σ_k e_ik exp(a_ik))

with envelopes e that vanish smoothly at the cutoff and the 1 of a neighbour who adds nothing: a softmax over the neighbours alone
would jump where the last of them leaves.
"""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.irreps.linear import IrrepsLinear
from spheregeo.nn.irreps.stacks import Stacks
from spheregeo.nn.space.edge_frame import FrameGate, FrameProduct, FrameRotation
from spheregeo.nn.space.spherical_channels.activation import FrameSphereActivation
from spheregeo.nn.space.spherical_channels.frames import FrameWays, order_columns, scaled_orders
from spheregeo.nn.space.spherical_channels.messages import ACTIVATIONS, channel_irreps
from spheregeo.nn.statistics import working_dtype

__all__ = ["EdgeFrameAttention", "smooth_attention"]


def smooth_attention(logits: Tensor, envelope: Tensor, targets: Tensor, points: int) -> Tensor:
    """e exp(a) / (1 + Σ e exp(a)), sums over the edges of each target.

    Shape: logits (E, H), envelope (E,), targets (E,) int64 -> (E, H).

    Example:
        >>> smooth_attention(torch.zeros(3, 1), torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 0, 1]), 2)[:, 0]
        tensor([0.3333, 0.3333, 0.0000])
    """
    dtype, logits = logits.dtype, logits.to(working_dtype(logits))
    envelope = envelope.to(logits)[:, None]
    # any shift gives the same quotient: the logarithm of the largest term, or of 1, keeps terms at 1 or below
    with torch.no_grad():
        terms = logits.detach() + envelope.detach().clamp_min(1e-30).log()
        shift = logits.new_zeros(points, logits.shape[1])
        shift = shift.scatter_reduce(0, targets[:, None].expand_as(logits), terms, "amax")
    raised = envelope * torch.exp((logits - shift.index_select(0, targets)).clamp_max(80.0))
    sums = torch.exp(-shift).index_add(0, targets, raised)
    return (raised / sums.index_select(0, targets)).to(dtype)


class EdgeFrameAttention(nn.Module):
    """EquiformerV2's attention: an SO(2) product of both ends gives attention features and a message, an activation and another
    product its values; heads weigh them, and a linear map mixes what arrives.

    Args:
        channels: functions on the sphere, a multiple of the heads.
        lmax: largest degree.
        hidden: copies of each degree between the products.
        heads: number of attentions side by side.
        alpha: attention features of a head.
        mmax: orders that are kept in the frames; None for all.
        activation: "gate" of whole copies, exact; or "sphere", the separable one: scalars by SiLU, other degrees from samples of
            the sphere about the edge.
        resolution: of :class:`FrameSphereActivation`.
        scalars: give scalars alone, as a network's last layer may.

    Shape: stacks of N points, frames, edge features (E, ``num_features``), envelope (E,), targets (E,) int64 -> stacks of N
        points.
    Equivariance: O(3), exact with "gate" (relative error 1e-14 measured in float64); with "sphere" up to the samples.
    Raises: ValueError for sizes below 1, channels that heads do not divide, or an unknown activation.
    Reference: Liao, Wood, Das & Smidt 2023, arXiv:2306.12059, section 4 and figure 1; with a smooth softmax.

    Example:
        >>> from spheregeo.nn.space import EdgeGeometry
        >>> attention, source, target = EdgeFrameAttention(4, lmax=1, hidden=8, heads=2), torch.arange(3), torch.tensor([0, 0, 1])
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.stack([source, target]))
        >>> ways, features = FrameWays.of(geometry, attention.rotation, 1), torch.randn(3, attention.num_features)
        >>> attention(Stacks.from_mul_ir(torch.randn(3, 16), "4x0e + 4x1o"), ways, features, torch.ones(3), target)
        Stacks('4x0e+4x1o', (3,))
    """

    def __init__(
        self,
        channels: int,
        lmax: int,
        hidden: int,
        heads: int = 4,
        alpha: int = 8,
        mmax: int | None = None,
        activation: str = "gate",
        resolution: tuple[int, int] | None = None,
        scalars: bool = False,
    ) -> None:
        super().__init__()
        check_least(heads=(heads, 1), alpha=(alpha, 2), hidden=(hidden, 1))
        if channels % heads:
            raise ValueError(f"channels is {channels}; expected a multiple of the {heads} heads")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        mmax = lmax if mmax is None else min(mmax, lmax)
        irreps, between = channel_irreps(channels, lmax), channel_irreps(hidden, lmax)
        self.heads, self.alpha, self.hidden, self.mmax, self.activation = (
            heads,
            alpha,
            hidden,
            mmax,
            activation,
        )
        self.irreps, self.rotation = irreps, FrameRotation(irreps, mmax)
        self.act: FrameGate | FrameSphereActivation
        if activation == "gate":
            self.act = FrameGate(between, mmax)
            inner, self.apart = self.act.irreps_in, 0
        else:
            self.act = FrameSphereActivation(hidden, lmax, mmax, resolution=resolution)
            inner, self.apart = between, hidden  # further scalars, which SiLU alone acts on
        self.skipped = heads * alpha + self.apart
        self.wide = Irreps([(self.skipped + inner[0].mul, inner[0].ir), *inner[1:]])
        self.row = sum(mul for mul, _ in self.wide)  # copies of order 0
        self.num_features = int(self.wide.num_irreps)
        self.columns = order_columns(self.wide, mmax), order_columns(self.irreps, mmax)
        self.first = FrameProduct([irreps, irreps], self.wide, 2 * lmax, mmax=mmax)
        self.irreps_out = channel_irreps(channels, 0) if scalars else irreps
        self.channels, self.degrees, self.scalars = (
            channels,
            len(irreps),
            scalars,
        )  # numbers, which compilers can follow
        self.second = FrameProduct([between], self.irreps_out, 2 * lmax, mmax=0 if scalars else mmax)
        self.norm = nn.LayerNorm(alpha)
        self.queries = nn.Parameter(torch.randn(heads, alpha) * alpha**-0.5)
        self.after = IrrepsLinear(self.irreps_out, self.irreps_out)

    def forward(
        self, x: Stacks, ways: FrameWays, features: Tensor, envelope: Tensor, targets: Tensor
    ) -> Stacks:
        planar, count = x.planar(), ways.edges
        ends = [self.rotation.inward(planar, ways.coefficients, rows) for rows in ways[1:3]]
        z = scaled_orders(self.first(ends, count), count, features.to(planar), self.columns[0])
        zeroth = z.narrow(0, 0, count * self.row).view(count, self.row)
        logits, apart, inner = zeroth.split([self.heads * self.alpha, self.apart, self.row - self.skipped], 1)
        points = ways.targets.points
        weights = smooth_attention(self._logits(logits), envelope, targets, points).to(planar)
        rest = z.narrow(0, count * self.row, len(z) - count * self.row)
        z = self.act(torch.cat([inner.reshape(-1), rest]), count)
        if self.apart:
            z = self._separable(z, apart, count)
        if self.scalars:  # read from order 0 alone
            z = z.narrow(0, 0, count * self.hidden * self.degrees)
        y, copies = self.second([z], count), self.channels
        each = weights.repeat_interleave(copies // self.heads, 1)
        if self.scalars:  # frames leave them as they are
            sums = y.new_zeros(points, copies).index_add(0, targets, y.view(count, copies) * each)
            found = Stacks.of([sums[:, None]], ((0, 1, copies),))
        else:
            y = scaled_orders(y, count, each.repeat(1, self.degrees), self.columns[1])
            found = self.rotation.outward(y, ways.coefficients, ways.targets)
        result: Stacks = self.after(found)
        return result

    def _logits(self, features: Tensor) -> Tensor:
        """Inner products of normed attention features with a head's own vector, after a smooth leaky ReLU. (E, heads)"""
        f = self.norm(features.unflatten(1, (self.heads, self.alpha)))
        f = 0.6 * f + 0.4 * f * (2 * torch.sigmoid(f) - 1)
        return (f * self.queries).sum(2)

    def _separable(self, z: Tensor, scalars: Tensor, count: int) -> Tensor:
        """Planar features whose scalars are SiLU of others. Shape: scalars (E, hidden)."""
        assert isinstance(self.act, FrameSphereActivation)
        width = self.row - self.skipped
        zeroth = z.narrow(0, 0, count * width).view(count, width)[:, self.hidden :]
        return torch.cat(
            [
                torch.cat([self.act.act(scalars), zeroth], 1).flatten(),
                z.narrow(0, count * width, len(z) - count * width),
            ]
        )

    def extra_repr(self) -> str:
        return f"heads={self.heads}, alpha={self.alpha}, mmax={self.mmax}, activation={self.activation!r}"

"""RISurConv: levels of farthest points that see the triangles of their neighbours, and one point that sees the last level.

Reference: Zhang, Yang & Xiang 2024, arXiv:2408.06110.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_positions
from spheregeo.models.points.vnn import invariant_head
from spheregeo.models.registry import register
from spheregeo.models.space.point_outputs import OUTPUTS, CloudOutputs, Encoded, PointHead
from spheregeo.nn.space import OffsetAttention, RISurConv, order_around, triangle_features
from spheregeo.sampling import estimate_normals, farthest_points, knn_between


class TriangleLevels(NamedTuple):
    """A hierarchy of subsets of a batch of clouds, and what stands around each point. A pytree of tensors.

    Args:
        normals: estimated normals (P, 3), or (0, 3) where the features hold them.
        rows: for each level the rows (M_i,) of its points among those of the level before.
        neighbors: for each level the neighbours (M_i, k_i) of its points among those of the level before.
        slots: for each level its points cloud by cloud (B, n_i), -1 where a cloud has fewer.
        back: for each level, where the network gives numbers for each point, the neighbours (N_i, k_back) of the points of the
            level before among this level's.

    Example:
        >>> network = RISurConvNet(0, 3, width=4, counts=(8, 4), k=(4, 4), embedding=(4, 4))
        >>> levels = network.neighbors(torch.randn(20, 3), None)
        >>> [tuple(rows.shape) for rows in levels.rows], levels.slots[1].tolist()
        ([(8,), (4,)], [[0, 1, 2, 3]])
    """

    normals: Tensor
    rows: tuple[Tensor, ...]
    neighbors: tuple[Tensor, ...]
    slots: tuple[Tensor, ...]
    back: tuple[Tensor, ...]


class RISurConvNet(CloudOutputs):
    """RISurConv: rotation-invariant surface convolutions from level to level, attention among a level's points, a perceptron.

    Normals are those among the features; where there are none, they are estimated (:func:`estimate_normals`). The published
    code passes the last features through a transformer encoder across the clouds of a batch, so that a cloud's class depends on
    its company; that encoder is left out here, and a perceptron follows at once.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        width: channels of the first level, twice as many on each further one and for the cloud (published: 32).
        counts: points of the levels.
        k: neighbours of a point on the finer level, the point itself among them, for each level.
        embedding: widths in which triangles are embedded (published: 32, 64).
        attention: whether neighbours of a point, and points of a level, attend to one another, as published; it doubles the time.
        hidden: widths of the head (published: 256, 128).
        dropout: of the head.
        normal_k: neighbours from which normals are estimated.
        feature_irreps: what the features are: "1x1o" for normals, scalars besides; all scalars if empty.
        output: "label" for numbers of each cloud, "field" for numbers of each point.
        k_back: coarse points whose triangles and features go up to a finer point, where ``output`` is "field".

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph as ``neighbors`` gives it;
        returns (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to rotations and translations, 1e-12 in float64 with random parameters; mirror images differ. With
        estimated normals, to the rounding of :func:`estimate_normals`.
    Raises: ValueError for sizes that do not fit, features other than one vector and scalars.
    Reference: Zhang, Yang & Xiang 2024, arXiv:2408.06110.

    Example:
        >>> network = RISurConvNet(0, 5, width=4, counts=(8, 4), k=(4, 4), embedding=(4, 4), hidden=(8,))
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 48,
        counts: Sequence[int] = (128, 64, 32),
        k: Sequence[int] = (16, 16, 16),
        embedding: Sequence[int] = (16, 32),
        attention: bool = False,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.3,
        normal_k: int = 16,
        feature_irreps: str = "",
        output: str = "label",
        k_back: int = 8,
    ) -> None:
        super().__init__(output)
        if len(counts) != len(k) or not counts or min(*counts, *k, normal_k, k_back) < 1:
            raise ValueError(
                f"counts is {counts}, k {k}, normal_k {normal_k} and k_back {k_back}; expected a k for each count, all positive"
            )
        given = Irreps(feature_irreps) if feature_irreps else Irreps(f"{in_channels}x0e")
        kinds = sorted(str(ir) for mul, ir in given for _ in range(mul) if ir.l)
        if given.dim != in_channels or kinds not in ([], ["1o"]) or any(str(i) == "0o" for _, i in given):
            raise ValueError(
                f"feature_irreps is {feature_irreps!r} but in_channels {in_channels}; expected as many numbers: scalars, "
                "and at most one vector, '1x1o'"
            )
        columns = [
            (list(range(s.start, s.stop)), term.ir.l) for s, term in zip(given.slices(), given, strict=True)
        ]
        self.normal_columns = [c for found, degree in columns for c in found if degree]
        self.scalar_columns = [c for found, degree in columns for c in found if not degree]
        self.in_channels, self.counts, self.k, self.normal_k = in_channels, tuple(counts), tuple(k), normal_k
        widths = [len(self.scalar_columns)] + [width * 2**level for level in range(len(counts) + 1)]
        options: dict[str, Any] = {"embedding": embedding, "attention": attention}
        self.convs = nn.ModuleList(RISurConv(a, b, **options) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(OffsetAttention(b) for b in widths[1:-1] if attention)
        self.k_back, self.backs = k_back, nn.ModuleList()
        if output == "label":
            self.head = invariant_head(widths[-1], hidden, out_channels, dropout)
            return
        local = widths[-2]
        for own in reversed(widths[:-2]):
            self.backs.append(RISurConv(local, max(own, width), **options))
            local = max(own, width) + own
        self.head = PointHead(local, widths[-1], out_channels, hidden=hidden, dropout=dropout)

    def neighbors(
        self, positions: Tensor, batch: Tensor | None, cell: None = None, pbc: None = None
    ) -> TriangleLevels:
        """Normals, farthest points level by level, the nearest finer points of each; for "field" also the way back.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        check_positions(positions)
        points = positions.detach()
        index = torch.zeros(len(points), dtype=torch.int64, device=points.device) if batch is None else batch
        clouds = int(index[-1]) + 1 if len(index) else 0
        normals = points[:0] if self.normal_columns else estimate_normals(points, self.normal_k, index)
        rows, neighbors, slots, back = [], [], [], []
        for count, k in zip(self.counts, self.k, strict=True):
            chosen = farthest_points(points, count, index)
            neighbors.append(nearest(points, points[chosen], k, index, index[chosen]))
            if self.output == "field":
                back.append(nearest(points[chosen], points, self.k_back, index[chosen], index))
            points, index = points[chosen], index[chosen]
            rows.append(chosen)
            slots.append(slots_of(index, clouds))
        return TriangleLevels(normals, tuple(rows), tuple(neighbors), tuple(slots), tuple(back))

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: TriangleLevels, count: int
    ) -> Encoded:
        found = 0 if features is None else features.shape[-1]
        if found != self.in_channels:
            raise ValueError(
                f"features have {found} columns but the network was built for in_channels={self.in_channels}"
            )
        x = None if features is None or not self.scalar_columns else features[:, self.scalar_columns]
        normals = graph.normals.to(positions.dtype)
        if features is not None and self.normal_columns:
            normals = features[:, self.normal_columns]
        levels = [(x, positions, normals)]
        for level, (rows, neighbors) in enumerate(zip(graph.rows, graph.neighbors, strict=True)):
            targets, up = positions.index_select(0, rows), normals.index_select(0, rows)
            surface, order = surface_of(positions, normals, targets, up, neighbors)
            x = self.convs[level](surface, order, x)
            if self.attentions:
                x = attend(self.attentions[level], x, graph.slots[level])
            positions, normals = targets, up
            levels.append((x, positions, normals))
        slots = graph.slots[-1]
        targets, up, members = centre_of(positions, slots)
        surface, order = surface_of(positions, normals, targets, up, members)
        points = self._back(levels, graph) if self.output == "field" else None
        return Encoded(points, self.convs[-1](surface, order, x))

    def _back(self, levels: list[tuple[Tensor | None, Tensor, Tensor]], graph: TriangleLevels) -> Tensor:
        """Features of all points from those of all levels. Shape: -> (P, F)."""
        x = levels[-1][0]
        for conv, level in zip(self.backs, reversed(range(len(graph.back))), strict=True):
            _, coarse, coarse_up = levels[level + 1]
            own, fine, up = levels[level]
            surface, order = surface_of(coarse, coarse_up, fine, up, graph.back[level])
            x = conv(surface, order, x)
            x = x if own is None else torch.cat([x, own], 1)
        assert x is not None
        return x


def nearest(sources: Tensor, targets: Tensor, k: int, source_batch: Tensor, target_batch: Tensor) -> Tensor:
    """The k nearest sources of each target; of a cloud with fewer, all of them over and over.

    Shape: (N, 3), (M, 3), (N,), (M,) -> (M, k) int64.
    """
    source, target = knn_between(sources, targets, k, source_batch, target_batch)
    number = torch.bincount(target, minlength=len(targets))
    place = torch.arange(k, device=number.device) % number.clamp_min(1)[:, None]
    return source[(number.cumsum(0) - number)[:, None] + place]


def slots_of(index: Tensor, clouds: int) -> Tensor:
    """Points cloud by cloud, -1 where a cloud has fewer than the largest one. Shape: (M,) sorted -> (clouds, n) int64."""
    number = torch.bincount(index, minlength=clouds)
    most = int(number.max()) if len(number) else 0
    place = torch.arange(most, device=index.device).expand(clouds, most)
    return torch.where(place < number[:, None], (number.cumsum(0) - number)[:, None] + place, -1)


def surface_of(
    positions: Tensor, normals: Tensor, targets: Tensor, up: Tensor, neighbors: Tensor
) -> tuple[Tensor, Tensor]:
    """Triangles' features (M, k, 14) of the targets' neighbours in the order of their angle, and the neighbours in that order."""
    shape = (*neighbors.shape, 3)
    near = positions.index_select(0, neighbors.flatten()).view(shape) - targets[:, None]
    order = order_around(near, up)
    near = near.gather(1, order[:, :, None].expand(shape))
    neighbors = neighbors.gather(1, order)
    return triangle_features(near, normals.index_select(0, neighbors.flatten()).view(shape), up), neighbors


def attend(layer: nn.Module, x: Tensor, slots: Tensor) -> Tensor:
    """Attention among the points of each cloud. Shape: x (M, C), slots (B, n) -> (M, C)."""
    if slots.numel() == len(x):
        return layer(x.view(*slots.shape, x.shape[1])).flatten(0, 1)  # type: ignore[no-any-return]
    mask = slots >= 0
    wide = layer(x.index_select(0, slots.clamp_min(0).flatten()).view(*slots.shape, x.shape[1]), mask)
    return wide[mask]  # type: ignore[no-any-return]


def centre_of(positions: Tensor, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centroid of each cloud, the axis of its least spread, and its points, over and over where a cloud has fewer.

    The axis points to the side where points lie farther out, by the sum of the cubes of their heights; it is zero where none
    of the axes or sides is the one.

    Shape: (M, 3), (B, n) -> (B, 3), (B, 3), (B, n) int64.
    """
    mask = slots >= 0
    number = mask.sum(1, keepdim=True)
    place = torch.arange(slots.shape[1], device=slots.device) % number.clamp_min(1)
    members = slots.gather(1, place)
    points = positions.index_select(0, members.flatten()).view(*members.shape, 3)
    weight = (mask.to(points.dtype) / number.clamp_min(1))[:, :, None]
    centre = (points * weight).sum(1)
    with torch.no_grad():
        away = (points - centre[:, None]).double()
        spread, axes = torch.linalg.eigh(away.mT @ (away * weight))
        heights = (away @ axes[:, :, :1])[:, :, 0]
        skew = (weight[:, :, 0] * heights**3).sum(1)
        size = spread.sum(1).sqrt()
        told = (spread[:, 1] - spread[:, 0] > 1e-5 * spread[:, 2]) & (skew.abs() > 1e-6 * size**3)
        axis = axes[:, :, 0] * (skew.sign() * told)[:, None]
    return centre, axis.to(points.dtype), members


@register("risurconv", output=OUTPUTS, domain="points", options_of=RISurConvNet)
def small(in_channels: int, out_channels: int, grid: Any = None, **options: Any) -> RISurConvNet:
    """RISurConv on three levels without attention; normals are estimated where there are none. For one CPU core."""
    return RISurConvNet(in_channels, out_channels, **options)


@register("risurconv-base", output=OUTPUTS, domain="points", options_of=RISurConvNet)
def base(
    in_channels: int, out_channels: int, grid: Any = None, *, width: int = 32, counts: Sequence[int] = (1024, 512, 256, 128),
    k: Sequence[int] = (8, 16, 32, 64), embedding: Sequence[int] = (32, 64), attention: bool = True,
    hidden: Sequence[int] = (256, 128), dropout: float = 0.4, **options: Any,
) -> RISurConvNet:  # fmt: skip
    """RISurConv at its published size, for clouds of 2048 points; for a GPU."""
    return RISurConvNet(
        in_channels,
        out_channels,
        width=width,
        counts=counts,
        k=k,
        embedding=embedding,
        attention=attention,
        hidden=hidden,
        dropout=dropout,
        **options,
    )

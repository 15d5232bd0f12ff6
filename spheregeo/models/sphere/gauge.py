"""Networks of tangent fields on the sphere: directional filters that no choice of frames, and no rotation, disturbs.

The U-Net and the classifier are those of :mod:`spheregeo.models.sphere.unet` and
:mod:`spheregeo.models.sphere.classifier` with channels that carry directions: scalars and fields of order
1 ... ``max_order``, mixed by :class:`~spheregeo.nn.GaugeConv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType, Term
from spheregeo.models.blocks import Checkpointed, Head, Pointwise, check_field, hierarchy
from spheregeo.models.registry import register
from spheregeo.nn import GaugeConv, GlobalPool
from spheregeo.nn.surface import FieldBatchNorm, FieldLinear, GaugeBlock, make_nonlinearity

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def hidden_type(width: int, max_order: int) -> FieldType:
    """``width`` scalars and half as many fields of each higher order."""
    return FieldType([Term(width, 0), *(Term(max(1, width // 2), m) for m in range(1, max_order + 1))])


def invariants(x: Tensor, kind: FieldType) -> Tensor:
    """Scalars as they are and the size of every other field, smooth at zero, where a field has no direction.

    Shape: (B, dim, *points) -> (B, num_fields, *points).
    """
    parts = []
    for channels, count, order in kind.blocks:
        part = x[:, channels]
        parts.append(part if order == 0 else (part.unflatten(1, (count, 2)).square().sum(2) + 0.01).sqrt())
    return torch.cat(parts, 1)


class _Bridge(nn.Module):
    """Convolution between levels, norm, nonlinearity."""

    def __init__(
        self,
        before: FieldType,
        after: FieldType,
        source: Grid,
        target: Grid,
        nonlinearity: str,
        **options: Any,
    ) -> None:
        super().__init__()
        self.conv = GaugeConv(before, after, source, target, bias=False, **options)
        self.norm = FieldBatchNorm(after, target)
        self.act = make_nonlinearity(nonlinearity, after)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.norm(self.conv(x)))
        return result


class _Encoder(nn.Module):
    """One stage per level: a bridge from the level before and residual blocks."""

    def __init__(
        self,
        in_type: FieldType,
        grid: Grid,
        grids: Sequence[Grid],
        kinds: Sequence[FieldType],
        blocks: int,
        nonlinearity: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        before = [in_type, *kinds[:-1]]
        sources = [grid, *grids[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Bridge(b, a, s, t, nonlinearity, **options),
                *(GaugeBlock(a, t, nonlinearity=nonlinearity, **options) for _ in range(blocks)),
            )
            for b, a, s, t in zip(before, kinds, sources, grids, strict=True)
        )


class _TypedHead(nn.Module):
    """Linear map at each point to scalars and tangent fields: scalars from the sizes of all fields, others from their like."""

    def __init__(self, kind: FieldType, out_type: FieldType) -> None:
        super().__init__()
        self.kind = kind
        self._tangent = [channels for channels, _, order in kind.blocks if order]
        tangent = [term for term in kind.terms if term.order]
        scalars = any(
            term.order == 0 and term.parity > 0 for term in out_type.terms
        )  # which alone take a bias
        self.linear = FieldLinear(FieldType([Term(kind.num_fields, 0), *tangent]), out_type, bias=scalars)

    def forward(self, x: Tensor) -> Tensor:
        parts = [invariants(x, self.kind), *(x[:, channels] for channels in self._tangent)]
        result: Tensor = self.linear(torch.cat(parts, 1))
        return result


def typed(spec: str | FieldType | None, channels: int, name: str, max_order: int) -> FieldType:
    """The type of a network's input or output, that of scalars if None. Raises: ValueError for other channels or orders."""
    kind = FieldType([Term(channels, 0)]) if spec is None else FieldType.of(spec)
    if kind.dim != channels or kind.max_order > max_order:
        raise ValueError(
            f"{name} is '{kind}' with {kind.dim} channels; expected {channels} channels of orders 0 ... {max_order}"
        )
    return kind


@register("gauge-unet", alias="gauge")
class GaugeUNet(Checkpointed):
    """U-Net of tangent fields on the sphere: residual gauge blocks, skip connections, one grid per level.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: scalars of the finest level, with half as many fields of each order up to ``max_order``.
        depth: number of levels.
        blocks: residual blocks of each level.
        growth: factor by which the fields grow from level to level.
        max_width: most scalars of a level.
        max_order: highest order of the hidden fields.
        num_rings: radial profiles of the filters.
        spacings: radius of the filters in grid spacings of the level.
        nonlinearity: "gated" or "regular", see :class:`~spheregeo.nn.surface.GaugeBlock`.
        levels: grids from fine to coarse in place of those that ``grid`` and ``depth`` make.
        checkpoint: whether to compute each stage again in the backward pass instead of keeping it.
        in_type: type of the input, such as "2x0 + 1x1" for two scalars and a vector along south and east; scalars if None.
        out_type: type of the output; scalars if None.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3), approximate and falling with resolution; measured in docs/guides/equivariance.md. Not to reflections.
    Raises: ValueError when the grid has fewer levels than ``depth``, a type has other channels, or x has another shape than
        promised.
    Reference: Ronneberger et al. 2015, arXiv:1505.04597; Cohen et al. 2019, arXiv:1902.04615.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import GaugeUNet
        >>> GaugeUNet(3, 2, HEALPix(4), width=4, depth=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 2, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 12,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 128,
        max_order: int = 1,
        num_rings: int = 2,
        spacings: float = 2.5,
        nonlinearity: str = "gated",
        levels: Sequence[Grid] | None = None,
        checkpoint: bool = False,
        in_type: str | FieldType | None = None,
        out_type: str | FieldType | None = None,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or blocks < 0 or max_order < 1:
            raise ValueError(
                f"depth {depth}, width {width} and max_order {max_order} must be >= 1, blocks {blocks} >= 0"
            )
        grids = hierarchy(grid, depth, levels)
        kinds = [hidden_type(min(width * growth**i, max_width), max_order) for i in range(len(grids))]
        options: dict[str, Any] = {"num_rings": num_rings, "spacings": spacings}
        self.grid, self.levels = grid, tuple(grids)
        self.in_channels, self.out_channels, self.checkpoint = in_channels, out_channels, checkpoint
        self.kind = kinds[0]
        inner = typed(in_type, in_channels, "in_type", max(2, max_order))
        outer = typed(out_type, out_channels, "out_type", max_order)
        if in_type is not None or out_type is not None:
            self.in_type, self.out_type = inner, outer
        self.encoder = _Encoder(inner, grid, grids, kinds, blocks, nonlinearity, options)
        steps = range(len(grids) - 1)
        self.up = nn.ModuleList(
            _Bridge(kinds[i + 1], kinds[i], grids[i + 1], grids[i], nonlinearity, **options) for i in steps
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                FieldLinear(FieldType([*kinds[i].terms, *kinds[i].terms]), kinds[i]),
                FieldBatchNorm(kinds[i], grids[i]),
                make_nonlinearity(nonlinearity, kinds[i]),
            )
            for i in steps
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *(GaugeBlock(kinds[i], grids[i], nonlinearity=nonlinearity, **options) for _ in range(blocks))
            )
            for i in steps
        )
        self.head = (
            _TypedHead(kinds[0], outer) if outer.max_order else Pointwise(kinds[0].num_fields, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        skips = []
        for stage in self.encoder.stages:
            x = self.run(stage, x)
            skips.append(x)
        for i in reversed(range(len(self.up))):
            x = torch.cat([self.run(self.up[i], x), skips[i]], dim=1)
            x = self.run(self.decoder[i], self.run(self.merge[i], x))
        result: Tensor = self.head(x if isinstance(self.head, _TypedHead) else invariants(x, self.kind))
        return result


@register("gauge-classifier", output="label", alias="gauge")
class GaugeClassifier(nn.Module):
    """Classifier of gauge blocks: the mean over the sphere of the last scalars and field sizes, then two linear layers.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: scalars of the finest level, with half as many fields of each order up to ``max_order``.
        depth: number of levels.
        blocks: residual blocks of each level.
        growth: factor by which the fields grow from level to level.
        max_width: most scalars of a level.
        max_order: highest order of the hidden fields.
        num_rings: radial profiles of the filters.
        spacings: radius of the filters in grid spacings of the level.
        nonlinearity: "gated" or "regular", see :class:`~spheregeo.nn.surface.GaugeBlock`.
        levels: grids from fine to coarse in place of those that ``grid`` and ``depth`` make.
        skip: how many times the first convolution halves the resolution.
        dropout: probability with which the head drops a value.
        in_type: type of the input, such as "2x0 + 1x1" for two scalars and a vector along south and east; scalars if None.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant to SO(3), approximate; mirror images differ. Measured errors are in docs/guides/classification.md.
    Raises: ValueError when the grid has fewer levels than ``depth``, or x has another shape than promised.
    Reference: Cohen et al. 2019, arXiv:1902.04615.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import GaugeClassifier
        >>> GaugeClassifier(3, 10, HEALPix(4), width=4, depth=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 12,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 128,
        max_order: int = 1,
        num_rings: int = 2,
        spacings: float = 2.5,
        nonlinearity: str = "gated",
        levels: Sequence[Grid] | None = None,
        skip: int = 0,
        dropout: float = 0.0,
        in_type: str | FieldType | None = None,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or blocks < 0 or max_order < 1 or skip < 0:
            raise ValueError(
                f"depth {depth}, width {width} and max_order {max_order} must be >= 1, blocks {blocks} and skip {skip} >= 0"
            )
        grids = hierarchy(grid, depth + skip, levels)[skip:]
        kinds = [hidden_type(min(width * growth**i, max_width), max_order) for i in range(len(grids))]
        self.grid, self.levels, self.in_channels, self.out_channels = (
            grid,
            tuple(grids),
            in_channels,
            out_channels,
        )
        options: dict[str, Any] = {"num_rings": num_rings, "spacings": spacings}
        inner = typed(in_type, in_channels, "in_type", max(2, max_order))
        self.encoder = _Encoder(inner, grid, grids, kinds, blocks, nonlinearity, options)
        self.pool = GlobalPool(grids[-1])
        self.kind = kinds[-1]
        self.head = Head(self.kind.num_fields, out_channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        for stage in self.encoder.stages:
            x = stage(x)
        result: Tensor = self.head(self.pool(invariants(x, self.kind)))
        return result

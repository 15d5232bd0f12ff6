r"""GEM-CNN: gauge-equivariant mesh convolutions in residual blocks, on one grid or on a batch of different meshes.

A block is act(conv(act(conv(x))) + linear(x)), both convolutions with fields of all orders between them, and act the regular
nonlinearity with batch norm over points and directions. Networks are built of blocks and, with more than one level, of
strided convolutions down a hierarchy of decimated meshes and up again.
Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType
from spheregeo.models.blocks import Pointwise, PooledNorm
from spheregeo.models.meshes.base import InputScale, SurfaceNetwork, invariants
from spheregeo.models.meshes.levels import LevelSettings, SurfaceLevels, surface_mean
from spheregeo.models.registry import register
from spheregeo.nn import SampleDropout
from spheregeo.nn.surface import (
    FieldLayerNorm,
    FieldLinear,
    GaugeConv,
    GaugeGeometry,
    RegularNonlinearity,
)

if TYPE_CHECKING:
    from spheregeo.grids import Grid

NORMS = ("batch", "layer", "none")


class FieldAct(nn.Module):
    """Norm and regular nonlinearity of tangent fields.

    Shape: (B, dim, P), areas (P,) -> (B, dim, P).
    Equivariance: SO(2) gauge, to the nonlinearity's error: below ``tolerance`` for fields of the size that norms make.
    Raises: ValueError for another norm.
    """

    def __init__(
        self, field_type: FieldType, *, act: str, norm: str, tolerance: float, samples: int | None
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm is {norm!r}; expected one of {', '.join(map(repr, NORMS))}")
        self.layer_norm = FieldLayerNorm(field_type) if norm == "layer" else None
        if samples is not None:
            samples = max(samples, 2 * field_type.max_order + 1)
        self.act = RegularNonlinearity(
            field_type, act, tolerance=tolerance, samples=samples, batch_norm=norm == "batch"
        )

    def forward(self, x: Tensor, areas: Tensor) -> Tensor:
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        result: Tensor = self.act(x, areas)
        return result


class GemBlock(nn.Module):
    """Residual block: convolution, nonlinearity, convolution, plus the input through a map at each point, nonlinearity.

    Shape: (B, in_type.dim, P), geometry, areas (P,) -> (B, out_type.dim, P).
    Equivariance: SO(2) gauge, exact up to the nonlinearities' error.
    Reference: de Haan et al. 2021, section 5.
    """

    def __init__(
        self,
        in_type: FieldType,
        middle: FieldType,
        out_type: FieldType,
        *,
        num_rings: int,
        bias: bool | str = True,
        **act: Any,
    ) -> None:
        super().__init__()
        self.conv1 = GaugeConv(in_type, middle, num_rings=num_rings, bias=bias)
        self.act1 = FieldAct(middle, **act)
        self.conv2 = GaugeConv(middle, out_type, num_rings=num_rings, bias=bias)
        self.residual = nn.Identity() if in_type == out_type else FieldLinear(in_type, out_type)
        self.act2 = FieldAct(out_type, **act)

    def forward(self, x: Tensor, geometry: GaugeGeometry, areas: Tensor) -> Tensor:
        y = self.act1(self.conv1(x, geometry), areas)
        result: Tensor = self.act2(self.conv2(y, geometry) + self.residual(x), areas)
        return result


class GemCNN(SurfaceNetwork):
    """Gauge-equivariant network on surfaces: values at every point, or one vector for each surface.

    Args:
        in_channels: channels of the input, ``in_type.dim``.
        out_channels: channels of the output, all scalars.
        grid: the surface, a mesh or sphere grid; or None where levels come with each call.
        output: "field" or "label".
        in_type: fields of the input; scalars if None.
        width: fields of each order on the finest level, times ``growth`` a level.
        depth: levels, the surface itself included; one is the network of the paper.
        blocks: residual blocks on each level.
        max_order: highest order of the hidden fields.
        growth, max_width: see width.
        ratio, radius, spacings, num_rings: see :class:`~spheregeo.models.meshes.levels.LevelSettings`.
        act, tolerance, samples: see :class:`~spheregeo.nn.surface.RegularNonlinearity`.
        norm: "batch", "layer" (none of it depends on the batch) or "none".
        bias: see :class:`~spheregeo.nn.surface.GaugeConv`; None for none under a norm, which would subtract it.
        hidden: channels of the last hidden layer, dense at each point or for each surface.
        dropout: before the last layer.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape) or (B, out_channels). Without a grid
        (1, in_channels, V_1 + V_2 + ...) and the levels of a batch -> (1, out_channels, V_1 + ...) or (surfaces, out_channels).
    Equivariance: SO(2) gauge, to the nonlinearities' error (below 1 % for a random network,
        1e-8 with 101 samples); rotations of the mesh as far as the input is invariant.
    Raises: ValueError for types, sizes and input that do not fit.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425, section 5.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.models import GemCNN
        >>> GemCNN(3, 2, Icosahedral(2), width=4, blocks=1)(torch.randn(1, 3, 162)).shape
        torch.Size([1, 2, 162])
    """

    levels: SurfaceLevels | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid | None = None,
        *,
        output: str = "field",
        in_type: str | None = None,
        width: int = 16,
        depth: int = 1,
        blocks: int = 3,
        max_order: int = 2,
        growth: float = 2.0,
        max_width: int = 64,
        ratio: float = 0.25,
        radius: float | None = None,
        spacings: float | None = None,
        num_rings: int = 2,
        act: str = "silu",
        tolerance: float = 1e-3,
        samples: int | None = None,
        norm: str = "batch",
        bias: bool | str | None = None,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        least = {"width": (width, 1), "depth": (depth, 1), "blocks": (blocks, 0), "max_order": (max_order, 0)}
        for name, (value, bound) in least.items():
            if value < bound:
                raise ValueError(f"{name} is {value}; expected at least {bound}")
        if output not in ("field", "label"):
            raise ValueError(f"output is {output!r}; expected 'field' or 'label'")
        first = FieldType.of(in_type) if in_type is not None else FieldType(f"{in_channels}x0")
        if first.dim != in_channels:
            raise ValueError(
                f"in_type is '{first}' with {first.dim} channels but in_channels is {in_channels}"
            )
        self.in_channels, self.out_channels, self.grid, self.output = in_channels, out_channels, grid, output
        self.in_type = first
        types = [FieldType.full(min(round(width * growth**i), max_width), max_order) for i in range(depth)]
        back = output == "field" and depth > 1
        frequency = max_order + max(max_order, first.max_order)
        self.settings = LevelSettings(depth, ratio, radius, spacings, num_rings, frequency, back)
        conv: dict[str, Any] = {"num_rings": num_rings, "bias": norm == "none" if bias is None else bias}
        chosen: dict[str, Any] = {"act": act, "norm": norm, "tolerance": tolerance, "samples": samples}

        def stage(field_type: FieldType) -> nn.ModuleList:
            return nn.ModuleList(
                GemBlock(field_type, field_type, field_type, **conv, **chosen) for _ in range(blocks)
            )

        def bridge(before: FieldType, after: FieldType) -> nn.ModuleList:
            layer = GaugeConv(before, after, **conv, self_interaction=False)
            return nn.ModuleList([layer, FieldAct(after, **chosen)])

        self.scale = InputScale(first)
        self.stem = nn.ModuleList([GaugeConv(first, types[0], **conv), FieldAct(types[0], **chosen)])
        self.encoder = nn.ModuleList(stage(t) for t in types)
        steps = range(depth - 1)
        self.down = nn.ModuleList(bridge(types[i], types[i + 1]) for i in steps)
        self.up = nn.ModuleList(bridge(types[i + 1], types[i]) for i in steps if back)
        # encoder and decoder side by side, mixed at each point
        self.merge = nn.ModuleList(
            FieldLinear(FieldType([*types[i].terms, *types[i].terms]), types[i]) for i in steps if back
        )
        self.decoder = nn.ModuleList(stage(types[i]) for i in steps if back)
        self.last = types[0] if output == "field" else types[-1]
        fields = self.last.num_fields
        pooled = output == "label" and norm == "batch"
        self.head_norm = PooledNorm(fields) if pooled else nn.Identity()
        dense: Any = Pointwise if output == "field" else nn.Linear
        self.head = nn.Sequential(
            dense(fields, hidden), nn.SiLU(), SampleDropout(dropout), dense(hidden, out_channels)
        )
        self.levels = None
        if grid is not None:
            self.keep("levels")

    def _build(self, name: str, dtype: torch.dtype) -> SurfaceLevels:
        assert self.grid is not None
        return SurfaceLevels.of(self.grid, self.settings, dtype)

    def levels_of(self, *grids: Grid) -> SurfaceLevels:
        """The levels of a batch of surfaces, in the network's dtype and on its device. Computed once for each surface."""
        parameter = next(self.head.parameters())
        parts = [SurfaceLevels.of(grid, self.settings, parameter.dtype) for grid in grids]
        return SurfaceLevels.concatenate(parts).to(parameter.device)

    geometry_of = levels_of

    def features(self, x: Tensor, levels: SurfaceLevels) -> Tensor:
        """The tangent fields before the head: (B, last.dim, P) on the finest level, or on the coarsest for labels."""
        share = [levels.share(i) for i in range(self.settings.depth)]
        within: Any = levels.within
        x = self.stem[1](self.stem[0](self.scale(x), within[0]), share[0])
        skips = []
        for i, stage in enumerate(self.encoder):
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, within[i], share[i])
            if i < len(self.down):
                skips.append(x)
                bridge: Any = self.down[i]
                x = bridge[1](bridge[0](x, levels.down[i]), share[i + 1])
        for i in reversed(range(len(self.up))):
            bridge = self.up[i]
            x = torch.cat([bridge[1](bridge[0](x, levels.up[i]), share[i]), skips[i]], 1)
            x = self.merge[i](x)
            for block in self.decoder[i]:  # type: ignore[attr-defined]
                x = block(x, within[i], share[i])
        return x

    def forward(self, x: Tensor, levels: SurfaceLevels | None = None) -> Tensor:
        if (levels is None) == (self.levels is None):
            raise ValueError(
                "levels must be given with the call where the network was built without a grid, and only there"
            )
        levels = self.levels if levels is None else levels
        assert levels is not None
        shape = (sum(levels.counts),) if self.grid is None else tuple(self.grid.shape)
        if x.ndim < 3 or tuple(x.shape[1:]) != (self.in_channels, *shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {', '.join(map(str, shape))}), "
                f"fields of type '{self.in_type}'; were the levels built for other surfaces?"
            )
        x = invariants(self.features(x.flatten(2), levels), self.last)
        if self.output == "label":
            result: Tensor = self.head(self.head_norm(surface_mean(x, levels, self.settings.depth - 1)))
            return result
        return self.head(x).unflatten(2, shape)


@register("gem-cnn", family="gem", options_of=GemCNN)
def direct(in_channels: int, out_channels: int, grid: Grid | None, **options: Any) -> GemCNN:
    """GEM-CNN: three residual gauge blocks of orders 0 to 2 on the mesh itself, a value for every vertex."""
    return GemCNN(in_channels, out_channels, grid, **options)


@register("gem-unet", family="gem", options_of=GemCNN)
def unet(
    in_channels: int, out_channels: int, grid: Grid | None, *, depth: int = 3, blocks: int = 1, **options: Any
) -> GemCNN:
    """GEM-CNN as a U-Net over decimated meshes: three levels, a value for every vertex."""
    return GemCNN(in_channels, out_channels, grid, depth=depth, blocks=blocks, **options)


@register("gem-classifier", output="label", family="gem", options_of=GemCNN)
def classifier(
    in_channels: int, out_channels: int, grid: Grid | None, *, depth: int = 2, blocks: int = 1, max_order: int = 1,
    **options: Any,
) -> GemCNN:  # fmt: skip
    """GEM-CNN that gives each mesh one class: residual gauge blocks over decimated meshes, then the mean over the surface."""
    return GemCNN(
        in_channels,
        out_channels,
        grid,
        output="label",
        depth=depth,
        blocks=blocks,
        max_order=max_order,
        **options,
    )


@register("gem-classifier-base", output="label", family="gem", options_of=GemCNN)
def classifier_base(
    in_channels: int, out_channels: int, grid: Grid | None, *, width: int = 32, depth: int = 3, blocks: int = 2,
    **options: Any,
) -> GemCNN:  # fmt: skip
    """The base GEM-CNN classifier: width 32, orders to 2, three levels, two blocks per level; for a GPU."""
    return GemCNN(
        in_channels, out_channels, grid, output="label", width=width, depth=depth, blocks=blocks, **options
    )


__all__ = ["FieldAct", "GemBlock", "GemCNN", "InputScale", "invariants"]

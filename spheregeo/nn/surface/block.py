"""The residual block of gauge-equivariant networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType
from spheregeo.nn.surface.gates import GatedNonlinearity
from spheregeo.nn.surface.gauge_conv import GaugeConv
from spheregeo.nn.surface.geometry import GaugeGeometry
from spheregeo.nn.surface.linear import FieldLinear
from spheregeo.nn.surface.nonlinearity import RegularNonlinearity
from spheregeo.nn.surface.norm import FieldBatchNorm


def make_nonlinearity(kind: str, field_type: FieldType) -> nn.Module:
    """``gated`` (exact) or ``regular`` (sampled, error below 1e-3), by name. Raises: ValueError for another name."""
    if kind == "gated":
        return GatedNonlinearity(field_type)
    if kind == "regular":
        return RegularNonlinearity(field_type)
    raise ValueError(f"nonlinearity is {kind!r}; expected 'gated' or 'regular'")


class GaugeBlock(nn.Module):
    """Convolution, norm, nonlinearity, map at the point, norm; added to the input; nonlinearity.

    The second norm's scales begin at zero, so that the block starts as its last nonlinearity alone.

    Args:
        field_type: of input and output.
        grid: where the fields live; without it the geometry comes with each call.
        nonlinearity: "gated" or "regular".
        reflections: whether frames may be mirrored too.
        options: further ones of :class:`GaugeConv`, except ``target`` and ``bias``.

    Shape: (B, dim, *grid.shape) -> the same.
    Equivariance: SO(2) gauge: exact with "gated" (1e-15 in float64), below 1e-3 with "regular"; SO(3) as the convolution.
    Raises: ValueError for a nonlinearity of another name or input that does not fit.
    Reference: He, Zhang, Ren & Sun 2016; de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425, figure 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import GaugeBlock
        >>> GaugeBlock("2x0 + 1x1", HEALPix(4))(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self,
        field_type: str | FieldType,
        grid: Grid | None = None,
        *,
        nonlinearity: str = "gated",
        reflections: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        refused = sorted({"target", "bias"} & set(options))
        if refused:
            raise ValueError(
                f"options holds {', '.join(refused)}; a block stays on its grid, and its norms shift already"
            )
        kind = FieldType.of(field_type)
        self.conv = GaugeConv(kind, kind, grid, bias=False, reflections=reflections, **options)
        self.norm1 = FieldBatchNorm(kind, grid)
        self.act1 = make_nonlinearity(nonlinearity, kind)
        self.mix = FieldLinear(kind, kind, reflections=reflections)
        self.norm2 = FieldBatchNorm(kind, grid)
        self.act2 = make_nonlinearity(nonlinearity, kind)
        assert isinstance(self.norm2.weight, Tensor)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor, geometry: GaugeGeometry | None = None) -> Tensor:
        areas = None if geometry is None else geometry.areas
        y = self.act1(self.norm1(self.conv(x, geometry), areas))
        result: Tensor = self.act2(x + self.norm2(self.mix(y), areas))
        return result

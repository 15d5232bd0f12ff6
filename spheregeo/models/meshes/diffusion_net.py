r"""DiffusionNet: learned diffusion, gradient features and maps at each point; no neighbourhoods, no convolutions.

How far features of a channel spread is one learned number, in units of the surface's area, so meshes and clouds of any resolution
look alike to the network.
Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, arXiv:2012.00888.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.meshes.base import OperatorNetwork
from spheregeo.models.registry import register
from spheregeo.nn import DiffusionBlock, FieldLinear, SurfaceOperators

if TYPE_CHECKING:
    from spheregeo.grids import Grid

ELEMENTS = ("vertices", "edges", "faces")


class DiffusionNet(OperatorNetwork):
    """Network of diffusion blocks on surfaces: values at vertices, edges or faces, or one vector for each surface.

    Args:
        in_channels: channels of the input, ``in_type.dim``.
        out_channels: channels of the output, all scalars.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        output: "field" or "label".
        in_type: fields of the input, of which the network sees scalars and the lengths of other fields; scalars if None.
        width: channels of the hidden fields.
        depth: blocks.
        method, pairs: of the diffusion, see :class:`~spheregeo.nn.LearnedDiffusion`.
        oriented: whether normals look outward everywhere, see :class:`~spheregeo.nn.GradientFeatures`.
        gradients: whether blocks have gradient features; without them filters are isotropic.
        act: activation, a name or a pointwise function.
        dropout: share of hidden channels dropped at each point.
        elements: where values of a field are given: "vertices", "edges" or "faces", the latter as means over their corners.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape) or (B, out_channels). Without a grid
        (1, in_channels, V_1 + V_2 + ...) and a batch's operators -> (1, out_channels, V_1 + ...) or (surfaces, out_channels).
    Equivariance: turned frames, signs and bases of eigenvectors, motions and scalings change nothing, exactly, as far as the
        input does not change (1e-11 in float64); so do all isometries with ``oriented=False``.
    Raises: ValueError for types, sizes and input that do not fit.
    Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, arXiv:2012.00888.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.models import DiffusionNet
        >>> DiffusionNet(3, 2, Icosahedral(2), width=8, depth=1, pairs=16)(torch.randn(1, 3, 162)).shape
        torch.Size([1, 2, 162])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid | None = None,
        *,
        output: str = "field",
        in_type: str | None = None,
        width: int = 64,
        depth: int = 4,
        method: str = "spectral",
        pairs: int = 64,
        oriented: bool = True,
        gradients: bool = True,
        act: str = "relu",
        dropout: float = 0.0,
        elements: str = "vertices",
    ) -> None:
        check_least(width=(width, 1), depth=(depth, 0), pairs=(pairs, 1))
        if elements not in ELEMENTS:
            raise ValueError(f"elements is {elements!r}; expected one of {', '.join(map(repr, ELEMENTS))}")
        blocks = [
            DiffusionBlock(
                width,
                method=method,
                pairs=pairs,
                oriented=oriented,
                gradients=gradients,
                act=act,
                dropout=dropout,
            )
            for _ in range(depth)
        ]
        probe = DiffusionBlock(1, method=method, pairs=pairs).settings
        super().__init__(in_channels, out_channels, grid, output, in_type, probe)
        self.elements = elements
        self.first = FieldLinear(f"{self.in_type.num_fields}x0", f"{width}x0", bias=True)
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Linear(width, out_channels)

    def features(self, x: Tensor, operators: SurfaceOperators) -> Tensor:
        """Hidden fields before the last map. Shape: (B, num_fields, P) -> (B, width, P)."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x, operators)
        return x

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        x, held = self.enter(x, operators)
        x = self.features(x, held)
        if self.output == "label":
            result: Tensor = self.last(held.mean(x))
            return result
        y = self.last(x.mT).mT
        return self.leave(y) if self.elements == "vertices" else held.at(y, self.elements)


@register("diffusion-net", alias="diffusion", options_of=DiffusionNet)
def field(in_channels: int, out_channels: int, grid: Grid | None, **options: Any) -> DiffusionNet:
    """DiffusionNet: four blocks of learned diffusion and gradient features, width 64; a value for every vertex."""
    return DiffusionNet(in_channels, out_channels, grid, **options)


@register("diffusion-classifier", output="label", alias="diffusion", options_of=DiffusionNet)
def classifier(in_channels: int, out_channels: int, grid: Grid | None, **options: Any) -> DiffusionNet:
    """DiffusionNet that gives each surface one class: the mean over the surface after four blocks."""
    return DiffusionNet(in_channels, out_channels, grid, output="label", **options)


__all__ = ["DiffusionNet"]

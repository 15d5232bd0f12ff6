r"""Features of direction without a direction: products of a point's gradients with learned rotations and mixtures of them."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.nn.surface.diffusion.base import OnOperators, working
from spheregeo.nn.surface.diffusion.vectors import VectorMix, components
from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators

LENGTH = 0.05  # over which gradients are counted, on a surface of area 1: keeps the arguments of tanh near 1


class GradientFeatures(OnOperators):
    """tanh of the scalar products of gradients with complex mixtures of gradients: tanh Re(g* · C g).

    Args:
        channels: of input and output.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        oriented: whether frames are right-handed about outward normals; else C is real, and reflected surfaces look alike.

    Shape: (B, channels, *grid.shape) -> the same; without a grid (B, channels, P) and operators of P points.
    Equivariance: no turn of a frame changes the output (1e-15 in float64); reflections of frames do not without ``oriented``.
    Raises: ValueError for input that does not fit.
    Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, arXiv:2012.00888, section 3.3.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import GradientFeatures
        >>> GradientFeatures(4, Icosahedral(2))(torch.randn(2, 4, 162)).shape
        torch.Size([2, 4, 162])
    """

    def __init__(self, channels: int, grid: Grid | None = None, *, oriented: bool = True) -> None:
        super().__init__(channels, grid, OperatorSettings(diffusion=True))
        self.oriented = oriented
        self.mix = VectorMix(channels, channels, oriented)

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        flat, held = self._enter(x, operators)
        with torch.autocast(x.device.type, enabled=False):
            g = LENGTH * held.map("gradient")(flat.to(working(x)))  # (B, C, 2 P)
            (x0, y0), (x1, y1) = components(g), components(self.mix(g))
            found = torch.tanh(torch.addcmul(x0 * x1, y0, y1))
        return self._leave(found.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.channels}, oriented={self.oriented}"

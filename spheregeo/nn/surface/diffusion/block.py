"""The block of DiffusionNet: diffusion and gradient features, mixed at each point."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.nn.activations import activation
from spheregeo.nn.surface.diffusion.base import OnOperators
from spheregeo.nn.surface.diffusion.features import GradientFeatures
from spheregeo.nn.surface.diffusion.heat import LearnedDiffusion
from spheregeo.nn.surface.linear import FieldDropout, FieldLinear
from spheregeo.nn.surface.operators import SurfaceOperators


class DiffusionBlock(OnOperators):
    """x + MLP([x, diffused x, gradient features of diffused x]), the MLP at each point.

    Args:
        channels: of input and output.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        method, pairs: of the diffusion, see :class:`LearnedDiffusion`.
        oriented: of the gradient features, see :class:`GradientFeatures`.
        gradients: whether there are gradient features.
        act: activation, a name or a pointwise function.
        dropout: share of the hidden channels dropped at each point.

    Shape: (B, channels, *grid.shape) -> the same; without a grid (B, channels, P) and operators of P points.
    Equivariance: exact for all isometries, turned frames, signs and bases of eigenvectors (1e-12 in float64); scaling changes
        nothing.
    Raises: ValueError for numbers out of range, input that does not fit.
    Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, arXiv:2012.00888, section 3.4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import DiffusionBlock
        >>> DiffusionBlock(4, Icosahedral(2), pairs=16)(torch.randn(2, 4, 162)).shape
        torch.Size([2, 4, 162])
    """

    def __init__(
        self,
        channels: int,
        grid: Grid | None = None,
        *,
        method: str = "spectral",
        pairs: int = 64,
        oriented: bool = True,
        gradients: bool = True,
        act: str | Any = "relu",
        dropout: float = 0.0,
    ) -> None:
        diffusion = LearnedDiffusion(channels, method=method, pairs=pairs)
        super().__init__(channels, grid, diffusion.settings)
        self.diffusion = diffusion
        self.gradients = GradientFeatures(channels, oriented=oriented) if gradients else None
        self.act = activation(act)
        sizes = [(2 + gradients) * channels, channels, channels, channels]
        self.mix = nn.ModuleList(
            FieldLinear(f"{a}x0", f"{b}x0", bias=True) for a, b in itertools.pairwise(sizes)
        )
        self.dropout = FieldDropout(f"{channels}x0", dropout)

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        flat, held = self._enter(x, operators)
        flowed = self.diffusion(flat, held)
        parts = [flat, flowed] + ([] if self.gradients is None else [self.gradients(flowed, held)])
        y = self.mix[0](torch.cat(parts, 1))
        for layer in list(self.mix)[1:]:
            y = layer(self.dropout(self.act(y)))
        return self._leave(flat + y)

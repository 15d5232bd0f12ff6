"""The layers that are compared, and the number of point pairs they work on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from measure import Work
from spheregeo.grids import Grid, HEALPix
from spheregeo.kernels import Kernel

LARGE = 300_000  # points above which pairs are counted by rings or estimated instead of searched


def work(layer: Callable[[Tensor], Tensor], parameters: list[Tensor], shape: tuple[int, ...]) -> Work:
    """Return a layer on a random input; gradients go to the input as well."""
    x = torch.randn(shape, requires_grad=True)
    return Work(lambda: layer(x), (x, *parameters))


def ours(
    grid: Grid, kernel: Kernel, radius: float, channels: int, batch: int = 1, moments: int | None = 2
) -> Callable[[], Work]:
    """Return a builder of `DiscoConv`."""

    def build() -> Work:
        from spheregeo.nn import DiscoConv

        layer = DiscoConv(channels, channels, grid, kernel=kernel, radius=radius, bias=False, moments=moments)
        return work(layer, list(layer.parameters()), (batch, channels, *grid.shape))

    return build


def torch_harmonics(
    shape: tuple[int, int], basis: str, kernel_shape: int | tuple[int, int], cutoff: float, channels: int
) -> Callable[[], Work]:
    """Return a builder of torch-harmonics' layer on its equiangular grid, with the compiled CPU kernels."""

    def build() -> Work:
        from torch_harmonics import DiscreteContinuousConvS2
        from torch_harmonics.disco import optimized_kernels_is_available

        if not optimized_kernels_is_available():
            raise RuntimeError(
                "torch-harmonics has no compiled kernels here; its time would not be a fair peer's"
            )
        layer = DiscreteContinuousConvS2(
            channels,
            channels,
            shape,
            shape,
            kernel_shape,
            basis_type=basis,
            basis_norm_mode="none",
            bias=False,
            theta_cutoff=cutoff,
        )
        return work(layer, list(layer.parameters()), (1, channels, *shape))

    return build


def attention(grid: Grid, position: Kernel, radius: float, channels: int) -> Callable[[], Work]:
    """Return a builder of `SphereAttention` in a neighbourhood, one head, with scores of the relative position."""

    def build() -> Work:
        from spheregeo.nn import SphereAttention

        layer = SphereAttention(channels, grid, radius=radius, position=position)
        return work(layer, list(layer.parameters()), (1, channels, *grid.shape))

    return build


def torch_harmonics_attention(shape: tuple[int, int], cutoff: float, channels: int) -> Callable[[], Work]:
    """Return a builder of torch-harmonics' neighbourhood attention, with the compiled CPU kernels; it has no positions."""

    def build() -> Work:
        from torch_harmonics import NeighborhoodAttentionS2

        layer = NeighborhoodAttentionS2(channels, shape, shape, theta_cutoff=cutoff)
        if not layer.optimized_kernel:
            raise RuntimeError(
                "torch-harmonics has no compiled kernels here; its time would not be a fair peer's"
            )
        return work(layer, list(layer.parameters()), (1, channels, *shape))

    return build


def dense(grid: Grid, kernel: Kernel, radius: float, channels: int) -> Callable[[], Work]:
    """Return a builder of the same quadrature as one dense matrix in torch, contracted by einsum."""

    def build() -> Work:
        p = grid.points
        inner = (p @ p.T).clamp(-1, 1)
        angle = torch.atan2(grid.frames[:, 1] @ p.T, grid.frames[:, 0] @ p.T)
        psi = torch.zeros(kernel.num_functions, *inner.shape)
        near = inner >= math.cos(radius) - 1e-12
        target, source = near.nonzero(as_tuple=True)
        values = kernel(inner[near].acos(), angle[near], radius) * grid.areas[source]
        psi[:, target, source] = values.float()
        weight = torch.randn(channels, channels, len(psi)).requires_grad_()

        def layer(x: Tensor) -> Tensor:
            return torch.einsum("kpq,bcq,ock->bop", psi, x.flatten(2), weight).unflatten(-1, grid.shape)

        return work(layer, [weight], (1, channels, *grid.shape))

    return build


def count_pairs(grid: Grid, radius: float) -> int:
    """Return how many pairs of points lie within `radius`; estimated from the cap's area on very large equal-area grids."""
    if grid.num_points <= LARGE:
        from spheregeo.sampling import neighbors

        return len(neighbors(grid, grid, radius).indices)
    if isinstance(grid, HEALPix):
        return round(grid.num_points**2 * (1 - math.cos(radius)) / 2)
    if len(grid.shape) != 2 or grid.rings is None:
        raise ValueError(f"no way to count the pairs of {grid} within {radius}")
    nlon = grid.shape[1]
    theta = np.asarray(grid.rings.colatitude)
    difference = 2 * math.pi * np.arange(nlon) / nlon
    half = np.minimum(difference, 2 * math.pi - difference)
    total = 0
    for t in theta:
        near = theta[np.abs(theta - t) <= radius + 1e-12]
        # haversine: cos r = cos(t - s) - 2 sin t sin s sin^2(d / 2)
        room = np.cos(near - t) - math.cos(radius) + 1e-14
        both = 2 * math.sin(t) * np.sin(near)
        reach = np.where(
            both > room, 2 * np.arcsin(np.sqrt(np.clip(room / np.maximum(both, 1e-300), 0, 1))), math.pi
        )
        total += int(np.searchsorted(np.sort(half), reach + 1e-9, side="right").sum()) * nlon
    return total

"""Outputs and gradients of layers that together call every kernel: a script that tests run with different inner loops."""

from __future__ import annotations

import sys

import numba
import numpy as np
import torch

import spheregeo as sg
from spheregeo.sparse import CSRPattern, MaxPlusMap, max_plus_planes
from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.kernels import inner


def all_of(layer: torch.nn.Module, x: torch.Tensor, *rest: torch.Tensor) -> list[np.ndarray]:
    """Output, gradients of the input and of all parameters."""
    inputs = [
        x.requires_grad_(),
        *(r.requires_grad_(r.is_floating_point()) for r in rest),
        *layer.parameters(),
    ]
    wanted = [t for t in inputs if t.requires_grad]
    y = layer(x, *rest)
    found = torch.autograd.grad((y * torch.randn_like(y)).sum(), wanted, allow_unused=True)
    return [t.detach().numpy() for t in (y, *found) if t is not None]


def spectral(rng: np.random.Generator) -> list[np.ndarray]:
    """Two channels of three rings, two rows, two functions, of which one has imaginary parts as well."""
    re, im = rng.normal(size=(2, 1, 1, 2, 3, 9))
    parts, w = rng.normal(size=(1, 2, 3, 3, 9)), rng.normal(size=(4, 4))
    function, imaginary = np.array([0, 1, 1]), np.array([False, False, True])
    g = rng.normal(size=(2, 1, 1, 4, 2, 9))
    out, dw = np.zeros(g.shape), np.zeros((numba.config.NUMBA_NUM_THREADS, 4, 4))
    which = (function, imaginary)
    kernels.spectral_mix((re, im), parts, which, w, 4, tuple(out))
    kernels.spectral_correlate((re, im), parts, which, 2, tuple(g), 4, dw)
    return [out, dw.sum(0)]


def rows(rng: np.random.Generator) -> list[np.ndarray]:
    """A block of three components of four channels, two functions of it, five points, seven rows."""
    blocks, functions = np.array([[0, 3, 4, 0, 2, 0]]), np.array([[0, 8, 0, 4, 0], [0, 8, 1, 4, 0]])
    index = np.array([3, 0, 0, 4, 1, 3, 3])
    indptr, order = np.array([0, 2, 3, 3, 6, 7]), np.array([1, 2, 4, 0, 5, 6, 3])
    x, k, z = rng.normal(size=5 * 12), rng.normal(size=(7, 6)), rng.normal(size=7 * 8)
    out, back, made = np.zeros(7 * 8), np.zeros(5 * 12), np.zeros((7, 6))
    kernels.rows_apply(x, k, index, blocks, functions, 5, out)
    kernels.rows_adjoint(z, k, indptr, order, blocks, functions, 5, back)
    kernels.rows_coefficients(x, z, index, blocks, functions, 5, made)
    return [out, back, made]


def activated(rng: np.random.Generator) -> list[np.ndarray]:
    """Norm, residual and GELU of two samples of three channels: statistics, values, gradients."""
    g, x, add = rng.normal(size=(3, 2, 3, 9))
    moments, y, gadd, gx = np.zeros((3, 2)), np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)
    kernels.channel_moments(x, moments)
    scale, shift, sums = rng.normal(size=3), rng.normal(size=3), np.zeros((3, 2))
    kernels.norm_gelu(x, add, scale, shift, y)
    kernels.norm_gelu_back(
        g, x, add, (scale, shift, moments[:, 0].copy(), moments[:, 1] + 1e-5), gadd, gx, sums
    )
    return [moments, y, gadd, gx, sums]


def largest(rng: np.random.Generator) -> list[np.ndarray]:
    """Largest sums over eight shifts in two groups of two channels, and over the nonzeros of three rows."""
    torch.manual_seed(1)
    shifts = [(a, b, c) for a in (0, 1) for b in (-1, 0) for c in (0, 2)]
    x, kernel = (
        torch.from_numpy(rng.normal(size=(2, 4, 3, 5, 6))),
        torch.from_numpy(rng.normal(size=(4, 2, 3, 8))),
    )
    found = []
    pattern = CSRPattern.of(torch.tensor([0, 2, 3, 5]), torch.tensor([1, 0, 2, 2, 1]), 3)
    for y, given in (
        (max_plus_planes(x.requires_grad_(), kernel.requires_grad_(), shifts), (x, kernel)),
        (MaxPlusMap(pattern)(x.flatten(2)[..., :3], kernel.flatten(1)[:, :5]), (x, kernel)),
    ):
        found += [y, *torch.autograd.grad(y.square().sum(), given)]
    return [t.detach().numpy() for t in found]


def main(path: str, size: int) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    nn, grids = sg.nn, sg.grids
    found: dict[str, list[np.ndarray]] = {}
    latlon, healpix = grids.Equiangular(size, 2 * size), grids.HEALPix(2)
    for name, grid, target in (("rings", latlon, None), ("scattered", grids.Fibonacci(8 * size), healpix)):
        layer = nn.DiscoConv(3, 2, grid, target)
        found[name] = all_of(layer, torch.randn(2, 3, *grid.shape))
    layer = nn.DiscoConv(5, 6, latlon, kernel=sg.kernels.Rings(2), radius=1.2)
    found["many channels"] = all_of(layer, torch.randn(1, 5, *latlon.shape))
    found["tangent"] = all_of(nn.GaugeConv("3x0 + 2x1", "2x0 + 2x1", healpix), torch.randn(1, 7, 48))
    for name, grid in (("attention on rings", latlon), ("attention", healpix)):
        layer = nn.SphereAttention(4, grid, radius=0.8, heads=2)
        found[name] = all_of(layer, torch.randn(1, 4, *grid.shape))
    positions, edges = torch.randn(size, 3), torch.randint(0, size, (2, 4 * size))
    irreps = "3x0e + 2x1o"
    x = torch.randn(size, 9)
    found["coupling"] = all_of(nn.SteerableConv(irreps, irreps, lmax=1), x, positions, edges)
    for depthwise in (False, True):
        layer = nn.SteerableConv(irreps, irreps, lmax=1, edge_dim=4, depthwise=depthwise)
        features = torch.randn(4 * size, 4)
        found[f"coupling {depthwise}"] = all_of(layer, x, positions, edges, features)
    rng = np.random.default_rng(0)
    found |= {"spectral": spectral(rng), "rows": rows(rng), "largest": largest(rng)}
    found["activated"] = activated(rng)
    np.savez(path, **{f"{k} {i}": v for k, values in found.items() for i, v in enumerate(values)})
    unused = [name for name in kernels.__all__ if not getattr(getattr(kernels, name), "signatures", True)]
    print(inner.chosen.__name__.rpartition(".")[2], unused)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

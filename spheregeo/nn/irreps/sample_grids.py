r"""Grids on the sphere and on SO(3), functions of irreps sampled there, and the equivariance error of doing so.

Samples of features with unit components have unit variance, whatever the band limit, and every degree the same share of it
(e3nn's "component" normalisation of grids).
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep
from torch import Tensor, nn

from spheregeo.groups import random_rotations, to_quaternion
from spheregeo.harmonics import gauss_legendre, unpack_wigner
from spheregeo.harmonics.irrep_harmonics import plain_harmonics
from spheregeo.harmonics.wigner_forms import plain_matrices
from spheregeo.nn.activations import Activation, activation_name
from spheregeo.nn.irreps.activations import NormalizedActivation

MOST_SAMPLES = 60_000
MARGIN = 0.8  # the measured error must stay below this share of the tolerance
Shape = tuple[int, ...]  # (beta, alpha) on the sphere, (beta, alpha, gamma) on SO(3)


class Signal(NamedTuple):
    """Irreps of one channel, in order, and the column n of sqrt(2l+1) D^l_mn of which each is the coefficient."""

    irreps: tuple[Irrep, ...]
    columns: tuple[int, ...]

    @property
    def degree(self) -> int:
        return max(ir.l for ir in self.irreps)

    @property
    def order(self) -> int:
        """Largest |n|: the band limit in gamma."""
        return max(abs(n) for n in self.columns)

    @property
    def size(self) -> int:
        return sum(ir.dim for ir in self.irreps)


def sphere_grid(n_beta: int, n_alpha: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre rings about the y axis: directions and weights of sum 1.

    Shape: (n_beta · n_alpha, 3), (n_beta · n_alpha,) float64. Exact for harmonics of degree below min(2 n_beta, n_alpha).
    """
    beta, weights = gauss_legendre(n_beta)
    alpha = torch.arange(n_alpha, dtype=torch.float64) * (2 * math.pi / n_alpha)
    s, c = torch.sin(beta)[:, None], torch.cos(beta)[:, None]
    points = torch.stack([s * torch.sin(alpha), c.expand(-1, n_alpha), s * torch.cos(alpha)], -1)
    return points.flatten(0, 1), (weights / (2 * n_alpha)).repeat_interleave(n_alpha)


def rotation_grid(n_beta: int, n_alpha: int, n_gamma: int) -> tuple[Tensor, Tensor]:
    """Euler angles R_y(alpha) R_x(beta) R_y(gamma) on a product grid: quaternions (w, x, y, z) and weights of sum 1.

    Shape: (n_beta · n_alpha · n_gamma, 4), (n_beta · n_alpha · n_gamma,) float64.
    """
    beta, weights = gauss_legendre(n_beta)
    alpha = torch.arange(n_alpha, dtype=torch.float64) * (2 * math.pi / n_alpha)
    gamma = torch.arange(n_gamma, dtype=torch.float64) * (2 * math.pi / n_gamma)
    b, a, g = torch.meshgrid(beta / 2, alpha / 2, gamma / 2, indexing="ij")
    c, s, plus, minus = torch.cos(b), torch.sin(b), a + g, a - g
    q = torch.stack(
        [c * torch.cos(plus), s * torch.cos(minus), c * torch.sin(plus), -s * torch.sin(minus)], -1
    )
    every = (weights / (2 * n_alpha * n_gamma)).repeat_interleave(n_alpha * n_gamma)
    return q.reshape(-1, 4), every


def grid_shape(signal: Signal, band: int, on_group: bool) -> Shape:
    """The grid that integrates products whose degrees add up to ``band``; gamma gets half as many more, up to alpha's number."""
    n_beta, n_alpha = (band + 2) // 2, band + 1
    if not on_group:
        return n_beta, n_alpha
    times = band / signal.degree if signal.degree else 2  # products of that many functions
    more = min(band, 1.5 * times * signal.order) if times > 2 else times * signal.order
    return n_beta, n_alpha, math.ceil(more - 1e-9) + 1


@lru_cache(maxsize=64)
def sampling_matrices(signal: Signal, shape: Shape) -> tuple[Tensor, Tensor]:
    """Coefficients to samples of unit variance, and back. Shape: (samples, K), (K, samples) float64; do not write into them."""
    if len(shape) == 2:
        points, weights = sphere_grid(*shape)
        harmonics = plain_harmonics(points, signal.degree, "component")  # without waiting for a compiler
        parts = [harmonics[:, ir.l**2 : (ir.l + 1) ** 2] for ir in signal.irreps]
    else:
        q, weights = rotation_grid(*shape)
        matrices = unpack_wigner(plain_matrices(q, signal.degree))
        parts = [
            math.sqrt(ir.dim) * matrices[ir.l][:, :, ir.l + n]
            for ir, n in zip(signal.irreps, signal.columns, strict=True)
        ]
    degrees = [ir.l for ir in signal.irreps]
    power = [len(set(degrees)) * degrees.count(ir.l) * ir.dim for ir in signal.irreps]
    scale = torch.cat(
        [
            torch.full((ir.dim,), p**0.5, dtype=torch.float64)
            for p, ir in zip(power, signal.irreps, strict=True)
        ]
    )
    basis = torch.cat(parts, 1)
    return basis / scale, (basis * weights[:, None] * scale).T.contiguous()


@torch.no_grad()
def sampling_error(act: str | Activation, signal: Signal, shape: Shape, *, amplitude: float = 1.0) -> float:
    """Relative RMS difference between turning before and after the activation, inversion included.

    Over normal coefficients of standard deviation ``amplitude``, 16 elements of O(3); float64, always the same draws.
    """
    return (
        _named_error(act, signal, shape, amplitude)
        if isinstance(act, str)
        else _error(act, signal, shape, amplitude)
    )


@lru_cache(maxsize=512)
def _named_error(act: str, signal: Signal, shape: Shape, amplitude: float) -> float:
    return _error(act, signal, shape, amplitude)


def _error(act: str | Activation, signal: Signal, shape: Shape, amplitude: float) -> float:
    f = NormalizedActivation(act, normalize=False)
    if isinstance(act, nn.Module):
        f = copy.deepcopy(f).to("cpu", torch.float64)
    to, back = sampling_matrices(signal, shape)
    generator = torch.Generator().manual_seed(0)
    matrices = unpack_wigner(plain_matrices(to_quaternion(random_rotations(16, generator)), signal.degree))
    turn = torch.zeros(16, signal.size, signal.size, dtype=torch.float64)
    start = 0
    for ir in signal.irreps:
        here = slice(start, start + ir.dim)
        turn[:, here, here] = matrices[ir.l]
        turn[1::2, here, here] *= ir.p  # every other one with inversion
        start += ir.dim
    x = amplitude * torch.randn(16, 24, signal.size, dtype=torch.float64, generator=generator)
    y = f(x @ to.T) @ back.T
    later, sooner = y @ turn.mT, f(x @ turn.mT @ to.T) @ back.T
    size = float(y.square().mean().sqrt())
    if not (math.isfinite(size) and size > 0):
        raise ValueError(f"act gives {size} on normal signals; expected finite values that are not all zero")
    return float((later - sooner).square().mean().sqrt()) / size


def grid_for(
    act: str | Activation, signal: Signal, tolerance: float, *, on_group: bool, amplitude: float = 1.0
) -> Shape:
    """Smallest tried grid whose measured error is below 0.8 · tolerance.

    Raises: ValueError for a tolerance that is not positive, or that 60,000 samples do not reach.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; expected a positive relative error such as 1e-3")
    band = 2 * signal.degree
    while math.prod(shape := grid_shape(signal, band, on_group)) <= MOST_SAMPLES:
        if sampling_error(act, signal, shape, amplitude=amplitude) < MARGIN * tolerance:
            return shape
        band += max(1, signal.degree, band // 8)
    raise ValueError(
        f"tolerance is {tolerance} for degree {signal.degree} and act {activation_name(act)}; {MOST_SAMPLES} samples do "
        "not reach it: choose a smoother activation such as 'silu', or set resolution"
    )

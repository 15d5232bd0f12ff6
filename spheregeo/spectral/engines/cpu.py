"""The Legendre stage by compiled loops: the engine "cpu". Importing this module imports numba.

Kept per structure: coefficients of the recurrences, O(lmax²), and the values at which functions begin to matter, O(lmax ·
rings): on rings of high latitude functions of high order are below 1e-21 up to some degree, and are left out up to there. Sums
are in float64 for all types of data, and do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.sparse.engines.compiled.runtime import array, threads
from spheregeo.spectral.engines import kernels
from spheregeo.spectral.engines.kernels.recurrence import LANES
from spheregeo.spectral.legendre import Legendre, seeds

GROUP = 32  # columns of a task
NARROW = 8  # columns of a matrix product below which vectors run over rings


def synthesis(structure: Legendre, a: Tensor) -> Tensor:
    """Ring values of coefficients. Shape: (T, K) -> (M, R, K)."""
    out = a.new_empty(structure.lmax + 1, structure.num_rings, a.shape[1])
    _run(True, structure, array(a), out.numpy())
    return out


def analysis(structure: Legendre, values: Tensor) -> Tensor:
    """Sums over rings, the transpose of synthesis. Shape: (M, R, K) -> (T, K)."""
    make = values.new_zeros if structure.spin else values.new_empty
    out = make(structure.size, values.shape[2])
    _run(False, structure, out.numpy(), array(values))
    return out


def pack(c: Tensor, lmax: int) -> Tensor:
    """Coefficients in the order of the stage: cosines and minus sines. Shape: (B, (lmax + 1)²) -> (T, 2B)."""
    a = c.new_empty((lmax + 1) * (lmax + 2) // 2, 2 * len(c))
    _layout(True, False, lmax + 1, array(c), a.numpy(), (len(c), lmax, 0, 0))
    return a


def unpack(a: Tensor, lmax: int) -> Tensor:
    """The transpose of :func:`pack`. Shape: (T, 2B) -> (B, (lmax + 1)²)."""
    c = a.new_empty(a.shape[1] // 2, (lmax + 1) ** 2)
    _layout(False, False, lmax + 1, c.numpy(), array(a), (len(c), lmax, 0, 0))
    return c


def spectra(values: Tensor, factors: Tensor, weights: Tensor | None, width: int) -> Tensor:
    """Ring values as half spectra, times complex factors and weights. Shape: (M, R, 2B), (M,), (R,) -> complex (B, R, width)."""
    orders, rings, columns = values.shape
    x = values.new_empty(columns // 2, rings, width, 2)
    sizes = (columns // 2, orders, rings, width)
    _layout(False, True, rings, x.numpy(), array(values), sizes, factors, weights)
    return torch.view_as_complex(x)


def ring_values(x: Tensor, factors: Tensor, weights: Tensor | None) -> Tensor:
    """The first orders of half spectra, times complex factors and weights. Shape: complex (B, R, W), (M,), (R,) -> (M, R, 2B)."""
    maps, rings, width = x.shape
    values = torch.view_as_real(x).new_empty(len(factors), rings, 2 * maps)
    sizes = (maps, len(factors), rings, width)
    _layout(True, True, rings, array(torch.view_as_real(x)), values.numpy(), sizes, factors, weights)
    return values


def _layout(
    packs: bool,
    spectra: bool,
    length: int,
    x: np.ndarray,
    y: np.ndarray,
    sizes: tuple[int, int, int, int],
    factors: Tensor | None = None,
    weights: Tensor | None = None,
) -> None:
    kind = torch.from_numpy(x).dtype
    if factors is None:
        factors = torch.ones(1, dtype=torch.complex128)
    if weights is None:
        weights = torch.ones(sizes[2])
    pairs = array(torch.view_as_real(factors.resolve_conj()).to(kind))
    block = (
        8 if spectra else max(8, 64 // max(sizes[0], 2))
    )  # their cache lines of all maps lie in the nearest cache
    tasks = -(-length // block)
    with threads():
        kernels.layout(
            packs,
            spectra,
            tasks,
            x.reshape(-1),
            y.reshape(-1),
            (*sizes, block),
            pairs,
            array(weights.to(kind)),
        )


def _run(forward: bool, structure: Legendre, a: np.ndarray, f: np.ndarray) -> None:
    plan = geometry.get(("compiled", structure.key), lambda: _plan(structure))
    folds = structure.spin == 0
    narrow = min(GROUP, a.shape[1]) * (2 if folds else 1) < NARROW
    with threads():
        kernels.stage(forward, a, f, plan, (folds, narrow), GROUP)


def _plan(structure: Legendre) -> tuple[np.ndarray, ...]:
    """Arrays of the loops; see :func:`spheregeo.spectral.engines.kernels.stage`."""
    lmax, spin, rings = structure.lmax, structure.spin, structure.num_rings
    theta = structure.colatitude.to("cpu", torch.float64)
    folds = spin == 0
    count = (rings + 1) // 2 if folds else rings
    theta = theta[:count]
    x = np.zeros(-(-count // LANES) * LANES)
    x[:count] = theta.cos().numpy()
    if 2 * count > rings and folds:
        x[count - 1] = 0.0  # the equator
    m = np.arange(lmax + 1)
    low = np.maximum(m, spin)
    degrees = np.maximum(lmax + 1 - low, 0)
    steps = (degrees + 1) // 2 if folds else degrees
    offsets = np.concatenate([[0], np.cumsum(steps)])
    order = np.repeat(m, steps).astype(np.float64)
    k = np.arange(offsets[-1]) - np.repeat(offsets[:-1], steps)
    mantissas, exponents = seeds(torch.arange(lmax + 1), theta, spin)
    q, powers = np.zeros((lmax + 1, len(x))), np.zeros((lmax + 1, len(x)), np.int64)
    q[:, :count], powers[:, :count] = mantissas.numpy(), 512 * exponents.numpy().astype(np.int64)
    scale, following = np.empty(len(k)), np.empty(len(k))
    if folds:
        q *= np.sqrt(2 * m + 3.0)[:, None]
        e = _squares(order, order + 2 * k + 1), _squares(order, order + 2 * k + 2)
        product = np.sqrt(e[1] * _squares(order, order + 2 * k + 3))
        before = np.sqrt(_squares(order, order + 2 * k) * e[0])
        kernels.scales(before / product, offsets, scale, following)
        slope = scale / following / product
        shift = -(e[0] + e[1]) * slope  # x² q_l, by x P_l twice
        factors = np.stack([scale * np.sqrt(e[0]), scale * np.sqrt(e[1]), scale], 1)
        y = x * x
    else:
        l = order + k + np.maximum(spin - order, 0)
        up = np.sqrt(((l + 1) ** 2 - order**2) * ((l + 1) ** 2 - spin**2))
        down = np.sqrt((l * l - order**2) * (l * l - spin**2))
        kernels.scales(
            np.sqrt((2 * l + 3) / (2 * l - 1)) * (l + 1) * down / (l * up), offsets, scale, following
        )
        slope = scale / following * np.sqrt((2 * l + 3) * (2 * l + 1)) * (l + 1) / up
        shift = -slope * order * spin / (l * (l + 1))
        factors, y = scale[:, None].copy(), x
    first = np.empty((lmax + 1, len(x) // LANES), np.int64)
    own = np.empty((lmax + 1, len(x)), np.int64)
    values = np.empty((lmax + 1, 2, len(x)))
    kernels.starts(slope, shift, scale, offsets, y, q, powers, first, own, values)
    rows = np.stack([m * (2 * lmax + 1 - m) // 2 + low, degrees], 1)
    return slope, shift, offsets, factors, rows, y, x, first, own, values


def _squares(m: np.ndarray, l: np.ndarray) -> np.ndarray:
    """(l² − m²)/(4l² − 1), the square of the coefficient between degrees l − 1 and l in x times a function."""
    return (l * l - m * m) / (4 * l * l - 1)

"""A norm and GELU in one pass over a field (B, C, N), and their gradients; float32.

erf(u) is u times a rational function of u^2 (least squares on [0, 4], largest error 3e-7 in float32); exp(-s) on [0, 16] the
16th power of a polynomial on [0, 1] (relative error 3e-7).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS

_F = np.float32
_STRETCH = 1024  # numbers that are added up in float32
_P = tuple(
    _F(c) for c in (1.128378987, 0.1962492466, 0.05346751213, 0.004003657959, 2.880418033e-4, 1.974828592e-6)
)
_Q = tuple(_F(c) for c in (0.5072525144, 0.1164765358, 0.01544444449, 0.001216363162, 3.748086965e-5))
_E = tuple(
    _F(c)
    for c in (
        0.9999999849,
        -0.9999984931,
        0.4999755198,
        -0.1665169313,
        0.04122663907,
        -0.007657223336,
        8.499592713e-4,
    )
)
_ROOT = _F(0.7071067811865476)
_DENSITY = _F(0.3989422804014327)
_LARGEST, _HALF, _ONE, _PART = _F(4.0), _F(0.5), _F(1.0), _F(1 / 16)
_P0, _P1, _P2, _P3, _P4, _P5 = _P
_Q1, _Q2, _Q3, _Q4, _Q5 = _Q
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = _E


@njit(inline="always", **OPTIONS)
def _phi(v):  # type: ignore[no-untyped-def]
    """The normal distribution's function at v, and u^2 of its argument u = v / sqrt(2), which is cut to [-4, 4]."""
    u = min(max(v * _ROOT, -_LARGEST), _LARGEST)
    s = u * u
    p = ((((_P5 * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    q = ((((_Q5 * s + _Q4) * s + _Q3) * s + _Q2) * s + _Q1) * s + _ONE
    return _HALF + _HALF * (u * p / q), s


@njit(inline="always", **OPTIONS)
def _slope(v):  # type: ignore[no-untyped-def]
    """GELU's derivative."""
    phi, s = _phi(v)
    t = s * _PART
    e = (((((_E6 * t + _E5) * t + _E4) * t + _E3) * t + _E2) * t + _E1) * t + _E0
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return phi + v * (_DENSITY * e)


@njit(parallel=True, **OPTIONS)
def channel_moments(x, out):  # type: ignore[no-untyped-def]
    """Mean and variance of each channel of x (B, C, N) into out (C, 2), float64."""
    batch, channels, points = x.shape
    for c in prange(channels):
        shift = _F(0)
        for j in range(min(points, _STRETCH)):
            shift += x[0, c, j]
        shift /= _F(min(points, _STRETCH))
        first, second = 0.0, 0.0
        for b in range(batch):
            row = x[b, c]
            for j0 in range(0, points, _STRETCH):
                total, square = _F(0), _F(0)
                for j in range(j0, min(j0 + _STRETCH, points)):
                    d = row[j] - shift
                    total += d
                    square += d * d
                first += float(total)
                second += float(square)
        count = batch * points
        mean = first / count
        out[c, 0] = shift + mean
        out[c, 1] = max(second / count - mean * mean, 0.0)


@njit(parallel=True, **OPTIONS)
def norm_gelu(x, add, scale, shift, y):  # type: ignore[no-untyped-def]
    """y = gelu(scale x + shift + add), a number a channel; ``add`` may have no samples."""
    batch, channels, points = x.shape
    added = len(add) > 0
    for task in prange(batch * channels):
        b, c = task // channels, task % channels
        a, d, row, out = scale[c], shift[c], x[b, c], y[b, c]
        if added:
            more = add[b, c]
            for j in range(points):
                v = a * row[j] + d + more[j]
                out[j] = v * _phi(v)[0]
        else:
            for j in range(points):
                v = a * row[j] + d
                out[j] = v * _phi(v)[0]


@njit(**OPTIONS)
def _slopes(g, x, a, h, out):  # type: ignore[no-untyped-def]
    for j in range(len(x)):
        out[j] = g[j] * _slope(a * x[j] + h)


@njit(**OPTIONS)
def _slopes_added(g, x, add, a, h, out):  # type: ignore[no-untyped-def]
    for j in range(len(x)):
        out[j] = g[j] * _slope(a * x[j] + h + add[j])


@njit(**OPTIONS)
def _products(d, x, m):  # type: ignore[no-untyped-def]
    total, along = _F(0), _F(0)
    for j in range(len(x)):
        total += d[j]
        along += d[j] * (x[j] - m)
    return total, along


@njit(**OPTIONS)
def _combine(d, x, a, q, more, out):  # type: ignore[no-untyped-def]
    for j in range(len(x)):
        out[j] = a * d[j] - q * x[j] + more


@njit(parallel=True, **OPTIONS)
def norm_gelu_back(g, x, add, numbers, gadd, gx, sums):  # type: ignore[no-untyped-def]
    """Gradients of ``norm_gelu`` by batch statistics: of ``add`` into gadd where it has samples, of x into gx.

    ``numbers`` (scale, shift, mean, variance + eps) of each channel; sums (C, 2) gets those of d and d (x - mean), d being the
    gradient at GELU's argument.
    """
    scale, shift, mean, spread = numbers
    batch, channels, points = x.shape
    added = len(add) > 0
    for c in prange(channels):
        a, h, m = scale[c], shift[c], mean[c]
        first, second = 0.0, 0.0
        for b in range(batch):
            row, grad = x[b, c], g[b, c]
            out = gadd[b, c] if added else gx[b, c]
            for j0 in range(0, points, _STRETCH):  # apart, or the loops are not done by vectors
                j1 = min(j0 + _STRETCH, points)
                if added:
                    _slopes_added(grad[j0:j1], row[j0:j1], add[b, c, j0:j1], a, h, out[j0:j1])
                else:
                    _slopes(grad[j0:j1], row[j0:j1], a, h, out[j0:j1])
                total, along = _products(out[j0:j1], row[j0:j1], m)
                first += total
                second += along
        sums[c, 0], sums[c, 1] = first, second
        count = batch * points
        p, q = _F(a * first / count), _F(a * second / count / spread[c])
        for b in range(batch):
            row, out = x[b, c], gx[b, c]
            source = gadd[b, c] if added else out
            _combine(source, row, a, q, q * m - p, out)

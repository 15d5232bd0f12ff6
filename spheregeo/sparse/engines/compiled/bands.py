"""Wide rows in Fourier space, compiled: frequency innermost; see :mod:`spheregeo.sparse.forms.bands`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.linear import CACHE_BYTES
from spheregeo.sparse.engines.compiled.runtime import array, threads
from spheregeo.sparse.forms.bands import G, W, X
from spheregeo.sparse.patterns import BandsPattern


def bands(pattern: BandsPattern, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives of the form in Fourier space."""
    x, w, g = arguments
    found = []
    for slot in wanted:
        if slot == G:
            assert x is not None and w is not None
            found.append(_mix(pattern.parts.to(w.dtype), pattern.which, w, x))
        elif slot == X:
            assert g is not None and w is not None
            turned = w.transpose(0, 1).contiguous()
            found.append(_mix(_adjoint(pattern.parts.to(w.dtype), pattern.which), pattern.which, turned, g))
        else:
            assert slot == W and x is not None and g is not None
            found.append(_correlate(pattern, x, g))
    return found


def _adjoint(parts: Tensor, which: Tensor) -> Tensor:
    """Spectrum of the transposed map: rows and rings change places, imaginary parts their sign."""
    sign = 1 - 2 * which[:, 1].to(parts.dtype)
    return (parts * sign[:, None, None]).transpose(1, 3).contiguous()


def _step(x: Tensor, k: int) -> int:
    """Frequencies a task."""
    return max(64, min(512, int(CACHE_BYTES / 8 / (x.shape[2] * (k + x.shape[3])) // 16 * 16)))


def _mix(parts: Tensor, which: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """sum_{c,k,q} w_ock Psi_k(p, q, f) X_c(q, f): (B, N, C, rings, F) -> (B, N, O, rows, F), complex."""
    shape = (*x.shape[:2], w.shape[0], parts.shape[1], x.shape[4])
    re, im = parts.new_empty(shape), parts.new_empty(shape)
    functions = array(which[:, 0]), array(which[:, 1])
    spectra = array(x.real), array(x.imag)
    with threads():
        kernels.spectral_mix(
            spectra,
            array(parts),
            functions,
            array(w.flatten(1)),
            _step(x, w.shape[2]),
            (re.numpy(), im.numpy()),
        )
    return torch.complex(re, im)


def _correlate(pattern: BandsPattern, x: Tensor, g: Tensor) -> Tensor:
    """Re sum conj(G_o(p, f)) Psi_k(p, q, f) X_c(q, f): (O, C, K)."""
    parts, k = pattern.parts.to(x.real.dtype), pattern.functions
    channels, outputs = x.shape[2], g.shape[2]
    functions = array(pattern.which[:, 0]), array(pattern.which[:, 1])
    spectra, cotangents = (array(x.real), array(x.imag)), (array(g.real), array(g.imag))
    with threads() as count:
        dw = parts.new_zeros(count, outputs, channels * k)
        kernels.spectral_correlate(spectra, array(parts), functions, k, cotangents, _step(x, k), dw.numpy())
    return dw.sum(0).view(outputs, channels, k)

r"""Fourier in longitude for the rows of a ring map that are too wide to go tap by tap.

Near a pole a disc of fixed radius covers whole rings: hundreds of taps on a few rings. There the map is diagonalised by
the FFT along the ring: with X_q(f) the transform of ring q and psi_k(p, q, s) the taps,

    Y_o(p, f) = sum_{c,k} w_ock sum_q Psi_k(p, q, f) X_qc(f),   Psi_k(f) = sum_s psi_k(s) exp(2 pi i f s / M),

so that channels are mixed before the inverse transform. Rows are taken in bands of a few, which share their rings, and
all bands go through one transform. Psi_k is stored by its real and imaginary parts, whichever are there: one of them for
a function that is even or odd in longitude. What an engine does is the form between the transforms,

    F(X, w, G) = Re sum_{b,n,o,p,f} conj(G_bnopf) sum_{c,k} w_ock sum_q Psi_nkpqf X_bncqf,

linear in X (B, N, C, rings, F) complex, w (O, C, K) real and, conjugated, in G (B, N, O, rows, F) complex. Its partial derivative
in w is real; those in G and X are Psi w X and the adjoint, conj(Psi) w G.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.patterns.bands import BandsPattern
from spheregeo.sparse.registry import WIDENED, pick

X, W, G = range(3)


def output(engine: str, pattern: BandsPattern, x: Tensor, w: Tensor, y: Tensor) -> None:
    """Add the bands' rows of the mixed map to y (B, O, P)."""
    spectra = pattern.source(x.to(w.dtype))
    run, _ = pick(engine, spectra, "bands")
    (found,) = run(pattern, (spectra, w, None), (G,))
    pattern.add_target(y, found)


def gradients(
    engine: str,
    pattern: BandsPattern,
    arguments: Sequence[Tensor | None],
    gx: Tensor | None,
    gw: Tensor | None,
) -> None:
    """Add the bands' part of the gradients of x and w to gx and gw, where these are given; arguments are x, w, g."""
    x, w, g = arguments
    assert g is not None
    transformed = pattern.target(g.to(WIDENED.get(g.dtype, g.dtype)))
    run, _ = pick(engine, transformed, "bands")
    spectra = None
    if gw is not None:  # which factor of the sum over a ring carries the scale is all one
        assert x is not None
        spectra = pattern.source(x.to(WIDENED.get(x.dtype, x.dtype)))
        key = ("parseval", spectra.dtype)
        scale = pattern.memo.get(key)
        if scale is None:
            make = lambda: parseval(torch.ones_like(spectra[0, 0, 0, 0]), pattern.columns).real  # noqa: E731
            scale = pattern.memo[key] = made_of(pattern.tensors, key, make)
        spectra = spectra * scale
    wanted = [slot for slot, t in ((X, gx), (W, gw)) if t is not None]
    for slot, found in zip(wanted, run(pattern, (spectra, w, transformed), wanted), strict=True):
        if slot == X:
            assert gx is not None
            pattern.add_source(gx, found)
        else:
            assert gw is not None
            gw += found


def parseval(g: Tensor, columns: int) -> Tensor:
    """Scale half-spectra (..., F) so that Re sum conj(G) Z is the sum of g z over the ring."""
    twice = torch.full((g.shape[-1],), 2.0 / columns, dtype=g.real.dtype, device=g.device)
    twice[0] /= 2
    if columns % 2 == 0:
        twice[-1] /= 2
    return g * twice

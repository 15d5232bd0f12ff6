"""Wide rows in Fourier space, by complex products of whole arrays; see :mod:`spheregeo.sparse.forms.bands`.

Spectra stand with bands and frequencies first, so that one batched product contracts rings and one product mixes channels. What
the gradients of X and w share is the contraction of the cotangent; it is computed conjugated, Psi^T conj(G).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.engines.portable.plans import kept
from spheregeo.sparse.forms.bands import G, W, X
from spheregeo.sparse.patterns import BandsPattern


def bands(pattern: BandsPattern, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives of the form in Fourier space."""
    x, w, g = arguments
    found: dict[int, Tensor] = {}
    psi = _spectrum(pattern, next(t for t in (x, g) if t is not None))  # (N F, rows, K, rings)
    bands, frequencies = pattern.parts.shape[0], pattern.parts.shape[4]
    if G in wanted:
        assert x is not None and w is not None
        batch = x.shape[0]
        z = torch.bmm(psi.flatten(1, 2), _stacked(x))  # (N F, rows K, B C)
        z = z.view(*psi.shape[:3], batch, -1).transpose(2, 3).reshape(-1, w.shape[1] * w.shape[2])
        mixing = w.permute(2, 1, 0).reshape(-1, w.shape[0]).to(z.dtype)
        y = (z @ mixing).view(bands, frequencies, psi.shape[1], batch, -1)
        found[G] = y.permute(3, 0, 4, 2, 1)
    if X in wanted or W in wanted:
        assert g is not None
        batch = g.shape[0]
        u = torch.bmm(psi.flatten(2).mT, _stacked(g).conj_physical())  # (N F, K rings, B O)
        u = u.view(psi.shape[0], psi.shape[2], psi.shape[3], batch, -1)
        if X in wanted:
            assert w is not None
            mixing = w.permute(2, 0, 1).reshape(-1, w.shape[1]).to(u.dtype)
            u = u.permute(0, 2, 3, 1, 4).reshape(-1, mixing.shape[0])  # (N F rings B, K O)
            y = (u @ mixing).view(bands, frequencies, psi.shape[3], batch, -1)
            found[X] = y.permute(3, 0, 4, 2, 1).conj()
        else:
            u = u.permute(0, 2, 3, 1, 4).reshape(-1, u.shape[1] * u.shape[4])
        if W in wanted:
            assert x is not None
            near = _stacked(x).reshape(u.shape[0], -1)  # (N F rings B, C)
            total = (u.mT @ near).real.view(psi.shape[2], -1, near.shape[1])
            found[W] = total.permute(1, 2, 0)
    return [found[slot] for slot in wanted]


def _stacked(x: Tensor) -> Tensor:
    """Spectra (B, N, C, rings, F) to (N F, rings, B C)."""
    b, n, c, rings, f = x.shape
    return x.permute(1, 4, 3, 0, 2).reshape(n * f, rings, b * c)


def _spectrum(pattern: BandsPattern, like: Tensor) -> Tensor:
    """Complex spectrum (N F, rows, K, rings), made once."""

    def make() -> Tensor:
        n, rows, _, rings, f = pattern.parts.shape
        parts = pattern.parts.to(like.real.dtype)
        full = parts.new_zeros(2, pattern.functions, n, rows, rings, f)
        full[pattern.which[:, 1], pattern.which[:, 0]] = parts.movedim(2, 0)
        return torch.complex(full[0], full[1]).permute(1, 4, 2, 0, 3).reshape(n * f, rows, -1, rings)

    return kept(pattern, ("spectrum", like.dtype), make)

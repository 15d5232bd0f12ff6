"""Wide rows in Fourier space, by complex products of whole arrays; see :mod:`spheregeo.sparse.forms.bands`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.bands import G, W, X
from spheregeo.sparse.patterns import BandsPattern


def bands(pattern: BandsPattern, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives of the form in Fourier space, a pair of products each."""
    x, w, g = arguments
    found = []
    for slot in wanted:
        if slot == G:
            assert x is not None and w is not None
            z = torch.einsum("npkqf,bncqf->bnckpf", _spectrum(pattern, x), x)
            found.append(torch.einsum("bnckpf,ock->bnopf", z, w.to(z.dtype)))
        elif slot == X:
            assert g is not None and w is not None
            z = torch.einsum("npkqf,bnopf->bnokqf", _spectrum(pattern, g).conj(), g)
            found.append(torch.einsum("bnokqf,ock->bncqf", z, w.to(z.dtype)))
        else:
            assert slot == W and x is not None and g is not None
            z = torch.einsum("npkqf,bncqf->bnckpf", _spectrum(pattern, x), x)
            found.append(torch.einsum("bnopf,bnckpf->ock", g.conj(), z).real)
    return found


def _spectrum(pattern: BandsPattern, like: Tensor) -> Tensor:
    """Complex spectrum (N, rows, K, rings, F)."""
    n, rows, _, rings, f = pattern.parts.shape
    parts = pattern.parts.to(like.real.dtype)
    full = parts.new_zeros(2, pattern.functions, n, rows, rings, f)
    full[pattern.which[:, 1], pattern.which[:, 0]] = parts.movedim(2, 0)
    return torch.complex(full[0], full[1]).movedim(0, 2)

"""Largest sums tap after tap, anywhere torch runs; gradients added up at the taps that attained them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.max_plus import MaxRows, Stencil, running


def max_plus(
    structure: Stencil | MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Largest sums and their taps."""
    x, k = arguments
    assert x is not None and k is not None
    return list(running(structure, x, k))


def max_plus_gradients(
    structure: Stencil | MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Gradients of values and coefficients."""
    g, taps = arguments
    assert g is not None and taps is not None
    of_x, of_k = structure.given(g)
    source, coefficient = structure.places(taps)
    g = torch.where(taps < 0, 0.0, g)
    dx, dk = g.new_zeros(of_x), g.new_zeros(of_k)
    dx.flatten(1).scatter_add_(1, source.expand_as(g).flatten(1), g.flatten(1))
    dk.view(-1).index_add_(0, coefficient.expand_as(g).flatten(), g.flatten())
    return [dx, dk]

"""The slow twin: every nonzero written out, no chunks, no sharing. Defines what the other engines must return."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.sparse.engines.gradients import Gradients
from spheregeo.sparse.pattern import Pattern


def mix(z: Tensor, w: Tensor | None, groups: int) -> Tensor:
    """(B, C, K, P) -> (B, O, P) by w (O, C/groups, K); without w the K functions become channels."""
    if w is None:
        return z.flatten(1, 2)
    batch, channels, k, points = z.shape
    z = z.reshape(batch, groups, channels // groups, k, points)
    w = w.view(groups, -1, channels // groups, k)
    return torch.einsum("gock,bgckp->bgop", w, z).flatten(1, 2)


def unmix(g: Tensor, w: Tensor | None, groups: int, channels: int) -> Tensor:
    """Adjoint of :func:`mix` in z: (B, O, P) -> (B, C, K, P)."""
    batch, _, points = g.shape
    if w is None:
        return g.view(batch, channels, -1, points)
    w = w.view(groups, -1, channels // groups, w.shape[2])
    g = g.reshape(batch, groups, -1, points)
    return torch.einsum("gock,bgop->bgckp", w, g).flatten(1, 2)


class ReferenceEngine(Gradients):
    """Gather, multiply, ``index_add``: any device, any dtype; memory K times nnz times channels."""

    def contract(self, pattern: Pattern, v: Tensor, x: Tensor) -> Tensor:
        """z[b,c,k,p] = sum_t v[k,t] x[b,c,q_t]."""
        target, source, value = pattern.coo()
        terms = x[:, :, None, source] * v[:, value]  # (B, C, K, nnz)
        z = x.new_zeros(*x.shape[:2], v.shape[0], pattern.num_target)
        return z.index_add(-1, target, terms)

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        return mix(self.contract(pattern, v, x), w, groups)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        batch, channels, _ = x.shape
        z = self.contract(pattern, v, x).reshape(batch, groups, channels // groups, v.shape[0], -1)
        g = g.reshape(batch, groups, -1, g.shape[-1])
        return torch.einsum("bgop,bgckp->gock", g, z).flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        target, source, value = pattern.coo()
        u = unmix(g, w, groups, x.shape[1])  # (B, C, K, P)
        terms = torch.einsum("bckn,bcn->kn", u[..., target], x[..., source])
        return self._sum_columns(terms, value, pattern.num_values)

    def _sum_columns(self, terms: Tensor, value: Tensor, number: int) -> Tensor:
        """Sum terms (K, nnz) that belong to the same column of the table: (K, number)."""
        return terms.new_zeros(terms.shape[0], number).index_add(1, value, terms)

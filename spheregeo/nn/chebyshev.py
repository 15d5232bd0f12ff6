r"""Chebyshev filters of sparse symmetric matrices, and graphs of nearest neighbors: what all graph convolutions share.

    y = b + sum_{k=0}^{K-1} T_k(L~) x W_k,      T_0 = 1, T_1 = L~, T_k = 2 L~ T_{k-1} - T_{k-2},

with the spectrum of L~ in [-1, 1]. Features are rows (vertices, samples, channels) here, so that a sparse product adds whole
rows, for all samples at once. Neighbors are sought by any distance that is at least the one between points of an embedding: a
k-d tree finds candidates there, and only their distances are computed.
Reference: Defferrard, Bresson & Vandergheynst 2016, arXiv:1606.09375, eq. 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.constants import table
from spheregeo.sparse import SparseMap

TIE = 1e-9  # relative difference of distances that rounding makes
_THIN = 4  # channels from which a product of each term is cheaper than one of all terms side by side
_PAIRS = 1 << 19  # candidates whose distances are computed at a time

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def nearest(points: np.ndarray, neighbors: int, distance: Distance | None = None) -> Pairs:
    """Pairs (point, other, distance) of each point with its nearest ones, and each point's largest distance.

    Points as far as the last neighbor are neighbors, too, so that the pairs keep the points' symmetries.

    Args:
        points: coordinates (N, d).
        neighbors: how many nearest points, below N.
        distance: function of two arrays of indices (m, 1) and (m, k) that gives distances (m, k), nowhere less than those of the
            coordinates; None for these.
    """
    tree, n = cKDTree(points), len(points)
    wanted, rows = neighbors + 1, np.arange(n)  # the point itself is found as well
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    reach = np.zeros(n)
    extra = 8 if distance is None else 3 * wanted
    while len(rows):
        count = min(wanted + extra, n)
        left = []
        for block in np.array_split(rows, max(1, math.ceil(len(rows) * count / _PAIRS))):
            bound, index = tree.query(points[block], k=count)
            length = bound if distance is None else distance(block[:, None], index)
            last = np.partition(length, min(wanted, n) - 1, axis=1)[:, min(wanted, n) - 1]
            limit = last + TIE * bound[:, -1]
            open_ended = (bound[:, -1] <= limit) & (count < n)  # nearer points may not have been found yet
            reach[block] = last
            near = (length <= limit[:, None]) & ~open_ended[:, None] & (index != block[:, None])
            at = near.nonzero()[0]
            found.append((block[at], index[near], length[near]))
            left.append(block[open_ended])
        rows, extra = np.concatenate(left), 4 * extra
    row, column, length = (np.concatenate(parts) for parts in zip(*found))
    return row, column, length, reach


def filter_rows(
    rows: Tensor, matrix: SparseMap | None, weight: Tensor, bias: Tensor | None, values: Tensor | None = None
) -> Tensor:
    """A Chebyshev filter of rows.

    Args:
        rows: features (N, B, C).
        matrix: L~, which is taken for symmetric unseen; not needed for one term.
        weight: (out, C, K).
        bias: (out,) or None.
        values: coefficients in place of the matrix's, symmetric too.

    Shape: (N, B, C) -> (N, B, out).
    """
    weight = weight.to(rows.dtype)
    bias = None if bias is None else bias.to(rows.dtype)
    if (
        is_watched()
        or torch.is_autocast_enabled(rows.device.type)
        or rows.dtype in (torch.bfloat16, torch.float16)
    ):
        return _plainly(rows, matrix, weight, bias, values)
    y: Tensor = _Filter.apply(rows.contiguous(), matrix, weight, values)
    return y if bias is None else y + bias


def _plainly(
    rows: Tensor, matrix: SparseMap | None, weight: Tensor, bias: Tensor | None, values: Tensor | None
) -> Tensor:
    terms = [rows]
    if weight.shape[2] > 1:
        assert matrix is not None
        terms.append(apply_to_rows(matrix, rows, values))
        while len(terms) < weight.shape[2]:
            terms.append(2 * apply_to_rows(matrix, terms[-1], values) - terms[-2])
    return nn.functional.linear(torch.cat(terms, 2), weight.movedim(2, 1).flatten(1), bias)


class _Filter(torch.autograd.Function):
    """The filter without bias, and its derivatives by Clenshaw's recursion, without copies of terms.

    Terms are kept with signs, S_k = s_k T_k x with s = (1, 1, -1, -1, 1, 1, ...), so that each is one sum,
    S_k = S_{k-2} + 2 s_k s_{k-1} L~ S_{k-1}.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, matrix: SparseMap | None, weight: Tensor, values: Tensor | None
    ) -> Tensor:
        out, channels, order = weight.shape
        terms = [rows]
        for k in range(1, order):
            assert matrix is not None
            step = apply_to_rows(matrix, terms[-1], values)
            if k > 1:
                step = torch.add(terms[-2], step, alpha=2 * _sign(k) * _sign(k - 1), out=step)
            terms.append(step)
        ctx.save_for_backward(weight, values, *terms)
        ctx.matrix = matrix
        flat = [t.view(-1, channels) for t in terms]
        if channels < _THIN:
            signs = table([_sign(k) for k in range(order)], weight)
            y = torch.stack(flat, 2).flatten(1) @ (weight * signs).flatten(1).t()
        else:
            y = flat[0] @ weight[:, :, 0].t()
            for k in range(1, order):
                y.addmm_(flat[k], weight[:, :, k].t(), alpha=_sign(k))
        return y.view(*rows.shape[:2], out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        weight, values, *terms = ctx.saved_tensors
        matrix, order, rows = ctx.matrix, weight.shape[2], terms[0]
        if torch.is_grad_enabled():  # for derivatives of derivatives
            rows, weight = (
                rows.view_as(rows),
                weight.view_as(weight),
            )  # hooks of the arguments are not for these
            again = _plainly(rows, matrix, weight, None, values)
            needed = [
                t for t, need in ((rows, ctx.needs_input_grad[0]), (weight, ctx.needs_input_grad[2])) if need
            ]
            found = list(torch.autograd.grad(again, needed, grad, create_graph=True))
            by_rows = found.pop(0) if ctx.needs_input_grad[0] else None
            return by_rows, None, found.pop() if ctx.needs_input_grad[2] else None, None
        g = grad.reshape(-1, weight.shape[0])
        by_rows = by_weight = None
        if ctx.needs_input_grad[2]:
            parts = [g.t() @ t.view(-1, rows.shape[2]) for t in terms]
            by_weight = torch.stack([_sign(k) * part for k, part in enumerate(parts)], 2)
        if ctx.needs_input_grad[0]:
            after: Tensor | None = None
            now = (g @ weight[:, :, order - 1]).view(rows.shape)
            for k in reversed(range(order - 1)):
                step = apply_to_rows(matrix, now, values)
                step.view(-1, rows.shape[2]).addmm_(g, weight[:, :, k], beta=2 if k else 1)
                after, now = now, step if after is None else step.sub_(after)
            by_rows = now
        return by_rows, None, by_weight, None


def _sign(k: int) -> int:
    return -1 if k % 4 > 1 else 1


def apply_to_rows(matrix: SparseMap, rows: Tensor, values: Tensor | None = None) -> Tensor:
    """Product of a sparse map of one component with rows.

    Args:
        matrix: the map.
        rows: features (N, B, C).
        values: coefficients in place of the map's.

    Shape: (N, B, C) -> (M, B, C), rows in memory.
    """
    y = matrix(rows.flatten(1).t()[None], values)
    return y[0].t().unflatten(1, rows.shape[1:])


def to_rows(x: Tensor) -> Tensor:
    """Fields (B, C, N) as rows (N, B, C) in memory."""
    return x.permute(2, 0, 1).contiguous()


def from_rows(rows: Tensor) -> Tensor:
    """Rows (N, B, C) as fields (B, C, N), a view."""
    return rows.permute(1, 2, 0)

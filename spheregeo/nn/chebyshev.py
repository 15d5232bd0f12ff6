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

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

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
    rows: Tensor, step: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor | None
) -> Tensor:
    """A Chebyshev filter of rows.

    Args:
        rows: features (N, B, C).
        step: multiplication by L~ of rows.
        weight: (out, C, K).
        bias: (out,) or None.

    Shape: (N, B, C) -> (N, B, out).
    """
    order = weight.shape[2]
    terms = [rows]
    if order > 1:
        terms.append(step(rows))
    while len(terms) < order:
        terms.append(2 * step(terms[-1]) - terms[-2])
    weight = weight.to(rows.dtype)
    bias = None if bias is None else bias.to(rows.dtype)
    if rows.shape[2] < _THIN:
        return nn.functional.linear(torch.cat(terms, 2), weight.movedim(2, 1).flatten(1), bias)
    y = nn.functional.linear(terms[0].flatten(0, 1), weight[:, :, 0], bias)
    for k in range(1, order):
        y = torch.addmm(y, terms[k].flatten(0, 1).to(y.dtype), weight[:, :, k].t().to(y.dtype))
    return y.unflatten(0, rows.shape[:2])


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

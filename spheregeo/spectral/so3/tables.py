r"""What the Fourier transform on SO(3) needs: which coefficients meet which Wigner functions, and how they mix.

Of the real matrices only D(R_z) mixes signs of orders, and only ±m: with h^l_{±M,±N} the four coefficients of orders M, N > 0,

    Σ_± h D = Re[û_{M,N} d^l_{M,N}(β) e^{i(Mα + Nγ)}] + Re[û_{−M,N} d^l_{M,−N}(β) e^{i(−Mα + Nγ)}],
    û_{M,N} = (−1)^{M+N} [(h_{M,N} + h_{−M,−N}) − i (h_{−M,N} − h_{M,−N})],
    û_{−M,N} = (−1)^M [(h_{M,N} − h_{−M,−N}) + i (h_{M,−N} + h_{−M,N})],

and √2 (−1)^M (h_{M,0} − i h_{−M,0}) and √2 (−1)^N (h_{0,N} + i h_{0,−N}) where an order is zero. Orders (m, n), n ≥ 0, of one
μ = max(|m|, n) share one table d^l_{μ,j}(β), |j| ≤ μ: those with |m| = μ (first kind) and those with n = μ (second kind). Per μ
and kind the sum over l is one batched matrix product, and the sums over m and n are one FFT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.harmonics import fejer1, wigner_d_order

KEPT = 1 << 26  # bytes of Wigner functions kept for one transform; beyond, one order's at a time


@dataclass(frozen=True)
class Kind:
    """Orders of one kind: ``rows`` of the mixed coefficients hold them, j by j, l by l; ``m``, ``n`` are the orders of each j."""

    rows: slice
    m: Tensor
    n: Tensor
    first_j: int


@dataclass(frozen=True)
class Mixing:
    """û = Σ_k weights_k c[index_k], two terms a row, and the transpose of that; rows are (real, imaginary) pairs, flat."""

    index: Tensor
    weights: Tensor
    back_index: Tensor
    back_weights: Tensor


def block_offsets(lmax: int, nmax: int) -> np.ndarray:
    """Where the coefficients of each degree begin, and their number. Shape: (lmax + 2,)."""
    degrees = np.arange(lmax + 1)
    return np.concatenate([[0], np.cumsum((2 * degrees + 1) * (2 * np.minimum(degrees, nmax) + 1))])


def kinds(lmax: int, nmax: int) -> list[tuple[Kind, Kind | None]]:
    """For each μ the orders of the first and, where there are any, of the second kind; kept."""
    return geometry.get(("so3 kinds", lmax, nmax), lambda: _kinds(lmax, nmax))


def _kinds(lmax: int, nmax: int) -> list[tuple[Kind, Kind | None]]:
    out: list[tuple[Kind, Kind | None]] = []
    start = 0
    for mu in range(lmax + 1):
        top, count = min(mu, nmax), lmax - mu + 1
        j = torch.arange(-top, top + 1)
        first = Kind(slice(start, start + len(j) * count), torch.where(j < 0, -mu, mu), j.abs(), -top)
        start += len(j) * count
        second = None
        if 0 < mu <= nmax:
            j = torch.arange(1 - mu, mu)
            second = Kind(slice(start, start + len(j) * count), j, torch.full_like(j, mu), 1 - mu)
            start += len(j) * count
        out.append((first, second))
    return out


def mixing(lmax: int, nmax: int) -> Mixing:
    """The map from coefficients to û/2 (n > 0) or û (n = 0), times the sign that takes the table's function to the needed one."""
    offsets = block_offsets(lmax, nmax)
    index, weight = [], []
    for mu, both in enumerate(kinds(lmax, nmax)):
        for kind in both:
            if kind is None:
                continue
            j = kind.m if kind is both[1] else torch.where(kind.m < 0, -kind.n, kind.n)
            degree = np.arange(mu, lmax + 1)[None]
            m, n = kind.m.numpy()[:, None], kind.n.numpy()[:, None]
            big_m, big_n = np.abs(m), n
            width = 2 * np.minimum(degree, nmax) + 1

            def at(
                row: np.ndarray, col: np.ndarray, degree: np.ndarray = degree, width: np.ndarray = width
            ) -> np.ndarray:
                return offsets[degree] + (row + degree) * width + col + (width - 1) // 2

            sign_m, sign_n = 1.0 - 2 * (big_m % 2), 1.0 - 2 * (big_n % 2)
            positive, negative = (m > 0) & (n > 0), (m < 0) & (n > 0)
            root = np.sqrt(2.0)
            # real part: a c[M, N] + b c[-M, -N]; imaginary part: c c[-M, N] + d c[M, -N]
            a = np.where(positive, sign_m * sign_n, np.where(negative, sign_m, root * sign_m * sign_n))
            a = np.where((m == 0) & (n == 0), 1.0, a)
            b = np.where(positive, sign_m * sign_n, np.where(negative, -sign_m, 0.0))
            c = np.where(positive, -sign_m * sign_n, np.where(negative, sign_m, 0.0))
            c = np.where((n == 0) & (m > 0), -root * sign_m, c)
            d = np.where(positive, sign_m * sign_n, np.where(negative, sign_m, 0.0))
            d = np.where((m == 0) & (n > 0), root * sign_n, d)
            scale = np.where(n > 0, 0.5, 1.0)  # a real FFT counts n > 0 twice
            if kind is both[1]:  # d_{j,μ} = (−1)^{j−μ} d_{μ,j}, and d_{|j|,−μ} = d_{μ,−|j|}
                scale = scale * np.where(
                    j.numpy()[:, None] >= 0, 1.0 - 2 * ((j.numpy()[:, None] - mu) % 2), 1.0
                )
            one = np.ones_like(degree, dtype=np.float64)
            pairs = [(big_m, big_n, a), (-big_m, -big_n, b), (-big_m, big_n, c), (big_m, -big_n, d)]
            where = np.stack([at(row, col) for row, col, _ in pairs], -1)  # (j, l, 4)
            factor = np.stack([w * scale * one for _, _, w in pairs], -1)
            index.append(where.reshape(-1, 2, 2))
            weight.append(factor.reshape(-1, 2, 2))
    indices, weights = np.concatenate(index).reshape(-1, 2), np.concatenate(weight).reshape(-1, 2)
    back = _transposed(indices, weights, int(offsets[-1]))
    return Mixing(torch.from_numpy(indices.T.copy()), torch.from_numpy(weights.T.copy()), *back)


def _transposed(index: np.ndarray, weights: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """Index and weights (2, size) of the transpose: every coefficient enters one or two mixed ones."""
    rows = np.repeat(np.arange(len(index)), 2)
    keep = weights.reshape(-1) != 0
    rows, columns, values = rows[keep], index.reshape(-1)[keep], weights.reshape(-1)[keep]
    order = np.argsort(columns, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    place = np.arange(len(columns)) - np.searchsorted(columns, columns)
    back_index, back_weights = np.zeros((2, size), dtype=np.int64), np.zeros((2, size))
    back_index[place, columns] = rows
    back_weights[place, columns] = values
    return torch.from_numpy(back_index), torch.from_numpy(back_weights)


def mixing_of(lmax: int, nmax: int, like: Tensor) -> Mixing:
    """:func:`mixing` on the device and in the dtype of ``like``, kept."""

    def convert() -> Mixing:
        table = geometry.get(("so3 mixing", lmax, nmax), lambda: mixing(lmax, nmax))
        return Mixing(
            table.index.to(like.device),
            table.weights.to(like),
            table.back_index.to(like.device),
            table.back_weights.to(like),
        )

    return geometry.get(("so3 mixing", lmax, nmax, like.dtype, like.device), convert)


def functions(mu: int, lmax: int, nmax: int, bandwidth: int, like: Tensor) -> Tensor:
    """d^l_{μ,j}(β_k) on the grid of this bandwidth. Shape: (j, k, l), of the dtype and on the device of ``like``."""

    def compute() -> Tensor:
        table = wigner_d_order(fejer1(2 * bandwidth)[0], mu, lmax, nmax)
        return table.transpose(1, 2).to(like).contiguous()

    size = sum((2 * min(m, nmax) + 1) * (lmax - m + 1) for m in range(lmax + 1)) * 2 * bandwidth
    if size * like.element_size() > KEPT:
        return compute()
    return geometry.get(("so3 functions", mu, lmax, nmax, bandwidth, like.dtype, like.device), compute)

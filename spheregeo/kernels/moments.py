r"""Moment correction: make a filter's discrete moments at every point equal its continuous ones.

With moment functions :math:`B_b = t^d \{\cos n\phi, \sin n\phi\}` (n = d, d - 2, ... >= 0; d <= D) and the window
:math:`\omega = \cos^2(\pi t / 2)`, the corrected filter is :math:`\psi' = \psi - \omega \sum_b \lambda_b B_b` with
:math:`G \lambda = \sum_q w_q B \psi - \int\!\!\int B \psi \sin r\, dr\, d\phi` and :math:`G_{ab} = \sum_q w_q \omega B_a B_b`.
It is the smallest change, in the norm :math:`\sum w\, (\delta\psi)^2 / \omega`, after which the moments up to degree D are exact
(methods: sphere, 7.3). Without it, :math:`\sum_q w_q \psi(q) \ne \int \psi` leaks the signal's mean into directional
filters and the error does not fall with resolution when the radius is a fixed number of grid spacings.

Few neighbours cannot carry every moment. The moment functions are made orthonormal for the continuous Gram matrix, and
taken degree by degree: a direction of degree d counts only if, after the lower degrees are projected out, the
neighbours still see at least `condition` of its continuous squared norm. So a row loses its highest moments first.
The choice does not depend on the frame, since every degree spans a space that rotations keep. At a radius of two
spacings lat-lon, HEALPix and Fibonacci grids see more than .29 of every direction of degree 2 (the least in the rows at
the poles of Equiangular(poles=True)); degree 3 wants three spacings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, hann

CHUNK = 4_000_000  # float64 numbers held at a time, some 32 MB an array


def moment_functions(t: Tensor, phi: Tensor, degree: int) -> Tensor:
    """The (D + 1)(D + 2) / 2 homogeneous polynomials t^d {cos n phi, sin n phi} up to `degree`, by degree.

    Shape: t, phi (...) -> ((D + 1)(D + 2) / 2, ...).
    """
    cos = [torch.ones_like(phi)] + [torch.cos(n * phi) for n in range(1, degree + 1)]
    sin = [torch.sin(n * phi) for n in range(degree + 1)]
    out = []
    for d in range(degree + 1):
        power = t**d
        for n in range(d, -1, -2):
            out += [power * cos[n], power * sin[n]] if n else [power]
    return torch.stack(out)


def disc_rule(kernel: Kernel, radius: float, nodes: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Quadrature (r, phi, weight) on a spherical cap, split where the kernel has kinks; weights sum to its area."""
    x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(nodes))

    def panels(edges: list[float]) -> tuple[Tensor, Tensor]:
        edge = torch.tensor(sorted(edges), dtype=torch.float64)
        half, middle = edge.diff()[:, None] / 2, (edge[1:] + edge[:-1])[:, None] / 2
        return (middle + half * x).flatten(), (half * w).flatten()

    r, wr = panels([0.0, radius, *(radius * c for c in kernel.radial_kinks)])
    if kernel.angular_kinks:
        phi, wphi = panels([2 * math.pi * a / kernel.angular_kinks for a in range(kernel.angular_kinks + 1)])
    else:
        count = 8 * nodes  # the trapezoidal rule: exact to order 255
        phi, wphi = (
            torch.arange(count, dtype=torch.float64) * (2 * math.pi / count),
            torch.full((count,), 2 * math.pi / count),
        )
    shape = (len(r), len(phi))
    weight = (wr * torch.sin(r))[:, None] * wphi.to(torch.float64)
    return r[:, None].expand(shape).flatten(), phi.expand(shape).flatten(), weight.flatten()


@lru_cache(maxsize=128)
def continuous_moments(kernel: Kernel, radius: float, degree: int) -> tuple[Tensor, Tensor]:
    r"""Integrals of moment function times kernel over the cap, and the Gram matrix of the moment functions under the window.

    Shape: -> moments (m, K), Gram matrix (m, m), float64. Cached by value; do not modify.
    """
    r, phi, weight = disc_rule(kernel, radius)
    functions = moment_functions(r / radius, phi, degree)
    return (functions * weight) @ kernel(r, phi, radius).T, (
        functions * (weight * hann(r / radius))
    ) @ functions.T


def correct_moments(
    values: Tensor,
    r: Tensor,
    phi: Tensor,
    weights: Tensor,
    indptr: Tensor,
    kernel: Kernel,
    radius: float,
    degree: int,
    *,
    condition: float = 0.1,
) -> Tensor:
    """Filter values whose moments up to `degree`, summed over each row's neighbours, are the continuous ones.

    Shape: values (K, nnz), r, phi, weights (nnz,), indptr (P + 1,) -> (K, nnz) float64.
    Units: radians; weights are areas on the unit sphere. `condition` in (0, 1): see the module's text.
    Raises: ValueError for sizes that do not fit, a radius outside (0, pi] or a negative degree.
    """
    check_count("degree", degree, 0)
    if not 0 < radius <= math.pi:
        raise ValueError(f"radius is {radius}, expected an angle in (0, pi]")
    nnz = int(indptr[-1])
    if values.shape != (kernel.num_functions, nnz) or any(a.shape != (nnz,) for a in (r, phi, weights)):
        got = [tuple(a.shape) for a in (values, r, phi, weights)]
        raise ValueError(
            f"values, r, phi, weights have shapes {got}; expected ({kernel.num_functions}, {nnz}) and ({nnz},)"
        )
    t, angle = r.to(torch.float64) / radius, phi.to(torch.float64)
    seen = lambda index: moment_functions(t[index], angle[index], degree)  # noqa: E731
    return correct_sums(values, seen, hann(t), weights, indptr, kernel, radius, degree, condition)


def correct_sums(
    values: Tensor,
    functions: Callable[[Tensor], Tensor],
    window: Tensor,
    weights: Tensor,
    indptr: Tensor,
    kernel: Kernel,
    radius: float,
    degree: int,
    condition: float = 0.1,
) -> Tensor:
    """:func:`correct_moments` for terms that see whatever moment functions, such as their means over several samples.

    Shape: values (K, nnz), window and weights (nnz,), indptr (P + 1,) -> (K, nnz) float64; ``functions`` gives the moment
    functions of some terms, index (...) -> (m, ...).
    """
    moments, gram = continuous_moments(kernel, float(radius), degree)
    whiten = torch.linalg.inv(torch.linalg.cholesky(gram)).to(
        values.device
    )  # lower triangular: degrees stay nested
    target = whiten @ moments.to(values.device)
    out = values.to(torch.float64, copy=True)
    counts = indptr.diff()
    order = counts.argsort(descending=True, stable=True)  # rows of like length share a chunk: little padding
    start, width = 0, 4 * (whiten.shape[0] + kernel.num_functions)
    while start < len(order) and (longest := int(counts[order[start]])) > 0:
        rows = order[start : start + max(1, CHUNK // (width * longest))]
        start += len(rows)
        slot = torch.arange(longest, device=indptr.device)
        valid = slot < counts[rows][:, None]  # (rows, longest)
        index = torch.where(valid, indptr[rows][:, None] + slot, 0)
        basis = (whiten @ functions(index).flatten(1)).unflatten(1, index.shape)
        basis = basis.permute(1, 2, 0)  # (rows, longest, m)
        weighted = basis * torch.where(valid, weights[index].to(torch.float64), 0.0)[..., None]
        current = out[:, index].permute(1, 2, 0)  # (rows, longest, K)
        residual = weighted.mT @ current - target  # (rows, m, K)
        windowed = basis * window[index][..., None]
        solution = _solve_by_degree(weighted.mT @ windowed, residual, degree, condition)
        out[:, index[valid]] = (current - windowed @ solution)[valid].T
    return out


def _solve_by_degree(gram: Tensor, residual: Tensor, degree: int, condition: float) -> Tensor:
    """Solve G x = b on the directions that pass `condition`, lower degrees first: (rows, m, m), (rows, m, K) -> (rows, m, K)."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    kept = gram.new_zeros(
        *gram.shape[:-1], 0
    )  # G-orthonormal columns; a rejected direction is a column of zeros
    for d in range(degree + 1):
        block = identity[..., d * (d + 1) // 2 : (d + 1) * (d + 2) // 2]
        free = block - kept @ (kept.mT @ (gram @ block))
        size, vectors = torch.linalg.eigh(free.mT @ gram @ free)
        scale = torch.where(size >= condition, size, torch.inf).rsqrt()
        kept = torch.cat([kept, free @ vectors * scale[..., None, :]], dim=-1)
    return kept @ (kept.mT @ residual)

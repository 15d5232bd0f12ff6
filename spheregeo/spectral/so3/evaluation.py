r"""Functions on SO(3) given by coefficients, at any rotations, and on all rotations of an :class:`SO3HEALPix` by factors.

On the grid h(F R_z(ψ)) = Σ_n [cos nψ Σ_lm h^l_mn D^l_mn(F) + sin nψ Σ_lm h^l_mn D^l_m,−n(F)]: one product for each pixel and
order in place of one for each rotation, and no table of all rotations' Wigner matrices (4 GB at nside 32 and degree 6).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.harmonics import packed_wigner, unpack_wigner
from spheregeo.spectral.so3.healpix import SO3HEALPix

PIXELS = 1024  # pixels whose tables are made at once
KEPT = 1 << 24  # bytes of tables that are kept
ROTATIONS = 1 << 13  # rotations whose matrices are made at once


def so3_degree(size: int) -> int:
    """Return the largest degree of functions on SO(3) with so many coefficients. Raises: ValueError where none has."""
    lmax = 0
    while (lmax + 1) * (2 * lmax + 1) * (2 * lmax + 3) // 3 < size:
        lmax += 1
    if (lmax + 1) * (2 * lmax + 1) * (2 * lmax + 3) // 3 != size:
        raise ValueError(
            f"coefficients has {size} numbers on its last axis; expected Σ (2l + 1)², 1, 10, 35, 84 ..."
        )
    return lmax


def so3_matrices(rotations: Tensor, lmax: int) -> Tensor:
    """Real Wigner matrices of rotations that turn real harmonics, S_l(R x) = D^l(R) S_l(x), degree by degree, row by row.

    Args:
        rotations: the rotations.
        lmax: largest degree.

    Shape: (..., 3, 3) -> (..., Σ (2l + 1)²), of the rotations' dtype.
    """
    return packed_wigner(rotations.roll((-1, -1), (-2, -1)), lmax)  # (x, y, z) -> (y, z, x), the polar axis y


def evaluate_so3(coefficients: Tensor, rotations: Tensor) -> Tensor:
    """Return the values of functions on SO(3) at rotations: h(R) = Σ h^l_mn D^l_mn(R).

    Args:
        coefficients: of each function.
        rotations: those of each function, or the same for all if they have no axis for functions beyond size 1.

    Shape: (B, Σ (2l + 1)²) and (B or 1, N, 3, 3) -> (B, N).
    Raises: ValueError for sizes that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import SO3HEALPix, evaluate_so3
        >>> evaluate_so3(torch.randn(2, 35), SO3HEALPix(1).rotations.float()[None]).shape
        torch.Size([2, 72])
    """
    lmax = so3_degree(coefficients.shape[-1])
    if (
        rotations.ndim != 4
        or rotations.shape[-2:] != (3, 3)
        or rotations.shape[0] not in (1, len(coefficients))
    ):
        raise ValueError(
            f"rotations has shape {tuple(rotations.shape)}; expected ({len(coefficients)} or 1, N, 3, 3) for "
            f"coefficients of shape {tuple(coefficients.shape)}"
        )
    if len(rotations) == 1:
        return torch.cat(
            [
                coefficients @ so3_matrices(part, lmax).to(coefficients.dtype).T
                for part in rotations[0].to(coefficients.dtype).split(ROTATIONS)
            ],
            -1,
        )
    each = max(1, ROTATIONS // max(1, len(rotations)))
    parts = [
        torch.einsum("bc,bnc->bn", coefficients, so3_matrices(part, lmax))
        for part in rotations.to(coefficients.dtype).split(each, 1)
    ]
    return torch.cat(parts, -1) if parts else coefficients.new_zeros(len(coefficients), 0)


def synthesise_on(coefficients: Tensor, grid: SO3HEALPix) -> Tensor:
    """Return the values of functions on SO(3) at all rotations of a grid.

    Args:
        coefficients: of each function.
        grid: the rotations.

    Shape: (B, Σ (2l + 1)²) -> (B, 72 nside³).
    Raises: ValueError for a size that no degree has.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import SO3HEALPix, synthesise_on
        >>> synthesise_on(torch.randn(2, 35), SO3HEALPix(2)).shape
        torch.Size([2, 576])
    """
    return torch.cat(list(synthesise_blocks(coefficients, grid)), -1)


def synthesise_blocks(coefficients: Tensor, grid: SO3HEALPix) -> Iterator[Tensor]:
    """Give the values of :func:`synthesise_on` some pixels at a time, so that they need never be in memory together."""
    lmax = so3_degree(coefficients.shape[-1])
    waves = _waves(grid, lmax, coefficients)
    where = _columns(lmax)
    for first in range(0, grid.shape[0], PIXELS):
        tables = _tables(grid, lmax, first, coefficients)
        sums = []
        for order, (index, (cosine, sine)) in enumerate(zip(where, tables, strict=True)):
            some = coefficients[:, index.to(coefficients.device)]
            sums.append(some @ cosine)
            if order:
                sums.append(some @ sine)
        yield (torch.stack(sums, -1) @ waves).flatten(1)


def _waves(grid: SO3HEALPix, lmax: int, like: Tensor) -> Tensor:
    """1, cos ψ, sin ψ, cos 2ψ ... of the grid's turns. Shape: (2 lmax + 1, 6 nside)."""
    rows = [torch.ones_like(grid.turns)]
    for order in range(1, lmax + 1):
        rows += [torch.cos(order * grid.turns), torch.sin(order * grid.turns)]
    return torch.stack(rows).to(like)


def _columns(lmax: int) -> list[Tensor]:
    """Numbers of the coefficients whose right index is ±n, by n: those of +n, then those of −n."""
    found: list[list[int]] = [[] for _ in range(lmax + 1)]
    offsets = np.concatenate([[0], np.cumsum((2 * np.arange(lmax + 1) + 1) ** 2)])
    for order in range(lmax + 1):
        for sign in (1, -1)[: 1 + (order > 0)]:
            for degree in range(order, lmax + 1):
                size = 2 * degree + 1
                found[order] += [int(offsets[degree]) + m * size + degree + sign * order for m in range(size)]
    return [torch.tensor(numbers) for numbers in found]


def _tables(grid: SO3HEALPix, lmax: int, first: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each order n, what coefficients of ±n add to cos nψ and sin nψ at pixels from ``first`` on. Shape: (K, pixels)
    twice.
    """

    def make() -> list[tuple[Tensor, Tensor]]:
        frames = grid.frames[first : first + PIXELS]
        blocks = unpack_wigner(so3_matrices(frames, lmax))
        found = []
        for order in range(lmax + 1):
            above = [(blocks[degree], degree) for degree in range(order, lmax + 1)]
            plus = torch.cat([block[:, :, degree + order] for block, degree in above], 1)
            if not order:
                found.append((plus.T.to(like).contiguous(), plus.new_zeros(0).to(like)))
                continue
            minus = torch.cat([block[:, :, degree - order] for block, degree in above], 1)
            cosine, sine = torch.cat([plus, minus], 1), torch.cat([minus, -plus], 1)
            found.append((cosine.T.to(like).contiguous(), sine.T.to(like).contiguous()))
        return found

    size = 2 * grid.shape[0] * sum((2 * degree + 1) ** 2 for degree in range(lmax + 1)) * like.element_size()
    if size > KEPT:
        with torch.inference_mode(False), torch.no_grad():
            return make()
    return geometry.get(("so3 on healpix", grid, lmax, first, like.dtype, like.device), make)

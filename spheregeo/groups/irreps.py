r"""Irreducible representations of finite groups, found numerically from the multiplication table, and Fourier transforms.

The left translations of functions on G commute with the right ones. A random Hermitian combination of right translations
therefore has eigenspaces that left translations keep, and in general nothing smaller is kept: each eigenspace carries one
irreducible representation ρ, and each ρ occurs d_ρ times. No table of characters is needed.

    f^(ρ) = Σ_g f(g) ρ(g),      f(g) = |G|⁻¹ Σ_ρ d_ρ tr(f^(ρ) ρ(g⁻¹)),      (f * k)^ = f^ k^,  (f * k)(u) = Σ_v f(u v⁻¹) k(v).

Reference: Serre 1977, Linear Representations of Finite Groups; Dixon 1970, Math. Comp. 24, 707 (numerical decomposition).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.groups.abstract import FiniteGroup

SEEDS = 8
GAP = 1e-6  # relative distance of eigenvalues that are taken for different ones


def irreps(group: str | FiniteGroup, *, real: bool = False) -> list[Tensor]:
    """Return one unitary matrix representation of each class of irreducible ones, the trivial one first, then by dimension.

    Args:
        group: the group, or its name.
        real: irreducible over the real numbers, with orthogonal matrices. A pair of conjugate complex representations then is
            one of twice the dimension, and a quaternionic one has twice its dimension, too.

    Shape: (n, d, d) each, complex128, or float64 if ``real``; Σ d² = n over the complex ones.
    Raises: ValueError for another name.

    Example:
        >>> from spheregeo.groups import irreps
        >>> [rho.shape[1] for rho in irreps("A5")]
        [1, 3, 3, 4, 5]
    """
    group = FiniteGroup.of(group)
    dtype = torch.float64 if real else torch.complex128
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(group.order, dtype=dtype, generator=generator)
        weight = weight + weight[group.inverse].conj()
        # M[u, w] = weight(w⁻¹u): a sum of right translations, Hermitian
        values, vectors = torch.linalg.eigh(weight[group.relative].T)
        cuts = ((values.diff() > GAP * values.abs().max()).nonzero().flatten() + 1).tolist()
        spaces = [vectors[:, a:b] for a, b in zip([0, *cuts], [*cuts, group.order], strict=True)]
        found = _different([_restricted(group, space) for space in spaces])
        if real or sum(rho.shape[1] ** 2 for rho in found) == group.order:
            return sorted(
                found, key=lambda rho: (rho.shape[1], -float(_character(rho).real.sum()) / group.order)
            )
    raise RuntimeError(
        f"no decomposition of {group!r} in {SEEDS} draws"
    )  # eigenvalues that coincide by chance, each time


def _restricted(group: FiniteGroup, space: Tensor) -> Tensor:
    """Left translations on a space that they keep: ρ(g) = V^H L(g) V, (L(g) f)(u) = f(g⁻¹u)."""
    moved = space[group.relative]  # [g, u, d]
    return torch.einsum("ua,gub->gab", space.conj(), moved)


def _character(rho: Tensor) -> Tensor:
    return torch.einsum("gii->g", rho).to(torch.complex128)


def _different(found: Sequence[Tensor]) -> list[Tensor]:
    """One of each class: equal characters mean equal representations."""
    kept: list[Tensor] = []
    for rho in found:
        if all(
            rho.shape != other.shape or (_character(rho) - _character(other)).abs().max() > 1e-6
            for other in kept
        ):
            kept.append(rho)
    return kept


def group_fourier(values: Tensor, representations: Sequence[Tensor]) -> list[Tensor]:
    """Return the Fourier transform f^(ρ) = Σ_g f(g) ρ(g) of functions on a group.

    Args:
        values: the functions.
        representations: the matrices of each ρ, as :func:`irreps` returns them.

    Shape: values (*, n) -> (*, d, d) for each representation.
    Raises: ValueError for values of another group.
    """
    if values.shape[-1] != len(representations[0]):
        raise ValueError(
            f"values have {values.shape[-1]} numbers on their last axis; expected {len(representations[0])}, one for each element"
        )
    return [torch.einsum("...g,gij->...ij", values.to(rho), rho) for rho in representations]


def inverse_group_fourier(transforms: Sequence[Tensor], representations: Sequence[Tensor]) -> Tensor:
    """Return the functions f(g) = |G|⁻¹ Σ_ρ d_ρ tr(f^(ρ) ρ(g⁻¹)) of Fourier transforms over all complex representations.

    Args:
        transforms: f^(ρ) of each representation.
        representations: the matrices of each ρ, unitary.

    Shape: (*, d, d) each -> (*, n), complex.
    """
    order = len(representations[0])
    parts = [
        rho.shape[1] * torch.einsum("...ij,gij->...g", t, rho.conj())
        for t, rho in zip(transforms, representations, strict=True)
    ]
    return torch.stack(parts).sum(0) / order


def convolution_matrix(values: Tensor, group: str | FiniteGroup) -> Tensor:
    """Return the matrix C[u, w] = f(u w⁻¹) of the convolution with a function on a group: (f * k)(u) = Σ_w C[u, w] k(w).

    Args:
        values: the function f.
        group: the group, or its name.

    Shape: values (*, n) -> (*, n, n). Raises: ValueError for values of another group.
    """
    group = FiniteGroup.of(group)
    if values.shape[-1] != group.order:
        raise ValueError(
            f"values have {values.shape[-1]} numbers on their last axis; expected {group.order} for {group.name}"
        )
    return values[..., group.table[:, group.inverse].to(values.device)]


def fourier_singular_values(values: Tensor, group: str | FiniteGroup) -> Tensor:
    """Return the singular values of all Fourier blocks f^(ρ), each d_ρ times, descending; no representation is needed.

    They are the singular values of :func:`convolution_matrix`, which the representations bring into blocks.

    Args:
        values: the function f.
        group: the group, or its name.

    Shape: values (*, n) -> (*, n), real.
    """
    return torch.linalg.svdvals(convolution_matrix(values, group))


def schatten_norm(values: Tensor, group: str | FiniteGroup, p: float) -> Tensor:
    """Return the Schatten norm (Σ_ρ d_ρ Σ_i σ_i(f^(ρ))^p)^(1/p) of functions on a group in the group's Fourier basis.

    Args:
        values: the functions f.
        group: the group, or its name.
        p: exponent above 0; below 1 the expression is no norm but still measures sparsity.

    Shape: values (*, n) -> (*). Raises: ValueError for p at 0 or below.
    Reference: Lawrence, Georgiev, Dienes & Kiani 2022, arXiv 2110.06084, whose linear group networks minimise p = 2/L.
    """
    if p <= 0:
        raise ValueError(f"p is {p}; expected a number above 0")
    return fourier_singular_values(values, group).pow(p).sum(-1).pow(1 / p)

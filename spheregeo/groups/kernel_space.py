r"""Equivariant kernels counted numerically, from the constraint alone.

    K(theta - g) = rho_out(-g) K(theta) rho_in(g)  for all g,      with reflections also K(-theta) = S_out K(theta) S_in.

Every solution is rho_out(theta) W rho_in(-theta) with some matrix W, restricted by ``reflection_mask``; the functions below
do not use that, and so confirm it. K is sought as a trigonometric polynomial of higher order than any solution has.
Reference: Cohen, Geiger & Weiler 2019, arXiv:1811.02017; de Haan, Weiler, Cohen & Welling 2021,
arXiv:2003.05425.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.groups.fields import FieldType


def kernel_space(
    in_type: str | FieldType,
    out_type: str | FieldType,
    *,
    reflections: bool = False,
    centre: bool = False,
    margin: int = 1,
) -> Tensor:
    """Orthonormal basis of the angular kernels that the constraint allows, as Fourier coefficients.

    ``centre`` asks for the kernel at r = 0, where θ has no meaning: constant, and equal to its own transform.
    ``margin`` orders are added to the highest frequency a solution can have; they must come out empty.

    Shape: (dimension, frequencies 2F + 1 as [0, c1, s1, …], dim_out, dim_in) float64, F = M_in + M_out + margin, 0 at the
    centre. Raises: ValueError for types that cannot be read.
    """
    inside, outside = FieldType.of(in_type), FieldType.of(out_type)
    top = 0 if centre else inside.max_order + outside.max_order + margin
    basis = 2 * top + 1
    size = basis * outside.dim * inside.dim
    generator = torch.Generator().manual_seed(0)
    # enough random (theta, g) that the equations outnumber the unknowns twice
    theta = torch.rand(2 * basis + 2, dtype=torch.float64, generator=generator) * 2 * math.pi
    g = torch.rand(len(theta), dtype=torch.float64, generator=generator) * 2 * math.pi
    left, right = outside.representation(-g), inside.representation(g)
    equal = torch.eye(outside.dim * inside.dim, dtype=torch.float64)
    turned = torch.einsum("nab,ncd->nadbc", left, right).reshape(len(g), *equal.shape)
    # rows (n, entry of K), columns (frequency, entry of K)
    rows = torch.einsum("nf,ij->nifj", _waves(theta - g, top), equal) - torch.einsum(
        "nf,nij->nifj", _waves(theta, top), turned
    )
    equations = [rows.reshape(-1, size)]
    if reflections:
        signs = torch.outer(torch.tensor(outside.signs), torch.tensor(inside.signs)).double().flatten()
        rows = torch.einsum("nf,ij->nifj", _waves(-theta, top), equal) - torch.einsum(
            "nf,ij->nifj", _waves(theta, top), torch.diag(signs)
        )
        equations.append(rows.reshape(-1, size))
    _, singular, vectors = torch.linalg.svd(torch.cat(equations), full_matrices=False)
    null = vectors[singular < 1e-8 * max(float(singular.max()), 1.0)]
    return null.reshape(-1, basis, outside.dim, inside.dim)


def kernel_space_dimension(
    in_type: str | FieldType, out_type: str | FieldType, *, reflections: bool = False, centre: bool = False
) -> int:
    """Number of independent angular kernels that the constraint allows, found numerically.

    For SO(2) it is dim_out · dim_in, and at the centre 2 for each pair of fields of equal order ≥ 1, 1 for each pair of
    scalars; with ``reflections``, the number of True entries of ``reflection_mask``.

    Raises: ValueError for types that cannot be read.
    """
    return len(kernel_space(in_type, out_type, reflections=reflections, centre=centre))


def _waves(angle: Tensor, top: int) -> Tensor:
    """[1, cos θ, sin θ, cos 2θ, …]. Shape: (n,) -> (n, 2 top + 1)."""
    waves = [torch.ones_like(angle)]
    for n in range(1, top + 1):
        waves += [torch.cos(n * angle), torch.sin(n * angle)]
    return torch.stack(waves, -1)

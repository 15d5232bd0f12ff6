r"""What is done with functions on SO(3) given by their coefficients h^l_mn: correlation, convolution, projection, characters.

All follow from ∫ D^l_mn D^l_pq dR = 8π²/(2l + 1) δ_mp δ_nq, D(Q⁻¹) = D(Q)ᵀ, and D^l_m0(R) = √(4π/(2l + 1)) S_lm(R e_z).
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.harmonics import unpack_wigner


def correlate_sphere(f: Tensor, psi: Tensor) -> Tensor:
    """Correlation of two fields on the sphere, a function on SO(3): (f ⋆ ψ)(R) = ∫ f(x) ψ(R⁻¹ x) dx, h^l_mn = f_lm ψ_ln.

    Args:
        f: coefficients of the field.
        psi: coefficients of the filter.

    Shape: (..., (lmax + 1)²) twice, leading axes broadcast -> (..., Σ_l (2l + 1)²), as :class:`InverseSO3Transform` has them.
    Equivariance: exact, (Q f) ⋆ ψ is (f ⋆ ψ)(Q⁻¹ R).
    Raises: ValueError for sizes that differ or are none.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import correlate_sphere
        >>> correlate_sphere(torch.randn(4, 9), torch.randn(9)).shape
        torch.Size([4, 35])
    """
    lmax = math.isqrt(f.shape[-1]) - 1 if f.ndim else -1
    if not f.ndim or f.shape[-1:] != psi.shape[-1:] or (lmax + 1) ** 2 != f.shape[-1] or lmax < 0:
        raise ValueError(
            f"f has shape {tuple(f.shape)} and psi {tuple(psi.shape)}; expected (..., (lmax + 1)²) of one lmax"
        )
    sizes = [2 * degree + 1 for degree in range(lmax + 1)]
    pairs = zip(f.split(sizes, -1), psi.split(sizes, -1), strict=True)
    return torch.cat([(a[..., :, None] * b[..., None, :]).flatten(-2) for a, b in pairs], -1)


def convolve_so3(h: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of two functions on SO(3): (h ∗ k)(R) = ∫ h(Q) k(Q⁻¹ R) dQ, with matrices 8π²/(2l + 1) h^l k^l.

    Args:
        h: coefficients of the function.
        kernel: coefficients of the kernel.

    Shape: (..., Σ_l (2l + 1)²) twice, leading axes broadcast -> the same.
    Equivariance: exact; rotations of h from the left pass through.
    Raises: ValueError for sizes that differ or are none.
    """
    return _products(h, kernel, transpose=False)


def correlate_so3(h: Tensor, psi: Tensor) -> Tensor:
    """Correlation of two functions on SO(3): (h ⋆ ψ)(R) = ∫ h(Q) ψ(R⁻¹ Q) dQ, with matrices 8π²/(2l + 1) h^l ψ^lᵀ.

    Args:
        h: coefficients of the function.
        psi: coefficients of the filter.

    Shape: (..., Σ_l (2l + 1)²) twice, leading axes broadcast -> the same.
    Equivariance: exact; rotations of h from the left pass through.
    Raises: ValueError for sizes that differ or are none.
    """
    return _products(h, psi, transpose=True)


def _products(left: Tensor, right: Tensor, transpose: bool) -> Tensor:
    parts = []
    for degree, (a, b) in enumerate(zip(unpack_wigner(left), unpack_wigner(right), strict=True)):
        parts.append((a @ (b.mT if transpose else b)).flatten(-2) * (8 * math.pi**2 / (2 * degree + 1)))
    return torch.cat(parts, -1)


def project_to_sphere(h: Tensor) -> Tensor:
    """The field x ↦ mean of h over the rotations that take the north pole to x: its coefficients are √(4π/(2l + 1)) h^l_m0.

    On a grid of angles that mean is the one over γ, for (β, α) are colatitude and longitude of ``Equiangular(2b, 2b)``; the
    maximum over γ is an equivariant projection as well, up to sampling.

    Args:
        h: coefficients of the function.

    Shape: (..., Σ_l (2l + 1)²) -> (..., (lmax + 1)²).
    Equivariance: exact.
    Raises: ValueError for a size that no lmax has.
    """
    blocks = unpack_wigner(h)
    return torch.cat(
        [
            block[..., degree] * math.sqrt(4 * math.pi / (2 * degree + 1))
            for degree, block in enumerate(blocks)
        ],
        -1,
    )


def integrate_so3(h: Tensor) -> Tensor:
    """The integral over SO(3), whose volume is 8π²: 8π² h^0_00. Shape: coefficients (..., size) -> (...)."""
    return h[..., 0] * (8 * math.pi**2)


def characters(angle: Tensor, lmax: int) -> Tensor:
    """Characters χ_l(ω) = sin((2l + 1)ω/2)/sin(ω/2), the traces of D^l of rotations by ω, about any axis.

    Args:
        angle: ω.
        lmax: largest degree.

    Shape: (...) -> (..., lmax + 1).
    Units: radians.
    Raises: ValueError for a negative lmax.
    """
    orders = torch.arange(check_count("lmax", lmax, 0) + 1, device=angle.device)
    waves = torch.cos(angle[..., None] * orders)  # 1 + 2 Σ_{m ≤ l} cos mω
    return 2 * waves.cumsum(-1) - 1


def class_function(spectrum: Tensor) -> Tensor:
    """Coefficients of Σ_l a_l χ_l, the functions of a rotation's angle alone: h^l_mn = a_l δ_mn.

    Args:
        spectrum: a_l.

    Shape: (..., lmax + 1) -> (..., Σ_l (2l + 1)²).
    """
    parts = []
    for degree, a in enumerate(spectrum.unbind(-1)):
        identity = torch.eye(2 * degree + 1, dtype=spectrum.dtype, device=spectrum.device)
        parts.append(a[..., None] * identity.flatten())
    return torch.cat(parts, -1)

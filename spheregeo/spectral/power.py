"""Angular power spectra of coefficients, auto and cross, of whole and of masked skies; monopole and dipole removal.

The spectrum of two fields is C_l = Σ_m a_lm b_lm / (2l + 1) over real orthonormal coefficients, which equals the usual sum over
complex ones. A full-sky map of variance C_l per coefficient has the expected spectrum C_l.
Reference: Hivon et al. 2002, ApJ 567 (masked skies).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.spectral.operators import degrees, largest_degree

__all__ = [
    "e_and_b",
    "polarisation_spectra",
    "power_spectrum",
    "pseudo_power_spectrum",
    "remove_multipoles",
    "scale_degrees",
]


def scale_degrees(coefficients: Tensor, factors: Tensor) -> Tensor:
    """Multiply coefficients by one factor per degree: what an isotropic filter does to a field.

    Args:
        coefficients: coefficients of fields.
        factors: factor of each degree; degrees beyond the last factor become 0.

    Shape: (..., (lmax + 1)²) and (..., L) -> (..., (lmax + 1)²), leading axes broadcast.
    Equivariance: exact.
    Raises: ValueError where ``coefficients`` have no lmax.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import scale_degrees
        >>> scale_degrees(torch.ones(4), torch.tensor([1.0, 0.5]))
        tensor([1.0000, 0.5000, 0.5000, 0.5000])
    """
    lmax = largest_degree(coefficients)
    factors = factors.to(coefficients)[..., : lmax + 1]
    missing = lmax + 1 - factors.shape[-1]
    if missing:
        factors = torch.nn.functional.pad(factors, (0, missing))
    return coefficients * factors[..., degrees(lmax).to(coefficients.device)]


def power_spectrum(coefficients: Tensor, other: Tensor | None = None) -> Tensor:
    """Power spectrum of coefficients, or cross spectrum of two fields' coefficients: Σ_m a_lm conj(b_lm)/(2l + 1).

    Args:
        coefficients: coefficients of the first field.
        other: coefficients of the second field; the first field's if None.

    Shape: (..., (lmax + 1)²), twice -> (..., lmax + 1); leading axes broadcast.
    Units: the product of the fields' units.
    Equivariance: invariant, exactly.
    Raises: ValueError where the last axes differ or are no square.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import power_spectrum
        >>> power_spectrum(torch.ones(9))
        tensor([1., 1., 1.])
    """
    second = coefficients if other is None else other
    lmax = largest_degree(coefficients)
    if largest_degree(second) != lmax:
        raise ValueError(f"other has lmax {largest_degree(second)} but coefficients have lmax {lmax}")
    product = coefficients * second.conj()
    if other is None:
        product = product.real  # as it is, for real coefficients
    sums = product.new_zeros(*product.shape[:-1], lmax + 1)
    index = degrees(lmax).to(product.device)
    sums = sums.index_add(-1, index, product)
    return sums / (2 * torch.arange(lmax + 1, device=product.device, dtype=product.real.dtype) + 1)


def e_and_b(polarisation: Tensor) -> Tensor:
    """E and B coefficients in healpy's sense from the gradient and curl coefficients of (Q, U), or the other way round.

    Q and U in the COSMO convention are the components of a tangent field of order 2 in the frame (south, east), so that
    ``SHT(grid, lmax, spin=2)`` takes them as they are; E is its gradient part and B minus its curl part. In the IAU convention
    U has the other sign, and has to be turned first.

    Args:
        polarisation: gradient and curl coefficients, or E and B.

    Shape: (..., 2, (lmax + 1)²) -> the same.
    Raises: ValueError where there is no axis of two.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import e_and_b
        >>> e_and_b(torch.ones(2, 1)).flatten()
        tensor([ 1., -1.])
    """
    if polarisation.ndim < 2 or polarisation.shape[-2] != 2:
        raise ValueError(
            f"polarisation has shape {tuple(polarisation.shape)}; expected (..., 2, (lmax + 1)²)"
        )
    return torch.stack([polarisation[..., 0, :], -polarisation[..., 1, :]], -2)


def polarisation_spectra(intensity: Tensor, polarisation: Tensor) -> dict[str, Tensor]:
    """The six spectra of intensity and polarisation, by name: TT, EE, BB, TE, EB, TB.

    Args:
        intensity: coefficients of the intensity.
        polarisation: E and B coefficients, as :func:`e_and_b` makes them.

    Shape: (..., (lmax + 1)²) and (..., 2, (lmax + 1)²) -> (..., lmax + 1) each.
    Units: the square of the maps' unit.
    Raises: ValueError where ``polarisation`` has no axis of two.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import polarisation_spectra
        >>> list(polarisation_spectra(torch.ones(9), torch.ones(2, 9)))
        ['TT', 'EE', 'BB', 'TE', 'EB', 'TB']
    """
    if polarisation.ndim < 2 or polarisation.shape[-2] != 2:
        raise ValueError(
            f"polarisation has shape {tuple(polarisation.shape)}; expected (..., 2, (lmax + 1)²)"
        )
    e, b = polarisation.unbind(-2)
    pairs = {
        "TT": (intensity, intensity), "EE": (e, e), "BB": (b, b), "TE": (intensity, e), "EB": (e, b), "TB": (intensity, b),
    }  # fmt: skip
    return {name: power_spectrum(*pair) for name, pair in pairs.items()}


def remove_multipoles(x: Tensor, grid: Grid, lmax: int = 1, mask: Tensor | None = None) -> Tensor:
    """Subtract the monopole and the dipole, or more degrees, fitted to the unmasked part of a field by area.

    Args:
        x: fields; masked values may be NaN and stay what they are.
        grid: the fields' grid.
        lmax: largest degree that is removed: 0 for the monopole, 1 for the dipole too.
        mask: weight of each point, 0 where the field is not to be looked at; all points alike if None.

    Shape: x (..., *grid.shape), mask (*grid.shape) -> (..., *grid.shape).
    Equivariance: exact where the mask turns with the field, up to quadrature.
    Raises: ValueError for a mask of another shape, or one that leaves too few points.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import remove_multipoles
        >>> float(remove_multipoles(torch.full((192,), 5.0), HEALPix(4)).abs().max()) < 1e-5
        True
    """
    from spheregeo.harmonics import real_harmonics

    if tuple(x.shape[-len(grid.shape) :]) != tuple(grid.shape):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (..., {', '.join(map(str, grid.shape))}) on {grid!s}"
        )
    harmonics = real_harmonics(grid.points, lmax).to(x.device)  # (N, (lmax + 1)²) float64
    weights = grid.areas.to(x.device)
    if mask is not None:
        if tuple(mask.shape) != tuple(grid.shape):
            raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(grid.shape)}")
        weights = weights * mask.to(weights).flatten()
    values = x.flatten(x.ndim - len(grid.shape)).double()
    values = torch.where(weights > 0, values, 0.0)  # NaN behind a mask
    weighted = harmonics * weights[:, None]
    gram = weighted.mT @ harmonics
    if int(torch.linalg.matrix_rank(gram, hermitian=True)) < len(gram):
        raise ValueError(
            f"mask leaves too few points to fit {len(gram)} harmonics; expected more of the sphere"
        )
    fitted = torch.linalg.solve(gram, (values @ weighted)[..., None])[..., 0]
    return x - (fitted @ harmonics.T).unflatten(-1, grid.shape).to(x.dtype)


def pseudo_power_spectrum(
    x: Tensor, mask: Tensor, transform: Callable[[Tensor], Tensor], grid: Grid, other: Tensor | None = None
) -> Tensor:
    """Spectrum of a masked field over the share of the sky: an estimate that mixes neighbouring degrees of narrow masks.

    The field times the mask is transformed, and its spectrum divided by the mean of the squared mask, which is right on average
    for spectra that vary slowly over the mask's own width in l.

    Args:
        x: fields; values where the mask is 0 may be NaN.
        mask: weight of each point, in [0, 1].
        transform: analysis on the fields' grid, such as :class:`SHT`.
        grid: the fields' grid.
        other: further fields, for a cross spectrum; x if None.

    Shape: x (..., *grid.shape), mask (*grid.shape) -> (..., lmax + 1).
    Units: the product of the fields' units.
    Raises: ValueError for a mask of another shape, or one that is 0 everywhere.
    Reference: Hivon et al. 2002, eq. 16 for a mode-coupling matrix replaced by its mean.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import SHT, pseudo_power_spectrum
        >>> grid = GaussLegendre(9, 18)
        >>> pseudo_power_spectrum(torch.randn(9, 18), torch.ones(9, 18), SHT(grid, 8), grid).shape
        torch.Size([9])
    """
    if tuple(mask.shape) != tuple(grid.shape):
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(grid.shape)}")
    areas = grid.areas.to(mask.device).reshape(grid.shape)
    share = float((mask.double().square() * areas).sum() / areas.sum())
    if share <= 0:
        raise ValueError("mask is 0 everywhere; expected weights of which some are positive")
    weights = mask.to(x.dtype)

    def transformed(field: Tensor) -> Tensor:
        return transform(torch.where(weights > 0, field * weights, torch.zeros_like(field)))

    first = transformed(x)
    return power_spectrum(first, None if other is None else transformed(other)) / share

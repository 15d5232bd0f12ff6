"""What multiplies each degree of a sky: beams, pixels, and Wiener filters, the linear isotropic filters of least error.

For a Gaussian isotropic signal of spectrum C_l in independent noise of spectrum N_l, no function of the map has a smaller error
than the multiplication of degree l by C_l/(C_l + N_l). For other fields the filter is the best of the linear isotropic ones.
Reference: Tegmark & Efstathiou 1996, MNRAS 281 (filters of several bands).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.grids import Grid, HEALPix
from spheregeo.spectral.power import power_spectrum, scale_degrees
from spheregeo.spectral.sht import SHT, InverseSHT

__all__ = ["WienerFilter", "fit_wiener_gains", "gaussian_beam", "pixel_window", "wiener_gains"]

SAMPLED = 16  # the largest nside all of whose pixels are looked at; finer grids are represented by as many


def gaussian_beam(fwhm: float, lmax: int, spin: int = 0) -> Tensor:
    """Factor by which a Gaussian beam multiplies coefficients of each degree: exp(−(l(l + 1) − s²) σ²/2).

    Args:
        fwhm: full width of the beam at half its height, √(8 ln 2) σ.
        lmax: largest degree.
        spin: 0 for scalars, 2 for polarisation.

    Shape: (lmax + 1,) float64; 0 below the spin.
    Units: fwhm in radians.
    Raises: ValueError for a negative width.
    Reference: Challinor et al. 2000, arXiv astro-ph/0008228.

    Example:
        >>> from spheregeo.spectral import gaussian_beam
        >>> [round(float(b), 3) for b in gaussian_beam(0.5, 3)]
        [1.0, 0.956, 0.873, 0.763]
    """
    if not fwhm >= 0:
        raise ValueError(f"fwhm is {fwhm}; expected at least 0 radians")
    l = torch.arange(check_count("lmax", lmax, 0) + 1, dtype=torch.float64)
    variance = fwhm**2 / (8 * math.log(2))
    factors = torch.exp(-0.5 * (l * (l + 1) - spin**2) * variance)
    return torch.where(l >= abs(spin), factors, 0.0)


def _squares(nside: int, lmax: int, fine: int) -> np.ndarray:
    """Mean over the pixels of Σ_ij P_l(cos d_ij)/n², d_ij between the centres of fine × fine parts of a pixel: (lmax + 1,)."""
    import healpy

    pixels = np.arange(12 * min(nside, SAMPLED) ** 2)
    theta, phi = healpy.pix2ang(min(nside, SAMPLED), pixels, nest=True)
    # the sixteen symmetries of the grid carry the wedge 0 < φ < π/4 of the northern half onto the sphere
    inside = (phi < np.pi / 4 + 1e-9) & (theta < np.pi / 2 + 1e-9)
    weight = np.where(theta > np.pi / 2 - 1e-9, 0.5, 1.0) * np.where(
        (phi < 1e-9) | (phi > np.pi / 4 - 1e-9), 0.5, 1.0
    )
    pixels, weight = pixels[inside], weight[inside]
    if nside > SAMPLED:  # one child of each, at places that follow the golden ratio
        power = (nside // SAMPLED) ** 2
        pixels = pixels * power + (np.arange(len(pixels)) * 0.6180339887 % 1 * power).astype(np.int64)
    parts = pixels[:, None] * fine**2 + np.arange(fine**2)
    points = np.stack(healpy.pix2vec(nside * fine, parts, nest=True), -1)  # (P, n, 3)
    first, second = np.triu_indices(fine**2, 1)
    chord = np.square(points[:, first] - points[:, second]).sum(-1)
    x = 1 - chord / 2  # (P, pairs)
    share = np.broadcast_to(weight[:, None] / weight.sum(), x.shape).ravel()
    x = x.ravel()
    below, at, result = np.ones_like(x), x.copy(), np.empty(lmax + 1)
    for l in range(lmax + 1):
        if l > 1:
            below, at = at, ((2 * l - 1) * x * at - (l - 1) * below) / l
        result[l] = (2 * (share @ (below if l == 0 else at)) + fine**2) / fine**4
    return result


@lru_cache(maxsize=32)
def _window(nside: int, lmax: int) -> Tensor:
    # the midpoint rule's error falls as 1/fine²: two of them give the limit
    coarse, fine = (np.sqrt(np.maximum(_squares(nside, lmax, n), 0.0)) for n in (4, 8))
    return torch.from_numpy((4 * fine - coarse) / 3)


def pixel_window(grid: HEALPix, lmax: int) -> Tensor:
    """Factor by which averaging over HEALPix pixels multiplies coefficients of each degree, root mean square over the pixels.

    The factors are computed from the pixels' shapes; those of polarisation differ by a few parts in a thousand at the largest
    degrees and are not given. Grids finer than nside 16 are represented by pixels spread evenly over them.

    Args:
        grid: the grid; nside a power of two.
        lmax: largest degree, at most 4 nside.

    Shape: (lmax + 1,) float64.
    Raises: ValueError for another nside or lmax.
    Reference: Górski et al. 2005, ApJ 622.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import pixel_window
        >>> [round(float(w), 3) for w in pixel_window(HEALPix(4), 8)[[0, 4, 8]]]
        [1.0, 0.944, 0.809]
    """
    if not isinstance(grid, HEALPix):
        raise TypeError(f"grid is {grid!r}; expected HEALPix")
    nside = grid.nside
    if nside & (nside - 1):
        raise ValueError(f"grid has nside {nside}; expected a power of two")
    if check_count("lmax", lmax, 0) > 4 * nside:
        raise ValueError(f"lmax is {lmax}; expected at most 4 nside = {4 * nside}")
    return _window(nside, lmax).clone()


def wiener_gains(signal: Tensor, noise: Tensor, beam: Tensor | None = None) -> Tensor:
    """Factor of each degree, b C/(b² C + N), for a signal seen through a beam in independent noise.

    Args:
        signal: power spectrum of the signal.
        noise: power spectrum of the noise in the map.
        beam: factor of each degree by which the signal was multiplied; 1 if None.

    Shape: (lmax + 1,) each -> (lmax + 1,); 0 where there is neither signal nor noise.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import wiener_gains
        >>> wiener_gains(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7500])
    """
    b = torch.ones_like(signal) if beam is None else beam.to(signal)
    total = b.square() * signal + noise
    return torch.where(total > 0, b * signal / torch.where(total > 0, total, 1.0), 0.0)


def fit_wiener_gains(observed: Tensor, truth: Tensor) -> Tensor:
    """Factors per band and degree that bring the bands' sum closest to the truth, over all given samples.

    Args:
        observed: coefficients of the bands of each sample.
        truth: coefficients of the truth of each sample.

    Shape: observed (n, C, (lmax + 1)²), truth (n, (lmax + 1)²) -> (C, lmax + 1) float64.
    Raises: ValueError for shapes that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import fit_wiener_gains
        >>> truth = torch.randn(50, 9)
        >>> fit_wiener_gains(truth[:, None], truth).round(decimals=6)
        tensor([[1., 1., 1.]], dtype=torch.float64)
    """
    if observed.ndim != 3 or truth.shape != (observed.shape[0], observed.shape[2]):
        raise ValueError(
            f"observed has shape {tuple(observed.shape)} and truth {tuple(truth.shape)}; expected (n, C, K) and (n, K)"
        )
    bands, truth = observed.double(), truth.double()
    matrix = power_spectrum(bands[:, :, None], bands[:, None]).mean(0)  # (C, C, lmax + 1)
    cross = power_spectrum(bands, truth[:, None]).mean(0)  # (C, lmax + 1)
    # the pseudo-inverse: bands that are alike share the weight, degrees without power get none
    inverse = torch.linalg.pinv(matrix.permute(2, 0, 1), hermitian=True, rtol=1e-10)
    return (inverse @ cross.T[..., None])[..., 0].T.contiguous()


class WienerFilter(nn.Module):
    """Filter bands of maps by factors per degree, and sum them.

    Args:
        grid: grid of the maps.
        gains: factor per band and degree, as :func:`wiener_gains` or :func:`fit_wiener_gains` gives them.

    Shape: (..., C, *grid.shape) -> (..., *grid.shape); gains (C, lmax + 1).
    Equivariance: exact up to the grid's quadrature.
    Raises: ValueError for gains that are no matrix, and for maps of another grid or number of bands.
    Reference: Tegmark & Efstathiou 1996.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import WienerFilter
        >>> WienerFilter(HEALPix(4), torch.ones(2, 9))(torch.randn(3, 2, 192)).shape
        torch.Size([3, 192])
    """

    gains: Tensor

    def __init__(self, grid: Grid, gains: Tensor) -> None:
        super().__init__()
        if gains.ndim != 2:
            raise ValueError(f"gains have shape {tuple(gains.shape)}; expected (C, lmax + 1)")
        self.grid = grid
        lmax = gains.shape[1] - 1
        self.analysis, self.synthesis = SHT(grid, lmax), InverseSHT(grid, lmax)
        self.register_buffer("gains", gains.detach().clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered maps."""
        axis = x.ndim - len(self.grid.shape) - 1
        if axis < 0 or x.shape[axis] != len(self.gains):
            shape = ", ".join(map(str, self.grid.shape))
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (..., {len(self.gains)}, {shape}), a map per band"
            )
        coefficients = scale_degrees(self.analysis(x), self.gains).sum(-2)
        result: Tensor = self.synthesis(coefficients)
        return result

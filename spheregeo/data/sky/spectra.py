"""Spectra like those of the microwave sky, in closed form: no fit to data, but plateau and first peaks where they belong."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["cmb_like_spectrum", "deflection_like_spectrum"]

# Height in µK², place and width in l of bumps of l(l + 1)C_l/2π over the plateau; temperature.
PLATEAU = 1000.0
PEAKS = ((4700.0, 220.0, 85.0), (1700.0, 535.0, 90.0), (1700.0, 810.0, 100.0))
DAMPING = 1400.0


def cmb_like_spectrum(lmax: int, shrink: float = 1.0) -> Tensor:
    """Power spectrum with the shape of the CMB's temperature: a plateau, three peaks from l = 220 on, damping.

    The spectrum follows the measured one to some 20 % and is meant for making skies, not for inference.

    Args:
        lmax: largest degree.
        shrink: factor by which all angles are larger than in the sky, so that peaks come to lower l.

    Shape: (lmax + 1,) float64; 0 for l < 2.
    Units: µK².
    Raises: ValueError for a factor that is not positive.

    Example:
        >>> from spheregeo.data import cmb_like_spectrum
        >>> [round(float(c)) for c in cmb_like_spectrum(3)]
        [0, 0, 1231, 618]
    """
    if not shrink > 0:
        raise ValueError(f"shrink is {shrink}; expected a positive number")
    l = torch.arange(lmax + 1, dtype=torch.float64)
    scaled = l * shrink
    level = torch.full_like(l, PLATEAU)
    for height, place, width in PEAKS:
        level = level + height * torch.exp(-0.5 * ((scaled - place) / width).square())
    level = level * torch.exp(-((scaled / DAMPING) ** 2))
    return torch.where(l >= 2, level * 2 * math.pi / (l * (l + 1)).clamp_min(1), 0.0)


def deflection_like_spectrum(lmax: int, rms: float, shrink: float = 1.0) -> Tensor:
    """Power spectrum of a lensing potential whose deflections have a given size and are coherent over a few degrees.

    Args:
        lmax: largest degree.
        rms: root mean square deflection.
        shrink: factor by which all angles are larger than in the sky.

    Shape: (lmax + 1,) float64; 0 for l < 2.
    Units: rms in radians.

    Example:
        >>> from spheregeo.data import deflection_like_spectrum
        >>> deflection_like_spectrum(8, 0.01).shape
        torch.Size([9])
    """
    l = torch.arange(lmax + 1, dtype=torch.float64)
    scaled = l * shrink
    gradient = torch.where(l >= 2, scaled / (1 + (scaled / 60) ** 2) ** 1.5 / (l * (l + 1)).clamp_min(1), 0.0)
    variance = ((2 * l + 1) * gradient).sum() / (4 * math.pi)  # of the deflection, whose spectrum this is
    if float(variance) == 0:
        return gradient
    return gradient / variance * rms**2 / (l * (l + 1)).clamp_min(1)

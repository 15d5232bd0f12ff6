"""Generated microwave skies: a lensed Gaussian sky under a patchy foreground and noise, seen in one band or several.

The signal has the CMB's shape of spectrum (:mod:`spheregeo.data.sky.spectra`), is lensed by a Gaussian potential, and is what a
network has to find. The foreground is log-normal, brighter along the equator, and alike in all bands but for a factor: neither
Gaussian nor isotropic, so that filters which know spectra alone are not the best there can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, Item, check_split, generator
from spheregeo.data.sky.spectra import cmb_like_spectrum, deflection_like_spectrum
from spheregeo.data.sphere.dataset import MEMORY_BUDGET
from spheregeo.grids import HEALPix
from spheregeo.spectral import (
    InverseSHT,
    deflection_field,
    gaussian_beam,
    lens,
    random_coefficients,
    scale_degrees,
)

__all__ = ["GeneratedSkies"]

FOREGROUND_SLOPE, PLANE_WIDTH = 2.4, 0.25  # of the logarithm's spectrum; of the plane, in radians of latitude
ARCMINUTE = math.pi / 10800


class GeneratedSkies(Dataset[Item]):
    """Skies on HEALPix in ring order, made one by one; a sky depends on (seed, split, index) alone.

    Args:
        count: number of skies.
        nside: resolution; degrees reach 2 nside.
        bands: brightness of the foreground in each band, relative to ``foreground``.
        noise: standard deviation of the white noise in each pixel of a band, in µK.
        foreground: typical brightness of the foreground away from the plane, in µK; 0 for none.
        patchiness: standard deviation of the foreground's logarithm.
        plane: logarithm of the factor by which the plane is brighter.
        deflection: root mean square of the lensing deflection, in arcminutes; 0 for none.
        unlensed: ask for the sky before it was lensed.
        beam: full width at half maximum of the beam of all bands, in degrees; 0 for none.
        masked: share of the sky around the plane that is not seen.
        shrink: factor by which the sky's angles are larger than those of the CMB.
        seed: seed of all draws.
        split: train, val or test.

    Shape: items: observed (C, N) float32 in µK, 0 where masked; mask (N,) float32; truth (N,) float32 in µK.
    Units: µK.
    Raises: ValueError for numbers out of range and an unknown split.

    Example:
        >>> from spheregeo.data import GeneratedSkies
        >>> GeneratedSkies(2, nside=4, bands=(1.0, 3.0))[1]["observed"].shape
        torch.Size([2, 192])
    """

    def __init__(
        self,
        count: int,
        nside: int = 64,
        bands: Sequence[float] = (1.0,),
        noise: float = 25.0,
        foreground: float = 40.0,
        patchiness: float = 1.2,
        plane: float = 1.2,
        deflection: float = 2.7,
        unlensed: bool = False,
        beam: float = 0.0,
        masked: float = 0.0,
        shrink: float = 1.0,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        check_least(
            count=(count, 1), nside=(nside, 1), bands=(len(bands), 1), noise=(noise, 0), foreground=(foreground, 0),
            patchiness=(patchiness, 0), deflection=(deflection, 0), beam=(beam, 0), masked=(masked, 0), seed=(seed, 0),
        )  # fmt: skip
        if masked > 0.9:
            raise ValueError(f"masked is {masked}; expected a share of the sky from 0 to 0.9")
        self.count, self.bands, self.noise = count, tuple(float(b) for b in bands), noise
        self.foreground, self.patchiness, self.plane = foreground, patchiness, plane
        self.deflection, self.unlensed, self.masked = deflection, unlensed, masked
        self.seed, self.split = seed, check_split(split)
        self.grid, self.lmax = HEALPix(nside), 2 * nside
        self.spectrum = cmb_like_spectrum(self.lmax, shrink)
        self.potential = deflection_like_spectrum(self.lmax, deflection * ARCMINUTE, shrink)
        self.window = gaussian_beam(math.radians(beam), self.lmax)
        l = torch.arange(self.lmax + 1, dtype=torch.float64)
        red = torch.where(l > 0, (1 + l) ** -FOREGROUND_SLOPE, 0.0)
        self.logarithm = red / ((2 * l + 1) * red).sum() * 4 * math.pi  # of unit variance
        self._synthesis = InverseSHT(self.grid, self.lmax)
        self._kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return self.count

    def mask(self, draw: torch.Generator) -> Tensor:
        """Which pixels are seen, (N,): all but a band around the plane with a wavy border of ``masked`` of the sky."""
        height = self.grid.points[:, 2].abs().float()
        if not self.masked:
            return torch.ones_like(height)
        wave = self._synthesis(random_coefficients(self.logarithm, (), draw)).float()
        distance = height + 0.1 * wave
        return (distance > distance.quantile(self.masked)).float()

    def load(self, index: int) -> Item:
        """Make a sky."""
        draw = generator(self.seed, SPLITS.index(self.split), index)
        coefficients = random_coefficients(self.spectrum, (), draw).float()
        potential = random_coefficients(self.potential, (), draw).float()
        before = self._synthesis(coefficients)
        sky = before
        if self.deflection:
            sky = lens(coefficients, deflection_field(potential, self.grid), self.grid, accuracy=1e-5)
        latitude = torch.asin(self.grid.points[:, 2].clamp(-1, 1)).float()
        patches = self._synthesis(random_coefficients(self.logarithm, (), draw).float())
        brightness = self.patchiness * patches - self.patchiness**2 / 2
        brightness = brightness + self.plane * torch.exp(-0.5 * (latitude / PLANE_WIDTH).square())
        dust = self.foreground * brightness.exp()
        signals = torch.stack([sky + band * dust for band in self.bands])
        if bool((self.window != 1).any()):
            signals = self._through_beam(signals)
        observed = signals + self.noise * torch.randn(signals.shape, generator=draw)
        mask = self.mask(draw)
        truth = before if self.unlensed else sky
        return {"observed": observed * mask, "mask": mask, "truth": truth}

    def _through_beam(self, signals: Tensor) -> Tensor:
        from spheregeo.spectral import SHT

        analysis = SHT(self.grid, self.lmax)
        smooth: Tensor = self._synthesis(scale_degrees(analysis(signals), self.window))
        return smooth

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} is outside a dataset of {self.count} items")
        if index not in self._kept:
            item = self.load(index)
            if not fits(item, self.count):
                return item
            self._kept[index] = item
        return dict(self._kept[index])


def fits(item: Item, count: int) -> bool:
    """Whether so many items of an item's size may stay in memory."""
    return count * sum(value.numel() * value.element_size() for value in item.values()) <= MEMORY_BUDGET

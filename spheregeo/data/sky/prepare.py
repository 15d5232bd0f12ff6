"""From observed maps to what a network takes: bands without monopoles, a Wiener filter's answer and the mask, of unit size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.spectral import SHT, WienerFilter, fit_wiener_gains

__all__ = ["SkyPreparation"]


class SkyPreparation:
    """Prepare observed bands of the sky as a network's image, alike in training and in prediction.

    The image's channels are the bands, less their mean over what is seen and 0 elsewhere, the answer of a Wiener filter, and the
    mask. Divided by ``std`` they have unit size.

    Args:
        grid: grid of the maps.
        gains: the filter's factor per band and degree.
        std: standard deviation of each channel; that of the filter's answer is the truth's.

    Raises: ValueError for numbers that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.data import SkyPreparation
        >>> from spheregeo.grids import HEALPix
        >>> prepare = SkyPreparation(HEALPix(4), torch.ones(1, 9), (2.0, 2.0, 1.0))
        >>> prepare(torch.randn(1, 192), torch.ones(192)).shape
        torch.Size([3, 192])
    """

    def __init__(self, grid: Grid, gains: Tensor, std: Sequence[float]) -> None:
        if len(std) != len(gains) + 2:
            raise ValueError(
                f"std has {len(std)} numbers for {len(gains)} bands; expected one for each band, the filter's answer and the mask"
            )
        self.grid, self.filter = grid, WienerFilter(grid, gains)
        self.std = torch.tensor([float(s) for s in std])

    @classmethod
    def fit(cls, grid: Grid, lmax: int, samples: Sequence[dict[str, Tensor]]) -> SkyPreparation:
        """Return the preparation whose filter and sizes are those of given samples: observed, mask, truth, as in training."""
        seen = torch.stack([seen_bands(s["observed"], s["mask"]) for s in samples])  # (n, C, *shape)
        truth = torch.stack([s["truth"] for s in samples])
        analysis = SHT(grid, lmax)
        gains = fit_wiener_gains(analysis(seen), analysis(truth))
        spread = [float(band.double().square().mean().sqrt()) or 1.0 for band in seen.unbind(1)]
        return cls(grid, gains, (*spread, float(truth.double().square().mean().sqrt()) or 1.0, 1.0))

    @property
    def gains(self) -> Tensor:
        """Factor of the filter per band and degree, (C, lmax + 1)."""
        return self.filter.gains

    def raw(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The image in the maps' unit: bands without monopoles, the filter's answer, the mask."""
        seen = seen_bands(observed, mask)
        with torch.no_grad():
            answer = self.filter(seen)
        return torch.cat([seen, answer[None], mask.to(seen)[None]])

    def __call__(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The image of a sample (C, *shape) and its mask (*shape): (C + 2, *shape), of unit size."""
        image = self.raw(observed, mask)
        return image / self.std.to(image).reshape(-1, *(1 for _ in self.grid.shape))


def seen_bands(observed: Tensor, mask: Tensor) -> Tensor:
    """Bands less their mean over what is seen, times the mask; whatever is missing (NaN) has to be masked."""
    mask = mask.to(observed)
    there = torch.where(mask > 0, observed, 0.0)
    axes = tuple(range(1, observed.ndim))
    mean = (there * mask).sum(axes, keepdim=True) / mask.sum().clamp_min(1e-12)
    return (there - mean) * mask

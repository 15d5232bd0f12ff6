"""Scores of restored maps: errors by area and by degree, beside those of a Wiener filter."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.grids import Grid
from spheregeo.spectral import SHT, power_spectrum

SPECTRA = ("truth", "answer", "wiener", "residual", "wiener_residual", "cross", "wiener_cross")


class RestorationScores(Metric):
    """Squared errors by area, and spectra of truth, answers, their residuals and cross spectra, summed over maps.

    Masked points count nowhere; spectra of masked maps are divided by the share of the sky that is seen.

    Args:
        grid: the maps' grid.
        lmax: largest degree of the spectra.

    Shape: ``update`` takes answer, Wiener filter's answer, truth and mask (B, *grid.shape) and areas (*grid.shape).
    """

    full_state_update = False
    higher_is_better = None
    sums: Tensor
    spectra: Tensor
    maps: Tensor

    def __init__(self, grid: Grid, lmax: int) -> None:
        super().__init__()
        self.analysis = SHT(grid, lmax)
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(
            "spectra", torch.zeros(len(SPECTRA), lmax + 1, dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("maps", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, answer: Tensor, wiener: Tensor, truth: Tensor, mask: Tensor, areas: Tensor) -> None:
        weights = (mask * areas).double()
        parts = [
            (x.double() * weights).sum()
            for x in ((answer - truth).square(), (wiener - truth).square(), truth.square())
        ]
        self.sums += torch.stack([*parts, weights.sum()])
        share = ((mask.square() * areas).flatten(1).sum(1) / areas.sum()).double()[:, None]
        maps = torch.stack([truth, answer, wiener, answer - truth, wiener - truth], 1).float() * mask[:, None]
        coefficients = self.analysis(maps)  # (B, 5, K)
        t, a, w, residual, wiener_residual = coefficients.unbind(1)
        pairs = (
            (t, t),
            (a, a),
            (w, w),
            (residual, residual),
            (wiener_residual, wiener_residual),
            (t, a),
            (t, w),
        )
        self.spectra += torch.stack([(power_spectrum(x, y).double() / share).sum(0) for x, y in pairs])
        self.maps += len(truth)

    def compute(self) -> dict[str, Tensor]:
        """Scores by name: numbers, and spectra (lmax + 1,)."""
        error, wiener, truth, weight = self.sums
        mean = dict(zip(SPECTRA, self.spectra / self.maps.clamp_min(1), strict=True))
        tiny = torch.finfo(torch.float64).tiny
        return {
            "rmse": (error / weight).sqrt(),
            "wiener_rmse": (wiener / weight).sqrt(),
            "error_ratio": error / wiener.clamp_min(tiny),
            "truth_rms": (truth / weight).sqrt(),
            **{
                f"spectrum_{name}": mean[name]
                for name in ("truth", "answer", "wiener", "residual", "wiener_residual")
            },
            "correlation": mean["cross"] / (mean["truth"] * mean["answer"]).sqrt().clamp_min(tiny),
            "wiener_correlation": mean["wiener_cross"]
            / (mean["truth"] * mean["wiener"]).sqrt().clamp_min(tiny),
        }

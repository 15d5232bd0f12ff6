"""Restoration of maps of the sky: noise, foregrounds and lensing taken away, as a correction to a Wiener filter's answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.data import SkyPreparation
from spheregeo.grids import HEALPix
from spheregeo.lazy import cached_property
from spheregeo.tasks.answers import GrowingTable
from spheregeo.tasks.checks import Batch, check_field, check_on_grid, take
from spheregeo.tasks.losses import area_mean
from spheregeo.tasks.pictures.sky import maps_picture, spectra_picture
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sky.predict import predict_skies
from spheregeo.tasks.sky.scores import RestorationScores
from spheregeo.tasks.sphere.base import SphereTask

SkyExample = tuple[Tensor, Tensor, Tensor]  # channels in µK, truth, answer; NaN where masked


class Correction(nn.Module):
    """A Wiener filter's answer, which is a channel of the image, plus what a network makes of the whole image.

    Args:
        network: maps images (B, C, *shape) to fields (B, 1, *shape).

    Shape: (B, C, *shape) -> (B, 1, *shape); the last channel but one is the filter's answer.
    Equivariance: that of the network.

    Example:
        >>> Correction(nn.Conv1d(3, 1, 1))(torch.randn(2, 3, 192)).shape
        torch.Size([2, 1, 192])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # small at first, so that training begins at the filter's error
        self.strength = nn.Parameter(torch.tensor(0.1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the corrected answer."""
        result: Tensor = image[:, -2:-1] + self.strength * self.network(image)
        return result


class SkyRestoration(SphereTask):
    """Train and score a network that restores a map of the sky from one band or several.

    The network corrects the answer of a Wiener filter, the linear isotropic filter of least error on the training skies:
    whatever a filter cannot use (the shape of foregrounds, the way of lensing, masks) is left for the network to learn, and
    the filter's own error on the same maps stands beside the network's.

    Shape: batches hold image (B, in_channels, N), as :class:`~spheregeo.data.SkyData` gives it: bands, the filter's answer, the
        mask; and target (B, N) in µK.
    Units: µK; points are weighted by their area in loss and scores, masked ones count nowhere.
    Equivariance: that of the network.
    Raises: ValueError for images or targets that do not fit, or NaN images; in prediction for a grid other than HEALPix.

    Args:
        in_channels: channels of the images, two more than bands.
        grid: grid of images and targets, or its repr; FITS maps are predicted on HEALPix in ring order.
        wiener: factor of the filter per band and degree.
        network: name of a model, see ``spheregeo list models``.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.SphereTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = SkyRestoration(3, HEALPix(4), [[1.0] * 9], network="pixel-mlp", width=8)
        >>> outputs = task.forward_batch({"image": torch.ones(2, 3, 192), "target": torch.ones(2, 192)})
        >>> outputs["prediction"].shape
        torch.Size([2, 192])
    """

    monitor = "val/rmse"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = (
        "predictions.csv",
        "predictions.png",
        "spectra.png",
        "spectra.csv",
    )
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("rmse", False)
    linked_from_data: ClassVar[tuple[str, ...]] = (*SphereTask.linked_from_data, "wiener")

    def __init__(
        self,
        in_channels: int,
        grid: Any,
        wiener: Sequence[Sequence[float]],
        network: str = "sphere-unet-small",
        **common: Any,
    ) -> None:
        gains = [[float(g) for g in band] for band in wiener]
        if len(gains) + 2 != in_channels or len({len(band) for band in gains}) != 1:
            raise ValueError(
                f"wiener has {len(gains)} bands for {in_channels} channels; expected two bands fewer than channels, of one length"
            )
        super().__init__(1, in_channels=in_channels, grid=grid, network=network, wiener=gains, **common)
        self.network = Correction(self.network)
        # a coarser grid than in training holds fewer degrees
        most = 2 * self.grid.nside if isinstance(self.grid, HEALPix) else len(gains[0])
        lmax = min(len(gains[0]) - 1, most)
        self.scale = float(self.image_std[-2])  # µK of the truth
        self.gains = torch.tensor(gains)[:, : lmax + 1]
        self.scores = RestorationScores(self.grid, lmax)

    @cached_property
    def preparation(self) -> SkyPreparation:
        """How observed maps become images: the filter and the sizes of the training."""
        return SkyPreparation(self.grid, self.gains, self.image_std.tolist())

    def decide(self, output: Tensor) -> Tensor:
        """Return maps in µK (B, *) from the network's output (B, 1, *)."""
        return self.scale * output.float().squeeze(1)

    def forward_batch(self, batch: Batch) -> Batch:
        image = check_field(take(self, batch, "image"), self.grid, self.in_channels)
        truth = check_on_grid(take(self, batch, "target"), self.grid, "target").float()
        mask = image[:, -1].float()
        output = self.network(image).float().squeeze(1)
        loss = area_mean((output - truth / self.scale).square(), mask * self.areas)
        wiener = self.scale * image[:, -2].float()
        return {
            "image": image, "truth": truth, "mask": mask, "wiener": wiener, "prediction": self.scale * output, "loss": loss,
        }  # fmt: skip

    def update_metrics(self, outputs: Batch) -> Batch:
        answer, wiener = outputs["prediction"], outputs["wiener"]
        self.scores.update(answer, wiener, outputs["truth"], outputs["mask"], self.areas)
        seen = outputs["mask"] > 0
        return {**outputs, "truth": torch.where(seen, outputs["truth"], torch.nan)}

    def compute_metrics(self) -> dict[str, float]:
        found = self.scores.compute()
        self.scores.reset()
        self._spectra = {name: value.tolist() for name, value in found.items() if value.ndim}
        self._results = {name: float(value) for name, value in found.items() if not value.ndim}
        return {name: self._results[name] for name in ("rmse", "wiener_rmse", "error_ratio")}

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, spectra and correlations by degree, as plain types for a JSON file."""
        return {**self._results, "unit": "µK", **self._spectra}

    def summary(self) -> str:
        """Return errors and correlations by ranges of degrees beside the Wiener filter's, as text for the screen."""
        lines = [
            f"{'degrees':<12}{'residual power':>16}{'Wiener filter':>16}{'correlation':>14}{'Wiener filter':>16}"
        ]
        count = len(self._spectra["spectrum_truth"])
        edges = [2, *(2**k for k in range(2, 20) if 2**k < count - 1), count]
        for low, high in pairwise(edges):
            weight = 2 * np.arange(low, high) + 1.0
            mean = {
                name: np.average(values[low:high], weights=weight) for name, values in self._spectra.items()
            }
            share = [
                mean[name] / max(mean["spectrum_truth"], 1e-300)
                for name in ("spectrum_residual", "spectrum_wiener_residual")
            ]
            row = (*share, mean["correlation"], mean["wiener_correlation"])
            lines.append(
                f"{f'{low}-{high - 1}':<12}{row[0]:>16.4f}{row[1]:>16.4f}{row[2]:>14.4f}{row[3]:>16.4f}"
            )
        r = self._results
        lines.append(
            f"error {r['rmse']:.2f} µK, of the Wiener filter {r['wiener_rmse']:.2f} µK, of an empty map {r['truth_rms']:.2f} µK; "
            f"squared error {r['error_ratio']:.3f} of the filter's; residual power as a share of the truth's"
        )
        return "\n".join(lines)

    def unit_of(self, score: str) -> str:
        """Return µK for root mean square errors; the other scores have no unit."""
        return "µK" if score.endswith("rmse") else ""

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[SkyExample]:
        std = self.image_std.to(outputs["image"]).reshape(-1, *(1 for _ in self.grid.shape))
        return zip(outputs["image"] * std, outputs["truth"], outputs["prediction"], strict=True)

    def example_error(self, example: SkyExample) -> float:
        """Return the root mean square error of an example in µK."""
        image, truth, prediction = (part.detach() for part in example)
        weights = self.areas.to(image.device) * image[-1]
        error = torch.where(weights > 0, prediction - truth, 0.0).square()
        return float(((weights * error).sum() / weights.sum().clamp_min(1e-12)).sqrt())

    def plot(self, folder: Path, examples: Sequence[SkyExample]) -> None:
        if self._by_sample:
            GrowingTable(folder / "predictions.csv", ["sample", "rmse [µK]"], self._by_sample).close()
        names = {"truth": "truth", "answer": "answer", "wiener": "Wiener filter", "residual": "answer − truth",
                 "wiener_residual": "Wiener filter − truth"}  # fmt: skip
        spectra = {label: np.array(self._spectra[f"spectrum_{name}"]) for name, label in names.items()}
        correlations = {"answer": np.array(self._spectra["correlation"]),
                        "Wiener filter": np.array(self._spectra["wiener_correlation"])}  # fmt: skip
        spectra_picture(folder / "spectra.png", spectra, correlations, "µK²")
        columns = list(self._spectra)
        by_degree = zip(*(self._spectra[name] for name in columns), strict=True)
        rows: list[list[Any]] = [[l, *row] for l, row in enumerate(by_degree)]
        GrowingTable(folder / "spectra.csv", ["l", *columns], rows).close()
        if not examples:
            return
        sheet = []
        for image, truth, prediction in examples:
            seen = image[-1].cpu().numpy() > 0
            maps = [image[0], truth, image[-2], prediction, prediction - truth]
            sheet.append([np.where(seen, field.cpu().numpy(), np.nan) for field in maps])
        titles = [f"error {self.example_error(example):.1f} µK" for example in examples]
        columns = ["observed", "truth", "Wiener filter", "answer", "answer − truth"]
        maps_picture(folder / "predictions.png", sheet, columns, self.grid, "µK", titles)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Restore a FITS map or a folder of FITS maps: NAME_restored.fits, maps in Mollweide's projection, spectra, a table.

        A mask for NAME.fits is masks/NAME.fits beside it, one for all maps masks/mask.fits; missing pixels are masked, too.
        """
        predict_skies(self, source, output, options)

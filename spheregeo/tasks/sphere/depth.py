"""Depth of every point of an omnidirectional image: area-weighted L1 or reverse Huber loss, the usual scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.answers import ended
from spheregeo.tasks.checks import Batch, check_field, check_on_grid, take
from spheregeo.tasks.losses import depth_berhu, depth_l1
from spheregeo.tasks.metrics import DepthScores
from spheregeo.tasks.pictures.fields import colour_depth, write_png
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sphere.base import Example, SphereTask
from spheregeo.tasks.sphere.predict import Picture, predict_fields, row_areas

_LOSSES = {"l1": depth_l1, "berhu": depth_berhu}


class Depth(SphereTask):
    """Train and score a network that gives every point of a grid its distance.

    Shape: batches hold image (B, in_channels, *grid.shape) and depth (B, *grid.shape).
    Units: depth in metres (whatever the data has); points are weighted by their area in loss and scores.
    Equivariance: that of the network.
    Raises: ValueError for images or depths that do not fit, or NaN images. Depths that are NaN, infinite, not
        positive or beyond ``max_depth`` are not valid: they neither train nor count.

    Args:
        in_channels: channels of the images.
        grid: grid of images and depths, or its repr.
        network: name of a model, see ``spheregeo list models``.
        loss: "l1" or "berhu".
        max_depth: depths beyond it are not valid.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.SphereTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> task = Depth(3, HEALPix(4), network="pixel-mlp", width=8)
        >>> outputs = task.forward_batch({"image": torch.randn(2, 3, 192), "depth": torch.ones(2, 192)})
        >>> outputs["prediction"].shape
        torch.Size([2, 192])
    """

    monitor = "val/abs_rel"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = ("predictions.csv", "predictions.png", "world.png")
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("abs_rel", False)

    def __init__(
        self,
        in_channels: int,
        grid: Any,
        network: str = "sphere-unet-small",
        *,
        loss: str = "berhu",
        max_depth: float = 100.0,
        **common: Any,
    ) -> None:
        if loss not in _LOSSES:
            raise ValueError(f"loss is {loss!r}; choose {' or '.join(map(repr, _LOSSES))}")
        super().__init__(
            1, in_channels=in_channels, grid=grid, network=network, loss=loss, max_depth=max_depth, **common
        )
        self._loss, self.max_depth = _LOSSES[loss], max_depth
        self.scores = DepthScores()

    def decide(self, output: Tensor) -> Tensor:
        """Return positive depths (B, *) from the network's output (B, 1, *)."""
        return torch.nn.functional.softplus(output.float()).squeeze(1)

    def forward_batch(self, batch: Batch) -> Batch:
        image = check_field(take(self, batch, "image"), self.grid, self.in_channels)
        truth = check_on_grid(take(self, batch, "depth"), self.grid, "depth")
        valid = torch.isfinite(truth) & (truth > 0) & (truth <= self.max_depth)
        prediction = self.decide(self.network(image))
        loss = self._loss(prediction, truth, valid, self.areas)
        return {"image": image, "truth": truth, "valid": valid, "prediction": prediction, "loss": loss}

    def update_metrics(self, outputs: Batch) -> Batch:
        self.scores.update(outputs["prediction"], outputs["truth"], outputs["valid"], self.areas)
        return {**outputs, "truth": torch.where(outputs["valid"], outputs["truth"], torch.nan)}

    def compute_metrics(self) -> dict[str, float]:
        self._results = self.scores.compute()
        self.scores.reset()
        return self._results

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation as plain types for a JSON file."""
        return dict(self._results)

    def unit_of(self, score: str) -> str:
        """Return metres for the root mean square error; the other scores have no unit."""
        return "m" if score == "rmse" else ""

    # ---- pictures and files

    def example_error(self, example: Example) -> float:
        """Return the absolute relative error of an example."""
        _, truth, prediction = (part.detach() for part in example)
        valid = torch.isfinite(truth)
        weights = torch.where(valid, self.areas.to(truth.device), 0.0)
        error = torch.where(valid, (prediction - truth).abs() / truth, 0.0)
        return float((weights * error).sum() / weights.sum().clamp_min(1e-12))

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        fields = [to_panorama(f, self.grid) for f in (truth, prediction)]
        valid = fields[0][np.isfinite(fields[0])]
        limit = float(np.quantile(valid, 0.99)) if valid.size else None
        return colour_depth(fields[0], limit), colour_depth(fields[1], limit)

    def plot(self, folder: Path, examples: Sequence[Example]) -> None:
        self._plot_fields(folder, examples)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Give every pixel of a photo or of a folder of photos its depth: NAME_depth.png in millimetres, an overlay, a globe.

        The table gives each photo's least, mean (over the sphere) and largest depth in metres.
        """

        def write(decision: Picture, stem: Path) -> tuple[Path, Picture]:
            millimetres = np.clip(np.rint(decision * 1000.0), 0, 65535).astype(np.uint16)
            return write_png(ended(stem, "_depth.png"), millimetres), colour_depth(decision)

        def row(decision: Picture, sure: Picture | None) -> list[float]:
            mean = float(row_areas(len(decision)) @ decision.astype(np.float64).mean(1))
            return [float(decision.min()), mean, float(decision.max())]

        predict_fields(
            self, source, output, write, None, options,
            ending="_depth.png", columns=["least depth [m]", "mean depth [m]", "largest depth [m]"], row=row,
        )  # fmt: skip

"""Depth of every point of an omnidirectional image: area-weighted L1 or reverse Huber loss, the usual scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.base import Batch
from spheregeo.tasks.losses import depth_berhu, depth_l1
from spheregeo.tasks.metrics import DepthScores
from spheregeo.tasks.pictures.fields import colour_depth
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.sphere.base import Example, SphereTask

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
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"kernel": "Rings(5)", "checkpoint": true}.
        mean: mean of each channel that the data module subtracts; kept for photos.
        std: standard deviation of each channel that the data module divides by; kept for photos.
        loss: "l1" or "berhu".
        max_depth: depths beyond it are not valid.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    monitor = "val/abs_rel"
    mode = "min"

    def __init__(
        self,
        in_channels: int,
        grid: Any,
        network: str = "sphere-unet-small",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        loss: str = "berhu",
        max_depth: float = 100.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.05,
    ) -> None:
        if loss not in _LOSSES:
            raise ValueError(f"loss is {loss!r}; choose {' or '.join(map(repr, _LOSSES))}")
        super().__init__(
            1, in_channels=in_channels, grid=grid, network=network, width=width, depth=depth, options=options, mean=mean,
            std=std, lr=lr, weight_decay=weight_decay, warmup=warmup, settings={"loss": loss, "max_depth": max_depth},
        )  # fmt: skip
        self._loss, self.max_depth = _LOSSES[loss], max_depth
        self.scores = DepthScores()

    def decide(self, output: Tensor) -> Tensor:
        """Network output (B, 1, *) to positive depths (B, *)."""
        return torch.nn.functional.softplus(output.float()).squeeze(1)

    def _valid(self, depth: Tensor) -> Tensor:
        if tuple(depth.shape[1:]) != tuple(self.grid.shape):
            raise ValueError(
                f"depth has shape {tuple(depth.shape)}; expected (B, {', '.join(map(str, self.grid.shape))}) "
                f"on {self.grid!r}"
            )
        return torch.isfinite(depth) & (depth > 0) & (depth <= self.max_depth)

    def run(self, batch: Batch) -> Batch:
        image, truth = self.check_image(self.take(batch, "image")), self.take(batch, "depth")
        valid = self._valid(truth)
        prediction = self.decide(self(image))
        loss = self._loss(prediction, truth, valid, self.areas)
        return {"image": image, "truth": truth, "valid": valid, "prediction": prediction, "loss": loss}

    def count(self, ran: Batch) -> Batch:
        self.scores.update(ran["prediction"], ran["truth"], ran["valid"], self.areas)
        return {**ran, "truth": torch.where(ran["valid"], ran["truth"], torch.nan)}

    def summarise(self) -> dict[str, float]:
        self._results = self.scores.compute()
        self.scores.reset()
        return self._results

    def results(self) -> dict[str, Any]:
        """Scores of the last evaluation as plain types for a JSON file."""
        return dict(self._results)

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        fields = [to_panorama(f, self.grid) for f in (truth, prediction)]
        valid = fields[0][np.isfinite(fields[0])]
        limit = float(np.quantile(valid, 0.99)) if valid.size else None
        return colour_depth(fields[0], limit), colour_depth(fields[1], limit)

    def draw(self, folder: Path, examples: Sequence[Example]) -> None:
        self._draw_fields(folder, examples)

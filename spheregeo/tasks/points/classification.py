"""One class for each cloud of points: pieces of furniture, scanned things, kinds of bodies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo import models
from spheregeo.tasks.base import Batch
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.points import clouds_picture


class PointClassification(LabelTask):
    """Train and score a network that gives a cloud of points one class.

    Shape: batches hold positions (P, 3), batch (P,) with the cloud of each point, label (B,), and optionally features
        (P, in_channels), index (B,) and votes: then each sample is so many clouds, one after another, whose probabilities are
        averaged.
    Units: clouds of radius 1 about their mean, as the data modules give them.
    Equivariance: that of the network; those of the package are invariant to rotations as their docstrings say.
    Raises: ValueError for clouds without points, NaN, labels out of range, an unknown network.

    Args:
        num_classes: number of classes.
        in_channels: channels of the features; 0 where positions are all there is.
        feature_irreps: what the features are in e3nn's notation, such as 1x1o for normals; scalars if empty.
        num_points: points to which clouds are thinned when files are predicted.
        class_names: one name per class; numbers if None.
        network: name of a model of point clouds; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"k": 20}, also filed under networks' names.
        label_smoothing: share of the target spread over all classes.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    output: ClassVar[str] = "label"

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 0,
        feature_irreps: str = "",
        num_points: int = 1024,
        class_names: list[str] | None = None,
        network: str = "vnn-dgcnn",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.05,
    ) -> None:
        name = models.resolve(network, self.output, "points")
        own = models.options_of(name, options)
        super().__init__(
            num_classes, class_names=class_names, label_smoothing=label_smoothing, lr=lr, weight_decay=weight_decay,
            warmup=warmup,
            settings={
                "in_channels": in_channels, "feature_irreps": feature_irreps, "num_points": num_points, "network": name,
                "width": width, "depth": depth, "options": own or None,
            },
        )  # fmt: skip
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        if feature_irreps:
            chosen["feature_irreps"] = feature_irreps
        self.in_channels, self.feature_irreps, self.num_points = in_channels, feature_irreps, num_points
        self.network = models.create(name, in_channels, num_classes, None, **chosen)

    def check_cloud(self, positions: Tensor, batch: Tensor, features: Tensor | None, count: int) -> None:
        """Raises: ValueError for what is no batch of ``count`` clouds with finite points, each with one at least."""
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise ValueError(f"positions have shape {tuple(positions.shape)}; expected (P, 3)")
        if batch.shape != positions.shape[:1]:
            raise ValueError(
                f"batch has shape {tuple(batch.shape)}; expected ({len(positions)},), the cloud of each point"
            )
        if len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < count:
            raise ValueError(
                f"batch runs from {int(batch.min())} to {int(batch.max())} but there are {count} clouds"
            )
        sizes = torch.bincount(batch, minlength=count)
        if bool((sizes == 0).any()):
            raise ValueError(
                f"cloud {int((sizes == 0).nonzero()[0, 0])} of the batch has no points; expected one at least"
            )
        columns = 0 if features is None else features.shape[-1]
        if columns != self.in_channels:
            raise ValueError(
                f"the clouds have {columns} features a point but in_channels is {self.in_channels}; "
                "take data with as many (--data.normals), or leave them out"
            )
        for name, values in (("positions", positions), ("features", features)):
            if values is not None and not bool(torch.isfinite(values).all()):
                raise ValueError(f"{name} hold NaN or infinite values; remove such points")

    def forward(
        self, positions: Tensor, batch: Tensor, features: Tensor | None = None, count: int | None = None
    ) -> Tensor:
        """Logits of each cloud. Shape: (P, 3), (P,), (P, in_channels) or None -> (count, num_classes)."""
        if count is None:
            count = int(batch.max()) + 1 if len(batch) else 0
        self.check_cloud(positions, batch, features, count)
        network: Any = self.network
        graph = network.neighbors(positions, batch)
        result: Tensor = network(positions, features, batch, graph, count)
        return result

    def logits(self, batch: Batch) -> Tensor:
        positions, cloud = self.take(batch, "positions"), self.take(batch, "batch")
        samples, votes = len(self.take(batch, "label")), int(batch.get("votes", 1))
        found = self(positions, cloud, batch.get("features"), samples * votes)
        if votes == 1:
            return found
        # the logarithm of the mean probability is a logit like any other
        each = found.log_softmax(1).unflatten(0, (samples, votes))
        return each.logsumexp(1) - math.log(votes)

    def examples(self, outputs: Batch) -> Iterable[Any]:
        votes = int(outputs.get("votes", 1))
        for k, (truth, said) in enumerate(zip(outputs["truth"], outputs["prediction"], strict=True)):
            yield outputs["positions"][outputs["batch"] == k * votes], truth, said

    def draw(self, folder: Path, examples: Sequence[Any]) -> None:
        super().draw(folder, examples)
        if not examples:
            return
        titles = [
            f"{self.class_names[int(truth)]}: taken for {self.class_names[int(said)]}"
            for _, truth, said in examples
        ]
        clouds_picture(folder / "predictions.png", [points.numpy() for points, *_ in examples], titles)

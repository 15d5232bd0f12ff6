"""One class for each cloud of points: pieces of furniture, scanned things, kinds of bodies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from spheregeo import audit, models
from spheregeo.data.points.dataset import Cloud, collate
from spheregeo.data.points.generated import PrimitiveClouds
from spheregeo.data.points.views import Views
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.points import clouds_picture
from spheregeo.tasks.points.base import check_cloud, cloud_network
from spheregeo.tasks.points.predict import cloud_batch, predict_classes
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import check_probability


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
        common: arguments of the labels and the optimiser, as :class:`~spheregeo.tasks.LabelTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> import torch
        >>> task = PointClassification(4, network="vnn-dgcnn", width=4)
        >>> task(torch.randn(40, 3), torch.arange(2).repeat_interleave(20)).shape
        torch.Size([2, 4])
    """

    output: ClassVar[str] = "label"
    linked_from_data: ClassVar[tuple[str, ...]] = (
        "num_classes", "in_channels", "feature_irreps", "num_points", "class_names",
    )  # fmt: skip

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
        **common: Any,
    ) -> None:
        name = models.resolve(network, self.output, "points")
        own = models.options_of(name, options)
        super().__init__(
            num_classes, class_names=class_names, in_channels=in_channels, feature_irreps=feature_irreps,
            num_points=num_points, network=name, width=width, depth=depth, options=own or None, **common,
        )  # fmt: skip
        self.in_channels, self.feature_irreps, self.num_points = in_channels, feature_irreps, num_points
        sizes = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = cloud_network(name, self.output, in_channels, num_classes, feature_irreps, sizes)

    def forward(
        self, positions: Tensor, batch: Tensor, features: Tensor | None = None, count: int | None = None
    ) -> Tensor:
        """Return the logits of each cloud. Shape: (P, 3), (P,), (P, in_channels) or None -> (count, num_classes)."""
        if count is None:
            count = int(batch.max()) + 1 if len(batch) else 0
        check_cloud(positions, batch, features, count, self.in_channels)
        graph = self.network.neighbors(positions, batch)
        return self.network(positions, features, batch, graph, count)

    def logits(self, batch: Batch) -> Tensor:
        positions, cloud = take(self, batch, "positions"), take(self, batch, "batch")
        samples, votes = len(take(self, batch, "label")), int(batch.get("votes", 1))
        found = self(positions, cloud, batch.get("features"), samples * votes)
        if votes == 1:
            return found
        # the logarithm of the mean probability is a logit like any other
        each = found.log_softmax(1).unflatten(0, (samples, votes))
        return each.logsumexp(1) - math.log(votes)

    def classify(self, cloud: Cloud, name: str = "the cloud") -> Tensor:
        """Return the probability of each class of one cloud, thinned to as many points as in training.

        Args:
            cloud: the points, of any number and size.
            name: what the cloud is called in messages.

        Shape: -> (num_classes,).
        """
        return self.classify_all([cloud], [name])[0]

    def classify_all(self, clouds: Sequence[Cloud], names: Sequence[str]) -> Tensor:
        """Return the probability of each class of several clouds, thinned to as many points as in training.

        Args:
            clouds: the clouds, of any number of points and size.
            names: what the clouds are called in messages.

        Shape: -> (len(clouds), num_classes).
        Raises: ValueError where the network's output is not finite.
        """
        batch = cloud_batch(clouds, self.num_points, self.in_channels > 0, names)
        batch = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        return check_probability(self.logits(batch))

    # ---- pictures, files and the audit

    def examples(self, outputs: Batch) -> Iterable[Any]:
        votes = int(outputs.get("votes", 1))
        for k, (truth, said) in enumerate(zip(outputs["truth"], outputs["prediction"], strict=True)):
            yield outputs["positions"][outputs["batch"] == k * votes], truth, said

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        super().plot(folder, examples)
        if examples:
            clouds = [points.numpy() for points, *_ in examples]
            clouds_picture(folder / "predictions.png", clouds, self.titles(examples))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Classify a cloud or a folder of clouds: predictions.csv and predictions.png."""
        # a network of the k nearest points has seen no cloud of fewer
        least = max(4, min(int(getattr(self.network, "k", 0) or 0), self.num_points))
        names = self.class_names
        predict_classes(self.classify_all, source, output, self.num_points, names, options, least)

    def audit(self) -> dict[str, Any]:
        """Measure the network on generated clouds of the size that it was trained with; prints a table."""
        views = Views(PrimitiveClouds(4, self.num_points), self.num_points, normals=self.in_channels > 0)
        batch = collate([views[k] for k in range(4)])
        result = audit.report_points(
            self.network.eval(), batch["positions"], batch.get("features"), batch["batch"],
            feature_irreps=self.feature_irreps or None,
        )  # fmt: skip
        audit.print_points(result)
        return result

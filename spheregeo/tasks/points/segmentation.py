"""A part for each point of a cloud: tops and legs of tables, handles of mugs; scored as ShapeNet-Part is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit
from spheregeo.data.points.dataset import Cloud, collate
from spheregeo.data.points.part_shapes import PartShapes
from spheregeo.data.points.views import Views
from spheregeo.tasks.checks import Batch, check_output, take
from spheregeo.tasks.losses import cross_entropy
from spheregeo.tasks.metrics import class_iou, class_recall, class_table, number
from spheregeo.tasks.pictures.fields import confusion_picture
from spheregeo.tasks.pictures.points import parts_picture
from spheregeo.tasks.point_labels import PointLabels
from spheregeo.tasks.points.base import CloudTask
from spheregeo.tasks.points.parts import PartScores, check_category_parts, predict_parts, shape_iou
from spheregeo.tasks.points.predict import cloud_batch
from spheregeo.tasks.predict import PredictOptions

Shape = tuple[Tensor, Tensor, Tensor, int]  # positions, truth, prediction, category


class PointSegmentation(PointLabels, CloudTask):
    """Train and score a network that gives every point of a cloud its part.

    A cloud's category is known in training and test, as is usual with ShapeNet-Part: of the network's answers those of other
    categories' parts are left out. The IoU of a cloud is the mean over its category's parts, 1 for a part that is neither
    there nor predicted; ``miou`` is the mean over clouds, ``category_miou`` the mean over categories of these. Of a file, whose
    category is not known, the one whose parts are likeliest at its points is taken.

    Shape: batches hold positions (P, 3), batch (P,) with the cloud of each point, part (P,), label (B,) the category, and
        optionally features (P, in_channels) and index (B,).
    Units: clouds of radius 1 about their mean, as the data modules give them.
    Equivariance: that of the network; those of the package are invariant to rotations as their docstrings say.
    Raises: ValueError for clouds without points, NaN, parts and categories out of range, an unknown network.
    Reference: Yi et al. 2016, ACM Transactions on Graphics 35(6), 210; Qi et al. 2017, arXiv:1612.00593, section 5.1.

    Args:
        num_classes: number of parts of all categories.
        in_channels: channels of the features; 0 where positions are all there is.
        feature_irreps: what the features are in e3nn's notation, such as 1x1o for normals; scalars if empty.
        num_points: points to which clouds are thinned when files are predicted.
        class_names: one name per part; numbers if None.
        category_names: one name per category; numbers if None.
        category_parts: parts of each category; one category of all parts if None.
        ignore_index: part of points that neither train nor count.
        network: name of a model of point clouds; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"k": 20}, also filed under networks' names.
        class_weights: one number per part, "balanced" (from the training clouds), or None.
        loss: "cross_entropy", or "focal", which counts what is already right for less.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        common: arguments of the optimiser, as :class:`~spheregeo.tasks.Task` has them.

    Example:
        >>> task = PointSegmentation(5, network="vnn-dgcnn", width=4, category_parts=[[0, 1], [2, 3, 4]])
        >>> task(torch.randn(40, 3), torch.arange(2).repeat_interleave(20)).shape
        torch.Size([40, 5])
    """

    output: ClassVar[str] = "field"
    truth_key: ClassVar[str] = "part"
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("miou", True)
    artifacts: ClassVar[tuple[str, ...]] = ("confusion.png", "predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = (
        "num_classes", "in_channels", "feature_irreps", "num_points", "class_names", "category_names", "category_parts",
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 0,
        feature_irreps: str = "",
        num_points: int = 1024,
        class_names: list[str] | None = None,
        category_names: list[str] | None = None,
        category_parts: list[list[int]] | None = None,
        ignore_index: int = 255,
        network: str = "steerable-points",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        *,
        class_weights: list[float] | str | None = None,
        loss: str = "cross_entropy",
        focal_gamma: float = 2.0,
        **common: Any,
    ) -> None:
        parts = check_category_parts(category_parts, category_names, num_classes)
        super().__init__(
            num_classes, class_names=class_names, ignore_index=ignore_index, class_weights=class_weights, loss=loss,
            focal_gamma=focal_gamma, in_channels=in_channels, feature_irreps=feature_irreps, num_points=num_points,
            category_names=category_names, category_parts=category_parts, network=network, width=width, depth=depth,
            options=options, **common,
        )  # fmt: skip
        self.category_names = list(category_names or map(str, range(len(parts))))
        allowed = torch.zeros(len(parts), num_classes, dtype=torch.bool)
        for category, held in enumerate(parts):
            allowed[category, held] = True
        self.allowed: Tensor
        self.register_buffer("allowed", allowed, persistent=False)
        self.scores = PartScores(len(parts))

    def image_of(self, batch: Batch) -> Tensor:
        positions: Tensor = take(self, batch, "positions")
        return positions

    def truth_of(self, batch: Batch) -> Tensor:
        part, points = take(self, batch, "part"), len(take(self, batch, "positions"))
        if part.is_floating_point() or part.shape != (points,):
            raise ValueError(
                f"part has shape {tuple(part.shape)}, {part.dtype}; expected ({points},) of whole numbers, a part a point"
            )
        wrong = (part != self.ignore_index) & ((part < 0) | (part >= self.num_classes))
        if bool(wrong.any()):
            raise ValueError(
                f"part holds {int(part[wrong][0])}; expected 0 ... {self.num_classes - 1}, or {self.ignore_index} where it is "
                "not known"
            )
        return part.long()

    def category_of(self, batch: Batch) -> Tensor:
        """Return the categories of a batch's clouds, checked. Shape: (B,)."""
        category: Tensor = take(self, batch, "label")
        if len(category) and not 0 <= int(category.min()) <= int(category.max()) < len(self.allowed):
            raise ValueError(
                f"label runs from {int(category.min())} to {int(category.max())}; expected categories 0 ... "
                f"{len(self.allowed) - 1}"
            )
        return category

    def forward_batch(self, batch: Batch) -> Batch:
        positions, cloud, truth = self.image_of(batch), take(self, batch, "batch"), self.truth_of(batch)
        category = self.category_of(batch)
        logits = self(positions, cloud, batch.get("features"), len(category))
        loss = cross_entropy(logits, truth, None, self.ignore_index, self.class_weight, gamma=self._gamma)
        return {**batch, "truth": truth, "output": logits, "loss": loss}

    def update_metrics(self, outputs: Batch) -> Batch:
        truth, cloud, category = outputs["truth"], outputs["batch"], outputs["label"]
        foreign = ~self.allowed[category.to(self.allowed.device)][cloud]
        prediction = self.decide(outputs["output"].masked_fill(foreign, -torch.inf))
        self.confusion.update(prediction, truth)
        iou = shape_iou(prediction, truth, cloud, self.allowed[category], self.ignore_index)
        self.scores.update(iou, category)
        return {**outputs, "prediction": prediction}

    def compute_metrics(self) -> dict[str, float]:
        self.matrix = self.confusion.compute().cpu()
        self.confusion.reset()
        self.by_category, self.counts = (part.cpu() for part in self.scores.compute())
        self.scores.reset()
        return self._totals()

    def _totals(self) -> dict[str, float]:
        present = self.counts > 0
        return {
            "miou": float((self.by_category * self.counts).nansum() / self.counts.sum().clamp_min(1)),
            "category_miou": float(self.by_category[present].mean()),
            "accuracy": float(self.matrix.diagonal().sum() / self.matrix.sum().clamp_min(1e-12)),
        }

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, per category and part too, as plain types for a JSON file."""
        iou, recall = class_iou(self.matrix).tolist(), class_recall(self.matrix).tolist()
        parts = {
            name: {"iou": number(i), "recall": number(r)}
            for name, i, r in zip(self.class_names, iou, recall, strict=True)
        }
        counts = zip(self.category_names, self.by_category.tolist(), self.counts.tolist(), strict=True)
        categories = {name: {"miou": number(value), "count": int(n)} for name, value, n in counts}
        matrix = self.matrix.long().tolist()
        return {**self._totals(), "categories": categories, "classes": parts, "confusion": matrix}

    def summary(self) -> str:
        """Return the mean IoU and number of clouds by category, as text."""
        columns = {"mIoU": self.by_category, "count": self.counts}
        totals = self._totals()
        return class_table(
            self.category_names, columns, {"mIoU": totals["miou"], "accuracy": totals["accuracy"]}
        )

    # ---- pictures, files and the audit

    def examples(self, outputs: Batch) -> Iterable[Any]:
        for k, category in enumerate(outputs["label"].tolist()):
            own = outputs["batch"] == k
            yield (outputs["positions"][own], outputs["truth"][own], outputs["prediction"][own], category)

    def example_class(self, example: Any) -> int:
        """Return the category of an example."""
        return int(example[3])

    def example_error(self, example: Any) -> float:
        """Return 1 less the mean IoU of an example's parts."""
        _, truth, prediction, category = example
        cloud = torch.zeros_like(truth)
        own = self.allowed[category].to(truth.device)[None]
        return 1 - float(shape_iou(prediction, truth, cloud, own, self.ignore_index)[0])

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        confusion_picture(
            folder / "confusion.png", np.asarray(self.matrix), self.class_names, "% of the true part's points"
        )
        self.write_scores(folder)
        if not examples:
            return
        rows = [
            (points.numpy(), np.where(truth.numpy() == self.ignore_index, 255, truth.numpy()), said.numpy())
            for points, truth, said, _ in examples
        ]
        titles = [
            f"{self.category_names[example[3]]}, mIoU {1 - self.example_error(example):.2f}"
            for example in examples
        ]
        parts_picture(folder / "predictions.png", rows, titles, self.class_names)

    def label_all(self, clouds: Sequence[Cloud], names: Sequence[str]) -> list[tuple[Tensor, Tensor, int]]:
        """Return points, parts and category of several clouds, thinned to as many points as in training.

        Args:
            clouds: the clouds, of any number of points and size.
            names: what the clouds are called in messages.

        Shape: for each cloud the rows of its points that were kept (P,), and their parts (P,).
        Raises: ValueError where the network's output is not finite.
        """
        batch = cloud_batch(clouds, self.num_points, self.in_channels > 0, names, rows=True)
        inputs = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        logits = self(inputs["positions"], inputs["batch"], inputs.get("features"), len(clouds))
        logits = check_output(logits).float().cpu()
        found = []
        for k in range(len(clouds)):
            own = batch["batch"] == k
            probability = logits[own].softmax(1)
            category = int((probability @ self.allowed.float().cpu().T).mean(0).argmax())
            part = logits[own].masked_fill(~self.allowed[category].cpu(), -torch.inf).argmax(1)
            found.append((batch["row"][own], part, category))
        return found

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Label the points of a cloud or of a folder of clouds: NAME_parts.ply, predictions.csv, predictions.png."""
        least = max(4, min(int(getattr(self.network, "k", 0) or 0), self.num_points))
        predict_parts(
            self.label_all,
            source,
            output,
            self.num_points,
            self.class_names,
            self.category_names,
            options,
            least,
        )

    def audit(self) -> dict[str, Any]:
        """Measure the network on generated clouds of the size that it was trained with; prints a table."""
        views = Views(PartShapes(4, self.num_points), self.num_points, normals=self.in_channels > 0)
        batch = collate([views[k] for k in range(4)])
        result = audit.report_points(
            self.network.eval(), batch["positions"], batch.get("features"), batch["batch"],
            feature_irreps=self.feature_irreps or None,
        )  # fmt: skip
        audit.print_points(result)
        return result

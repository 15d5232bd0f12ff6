"""Scores in which every point counts by the area it stands for, summed over a whole data set and over processes.

Segmentation, from one confusion matrix A[t, y] = sum of areas with truth t and prediction y:
IoU_c = A[c, c] / (sum_y A[c, y] + sum_t A[t, c] - A[c, c]), mIoU and mAcc are means over the classes present in the
truth. Classification has the same matrix with every sample counting 1, and F1_c = 2 A[c, c] / (sum_y A[c, y] +
sum_t A[t, c]). Depth: absolute relative error, RMSE, RMSE of logarithms, and delta_k, the share of area within a factor
1.25^k (Eigen, Puhrsch & Fergus 2014, arXiv 1406.2283).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc


class ConfusionMatrix(Metric):
    """Area-weighted confusion matrix; rows are the truth.

    Shape: ``update`` takes prediction and truth (B, *shape) of class numbers and areas (*shape), or None for counts;
        ``compute`` gives (num_classes, num_classes) in float64.
    Units: steradians times images; samples where no areas are given.
    """

    full_state_update = False
    higher_is_better = None
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.add_state(
            "matrix", torch.zeros(num_classes, num_classes, dtype=torch.float64), dist_reduce_fx="sum"
        )

    def update(self, prediction: Tensor, truth: Tensor, areas: Tensor | None = None) -> None:
        valid = truth != self.ignore_index
        areas = torch.ones((), device=truth.device) if areas is None else areas
        weights = areas.to(torch.float64).expand(truth.shape)[valid]
        cell = truth[valid].long() * self.num_classes + prediction[valid].long()
        counts = torch.bincount(cell, weights=weights, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.num_classes, self.num_classes)

    def compute(self) -> Tensor:
        return self.matrix


def class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union per class (C,); NaN for a class that is neither in the truth nor predicted."""
    hit = matrix.diagonal()
    return hit / (matrix.sum(0) + matrix.sum(1) - hit)


def class_recall(matrix: Tensor) -> Tensor:
    """Share of each class's area that was found (C,); NaN for a class that is absent from the truth."""
    return matrix.diagonal() / matrix.sum(1)


def class_precision(matrix: Tensor) -> Tensor:
    """Share of what was called each class that is it (C,); NaN for a class that was never predicted."""
    return matrix.diagonal() / matrix.sum(0)


def class_f1(matrix: Tensor) -> Tensor:
    """Harmonic mean of recall and precision per class (C,); NaN for a class neither in the truth nor predicted."""
    return 2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))


def _present(matrix: Tensor) -> Tensor:
    present = matrix.sum(1) > 0
    if not bool(present.any()):
        raise ValueError("no labelled area was seen: every label is the ignored one; check the label files")
    return present


def classification_scores(matrix: Tensor) -> dict[str, float]:
    """accuracy, macc and macro_f1 (means over the classes present in the truth) of a confusion matrix.

    Raises: ValueError when the matrix is empty, that is nothing labelled was seen.
    """
    present = _present(matrix)
    return {
        "accuracy": float(matrix.diagonal().sum() / matrix.sum()),
        "macc": float(class_recall(matrix)[present].mean()),
        "macro_f1": float(class_f1(matrix)[present].mean()),
    }


def mean_auc(truth: Tensor, probability: Tensor) -> float:
    """Return the area under the ROC curve, each class against all others, as the mean over classes.

    Args:
        truth: true classes.
        probability: probability, or any score, of each class.

    Shape: (N,), (N, C) -> (). Classes that no sample has, or all have, are left out; NaN where none is left.
    """
    found = []
    for k in range(probability.shape[1]):
        own = truth == k
        if 0 < int(own.sum()) < len(own):
            found.append(float(binary_auroc(probability[:, k], own.long())))
    return sum(found) / len(found) if found else float("nan")


def class_table(names: Sequence[str], columns: dict[str, Tensor], totals: dict[str, float]) -> str:
    """Return scores by class as aligned text, with the means over the classes that have each score, and totals below.

    Args:
        names: one name per class.
        columns: a number per class, (C,), by what it is; NaN where a class has none. Shares and counts have no mean.
        totals: numbers of the whole.

    Example:
        >>> print(class_table(["cat", "dog"], {"recall": torch.tensor([0.5, 1.0])}, {"accuracy": 0.8}))
        class                recall
        cat                   0.500
        dog                   1.000
        mean over classes     0.750
        accuracy 0.800 over all
    """
    width = max(len("mean over classes"), *map(len, names))
    sizes = {head: max(10, len(head)) for head in columns}

    def line(name: str, cells: dict[str, str]) -> str:
        return "  ".join([f"{name:<{width}}", *(f"{cells[h]:>{sizes[h]}}" for h in columns)]).rstrip()

    def text(head: str, value: float) -> str:
        return "-" if value != value else f"{value:.0f}" if head == "count" else f"{value:.3f}"

    lines = [line("class", {head: head for head in columns})]
    for k, name in enumerate(names):
        lines.append(line(name, {head: text(head, float(column[k])) for head, column in columns.items()}))
    means = {
        head: "" if head in ("count", "frequency") else text(head, float(column.nanmean()))
        for head, column in columns.items()
    }
    lines.append(line("mean over classes", means))
    lines.append(", ".join(f"{name} {value:.3f}" for name, value in totals.items()) + " over all")
    return "\n".join(lines)


def number(value: float) -> float | None:
    """The value as JSON has it: None for NaN."""
    return None if value != value else value


def segmentation_scores(matrix: Tensor) -> dict[str, float]:
    """miou, macc (means over the classes present in the truth) and accuracy of an area-weighted confusion matrix.

    Raises: ValueError when the matrix is empty, that is no labelled area was seen.
    """
    present = _present(matrix)
    return {
        "miou": float(class_iou(matrix)[present].mean()),
        "macc": float(class_recall(matrix)[present].mean()),
        "accuracy": float(matrix.diagonal().sum() / matrix.sum()),
    }


class DepthScores(Metric):
    """Area-weighted depth scores over the valid points.

    Shape: ``update`` takes prediction, truth and valid (B, *shape), areas (*shape); ``compute`` gives a dictionary.
    Units: rmse in the units of the depth, the others without unit.
    Reference: Eigen, Puhrsch & Fergus 2014, section 4.
    """

    full_state_update = False
    higher_is_better = None
    names = ("abs_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")
    sums: Tensor
    area: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("area", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor, valid: Tensor, areas: Tensor) -> None:
        weights = areas.to(torch.float64).expand(truth.shape)[valid]
        y, t = prediction[valid].double().clamp_min(1e-6), truth[valid].double()
        ratio = torch.maximum(y / t, t / y)
        terms = [(y - t).abs() / t, (y - t) ** 2, (y / t).log() ** 2, *(ratio < 1.25**k for k in (1, 2, 3))]
        self.sums += torch.stack([(weights * term).sum() for term in terms])
        self.area += weights.sum()

    def compute(self) -> dict[str, float]:
        if float(self.area) == 0.0:
            raise ValueError("no valid depth was seen; check the depth files and the task's max_depth")
        mean = self.sums / self.area
        mean[1:3] = mean[1:3].sqrt()
        return dict(zip(self.names, mean.tolist(), strict=True))

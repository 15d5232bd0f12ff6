"""Scores of poses: median error, the shares within 15 and 30 degrees, log-likelihood; symmetric things by likelihood alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

LIMITS = (15, 30)  # degrees


class PoseScores(Metric):
    """Keeps the error, the log-likelihood and the class of every image.

    Shape: ``update`` takes errors (B,) in degrees, log-likelihoods (B,), classes (B,), and the images' numbers (B,) or None to
        count them; ``compute`` gives numbers, errors, log-likelihoods and classes in the order of the numbers, each number once.
    """

    full_state_update = False
    higher_is_better = None
    index: list[Tensor]
    error: list[Tensor]
    likelihood: list[Tensor]
    label: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("index", "error", "likelihood", "label"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, error: Tensor, likelihood: Tensor, label: Tensor, index: Tensor | None = None) -> None:
        start = sum(len(part) for part in self.index)
        numbers = torch.arange(start, start + len(error), device=error.device) if index is None else index
        self.index.append(numbers)
        self.error.append(error.double())
        self.likelihood.append(likelihood.double())
        self.label.append(label)

    def compute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts = [
            (p if isinstance(p, Tensor) else torch.cat(p)).cpu()
            for p in (self.index, self.error, self.likelihood, self.label)
        ]
        order = torch.argsort(parts[0], stable=True)
        number = parts[0][order]
        first = torch.cat([number.new_ones(1).bool(), number[1:] != number[:-1]])  # samplers may repeat a few
        index, error, likelihood, label = (part[order[first]] for part in parts)
        return index, error, likelihood, label


def pose_scores(error: Tensor, likelihood: Tensor, counted: Tensor) -> dict[str, float]:
    """Return median_error, acc15, acc30 and log_likelihood.

    Args:
        error: angle between the likeliest and the true rotation.
        likelihood: logarithm of the density at the true rotation.
        counted: whether a thing's error counts, which for symmetric ones means nothing.

    Shape: (N,) each -> plain numbers; those of errors are NaN where none counts.
    Units: degrees. A density that is even has log-likelihood −log π² = −2.2895.
    """
    chosen = error[counted]
    scores = {"median_error": float(chosen.quantile(0.5)) if len(chosen) else math.nan}
    for limit in LIMITS:
        scores[f"acc{limit}"] = float((chosen <= limit).double().mean()) if len(chosen) else math.nan
    scores["log_likelihood"] = float(likelihood.mean()) if len(likelihood) else math.nan
    return scores


def by_class(
    error: Tensor, likelihood: Tensor, label: Tensor, names: Sequence[str], symmetric: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the scores of each class, and how many images it has.

    Args:
        error: angle between the likeliest and the true rotation.
        likelihood: logarithm of the density at the true rotation.
        label: class of each image.
        names: one name per class.
        symmetric: names of the classes whose errors do not count.

    Shape: (N,) each. Units: degrees.
    """
    found = {}
    for k, name in enumerate(names):
        own = label == k
        counted = torch.full((int(own.sum()),), name not in symmetric)
        found[name] = {"count": float(own.sum()), **pose_scores(error[own], likelihood[own], counted)}
    return found


def pose_table(classes: dict[str, dict[str, float]], total: dict[str, float]) -> str:
    """Return scores by class as aligned text, the whole below.

    Args:
        classes: scores by class, as :func:`by_class` returns them.
        total: scores of all.

    Units: degrees.
    """
    heads = ("median error", "Acc@15", "Acc@30", "log-likelihood", "count")
    keys = ("median_error", "acc15", "acc30", "log_likelihood", "count")
    forms = (".1f", ".3f", ".3f", ".3f", ".0f")
    rows = {**classes, "all": {**total, "count": sum(c["count"] for c in classes.values())}}
    width = max(len("class"), *map(len, rows))
    lines = ["  ".join([f"{'class':<{width}}", *heads])]
    for name, row in rows.items():
        cells = [
            f"{'-' if row[key] != row[key] else format(row[key], form):>{len(head)}}"
            for head, key, form in zip(heads, keys, forms, strict=True)
        ]
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return "\n".join([*lines, "errors in degrees, of things without symmetry; an even density has -2.290"])

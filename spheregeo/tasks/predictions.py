"""Every sample's prediction as a table: gathered over batches and processes, written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.tasks.checks import check_output
from spheregeo.tasks.files import write_bytes

Table = tuple[Tensor, Tensor, Tensor]  # index (n,), truth (n,), probability (n, classes)


class Predictions(Metric):
    """Keeps the truth and the classes' probabilities of every sample.

    Shape: ``update`` takes truth (B,), probability (B, C) and the samples' numbers (B,), or None to count them;
        ``compute`` gives numbers, truth and probability in the order of the numbers, each number once.
    """

    full_state_update = False
    higher_is_better = None
    index: list[Tensor]
    truth: list[Tensor]
    probability: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("index", "truth", "probability"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, truth: Tensor, probability: Tensor, index: Tensor | None = None) -> None:
        start = sum(len(part) for part in self.index)
        numbers = torch.arange(start, start + len(truth), device=truth.device) if index is None else index
        self.index.append(numbers)
        self.truth.append(truth)
        self.probability.append(probability)

    def compute(self) -> Table:
        # Between processes torchmetrics has joined the parts to one tensor already.
        index, truth, probability = (
            (p if isinstance(p, Tensor) else torch.cat(p)).cpu()
            for p in (self.index, self.truth, self.probability)
        )
        # A sampler for several processes repeats a few samples, so that all have as many.
        order = torch.argsort(index, stable=True)
        sorted_index = index[order]
        first = torch.cat([sorted_index.new_ones(1).bool(), sorted_index[1:] != sorted_index[:-1]])
        kept = order[first]
        return index[kept], truth[kept], probability[kept]


def write_predictions(
    path: str | Path,
    table: Table,
    class_names: Sequence[str],
    names: Sequence[str] | Mapping[int, str] | None = None,
) -> Path:
    """Write index (or name), truth, prediction and each class's probability, a sample a line; atomically.

    Args:
        names: what the samples are called, by their number; the numbers if None.

    Raises: ValueError for probabilities that are not finite.
    """
    bad = (~torch.isfinite(table[2]).all(1)).nonzero()
    if len(bad):
        index = int(table[0][int(bad[0])])
        name = str(index) if names is None else names[index]
        raise ValueError(f"the probabilities of sample {name} are not finite; are the weights broken?")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "truth", "prediction", *(f"p({name})" for name in class_names)])
    for index, truth, probability in zip(*(part.tolist() for part in table)):
        said = max(range(len(probability)), key=probability.__getitem__)
        name = str(index) if names is None else names[index]
        known = class_names[truth] if truth >= 0 else ""
        writer.writerow([name, known, class_names[said], *(f"{p:.6f}" for p in probability)])
    return write_bytes(path, text.getvalue().encode())


def sample_names(trainer: Any, numbers: Sequence[int]) -> dict[int, str] | None:
    """Return what the test data call their samples, by number; None where they have no names.

    Args:
        trainer: Lightning's trainer, which knows the loader of the test.
        numbers: numbers of the samples in their dataset.
    """
    loader = getattr(trainer, "test_dataloaders", None)
    dataset = getattr(loader, "dataset", None)
    while dataset is not None:
        name, names = getattr(dataset, "name", None), getattr(dataset, "names", None)
        if callable(name):
            return {k: str(name(k)) for k in numbers}
        if isinstance(names, (list, tuple)) and len(names) == len(dataset):
            return {k: str(names[k]) for k in numbers}
        dataset = getattr(dataset, "dataset", None)  # what a view looks at
    return None


def class_columns(class_names: Sequence[str]) -> list[str]:
    """Return the head of a table of classes: sample, truth, prediction, the probability of each class, confidence."""
    return ["sample", "truth", "prediction", *(f"p({name})" for name in class_names), "confidence"]


def class_row(name: str, probability: Tensor, class_names: Sequence[str]) -> list[str]:
    """Return a row of a table of classes for a file whose class is not known.

    Args:
        name: name of the file.
        probability: probability of each class, (num_classes,).
        class_names: one name per class.
    """
    best = int(probability.argmax())
    numbers = [f"{p:.6f}" for p in (*probability.tolist(), float(probability[best]))]
    return [name, "", class_names[best], *numbers]


def class_line(probability: Tensor, class_names: Sequence[str]) -> str:
    """Return the likeliest class with its probability, such as "cat (93%)"."""
    best = int(probability.argmax())
    return f"{class_names[best]} ({float(probability[best]):.0%})"


def check_probability(logits: Tensor) -> Tensor:
    """Return the probability of each class, on the CPU in float32, once the logits are found finite.

    Args:
        logits: the network's output, (B, num_classes).

    Raises: ValueError for NaN or infinite logits.
    """
    return check_output(logits).float().softmax(1).cpu()

"""Checks of batches: each returns what it has checked, or raises a ValueError that says what came and what was expected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.grids import Grid

Batch = dict[str, Any]


def take(task: Any, batch: Batch, key: str) -> Any:
    """Return an entry of a batch.

    Args:
        task: the task that needs the entry, for the message.
        batch: entries by name.
        key: name of the entry.

    Raises: ValueError when the batch has no such entry.
    """
    if key not in batch:
        raise ValueError(
            f"the data give {', '.join(sorted(batch))} but {type(task).__name__} needs {key!r}; "
            "are the files for it in their folder?"
        )
    return batch[key]


def check_field(image: Tensor, grid: Grid, channels: int) -> Tensor:
    """Return images on a grid once their shape and values are found sound.

    Args:
        image: images, (B, channels, *grid.shape).
        grid: the grid that the network was built for.
        channels: channels that the network was built for.

    Raises: ValueError for another shape, or values that are not finite.
    """
    expected = (channels, *grid.shape)
    if image.dim() != len(expected) + 1 or image.shape[1] != channels:
        raise ValueError(
            f"image has shape {tuple(image.shape)}; this task expects (B, {', '.join(map(str, expected))}), "
            f"{channels} channels; was the model built for other data?"
        )
    if tuple(image.shape[1:]) != expected:
        raise ValueError(
            f"image has shape {tuple(image.shape[2:])} but the grid is {grid!r} with shape "
            f"{tuple(grid.shape)}; resample the images to the model's grid "
            f"(data.size in a recipe, --data.size '{list(grid.shape)}' on the command line)"
        )
    if not bool(torch.isfinite(image).all()):
        bad = int((~torch.isfinite(image)).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"image {bad} of the batch holds NaN or infinite values; clean the data or mask them"
        )
    return image


def check_on_grid(values: Tensor, grid: Grid, name: str) -> Tensor:
    """Return values of every point of a grid once their shape is found right.

    Args:
        values: values, (B, *grid.shape).
        grid: the grid.
        name: what the values are called in the batch, for the message.

    Raises: ValueError for another shape.
    """
    if tuple(values.shape[1:]) != tuple(grid.shape):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; expected (B, {', '.join(map(str, grid.shape))}) on {grid!r}"
        )
    return values


def check_labels(label: Tensor, grid: Grid, num_classes: int, ignore_index: int) -> Tensor:
    """Return the classes of every point of a grid once their shape and range are found sound.

    Args:
        label: classes, (B, *grid.shape).
        grid: the grid.
        num_classes: number of classes.
        ignore_index: label of points that are not used, which may be out of range.

    Raises: ValueError for another shape, or labels out of range.
    """
    check_on_grid(label, grid, "label")
    wrong = (label != ignore_index) & ((label < 0) | (label >= num_classes))
    if bool(wrong.any()):
        raise ValueError(
            f"label {int(label[wrong][0])} is out of range: there are {num_classes} classes, 0 to "
            f"{num_classes - 1}, and {ignore_index} is ignored; check the label files and the classes"
        )
    return label


def check_classes(label: Tensor, samples: int, num_classes: int) -> Tensor:
    """Return one class per sample, as int64, once the labels' shape and range are found sound.

    Args:
        label: classes, (samples,).
        samples: number of samples in the batch.
        num_classes: number of classes.

    Raises: ValueError for another shape, or labels out of range.
    """
    if tuple(label.shape) != (samples,):
        raise ValueError(
            f"label has shape {tuple(label.shape)}; expected ({samples},), one class for each of the batch's samples"
        )
    wrong = (label < 0) | (label >= num_classes)
    if bool(wrong.any()):
        raise ValueError(
            f"label {int(label[wrong][0])} is out of range: there are {num_classes} classes, 0 to "
            f"{num_classes - 1}; check the labels and the classes"
        )
    return label.long()


def check_loss(loss: Tensor, lr: float) -> Tensor:
    """Return a loss once it is found finite, so that no checkpoint is written after a run has diverged.

    Args:
        loss: the loss, ().
        lr: peak learning rate, for the message.

    Raises: ValueError for NaN or infinity.
    """
    if not bool(torch.isfinite(loss)):
        raise ValueError(
            f"the loss is {float(loss.detach())}, so the training has diverged; lower --model.lr ({lr:g} now), or clip "
            "the gradient with --trainer.gradient_clip_val 1"
        )
    return loss


def check_output(output: Tensor) -> Tensor:
    """Return a network's output once it is found finite. Raises: ValueError for NaN or infinite values."""
    if not bool(torch.isfinite(output).all()):
        raise ValueError(
            "the network's output holds NaN or infinite values, so there is no answer; are values of the input far "
            "from those of the training, or the weights broken?"
        )
    return output


def class_list(names: Any, num_classes: int) -> list[str]:
    """Return one name per class; numbers if ``names`` is None. Raises: ValueError when there are fewer or more."""
    found = list(names) if names is not None else [str(c) for c in range(num_classes)]
    if len(found) != num_classes:
        raise ValueError(f"class_names has {len(found)} names but num_classes is {num_classes}")
    return found


def check_precision(trainer: Any, refused: tuple[str, ...], reason: str) -> None:
    """Check that a task can train in the trainer's precision.

    Args:
        trainer: Lightning's trainer.
        refused: precisions in which the task cannot.
        reason: what is wrong with them, for the message.

    Raises: ValueError for one of those.
    """
    precision = str(getattr(trainer, "precision", "32-true"))
    if precision in refused:
        raise ValueError(
            f"trainer.precision is {precision!r}, {reason}; expected 32-true, bf16-mixed or 16-mixed"
        )

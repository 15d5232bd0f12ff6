"""What segmentation and depth share: a network built from plain arguments, checks of the input, AdamW with warm-up
and cosine decay (Loshchilov & Hutter 2017, arXiv 1608.03983 and 1711.05101).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.tasks.files import read_checkpoint
from spheregeo.tasks.plain import parse_grid, parse_kernel

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def _network_options(width: int | None, depth: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
    chosen = dict(options or {})
    chosen.update({k: v for k, v in (("width", width), ("depth", depth)) if v is not None})
    if isinstance(chosen.get("kernel"), str):
        chosen["kernel"] = parse_kernel(chosen["kernel"])
    if chosen.get("levels") is not None:
        chosen["levels"] = [parse_grid(g) if isinstance(g, str) else g for g in chosen["levels"]]
    return chosen


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return repr(value)  # grids and kernels: their repr evaluates back


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear rise over the first ``warmup`` share of ``total`` steps, then half a cosine down to 0."""
    warm = max(1, round(warmup * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


class SphereTask(pl.LightningModule, ABC):
    """Base of the tasks on fields over one grid: network, optimiser, input checks.

    Shape: ``forward`` maps images (B, in_channels, *grid.shape) to the network's output.
    Raises: ValueError for images of another shape, or with values that are not finite.
    """

    monitor = "val/loss"
    mode = "min"
    areas: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, out_channels: int, *, in_channels: int, grid: Any, network: str, width: int | None, depth: int | None,
        options: dict[str, Any] | None, mean: Sequence[float] | None, std: Sequence[float] | None,
        lr: float, weight_decay: float, warmup: float, plain: dict[str, Any],
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; it is the share of all steps, 0 <= warmup < 1")
        self.grid: Grid = parse_grid(grid) if isinstance(grid, str) else grid
        self.in_channels, self.lr, self.weight_decay, self.warmup = in_channels, lr, weight_decay, warmup
        self.network = models.create(
            network, in_channels, out_channels, self.grid, **_network_options(width, depth, options)
        )
        for name, numbers, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            values = [default] * in_channels if numbers is None else [float(v) for v in numbers]
            if len(values) != in_channels:
                raise ValueError(f"{name} has {len(values)} numbers but in_channels is {in_channels}")
            self.register_buffer(f"image_{name}", torch.tensor(values), persistent=False)
        self.register_buffer("areas", self.grid.areas.float().reshape(self.grid.shape), persistent=False)
        common = {
            "in_channels": in_channels, "grid": self.grid, "network": network, "width": width, "depth": depth,
            "options": options, "mean": self.image_mean.tolist(), "std": self.image_std.tolist(), "lr": lr,
            "weight_decay": weight_decay, "warmup": warmup,
        }  # fmt: skip
        self.save_hyperparameters(_plain({**common, **plain}), logger=False)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.network(image)
        return result

    @abstractmethod
    def decide(self, output: Tensor) -> Tensor:
        """What the network's output (B, out_channels, *shape) says: classes or depths (B, *shape)."""

    def normalize(self, image: Tensor) -> Tensor:
        """An image in its own units, (..., C, H, W), as the data module would feed it: (image - mean) / std."""
        return (image - self.image_mean.to(image)[:, None, None]) / self.image_std.to(image)[:, None, None]

    def take(self, batch: dict[str, Tensor], key: str) -> Tensor:
        """An entry of a batch. Raises: ValueError when the data do not give it."""
        if key not in batch:
            raise ValueError(
                f"the data give {', '.join(sorted(batch))} but {type(self).__name__} needs {key!r}; "
                "are the files for it in their folder?"
            )
        return batch[key]

    def check_image(self, image: Tensor) -> Tensor:
        """The image itself, once its shape and values are found sound."""
        expected = (self.in_channels, *self.grid.shape)
        if image.dim() != len(expected) + 1 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"image has shape {tuple(image.shape)}; this task expects (B, {', '.join(map(str, expected))}), "
                f"{self.in_channels} channels; was the model built for other data?"
            )
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image has shape {tuple(image.shape[2:])} but the grid is {self.grid!r} with shape "
                f"{tuple(self.grid.shape)}; resample the images to the model's grid "
                f"(data.size in a recipe, --data.size '{list(self.grid.shape)}' on the command line)"
            )
        if not bool(torch.isfinite(image).all()):
            bad = int((~torch.isfinite(image)).flatten(1).any(1).nonzero()[0])
            raise ValueError(
                f"image {bad} of the batch holds NaN or infinite values; clean the data or mask them"
            )
        return image

    def check_loss(self, loss: Tensor) -> Tensor:
        """The loss itself, once it is found finite: no checkpoint is written after a run has diverged."""
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"the loss is {float(loss.detach())}, so the training has diverged; lower --model.lr ({self.lr:g} now), or clip "
                "the gradient with --trainer.gradient_clip_val 1 (checkpoints written so far are intact)"
            )
        return loss

    def configure_optimizers(self) -> Any:
        # Norms and biases are not decayed: they are scales and offsets, not evidence of over-fitting.
        decayed = [p for p in self.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step: a function of the step alone, so that a resumed run has no state to lose.

        Not a scheduler of torch's: those want the number of steps before a resumed run knows its epoch, and asking
        Lightning for it then makes worker processes read ahead in the wrong epoch.
        """
        batches = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        epochs, steps = self.trainer.max_epochs or -1, self.trainer.max_steps
        total = batches * epochs if steps < 0 else steps if epochs < 0 else min(steps, batches * epochs)
        rate = self.lr * learning_rate_factor(self.trainer.global_step, total, self.warmup)
        optimizers = self.optimizers(use_pl_optimizer=False)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:  # type: ignore[union-attr]
                group["lr"] = rate

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises: ValueError when the checkpoint to go on from holds another network, or one on another grid."""
        stored = checkpoint.get("hyper_parameters", {})
        for name in ("in_channels", "num_classes", "grid", "network", "width", "depth", "options"):
            if name in stored and stored[name] != self.hparams.get(name):
                raise ValueError(
                    f"the checkpoint was written with {name} {stored[name]!r} but this run has {self.hparams.get(name)!r}; "
                    "resume with the settings it began with, or start a new run"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task"] = type(self).__name__


def load(path: str | Path, grid: Any = None, weights: bool = True) -> SphereTask:
    """The task stored in a checkpoint, on the CPU, in evaluation mode; ``grid`` moves it to another resolution.

    Raises: FileNotFoundError, ValueError for a missing or foreign file.
    """
    from spheregeo import tasks

    content = read_checkpoint(path)
    name = content.get("task")
    if name not in ("Segmentation", "Depth"):
        raise ValueError(
            f"{path} was not written by a spheregeo task; expected Segmentation or Depth, got {name!r}"
        )
    arguments = {**content["hyper_parameters"], **({"grid": grid} if grid is not None else {})}
    if grid is not None and (arguments.get("options") or {}).get("levels"):
        raise ValueError(
            "the checkpoint's network has its own list of levels, so its grid cannot be replaced"
        )
    task: SphereTask = getattr(tasks, name)(**arguments)
    if weights:
        missing, unexpected = task.load_state_dict(content["state_dict"], strict=False)
        if missing or unexpected:
            raise ValueError(
                f"{path} does not fit its own description: missing {missing[:3]}, unexpected {unexpected[:3]}"
            )
    return task.eval()

"""Precise batch norm: batch statistics estimated anew before each validation, with the weights as they then are.

Running statistics are a memory of the last dozen steps. While the learning rate is high the weights have moved on since,
and a classifier notices: what all samples share (a dark background, say) shifts by more than the samples differ, and the scores
of the epochs before the last are chance. A few training batches, put through the network once more, mend that.
Reference: Wu & Johnson 2021, arXiv:2105.07576, section 3.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed, nn

from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch


def norms(module: nn.Module) -> list[Any]:
    """Return the layers that keep running statistics and take them from the batch when they train."""
    names = ("running_mean", "running_var")
    return [
        m
        for m in module.modules()
        if hasattr(m, "momentum") and all(isinstance(getattr(m, n, None), Tensor) for n in names)
    ]


@torch.no_grad()
def estimate_statistics(task: Task, batches: list[Batch]) -> None:
    """Replace the running statistics of all norms by their mean over some batches; all else stays as it is.

    Args:
        task: the task whose norms are estimated.
        batches: training batches; none leave everything as it is.
    """
    found = [norm for norm in norms(task) if not getattr(norm, "frozen", False)]
    if not found or not batches:
        return
    modes = {m: m.training for m in task.modules()}
    momenta = [norm.momentum for norm in found]
    task.eval()
    for norm in found:
        norm.train()
    try:
        for k, batch in enumerate(batches):
            for norm in found:
                norm.momentum = 1 / (k + 1)  # the mean so far
            task.forward_batch(batch)
    finally:
        for m, training in modes.items():
            m.training = training
        for norm, momentum in zip(found, momenta, strict=True):
            norm.momentum = momentum
    if distributed.is_available() and distributed.is_initialized():
        for norm in found:
            for statistic in (norm.running_mean, norm.running_var):
                distributed.all_reduce(statistic)
                statistic /= distributed.get_world_size()


class PreciseBatchNorm(Callback):
    """Lightning callback: :func:`estimate_statistics` from the last training batches, before each validation of a fit.

    The callback belongs after one that averages weights, so that the statistics are those of the averaged weights.

    Args:
        batches: number of batches.

    Raises: ValueError for fewer than one batch.
    """

    def __init__(self, batches: int) -> None:
        if batches < 1:
            raise ValueError(f"batches is {batches}; expected at least 1")
        self._batches: deque[Batch] = deque(maxlen=batches)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches.clear()  # a resumed run has seen nothing of the epoch before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._batches.append(batch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and isinstance(pl_module, Task):
            estimate_statistics(pl_module, list(self._batches))

"""Sums over the processes of a distributed training, differentiable, so that layers act on the global batch.

Norms that average over a batch average over the batches of all processes, and dropout of samples draws one mask for them all: a
step of several processes is then the step that one process makes with the batch of them all. Statistics are weighted by what each
process holds (samples, points, areas), so batches of different sizes, or none, count right. Processes must call the layers in
step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from spheregeo.autograd import Function

__all__ = ["gather_rows", "is_synchronized", "num_processes", "sum_over_processes", "synchronize_norms"]


def num_processes() -> int:
    """Return how many processes train together; 1 where torch.distributed is not initialised."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _Sum(Function):
    """Sum over processes. Each holds a part of the loss, so the sum of all gradients is the gradient of any summand."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        total = x.detach().clone().contiguous()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return sum_over_processes(g)


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, differentiable any number of times.

    Args:
        x: a tensor of one shape in all processes.

    Shape: any -> the same.
    """
    if num_processes() == 1:
        return x
    total: Tensor = _Sum.apply(x)
    return total


def gather_rows(x: Tensor) -> Tensor:
    """Return the vectors of all processes, in the order of their ranks. Shape: (n,) -> (processes, n)."""
    if num_processes() == 1:
        return x[None]
    own = torch.zeros(num_processes(), 1, dtype=x.dtype, device=x.device)
    own[distributed.get_rank()] = 1
    return sum_over_processes(own * x)


def is_synchronized(norm: nn.Module | None) -> bool:
    """Return whether a norm takes its statistics from the batches of all processes at this moment."""
    return norm is not None and norm.training and getattr(norm, "synchronize", True) and num_processes() > 1


def synchronize_norms(module: nn.Module, on: bool = True) -> nn.Module:
    """Choose whether norms take statistics from the batches of all processes, as they do by default, or from their own.

    Statistics of one process's share cost no communication, but the training is then that of smaller batches.

    Args:
        module: layer or network whose norms are set; every batch norm of this package follows.
        on: whether norms are synchronised.

    Returns the module.

    Example:
        >>> from spheregeo.nn import IrrepsBatchNorm
        >>> from spheregeo.nn.parallel import synchronize_norms
        >>> synchronize_norms(IrrepsBatchNorm("4x0e"), False).synchronize
        False
    """
    for part in module.modules():
        if hasattr(part, "running_mean"):
            part.synchronize = on  # type: ignore[assignment]
    return module


def leave_constants_alone(module: nn.Module) -> nn.Module:
    """Have ``DistributedDataParallel`` broadcast no constants: every process makes geometry alike, and it never changes.

    torch broadcasts all buffers before each forward pass. What checkpoints hold, such as running statistics, is still broadcast;
    buffers that are not persistent are left out.

    Args:
        module: what ``DistributedDataParallel`` will be given.

    Returns the module.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import AreaBatchNorm
        >>> leave_constants_alone(AreaBatchNorm(2, HEALPix(2)))._ddp_params_and_buffers_to_ignore
        ['share']
    """
    module._ddp_params_and_buffers_to_ignore = [  # type: ignore[assignment]
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in part._buffers
        if name in part._non_persistent_buffers_set
    ]
    return module

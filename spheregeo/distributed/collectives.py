"""Sums and exchanges over the processes of a group, with exact derivatives of every order, and a count of the bytes they move.

The convention of all derivatives here: each process holds a part of the loss, and the loss is the sum of the parts. The
derivative of a sum over processes is then the sum of the cotangents, and the cotangent of a copied point goes back to its owner
and adds.
Without an initialised ``torch.distributed`` a group is this one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed

from spheregeo.autograd import Function

Group = Any  # torch.distributed.ProcessGroup, or None for all processes


def group_size(group: Group = None) -> int:
    """How many processes a group has; 1 where torch.distributed is not initialised."""
    return distributed.get_world_size(group) if _ready() else 1


def group_rank(group: Group = None) -> int:
    """Number of this process within its group; 0 where torch.distributed is not initialised."""
    return distributed.get_rank(group) if _ready() else 0


def _ready() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def share_groups(size: int) -> tuple[Group, int, int]:
    """Groups of consecutive processes, each of which shares one sphere; called by all processes, once.

    Args:
        size: processes of a group.

    Returns the group of this process, its number, and the number of groups: samples are dealt out to groups, as by
    ``DistributedSampler(data, num_replicas=number of groups, rank=number of the group)``.

    Raises: ValueError for a size that does not divide the number of processes.

    Example:
        >>> from spheregeo.distributed import share_groups
        >>> share_groups(1)  # of one process
        (None, 0, 1)
    """
    everyone = group_size()
    if size < 1 or everyone % size:
        raise ValueError(f"size is {size}; expected a divisor of {everyone}, the number of processes")
    if everyone == size:
        return None, 0, 1
    groups = [distributed.new_group(list(range(first, first + size))) for first in range(0, everyone, size)]
    number = group_rank() // size
    return groups[number], number, len(groups)


def set_up_device(group: Group = None) -> torch.device:
    """Where tensors of the set-up have to lie for the group's backend: NCCL moves those of a GPU only."""
    nccl = _ready() and "nccl" in str(distributed.get_backend(group))
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


@dataclass
class Traffic:
    """What the collectives of this room moved.

    Attributes:
        sent: bytes that this process sent to others, one entry for each exchange of points.
        received: bytes that it received, likewise.
        summed: bytes of tensors that were summed over the group, one entry for each sum.
    """

    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    summed: list[int] = field(default_factory=list)


_open: list[Traffic] = []


@contextmanager
def measured_traffic() -> Iterator[Traffic]:
    """Count what this process moves by halo exchanges and sums inside the context.

    Example:
        >>> from spheregeo.distributed import measured_traffic
        >>> with measured_traffic() as traffic:
        ...     pass
        >>> traffic.sent
        []
    """
    traffic = Traffic()
    _open.append(traffic)
    try:
        yield traffic
    finally:
        _open.remove(traffic)


def exchange_rows(rows: Tensor, send: Sequence[int], receive: Sequence[int], group: Group = None) -> Tensor:
    """Rows for each process of the group in turn -> the rows from each process in turn. No derivatives.

    Args:
        rows: rows to send, those for process 0 first.
        send, receive: how many rows go to, and come from, each process.
        group: the processes; None for all.

    Shape: (sum of send, F) -> (sum of receive, F).
    """
    made = rows.new_empty(sum(receive), *rows.shape[1:])
    size = rows[:1].numel() * rows.element_size() if rows.shape[0] else made[:1].numel() * made.element_size()
    for traffic in _open:
        traffic.sent.append(rows.shape[0] * size)
        traffic.received.append(made.shape[0] * size)
    rows, me = rows.contiguous(), group_rank(group)
    calls = []
    ways = (distributed.isend, rows.split(list(send))), (distributed.irecv, made.split(list(receive)))
    for way, parts in ways:
        for other, part in enumerate(parts):
            if not len(part):
                continue
            if other == me:
                own = sum(receive[:me])
                made[own : own + len(part)] = rows[sum(send[:me]) :][: len(part)]
            else:
                calls.append(distributed.P2POp(way, part, _everywhere(other, group), group))
    for call in distributed.batch_isend_irecv(calls) if calls else ():
        call.wait()
    return made


def _everywhere(rank: int, group: Group) -> int:
    """Number among all processes of one within a group."""
    return rank if group is None else distributed.get_global_rank(group, rank)


class _Sum(Function):
    @staticmethod
    def forward(x: Tensor, group: Group) -> Tensor:  # type: ignore[override]
        total = x.detach().clone().contiguous()
        for traffic in _open:
            traffic.summed.append(total.numel() * total.element_size())
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return sum_over_group(g, ctx.group), None


@torch.compiler.disable
def sum_over_group(x: Tensor, group: Group = None) -> Tensor:
    """Sum of a tensor over the processes of a group, differentiable any number of times.

    Args:
        x: a tensor of one shape in all processes.
        group: the processes; None for all.

    Shape: any -> the same.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import sum_over_group
        >>> sum_over_group(torch.ones(2))  # of one process
        tensor([1., 1.])
    """
    if group_size(group) == 1:
        return x
    total: Tensor = _Sum.apply(x, group)
    return total


def stack_over_group(x: Tensor, group: Group = None) -> Tensor:
    """Tensors of all processes in the order of their ranks, differentiable. Shape: (*) -> (processes, *)."""
    place = x.new_zeros(group_size(group), *[1] * x.ndim)
    place[group_rank(group)] = 1
    return sum_over_group(place * x, group)


@torch.no_grad()
def sum_gradients(module: torch.nn.Module, group: Group = None, mean: bool = False) -> None:
    """Add up the gradients of a module's weights over a group after a backward pass, in one exchange for each type of weights.

    Args:
        module: layer or network; weights without a gradient count as zero if another process has one.
        group: the processes; None for all.
        mean: whether to take the mean in place of the sum.
    """
    count = group_size(group)
    if count == 1:
        return
    weights = [p for p in module.parameters() if p.requires_grad]
    for kind in dict.fromkeys((p.dtype, p.device) for p in weights):
        chosen = [p for p in weights if (p.dtype, p.device) == kind]
        for p in chosen:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = sum_over_group(torch.cat([p.grad.reshape(-1) for p in chosen]), group)  # type: ignore[union-attr]
        flat = flat / count if mean else flat
        for p, part in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
            p.grad = part.view_as(p)

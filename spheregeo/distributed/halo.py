"""The exchange of a halo: points of other processes that rows of this one read, brought here and their cotangents back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from spheregeo.autograd import Function
from spheregeo.distributed.collectives import (
    Group,
    exchange_rows,
    group_rank,
    group_size,
    set_up_device,
)
from spheregeo.distributed.partition import Partition


class Halo(nn.Module):
    """Fields on this process's points, extended by the points of others that are read here.

    All processes of the group make their halos together: each tells the owners which points it reads, once. Extended fields hold
    the points of lower ranks, then this process's own, then those of higher ranks, each in ascending order: on partitions into
    stretches, all in ascending order.

    Args:
        partition: owners of the points.
        read: points that are read here, this process's own among them or not.
        group: the processes, as many as the partition has parts; None for all.

    Shape: ``halo(x, axis)``: n points along the axis -> n + number of points of others. Rows of other axes are left alone.
    Raises: ValueError for a group of another size.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Halo, Partition
        >>> from spheregeo.grids import HEALPix
        >>> Halo(Partition.of(HEALPix(1), 1), torch.arange(3))(torch.randn(2, 5, 12)).shape  # of one process, which owns all
        torch.Size([2, 5, 12])
    """

    send: Tensor

    def __init__(self, partition: Partition, read: Tensor, group: Group = None) -> None:
        super().__init__()
        size, rank = group_size(group), group_rank(group)
        if size != partition.parts:
            raise ValueError(f"partition has {partition.parts} parts and the group {size} processes")
        self.group, self.rank = group, rank
        own = partition.points_of(rank)
        others = read[partition.owner[read] != rank]
        others = torch.unique(others)
        others = others[partition.owner[others].argsort(stable=True)]
        counts = torch.bincount(partition.owner[others], minlength=size)
        self.receive_counts: list[int] = counts.tolist()
        self.before = sum(self.receive_counts[:rank])
        self.num_own, self.num_halo = len(own), len(others)
        # points of the extended field, by their numbers in the whole; read-only
        self.points = torch.cat([others[: self.before], own, others[self.before :]])
        asked = [0] * size
        if size > 1:
            device = set_up_device(group)
            theirs = torch.empty(size, dtype=torch.int64, device=device)
            distributed.all_to_all_single(theirs, counts.to(device), group=group)
            asked = theirs.tolist()
            wanted = torch.empty(sum(asked), dtype=torch.int64, device=device)
            distributed.all_to_all_single(wanted, others.to(device), asked, self.receive_counts, group=group)
            others = wanted.cpu()
        else:
            others = own[:0]
        self.send_counts: list[int] = asked
        self.register_buffer("send", torch.searchsorted(own, others), persistent=False)

    def forward(self, x: Tensor, axis: int = -1) -> Tensor:
        axis = axis % x.ndim
        if x.shape[axis] != self.num_own:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected {self.num_own} points along axis {axis}, those that this process owns"
            )
        if group_size(self.group) == 1:
            return x
        if x.ndim == 3 and axis == 2 and x.stride(1) == 1 and x.shape[1] > 1:  # channels last in memory
            return self.forward(x.transpose(1, 2), 1).transpose(1, 2)
        return _extended(x, self, axis)

    def bytes(self, features: int, dtype: torch.dtype) -> int:
        """Bytes that one exchange brings here: points of others times features times the size of a number.

        Args:
            features: numbers of each point, over all samples and channels.
            dtype: of the field.
        """
        return self.num_halo * features * torch.empty(0, dtype=dtype).element_size()

    def extra_repr(self) -> str:
        return f"{self.num_own} points and {self.num_halo} of others"

    def __deepcopy__(self, memo: dict[int, Any]) -> Halo:
        """The halo itself, whose plan never changes; process groups cannot be copied."""
        return memo.setdefault(id(self), self)  # type: ignore[return-value]


@torch.compiler.disable
def _extended(x: Tensor, halo: Halo, axis: int) -> Tensor:
    result: Tensor = _Extend.apply(x, halo, axis)
    return result


def _as_rows(x: Tensor, axis: int) -> Tensor:
    return x.movedim(axis, 0).flatten(1)


def _as_points(rows: Tensor, like: Tensor, axis: int) -> Tensor:
    shape = [s for k, s in enumerate(like.shape) if k != axis]
    return rows.unflatten(1, shape).movedim(0, axis) if shape else rows[:, 0]


class _Extend(Function):
    """Own points -> own points and halo."""

    @staticmethod
    def forward(x: Tensor, halo: Halo, axis: int) -> Tensor:  # type: ignore[override]
        x = x.detach()
        sent = _as_rows(x.index_select(axis, halo.send), axis)
        found = _as_points(exchange_rows(sent, halo.send_counts, halo.receive_counts, halo.group), x, axis)
        low, high = found.split([halo.before, halo.num_halo - halo.before], axis)
        return torch.cat([low, x, high], axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.halo, ctx.axis = inputs

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Return.apply(g, ctx.halo, ctx.axis), None, None


class _Return(Function):
    """The adjoint: cotangents of the halo go back to the owners and add, in the order of the ranks, so that sums do not vary."""

    @staticmethod
    def forward(g: Tensor, halo: Halo, axis: int) -> Tensor:  # type: ignore[override]
        g = g.detach()
        low, own, high = g.split([halo.before, halo.num_own, halo.num_halo - halo.before], axis)
        rows = _as_rows(torch.cat([low, high], axis), axis)
        found = _as_points(exchange_rows(rows, halo.receive_counts, halo.send_counts, halo.group), g, axis)
        total = own.clone(memory_format=torch.contiguous_format)
        parts = zip(halo.send.split(halo.send_counts), found.split(halo.send_counts, axis), strict=True)
        for index, part in parts:  # within a part no index comes twice
            if len(index):
                total.index_add_(axis, index, part)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.halo, ctx.axis = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Extend.apply(grad, ctx.halo, ctx.axis), None, None

"""Fields that come from one process and go back to one: scattered, gathered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from spheregeo.distributed.collectives import (
    Group,
    exchange_rows,
    group_rank,
    group_size,
    set_up_device,
    sum_over_group,
)
from spheregeo.distributed.part import Part
from spheregeo.distributed.partition import Partition


def scatter_field(field: Tensor | None, partition: Partition, group: Group = None, root: int = 0) -> Tensor:
    """This process's part of a field that one process holds. No derivatives.

    Where every process holds the field, or can read its part from a file, take :meth:`Part.of` and :attr:`Part.index`.

    Args:
        field: the whole field on the process ``root``; None, or anything, on others.
        partition: owners of the grid's points.
        group: the processes; None for all.
        root: rank within the group.

    Shape: (..., *grid.shape) -> (..., *part.shape).
    """
    part = Part(partition, group_rank(group))
    size = group_size(group)
    if size == 1:
        assert field is not None
        return part.of(field)
    facts: list[Any] = [None]
    if group_rank(group) == root:
        assert field is not None
        facts = [(tuple(field.shape[: field.ndim - len(part.whole.shape)]), field.dtype)]
    source = root if group is None else distributed.get_global_rank(group, root)
    distributed.broadcast_object_list(facts, src=source, group=group)
    lead, dtype = facts[0]
    receive = [part.num_points if k == root else 0 for k in range(size)]
    if group_rank(group) == root:
        assert field is not None
        order = torch.cat([partition.points_of(k) for k in range(size)]).to(field.device)
        rows = (
            field.detach().flatten(-len(part.whole.shape)).index_select(-1, order).movedim(-1, 0).flatten(1)
        )
        send = partition.counts.tolist()
    else:
        width = int(torch.Size(lead).numel())
        rows, send = torch.empty(0, width, dtype=dtype, device=set_up_device(group)), [0] * size
    found = exchange_rows(rows, send, receive, group)
    return found.unflatten(1, lead or (1,)).movedim(0, -1).reshape(*lead, *part.shape)


def gather_field(field: Tensor, partition: Partition, group: Group = None) -> Tensor:
    """The whole field on every process, from the parts of all; differentiable.

    Args:
        field: on this process's points.
        partition: owners of the grid's points.
        group: the processes; None for all.

    Shape: (..., *part.shape) -> (..., *grid.shape).

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Partition, gather_field, scatter_field
        >>> from spheregeo.grids import HEALPix
        >>> partition = Partition.of(HEALPix(1), 1)  # of one process
        >>> gather_field(scatter_field(torch.ones(2, 12), partition), partition).shape
        torch.Size([2, 12])
    """
    part = Part(partition, group_rank(group))
    flat = field.flatten(-len(part.shape))
    whole = flat.new_zeros(*flat.shape[:-1], part.whole.num_points)
    whole = whole.index_copy(-1, part.index.to(flat.device), flat)
    return sum_over_group(whole, group).unflatten(-1, part.whole.shape)

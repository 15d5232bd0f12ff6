"""Batches of molecules by their number of edges: memory and time of a network go with edges, not with molecules."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from spheregeo import sampling
from spheregeo.data.molecules.molecules import Molecules

PIECE = 64  # molecules that are searched together
TRIED = 8  # epochs by which the number of batches is found


def count_edges(molecules: Molecules, cutoff: float) -> Tensor:
    """How many edges each molecule (N,) has: ordered pairs of atoms within the cutoff, periodic images among them.

    Args:
        molecules: the molecules.
        cutoff: largest length of an edge, Å.
    """
    found = []
    for first in range(0, len(molecules), PIECE):
        part = molecules.select(range(first, min(first + PIECE, len(molecules))))
        batch = torch.repeat_interleave(torch.arange(len(part)), part.counts)
        if part.pbc is not None and part.cell is not None and bool(part.pbc.any()):
            edges = sampling.periodic_radius_graph(part.positions, cutoff, part.cell, part.pbc, batch)[0]
        else:
            edges = sampling.radius_graph(part.positions, cutoff, batch)
        found.append(torch.bincount(batch[edges[1]], minlength=len(part)))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


class EdgeBatches(BatchSampler):
    """Batches of as many items as fit under a number of edges; an item that exceeds it alone is a batch of its own.

    Shuffled items go to the first batch that has room, so that batches are full; items in their order are cut where the next
    does not fit. A training has as many batches in every epoch, as its schedule needs: larger ones are divided where there
    are fewer, and items of batches beyond the number join the smallest.

    Args:
        sampler: gives the items' numbers; a new order in each epoch where it shuffles.
        edges: edges of each item, (N,).
        max_edges: most edges of a batch.
        batch_size: most items of a batch.
        shuffled: whether the sampler shuffles.

    Example:
        >>> from torch.utils.data import SequentialSampler
        >>> list(EdgeBatches(SequentialSampler(range(4)), torch.tensor([5, 4, 9, 1]), 10, 8))
        [[0, 1], [2, 3]]
    """

    def __init__(
        self, sampler: Sampler[int], edges: Tensor, max_edges: int, batch_size: int, shuffled: bool = False
    ) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.edges, self.max_edges, self.shuffled = edges.tolist(), max_edges, shuffled
        self._length: int | None = None

    def _packed(self, order: list[int]) -> list[list[int]]:
        full: list[list[int]] = []
        open_: list[tuple[int, list[int]]] = []  # edges so far and items of batches with room
        for item in order:
            size = self.edges[item]
            place = next((k for k, (held, _) in enumerate(open_) if held + size <= self.max_edges), None)
            if place is None:
                if not self.shuffled and open_:
                    full.append(open_.pop()[1])
                open_.append((size, [item]))
                place = len(open_) - 1
            else:
                open_[place][1].append(item)
                open_[place] = (open_[place][0] + size, open_[place][1])
            held, batch = open_[place]
            if len(batch) == self.batch_size or held >= self.max_edges:
                full.append(open_.pop(place)[1])
            elif len(open_) > 16:  # the search stays short
                full.append(open_.pop(0)[1])
        return full + [batch for _, batch in open_]

    def __len__(self) -> int:
        if self._length is None:
            if not self.shuffled:
                self._length = len(self._packed(list(self.sampler)))
            else:
                draw, count = torch.Generator().manual_seed(0), len(self.edges)
                orders = [torch.randperm(count, generator=draw).tolist() for _ in range(TRIED)]
                self._length = max(len(self._packed(order)) for order in orders)
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._packed(list(self.sampler))
        while len(batches) < min(len(self), len(self.edges)):
            longest = max(range(len(batches)), key=lambda k: len(batches[k]))
            if len(batches[longest]) < 2:
                break
            half = len(batches[longest]) // 2
            batches[longest : longest + 1] = [batches[longest][:half], batches[longest][half:]]
        while len(batches) > len(self):  # seldom: an order that packs worse than all that were tried
            extra = batches.pop()
            batches.sort(key=lambda batch: sum(self.edges[k] for k in batch), reverse=True)
            batches[-1] += extra
        return iter(batches)

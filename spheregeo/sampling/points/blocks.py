"""The search in more than three dimensions, on any device: blocks of all pairs by matrix products, or a tree where it pays.

Products give squared distances that are wrong by some rounding. They choose candidates; distances that decide are computed from
differences, and a target's neighbours are certain only if no source that was left out can be as near, rounding included.
Nothing of size targets x sources is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.sampling.points.cells import _merged, rank
from spheregeo.sampling.points.query import Query

PAIRS = 2**21  # pairs of a block, and numbers of differences held at once
TREE_DIMENSIONS = 8  # up to which a tree finds neighbours faster than products,
TREE_SIZE = 2**13  # in graphs of at least this many sources
SPARE = 4  # candidates beyond the limit at the first look: the point itself, the next class, the bound of what is complete

Piece = tuple[Tensor, Tensor, Tensor]  # rows, counts, sources


def search(query: Query) -> tuple[Tensor, Tensor]:
    """Numbers of neighbours (T,) and their indices, target after target (E,)."""
    pieces: list[Piece] = []
    source_bounds, target_bounds = query.source_bounds.tolist(), query.target_bounds.tolist()
    for graph in range(len(query.reach)):
        sources = slice(*source_bounds[graph : graph + 2])
        targets = slice(*target_bounds[graph : graph + 2])
        if sources.start < sources.stop and targets.start < targets.stop:
            pieces += _Graph(query, graph, sources, targets).pieces()
    if not pieces:
        none = torch.zeros(len(query.targets), dtype=torch.int64, device=query.targets.device)
        return none, none[:0]
    return _merged(pieces, len(query.targets))


class _Graph:
    """The search in one graph, whose centre is taken for the origin: less is lost in products."""

    def __init__(self, query: Query, graph: int, sources: slice, targets: slice) -> None:
        self.query, self.first = query, sources.start
        points = query.sources[sources]
        centre = points.mean(0)
        self.sources = points - centre
        self.targets = self.sources if query.same else query.targets[targets] - centre
        self.squares = self.sources.square().sum(1)
        self.rows = torch.arange(targets.start, targets.stop, device=points.device)
        self.own = query.own[targets] - sources.start  # negative: none
        self.tolerance = query.tolerance[graph : graph + 1]
        self.reach = float(query.reach[graph])
        few, many = TREE_DIMENSIONS, TREE_SIZE
        self.tree = None
        if points.device.type == "cpu" and points.shape[1] <= few and len(points) >= many:
            from scipy.spatial import cKDTree

            self.tree = cKDTree(self.sources.numpy())

    def pieces(self) -> list[Piece]:
        limit, size = self.query.limit, len(self.sources)
        every = torch.arange(len(self.rows), device=self.rows.device)
        if limit is None or limit + SPARE >= size:
            return [self._all(rows) for rows in every.split(max(1, PAIRS // size))]
        found, left, width = [], every, limit + SPARE
        while len(left):
            again = []
            for rows in left.split(max(1, PAIRS // max(width, 1 if self.tree else size))):
                piece, certain = self._nearest(rows, width)
                found.append(piece)
                again.append(rows[~certain])
            left = torch.cat(again)
            width = min(4 * width, size)
        return found

    def _squared(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances of some targets from all sources (R, S), and how wrong they may be (R, 1)."""
        targets = self.targets[rows]
        ours = targets.square().sum(1, keepdim=True)
        squared = torch.addmm(ours + self.squares, targets, self.sources.T, alpha=-2.0)
        wrong = (8 + targets.shape[1]) * 2.0**-51 * (ours + self.squares.max())
        return squared, wrong

    def _all(self, rows: Tensor) -> Piece:
        """Everything within reach."""
        if self.reach == torch.inf:
            row, source = (
                t.flatten()
                for t in torch.meshgrid(
                    torch.arange(len(rows), device=rows.device),
                    torch.arange(len(self.sources), device=rows.device),
                    indexing="ij",
                )
            )
        else:
            squared, wrong = self._squared(rows)
            row, source = (squared <= self.reach**2 + wrong).nonzero(as_tuple=True)
        counts, found, _ = self._ranked(rows, row, source, None)
        return self.rows[rows], counts, found

    def _nearest(self, rows: Tensor, width: int) -> tuple[Piece, Tensor]:
        """Neighbours among the ``width`` sources that seem nearest, of the targets of which they are certain; which these are."""
        everything = width == len(self.sources)
        if self.tree is not None:
            near, found = self.tree.query(
                self.targets[rows].numpy(), k=width, workers=torch.get_num_threads()
            )
            last = torch.from_numpy(near[:, -1]) * (1 - 1e-12)
            source = torch.from_numpy(found)
        else:
            squared, wrong = self._squared(rows)
            value, source = squared.topk(width, 1, largest=False)
            last = (value.amax(1) - wrong[:, 0]).clamp_min(0).sqrt()
        row = torch.arange(len(rows), device=rows.device).repeat_interleave(width)
        complete = None if everything else last
        counts, found, certain = self._ranked(rows, row, source.flatten(), complete)
        if not everything:
            certain |= last > self.reach
        piece = (self.rows[rows[certain]], counts[certain], found[certain.repeat_interleave(counts)])
        return piece, certain

    def _ranked(
        self, rows: Tensor, row: Tensor, source: Tensor, complete: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rank candidates by their exact distances, those nearer than ``complete`` alone, if given."""
        step = max(1, PAIRS // self.sources.shape[1])
        distance = torch.cat(
            [
                torch.linalg.vector_norm(self.sources[s] - self.targets[rows[r]], dim=1)
                for r, s in zip(row.split(step), source.split(step), strict=True)
            ]
        )
        own = self.own[rows][row] == source
        keep = distance <= self.reach
        if complete is not None:
            keep &= distance < complete[row]
        if self.query.keep_own:
            distance = distance.masked_fill(own, -1.0)
            keep |= own
        else:
            keep &= ~own
        counts, found, certain = rank(
            row[keep],
            source[keep],
            distance[keep],
            self.tolerance.expand(len(rows)),
            self.query.limit,
            self.query.all_ties,
            len(rows),
            len(self.sources),
        )
        if complete is None:
            certain = torch.ones_like(certain)
        return counts, found + self.first, certain

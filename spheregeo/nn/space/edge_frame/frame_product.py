"""Tensor products with the harmonics of edges as dense matrices, one for each order, of features in the edges' frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from spheregeo.nn.irreps.layout import EVEN, as_irreps, distinct_irreps
from spheregeo.nn.space.edge_frame.dense import Job, Mixing
from spheregeo.nn.space.edge_frame.products import ProductWeights, orders_of
from spheregeo.nn.space.steerable.so2 import SO2Maps, natural


class FrameProduct(ProductWeights, Mixing):
    """Tensor product of features with the harmonics of edges, in the edges' frames.

    Args:
        parts: irreps of the features that are taken side by side, such as those of both ends.
        irreps_out: features of the result.
        lmax: highest degree of the harmonics.
        scalars: further even scalars of each edge.
        mmax: orders beyond it are left out of features and result; None keeps all.

    Shape: features of each part planar by order, number of edges, scalars (E, scalars) or None -> planar by order.
    Equivariance: commutes with rotations about ŷ and reflections in planes that hold it.
    Raises: ValueError for irreps that nothing reaches, or features of other orders.

    Example:
        >>> product = FrameProduct(["8x0e + 4x1o", "8x0e + 4x1o"], "4x0e + 2x1o", lmax=2)
        >>> product([torch.randn(10 * 20), torch.randn(10 * 20)], 10).shape
        torch.Size([100])
    """

    def __init__(
        self,
        parts: Sequence[str | Irreps],
        irreps_out: str | Irreps,
        lmax: int,
        scalars: int = 0,
        mmax: int | None = None,
    ) -> None:
        every = [as_irreps(part, "parts") for part in parts]
        beside = [Irreps([(scalars, EVEN)])] if scalars else []
        super().__init__(Irreps([term for part in [*every, *beside] for term in part]), irreps_out, lmax)
        irs, targets = list(self.table.sources), list(self.table.targets)
        self.maps, self.num_parts = SO2Maps(self.table), len(every)
        self.source_copies, self.target_copies = (
            list(self.table.source_copies),
            list(self.table.target_copies),
        )
        self.like = [natural(irs[s]) == natural(targets[k]) for s, k, _, _ in self.maps.pairs]
        begins = []  # of each part: the columns before each of its orders
        self.columns: list[int] = []  # of each part in all
        for part in every:
            mine, first, own = distinct_irreps(part), 0, {}
            for order in orders_of(mine, mmax):
                own[order.m, order.m > 0 or natural(mine[order.members[0]])] = first
                first += order.components * sum(part.count(mine[i]) for i in order.members)
            begins.append(own)
            self.columns.append(first)
        self.jobs: list[Job] = []
        self.plans: list[
            tuple[int, tuple[int, ...], tuple[int, ...]]
        ] = []  # of matrices: order, sources, targets
        first = 0
        for order in orders_of(targets, mmax):
            is_natural = natural(targets[order.members[0]])
            key = (order.m, order.m > 0 or is_natural)
            width = sum(self.table.target_copies[k] for k in order.members)
            which, pieces = -1, list[tuple[int, int, int]]()
            for source in orders_of(irs, mmax):
                if (source.m, source.m > 0 or natural(irs[source.members[0]])) == key:
                    which = len(self.plans)
                    index = _part_by_part([irs[i] for i in source.members], [*every, *beside])
                    self.register_buffer(f"rows{which}", torch.cat(index), persistent=False)
                    self.plans.append((order.m, source.members, order.members))
                    pieces = [
                        (p, begins[p][key] if p < len(every) else 0, len(i))
                        for p, i in enumerate(index)
                        if len(i)
                    ]
            biased = key == (0, True) and self.bias is not None
            self.jobs.append(Job(order.components, width, first, biased, which, tuple(pieces)))
            first += order.components * width
        self.outputs = first
        used = {(p, at) for job in self.jobs for p, at, _ in job.pieces if p < len(every)}
        self.partial = len(used) < sum(len(own) for own in begins)  # nothing reads some orders

    def matrices(self) -> list[Tensor]:
        """One for each order of the result that anything reaches, rows part after part."""
        copies, goals = self.source_copies, self.target_copies
        blocks: dict[tuple[int, int], Tensor] = {}
        alike: dict[tuple[int, int], bool] = {}
        for i, (s, k, row, count) in enumerate(self.maps.pairs):
            weight = self.weights[k]
            orders = self.maps.get_buffer(f"orders{i}").to(weight.dtype)  # (M + 1, products)
            part = weight[0, row : row + count * copies[s]].reshape(count, -1)
            blocks[s, k], alike[s, k] = (orders @ part).view(-1, copies[s], weight.shape[2]), self.like[i]
        found = []
        for i, (m, sources, targets) in enumerate(self.plans):
            columns = []
            for k in targets:
                column = [
                    blocks[s, k][m]
                    if (s, k) in blocks and (m or alike[s, k])
                    else self.weights[k].new_zeros(copies[s], goals[k])
                    for s in sources
                ]
                columns.append(torch.cat(column) if len(column) > 1 else column[0])
            matrix = torch.cat(columns, 1) if len(columns) > 1 else columns[0]
            found.append(matrix.index_select(0, self.get_buffer(f"rows{i}")))
        return found

    def forward(self, parts: Sequence[Tensor], count: int, scalars: Tensor | None = None) -> Tensor:
        sizes = [part.numel() for part in parts]
        if sizes != [count * columns for columns in self.columns]:
            raise ValueError(
                f"parts have {sizes} values; expected {self.columns} for each of {count} edges: the orders that the product keeps"
            )
        row = None
        if self.bias is not None:
            row = torch.cat([self.bias, self.bias.new_zeros(self.jobs[0].width - len(self.bias))])
        tensors = (*parts, scalars, row, *self.matrices())
        return self.mixed(count, *tensors)


def _part_by_part(members: Sequence[Irrep], parts: Sequence[Irreps]) -> list[Tensor]:
    """Rows of an order's matrix that belong to each part; the matrix has them irrep after irrep."""
    index: list[list[Tensor]] = [[torch.zeros(0, dtype=torch.int64)] for _ in parts]
    at = 0
    for ir in members:
        for rows, part in zip(index, parts, strict=True):
            rows.append(torch.arange(at, at + part.count(ir)))
            at += part.count(ir)
    return [torch.cat(rows) for rows in index]

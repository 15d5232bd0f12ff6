"""Tensor products with the harmonics of edges as dense matrices, one for each order, of features in the edges' frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from spheregeo.nn.space.edge_frame import ProductWeights, orders_of
from spheregeo.nn.space.irreps import EVEN, as_irreps, kinds
from spheregeo.nn.space.so2 import SO2Maps, natural


class _Mixed(torch.autograd.Function):
    """The same straight into place: nothing is cut out or put together. Keeps the inputs."""

    @staticmethod
    def forward(layer: FrameProduct, count: int, *tensors: Tensor | None) -> Tensor:
        parts, scalars, row, matrices = layer.arguments(tensors)
        out = parts[0].new_empty(count * layer.outputs)
        for goal, job, pieces in layer.jobs_of(out, count, parts, scalars, matrices):
            biased = job.biased and row is not None
            if biased:
                goal.copy_(row.expand_as(goal))
            elif not pieces:
                goal.zero_()
            for k, (z, matrix) in enumerate(pieces):
                if k == 0 and not biased:
                    torch.mm(z, matrix, out=goal)
                else:
                    goal.addmm_(z, matrix)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.layer, ctx.count, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        layer, count, tensors = ctx.layer, ctx.count, ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # differentiated again
            asked = [t for t, want in zip(tensors, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(layer.plain(count, *tensors), asked, g, create_graph=True))
            return None, None, *[next(found) if want else None for want in wanted]
        parts, scalars, _, matrices = layer.arguments(tensors)
        fresh = torch.zeros_like if layer.partial else torch.empty_like
        grads = [None if t is None else fresh(t) for t in tensors]
        to_parts, to_scalars, to_row, to_matrices = layer.arguments(grads)
        g = g.contiguous()
        goals = layer.jobs_of(g, count, to_parts, to_scalars, to_matrices)
        given = layer.jobs_of(g, count, parts, scalars, matrices)
        for (at, job, to_pieces), (_, _, pieces) in zip(goals, given, strict=True):
            if job.biased and to_row is not None:
                torch.sum(at, 0, out=to_row)
            for (to_z, to_matrix), (z, matrix) in zip(to_pieces, pieces, strict=True):
                torch.mm(at, matrix.T, out=to_z)
                torch.mm(z.T, at, out=to_matrix)
        return None, None, *[grad if want else None for grad, want in zip(grads, wanted, strict=True)]


class Job(NamedTuple):
    """One order of a product's result: its place, and what it is made from."""

    components: int
    width: int
    first: int  # columns before it
    biased: bool
    matrix: int  # which; -1 for none
    pieces: tuple[
        tuple[int, int, int], ...
    ]  # part, columns before it there, rows; scalars count as a last part


class FrameProduct(ProductWeights):
    """Tensor product of features with the harmonics of edges, in the edges' frames.

    Args:
        parts: irreps of the features that are taken side by side, such as those of both ends.
        irreps_out: features of the result.
        lmax: highest degree of the harmonics.
        scalars: further even scalars of each edge.

    Shape: features of each part planar by order, number of edges, scalars (E, scalars) or None -> planar by order.
    Equivariance: commutes with rotations about ŷ and reflections in planes that hold it.
    Raises: ValueError for irreps that nothing reaches.
    """

    def __init__(
        self, parts: Sequence[str | Irreps], irreps_out: str | Irreps, lmax: int, scalars: int = 0
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
        for part in every:
            mine, first, own = kinds(part), 0, {}
            for order in orders_of(mine):
                own[order.m, order.m > 0 or natural(mine[order.members[0]])] = first
                first += order.components * sum(part.count(mine[i]) for i in order.members)
            begins.append(own)
        self.jobs: list[Job] = []
        self.plans: list[
            tuple[int, tuple[int, ...], tuple[int, ...]]
        ] = []  # of matrices: order, sources, targets
        first = 0
        for order in orders_of(targets):
            is_natural = natural(targets[order.members[0]])
            key = (order.m, order.m > 0 or is_natural)
            width = sum(self.table.target_copies[k] for k in order.members)
            which, pieces = -1, list[tuple[int, int, int]]()
            for source in orders_of(irs):
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
        blocks, alike = dict[tuple[int, int], Tensor](), dict[tuple[int, int], bool]()
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
        row = None
        if self.bias is not None:
            row = torch.cat([self.bias, self.bias.new_zeros(self.jobs[0].width - len(self.bias))])
        tensors = (*parts, scalars, row, *self.matrices())
        if torch.compiler.is_compiling():
            return self.plain(count, *tensors)
        result: Tensor = _Mixed.apply(self, count, *tensors)
        return result

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        """Parts, scalars, the bias's row, matrices."""
        n = self.num_parts
        return tensors[:n], tensors[n], tensors[n + 1], tensors[n + 2 :]

    def jobs_of(
        self,
        out: Tensor,
        count: int,
        parts: Sequence[Tensor],
        scalars: Tensor | None,
        matrices: Sequence[Tensor],
    ) -> Iterator[tuple[Tensor, Job, list[tuple[Tensor, Tensor]]]]:
        """Views of each order of the result, and of the pairs of factors whose products are summed there."""
        for job in self.jobs:
            n = count * job.components
            goal = out.narrow(0, count * job.first, n * job.width).view(n, job.width)
            yield goal, job, self._factors(job, count, parts, scalars, matrices)

    def _factors(
        self,
        job: Job,
        count: int,
        parts: Sequence[Tensor],
        scalars: Tensor | None,
        matrices: Sequence[Tensor],
    ) -> list[tuple[Tensor, Tensor]]:
        found, first, n = [], 0, count * job.components
        for p, at, rows in job.pieces:
            z = scalars if p == self.num_parts else parts[p].narrow(0, count * at, n * rows).view(n, rows)
            assert z is not None
            found.append((z, matrices[job.matrix].narrow(0, first, rows)))
            first += rows
        return found

    def plain(self, count: int, *tensors: Tensor | None) -> Tensor:
        """The same in differentiable pieces."""
        parts, scalars, row, matrices = self.arguments(tensors)
        out = []
        for job in self.jobs:
            total = parts[0].new_zeros(count * job.components, job.width)
            total = total if row is None or not job.biased else total + row
            for z, matrix in self._factors(job, count, parts, scalars, matrices):
                total = torch.addmm(total, z, matrix)
            out.append(total.flatten())
        return torch.cat(out)


def _part_by_part(members: Sequence[Irrep], parts: Sequence[Irreps]) -> list[Tensor]:
    """Rows of an order's matrix that belong to each part; the matrix has them irrep after irrep."""
    index: list[list[Tensor]] = [[torch.zeros(0, dtype=torch.int64)] for _ in parts]
    at = 0
    for ir in members:
        for rows, part in zip(index, parts, strict=True):
            rows.append(torch.arange(at, at + part.count(ir)))
            at += part.count(ir)
    return [torch.cat(rows) for rows in index]

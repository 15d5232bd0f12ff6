"""Sums of dense products between views of planar features, written straight into place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spheregeo.autograd import Function, is_watched


class Job(NamedTuple):
    """One output block: its place in the result, and the products that are summed there."""

    components: int
    width: int
    first: int  # columns before it
    biased: bool
    matrix: int  # index into the matrices; -1 where no product reaches the block
    pieces: tuple[
        tuple[int, int, int], ...
    ]  # part, columns before it there, rows; scalars count as a last part


class Mixing:
    """Mixin of layers that compute several dense products in one pass.

    Attributes that the layer sets:
        jobs: one :class:`Job` per output block.
        outputs: number of columns of the result.
        num_parts: number of inputs.
        partial: True where some input columns are read by no job.
    """

    jobs: list[Job]
    outputs: int
    num_parts: int
    partial: bool

    def mixed(self, count: int, *tensors: Tensor | None) -> Tensor:
        """Planar features of ``count`` rows from parts, scalars or None, the bias's row or None, matrices."""
        given = [t for t in tensors if t is not None]
        dtype = reduce(
            torch.promote_types, [t.dtype for t in given]
        )  # autocast brings features of less than the weights' precision
        alike = [None if t is None else t.to(dtype) for t in tensors]
        with torch.autocast(given[0].device.type, enabled=False):
            if is_watched():
                return self.plain(count, *alike)
            result: Tensor = _Mixed.apply(self, count, *alike)
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
        """The products in differentiable pieces, as compilers see them."""
        parts, scalars, row, matrices = self.arguments(tensors)
        out = []
        for job in self.jobs:
            total = parts[0].new_zeros(count * job.components, job.width)
            total = total if row is None or not job.biased else total + row
            for z, matrix in self._factors(job, count, parts, scalars, matrices):
                total = torch.addmm(total, z, matrix)
            out.append(total.flatten())
        return torch.cat(out)


class _Mixed(Function):
    """Fused forward and backward of ``Mixing.plain``: products are written straight into place; saves the inputs alone."""

    @staticmethod
    def forward(layer: Mixing, count: int, *tensors: Tensor | None) -> Tensor:
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
            # under names of their own: one of them may have been made from another, which is no business of this layer's
            own = [None if t is None else t.view_as(t) for t in tensors]
            asked = [t for t, want in zip(own, wanted, strict=True) if want and t is not None]
            found = iter(torch.autograd.grad(layer.plain(count, *own), asked, g, create_graph=True))
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

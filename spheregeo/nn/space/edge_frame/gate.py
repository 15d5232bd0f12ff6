"""Gates of features in the frames of edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.nn.irreps.activations import NormalizedActivation
from spheregeo.nn.irreps.layout import EVEN, as_irreps, distinct_irreps
from spheregeo.nn.irreps.stacks import Stacks, check_stacks, terms_of
from spheregeo.nn.space.edge_frame.products import orders_of


class _Gated(torch.autograd.Function):
    """Fused forward and backward of ``FrameGate.plain``; saves the input alone."""

    @staticmethod
    def forward(x: Tensor, layer: FrameGate, count: int) -> Tensor:
        out = x.new_empty(count * layer.outputs)
        scalars, gates = layer.first(x, count)
        values = layer.gate(gates)
        layer.first(out, count, gates=False)[0].copy_(layer.act(scalars))
        for source, goal, order in layer.views(x, out, count):
            torch.mul(source, layer.factor(values, order), out=goal)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.layer, ctx.count = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        (x,), layer, count = ctx.saved_tensors, ctx.layer, ctx.count
        if torch.is_grad_enabled():  # differentiated again
            (dx,) = torch.autograd.grad(layer.plain(x, count), x, g, create_graph=True)
            return dx, None, None
        g, dx = g.contiguous(), torch.empty_like(x)
        scalars, gates = layer.first(x, count)
        of_scalars, of_gates = layer.first(dx, count)
        slope = torch.ops.aten.silu_backward(layer.first(g, count, gates=False)[0], scalars)
        torch.mul(slope, layer.act.factor, out=of_scalars)
        values = torch.sigmoid(gates)
        scaled = values * layer.gate.factor
        along = torch.zeros_like(values)
        given, goals = layer.views(x, g, count), layer.views(dx, g, count)
        for (source, at, order), (to_source, _, _) in zip(given, goals, strict=True):
            begin = order.start
            part = along.narrow(1, begin, order.width) if begin >= 0 else at.new_zeros(count, order.width)
            pairs = (
                zip(at.unbind(1), source.unbind(1), strict=True) if order.components > 1 else [(at, source)]
            )
            for u, v in pairs:
                part.addcmul_(u, v)
            if begin < 0:
                along.index_add_(1, layer.get_buffer(order.gates), part)
            torch.mul(at, layer.factor(scaled, order), out=to_source)
        torch.mul(along, scaled * (1 - values), out=of_gates)
        return dx, None, None


class GatedOrder(NamedTuple):
    """Gated copies of one order: where they are before and after, and their gates, as a range or by index."""

    components: int
    width: int  # of what is gated
    row: int  # columns of a component
    first: int  # columns before them
    skip: int  # columns of the component before what is gated
    row_out: int
    first_out: int
    skip_out: int
    start: int  # of the gates; -1 for an index
    gates: str


class FrameGate(nn.Module):
    """:class:`~spheregeo.nn.irreps.IrrepsGate` for features in the frames of edges: scalars acted on, other copies
    multiplied by a gate.

    ``irreps_in`` is even scalars, gates, and the rest of ``irreps_out``; odd scalars are gated. ``of_stacks`` is the gate for
    features of points.

    Args:
        irreps_out: of the output; distinct, 0e first.
        mmax: orders beyond it are left out; None keeps all.

    Shape: planar by order of ``irreps_in``, number of edges -> planar by order of ``irreps_out``.
    Equivariance: exact; gates multiply whole copies.
    Raises: ValueError where even scalars do not come first, in one term.

    Example:
        >>> gate = FrameGate("8x0e + 4x1o")
        >>> gate.irreps_in, gate(torch.randn(10 * 24), 10).shape
        (12x0e+4x1o, torch.Size([200]))
    """

    def __init__(self, irreps_out: str | Irreps, mmax: int | None = None) -> None:
        super().__init__()
        self.irreps_out = as_irreps(irreps_out, "irreps_out")
        irs = distinct_irreps(self.irreps_out)
        self.copies = [self.irreps_out.count(ir) for ir in irs]
        if irs[0] != EVEN or len(irs) != len(self.irreps_out):
            raise ValueError(
                f"irreps_out is {self.irreps_out}; expected distinct irreps, 0e first, as in '16x0e + 8x1o'"
            )
        self.scalars, self.gates = self.copies[0], sum(self.copies[1:])
        self.irreps_in = Irreps([(self.scalars + self.gates, EVEN), *self.irreps_out[1:]])
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self.act, self.gate = NormalizedActivation("silu"), NormalizedActivation("sigmoid")
        starts = [sum(self.copies[1:i]) for i in range(1, len(irs) + 1)]
        self.gated: list[GatedOrder] = []
        first = first_out = 0
        for g, order in enumerate(orders_of(irs, mmax)):
            members = [i for i in order.members if i]
            width = sum(self.copies[i] for i in members)
            skip, skip_out = (self.scalars + self.gates, self.scalars) if g == 0 else (0, 0)
            row, row_out = skip + width, skip_out + width
            if members:
                gates = torch.cat([torch.arange(starts[i - 1], starts[i]) for i in members])
                start = int(gates[0]) if bool((gates.diff() == 1).all()) else -1
                self.register_buffer(f"gates{g}", gates, persistent=False)
                place = (row, first, skip, row_out, first_out, skip_out)
                self.gated.append(GatedOrder(order.components, width, *place, start, f"gates{g}"))
            if g == 0:
                self.row, self.row_out = row, row_out
            first, first_out = first + order.components * row, first_out + order.components * row_out
        self.outputs = first_out

    def first(self, x: Tensor, count: int, gates: bool = True) -> tuple[Tensor, Tensor]:
        """Views of scalars and gates (E, ...) in planar features before the gate, or of scalars after it."""
        row = self.row if gates else self.row_out
        head = x.narrow(0, 0, count * row).view(count, row)
        return head.narrow(1, 0, self.scalars), head.narrow(1, self.scalars, self.gates if gates else 0)

    def views(self, x: Tensor, out: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor, GatedOrder]]:
        """Views (E, components, width), or (E, width) for one component, of what is gated, before and after."""
        for o in self.gated:
            pair = []
            for t, row, first, skip in (
                (x, o.row, o.first, o.skip),
                (out, o.row_out, o.first_out, o.skip_out),
            ):
                part = t.narrow(0, count * first, count * o.components * row).view(count, o.components, row)
                part = part.narrow(2, skip, o.width)
                pair.append(part.squeeze(1) if o.components == 1 else part)
            yield pair[0], pair[1], o

    def factor(self, values: Tensor, order: GatedOrder) -> Tensor:
        """The gates of an order's copies."""
        if order.start >= 0:
            found = values.narrow(1, order.start, order.width)
        else:
            found = values.index_select(1, self.get_buffer(order.gates))
        return found.unsqueeze(1) if order.components > 1 else found

    def forward(self, x: Tensor, count: int) -> Tensor:
        if is_watched() or not self.gates:
            return self.plain(x, count)
        result: Tensor = _Gated.apply(x, self, count)
        return result

    def plain(self, x: Tensor, count: int) -> Tensor:
        """The gate in differentiable pieces, as compilers see it."""
        scalars, gates = self.first(x, count)
        values, out = self.gate(gates), [self.act(scalars)]
        for source, _, order in self.views(x, x.new_empty(count * self.outputs), count):
            gated = source * self.factor(values, order)
            if order.skip_out:
                out[0] = torch.cat([out[0], gated], 1)
            else:
                out.append(gated)
        return torch.cat([part.flatten() for part in out])

    def of_stacks(self, x: Stacks) -> Stacks:
        """The gate of features of points, outside frames. Shape: stacks of ``irreps_in`` -> stacks of ``irreps_out``."""
        check_stacks(x, self._terms[0])
        scalars, gates = x.parts[0].split([self.scalars, self.gates], -1)
        each = self.gate(gates).split(self.copies[1:], -1)
        gated = [part * factor for part, factor in zip(x.parts[1:], each, strict=True)]
        return Stacks.of([self.act(scalars), *gated], self._terms[1])

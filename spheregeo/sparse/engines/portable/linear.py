"""The linear form by gathers and batched products of rows of similar length, a few at a time; runs wherever torch does.

Rows are taken in at most eight classes of one padded length (:mod:`spheregeo.sparse.engines.portable.plans`). A class's features
are gathered to (rows, T, M B C), M points to a row, and one ``bmm`` with coefficients (rows, T, K) contracts them to
(rows, M B C, K), which is already what one product with the weights takes. Along rings every entry reads M points that follow one
another, for each ring is written twice. The gradients of input and weights share one contraction, of the cotangent.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spheregeo.sparse.engines.linear import Adjoint, LinearEngine
from spheregeo.sparse.engines.portable.plans import LinearPlan, budget, kept, parts
from spheregeo.sparse.forms.linear import LinearStructure
from spheregeo.sparse.patterns import Pattern


class PortableLinear(LinearEngine):
    """Gathers and ``bmm`` on any device and in any floating dtype."""

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        return _mixed(_plan(pattern), v, w, x, groups)

    def input_gradient(self, adjoint: Adjoint, v: Tensor, w: Tensor | None, g: Tensor, groups: int) -> Tensor:
        pattern, order = adjoint
        plan = _plan_back(pattern, order)
        if w is not None:
            return _mixed(plan, v, _turned(w, groups), g, groups)
        return _folded(plan, v, g)

    def both(
        self, structure: LinearStructure, v: Tensor, w: Tensor, x: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor]:
        """dF/dx and dF/dw from one contraction of the cotangent."""
        groups, batch = structure.groups, x.shape[0]
        plan = _plan_back(structure.adjoint, structure.order)
        mixing, near = _turned(w, groups), _rows(plan, x)
        out, total = [], None
        for (first, last), u in _contracted(plan, v, g):
            u = _split(u, batch, g.shape[1], groups)  # (groups, N, O/groups K)
            out.append(_product(u, mixing, groups))
            at = _split(near[first * plan.columns : last * plan.columns], batch, x.shape[1], groups)
            total = _added(total, u.mT, at)
        return _placed(plan, _joined(out), batch), _weights(total, w.shape[0], v.shape[0], groups, True)

    def weights_alone(self, structure: LinearStructure, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        """dF/dw by a contraction of the narrower of features and cotangent."""
        groups = structure.groups
        if g.shape[1] >= x.shape[1]:
            return self.weight_gradient(structure.pattern, v, x, g, groups)
        plan = _plan_back(structure.adjoint, structure.order)
        return _correlated(plan, v, g, x, groups, True)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        return _correlated(_plan(pattern), v, x, g, groups, False)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        plan, (batch, channels) = _plan(pattern), x.shape[:2]
        k = g.shape[1] // channels if w is None else w.shape[2]
        windows, at = plan.windows(_points_first(x)), _rows(plan, g)
        width = plan.columns * batch * channels
        terms = []
        for classes in plan.rows.chunks(width * x.element_size(), width * k * x.element_size(), budget(x, g)):
            first, last = parts(classes)
            du = _split(at[first * plan.columns : last * plan.columns], batch, g.shape[1], groups)
            if w is not None:
                du = torch.bmm(du, w.view(groups, w.shape[0] // groups, -1))  # (groups, N, C/groups K)
                du = du.transpose(0, 1)
            else:
                du = du[0]
            du = du.reshape(last - first, width, k)
            for c in classes:
                near = _near(plan, windows, c.start, c.last - c.first, c.length)
                terms.append(torch.bmm(near, du[c.first - first : c.last - first]).flatten(0, 1))
        if not terms:
            return x.new_zeros(k, pattern.num_values)
        return plan.sums(torch.cat(terms)).T


def _plan(pattern: Pattern) -> LinearPlan:
    return kept(pattern, "portable", lambda: LinearPlan.of(pattern, None))


def _plan_back(pattern: Pattern, order: Tensor) -> LinearPlan:
    return kept(pattern, "portable, from the table ahead", lambda: LinearPlan.of(pattern, order))


def _points_first(x: Tensor) -> Tensor:
    """(B, C, Q) -> (Q, B C)."""
    return x.permute(2, 0, 1).reshape(x.shape[2], -1)


def _rows(plan: LinearPlan, g: Tensor) -> Tensor:
    """Target points in the order of the plan: (B, C, P) -> (P, B C)."""
    return _points_first(g).index_select(0, plan.targets)


def _near(plan: LinearPlan, windows: Tensor, start: int, rows: int, length: int) -> Tensor:
    """Features of a class's entries (rows, T, M B C)."""
    return windows.index_select(0, plan.index[start : start + rows * length]).view(rows, length, -1)


def _contracted(plan: LinearPlan, v: Tensor, x: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Stretches of the plan's rows, and their contractions (rows M, B C K)."""
    k, (batch, channels) = v.shape[0], x.shape[:2]
    windows, values = plan.windows(_points_first(x)), plan.coefficients(v)
    width = plan.columns * batch * channels
    for classes in plan.rows.chunks(width * x.element_size(), width * k * x.element_size(), budget(x)):
        first, last = parts(classes)
        z = x.new_empty(last - first, width, k)
        for c in classes:
            rows, length = c.last - c.first, c.length
            near = _near(plan, windows, c.start, rows, length)
            own = values[c.start : c.start + rows * length].view(rows, length, k)
            torch.bmm(near.mT, own, out=z[c.first - first : c.last - first])
        yield (first, last), z.view((last - first) * plan.columns, -1)


def _split(z: Tensor, batch: int, channels: int, groups: int) -> Tensor:
    """(rows, B C K) -> (groups, rows B, C/groups K)."""
    return z.reshape(z.shape[0] * batch, groups, -1).transpose(0, 1)


def _product(z: Tensor, w: Tensor, groups: int) -> Tensor:
    """Channels mixed: (groups, N, C/groups K) by w (O, C/groups, K) -> (groups, N, O/groups)."""
    return torch.bmm(z, w.reshape(groups, w.shape[0] // groups, -1).mT)


def _turned(w: Tensor, groups: int) -> Tensor:
    """Weights of the transposed map: (O, C/groups, K) -> (C, O/groups, K)."""
    return w.view(groups, -1, *w.shape[1:]).transpose(1, 2).reshape(groups * w.shape[1], -1, w.shape[2])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _placed(plan: LinearPlan, y: Tensor, batch: int) -> Tensor:
    """From the order of the plan to points: (groups, P B, O/groups) -> (B, O, P)."""
    groups = y.shape[0]
    y = y.reshape(groups, plan.points.shape[0], -1).index_select(1, plan.points)
    return y.view(groups, plan.points.shape[0], batch, -1).permute(2, 0, 3, 1).flatten(1, 2)


def _mixed(plan: LinearPlan, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
    batch, out = x.shape[0], []
    for _, z in _contracted(plan, v, x):
        if w is None:
            out.append(z.view(1, z.shape[0] * batch, -1))
        else:
            out.append(_product(_split(z, batch, x.shape[1], groups), w, groups))
    return _placed(plan, _joined(out), batch)


def _added(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b) if total is None else total.baddbmm_(a, b)


def _correlated(plan: LinearPlan, v: Tensor, x: Tensor, g: Tensor, groups: int, back: bool) -> Tensor:
    """The weights' gradient from a contraction of x, correlated with g at the plan's target points."""
    batch, at, total = x.shape[0], _rows(plan, g), None
    for (first, last), z in _contracted(plan, v, x):
        other = _split(at[first * plan.columns : last * plan.columns], batch, g.shape[1], groups)
        total = _added(total, _split(z, batch, x.shape[1], groups).mT, other)
    return _weights(total, (x if back else g).shape[1], v.shape[0], groups, back)


def _weights(total: Tensor | None, outputs: int, k: int, groups: int, back: bool) -> Tensor:
    """(groups, channels K, others) -> (O, C/groups, K); ``back``: the contracted channels are those that go out."""
    assert total is not None
    if back:  # (groups, O/groups K, C/groups)
        return total.unflatten(1, (-1, k)).transpose(2, 3).flatten(0, 1)
    return total.mT.reshape(outputs, -1, k)


def _folded(plan: LinearPlan, v: Tensor, g: Tensor) -> Tensor:
    """The transposed map without weights: each channel's functions (B, C K, P) fold back into it, (B, C, Q)."""
    k, batch, out = v.shape[0], g.shape[0], []
    windows, values = plan.windows(_points_first(g)), plan.coefficients(v)
    width = plan.columns * batch * g.shape[1]
    for classes in plan.rows.chunks(2 * width * g.element_size(), 0, budget(g)):
        for c in classes:
            near = _near(plan, windows, c.start, c.last - c.first, c.length).unflatten(2, (-1, k))
            own = values[c.start : c.start + near.shape[0] * c.length].view(-1, c.length, 1, k)
            folded = (near * own).sum((1, 3))
            out.append(folded.view(1, near.shape[0] * plan.columns * batch, -1))
    return _placed(plan, _joined(out), batch)

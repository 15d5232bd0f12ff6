"""The linear form compiled: nothing K times as large as the input kept.

On rings, each row is done in whichever order costs less: contract the K functions and then mix, K*C*T + K*C*O
multiplications a point, or fold the weights into the row's T taps and multiply once, C*O*T. Scattered rows are
contracted with channels last, in blocks of rows that stay in cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, arrays, threads
from spheregeo.sparse.engines.linear import LinearEngine, mix
from spheregeo.sparse.engines.portable.linear import PortableLinear
from spheregeo.sparse.forms.linear import LinearStructure
from spheregeo.sparse.patterns import BoxedRingPattern, CSRPattern, Pattern, RingPattern

CACHE_BYTES = 1 << 19  # working set of one task: half of a common per-core L2
ROWS_PER_CHUNK = 8
CSR_CHUNK_BYTES = 1 << 21
GROUPED_FROM = 4  # functions from which gathering the neighbours of equivalent rows pays
_CSR_BLOCK = 32


class CompiledLinear(LinearEngine):
    """numba kernels for float32 and float64."""

    def __init__(self) -> None:
        self._portable = PortableLinear()

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        if w is not None and groups > 4:
            return mix(self._contract(pattern, v, x), w, groups)
        if w is None or groups == 1:
            return self._run(pattern, v, w, x)
        parts = zip(x.chunk(groups, 1), w.chunk(groups), strict=True)
        return torch.cat([self._run(pattern, v, part_w, part_x) for part_x, part_w in parts], 1)

    def _run(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        if isinstance(pattern, CSRPattern):
            return self._apply_csr(pattern, v, w, x)
        assert isinstance(pattern, RingPattern)
        return self._apply_rings(pattern, v, w, x)

    def _contract(self, pattern: Pattern, v: Tensor, x: Tensor) -> Tensor:
        return self._run(pattern, v, None, x).view(x.shape[0], x.shape[1], v.shape[0], -1)

    def both(
        self, structure: LinearStructure, v: Tensor, w: Tensor, x: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor]:
        """dF/dx and dF/dw from one contraction of g."""
        if structure.groups > 4:
            return super().both(structure, v, w, x, g)
        gx, gw = self._gradients(structure, v, w, x, g)
        assert gx is not None
        return gx, gw

    def weights_alone(self, structure: LinearStructure, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        """dF/dw from a contraction of g, or of x where there are many groups, whose weights are few."""
        if structure.groups > 4:
            return super().weights_alone(structure, v, x, g)
        return self._gradients(structure, v, None, x, g)[1]

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        z = self._contract(pattern, v, x).unflatten(1, (groups, -1))
        return torch.einsum("bgop,bgckp->gock", g.unflatten(1, (groups, -1)), z).flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        return self._portable.value_gradient(pattern, w, x, g, groups)

    def _gradients(
        self, structure: LinearStructure, v: Tensor, w: Tensor | None, x: Tensor, g: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """dF/dx where w is given, and dF/dw."""
        adjoint, groups, v = structure.adjoint, structure.groups, v[:, structure.order]
        if groups == 1:
            return self._back(adjoint, v, w, x, g)
        weights = [None] * groups if w is None else w.chunk(groups)
        parts = zip(weights, x.chunk(groups, 1), g.chunk(groups, 1), strict=True)
        found = [self._back(adjoint, v, *part) for part in parts]
        gx = [part for part, _ in found if part is not None]
        return torch.cat(gx, 1) if gx else None, torch.cat([part for _, part in found])

    def _back(
        self, adjoint: Pattern, v: Tensor, w: Tensor | None, x: Tensor, g: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        if isinstance(adjoint, CSRPattern):
            return self._back_csr(adjoint, v, w, x, g)
        assert isinstance(adjoint, RingPattern)
        return self._back_rings(adjoint, v, w, x, g)

    # Rings: channels first, longitude innermost.

    @staticmethod
    def _plan(
        pattern: RingPattern, k: int, inputs: int, outputs: int, products: int = 1
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Row chunks, columns a task, and which rows fold; ``products`` follow each contraction. Made once."""
        key = ("plan", k, inputs, outputs, products)
        plan: tuple[np.ndarray, int, np.ndarray] | None = pattern.memo.get(key)
        if plan is None:
            taps = pattern.indptr.diff()
            folds = products * outputs * taps < k * (taps + products * outputs)
            rings = 1.5 * ROWS_PER_CHUNK + 4
            step = int(CACHE_BYTES / 4 / (inputs * (rings + k) + outputs))
            step = min(pattern.columns, max(64, min(512, step // 16 * 16)))
            parts = -(-pattern.columns // step)  # of like size
            step = min(step, -(-pattern.columns // parts // 16) * 16)
            chunks = _chunks(_boxes(pattern)[1])
            plan = pattern.memo[key] = (chunks, step, array(folds))
        return plan

    @staticmethod
    def _fresh(x: Tensor, pattern: RingPattern, channels: int) -> Tensor:
        """Memory for the result, zeroed where some row will not be written."""
        full = pattern.memo.get("full")
        if full is None:
            written = int((pattern.indptr.diff() > 0).sum()) * pattern.columns
            full = pattern.memo["full"] = written == pattern.num_target
        make = x.new_empty if full else x.new_zeros
        return make(x.shape[0], channels, pattern.num_target)

    def _apply_rings(self, pattern: RingPattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        channels, k = x.shape[1], v.shape[0]
        outputs = channels * k if w is None else w.shape[0]
        y = self._fresh(x, pattern, outputs)
        weight = x.new_empty(0, channels * k) if w is None else w.reshape(outputs, -1)
        plan = self._plan(pattern, k, channels, outputs)
        given = array(x), array(v), array(weight), arrays(pattern)[:7], _boxes(pattern)
        with threads():
            kernels.ring_apply(*given, pattern.columns, plan, y.numpy())
        return y

    def _back_rings(
        self, adjoint: RingPattern, v: Tensor, w: Tensor | None, x: Tensor, g: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        batch, channels, _ = x.shape
        outputs, k = g.shape[1], v.shape[0]
        plan = self._plan(adjoint, k, outputs, channels, 1 if w is None else 2)
        if w is None:
            weight, gx = x.new_empty(0, 0), x.new_empty(batch, 0, 0)
        else:
            weight = w.transpose(0, 1).reshape(channels, outputs * k)
            gx = self._fresh(x, adjoint, channels)
        features = array(g), array(v), array(weight), array(x)
        with threads() as count:
            dw = x.new_zeros(count, channels, outputs * k)
            given = features, arrays(adjoint)[:7], _boxes(adjoint)
            kernels.ring_gradients(*given, adjoint.columns, plan, gx.numpy(), dw.numpy())
        total = dw[0] if count == 1 else dw.sum(0)
        gw = total.view(channels, outputs, k).transpose(0, 1).contiguous()
        return None if w is None else gx, gw

    # Scattered rows: channels last; contracted here, mixed by BLAS, in chunks that stay in cache.

    def _csr_chunks(
        self, pattern: CSRPattern, v: Tensor, x: Tensor
    ) -> Iterator[tuple[int, Tensor | slice, Tensor]]:
        """Yield (batch index, rows, contraction (rows, K*C)) with x (B, Q, C) and v (K, T)."""
        grouped = pattern.shares and v.shape[0] >= GROUPED_FROM
        members = pattern.members if grouped else pattern.members[:0]
        listed = arrays(pattern)
        rows_of = listed if grouped else (*listed[:3], listed[3][:0])
        table, width = array(v.T), v.shape[0] * x.shape[2]
        step = max(_CSR_BLOCK, min(pattern.num_target, CSR_CHUNK_BYTES // max(1, width * x.element_size())))
        sizes, z = (_longest(pattern), _CSR_BLOCK), x.new_empty(step, width)
        for b in range(x.shape[0]):
            flat = array(x[b]).reshape(-1)
            for first in range(0, pattern.num_target, step):
                last = min(first + step, pattern.num_target)
                with threads():
                    kernels.csr_contract(flat, table, rows_of, (first, last), sizes, z.numpy())
                rows = members[first:last].long() if grouped else slice(first, last)
                yield b, rows, z[: last - first]

    def _apply_csr(self, pattern: CSRPattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        batch, channels, _ = x.shape
        k = v.shape[0]
        outputs = channels * k if w is None else w.shape[0]
        y = x.new_empty(batch, pattern.num_target, outputs)
        weight = None if w is None else w.permute(2, 1, 0).reshape(k * channels, outputs)
        for b, rows, z in self._csr_chunks(pattern, v, x.transpose(1, 2).contiguous()):
            if weight is None:
                y[b, rows] = z
            elif isinstance(rows, slice):
                torch.mm(z, weight, out=y[b, rows])
            else:
                y[b].index_copy_(0, rows, z @ weight)
        if w is None:
            return (
                y.view(batch, pattern.num_target, k, channels).permute(0, 3, 2, 1).reshape(batch, outputs, -1)
            )
        return y.transpose(1, 2)

    def _back_csr(
        self, adjoint: CSRPattern, v: Tensor, w: Tensor | None, x: Tensor, g: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        batch, channels, points = x.shape
        outputs, k = g.shape[1], v.shape[0]
        weight = None if w is None else w.permute(2, 0, 1).reshape(k * outputs, channels)
        last = x.transpose(1, 2).contiguous()
        gx = None if w is None else x.new_empty(batch, points, channels)
        gw = x.new_zeros(k * outputs, channels)
        for b, rows, u in self._csr_chunks(adjoint, v, g.transpose(1, 2).contiguous()):
            gw.addmm_(u.T, last[b, rows])
            if gx is not None and weight is not None:
                gx[b, rows] = u @ weight
        gw = gw.view(k, outputs, channels).permute(1, 2, 0).contiguous()
        return None if gx is None else gx.transpose(1, 2), gw


def _boxes(pattern: RingPattern) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the boxes of source rings and of rows, made once."""
    found: tuple[np.ndarray, np.ndarray] | None = pattern.memo.get("boxes")
    if found is None:
        if isinstance(pattern, BoxedRingPattern):
            found = array(pattern.source_box), array(pattern.target_box)
        else:
            found = tuple(np.ones(len(t), np.int64) for t in (pattern.source_base, pattern.target_base))  # type: ignore[assignment]
        pattern.memo["boxes"] = found
    assert found is not None
    return found


def _chunks(boxes: np.ndarray) -> np.ndarray:
    """First rows of chunks in which all rows have equal boxes, and the number of rows."""
    edges = np.flatnonzero(np.diff(boxes)) + 1
    runs = itertools.pairwise([0, *edges.tolist(), len(boxes)])
    return np.array([r for a, b in runs for r in range(a, b, ROWS_PER_CHUNK)] + [len(boxes)])


def _longest(pattern: CSRPattern) -> int:
    """Entries of the longest row, counted once."""
    if "longest" not in pattern.memo:
        pattern.memo["longest"] = int(pattern.indptr.diff().max()) if pattern.num_target else 0
    longest: int = pattern.memo["longest"]
    return longest

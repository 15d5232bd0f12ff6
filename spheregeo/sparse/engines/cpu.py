"""The compiled CPU engine: numba kernels, threads as torch has them, nothing K times as large as the input kept.

On rings, each row is done in whichever order costs less: contract the K functions and then mix, K*C*T + K*C*O
multiplications a point, or fold the weights into the row's T taps and multiply once, C*O*T. Scattered rows are
contracted with channels last, in blocks of rows that stay in cache.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse import spectral
from spheregeo.sparse.engines.gradients import Adjoint, Gradients
from spheregeo.sparse.engines.reference import mix
from spheregeo.sparse.engines.torch import TorchEngine
from spheregeo.sparse.pattern import CSRPattern, Pattern, RingPattern

CACHE_BYTES = 1 << 19  # working set of one task: half of a common per-core L2
ROWS_PER_CHUNK = 8
CSR_CHUNK_BYTES = 1 << 21
GROUPED_FROM = 4  # functions from which gathering the neighbours of equivalent rows pays
_CSR_BLOCK = 32
_LOCK = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked, _LOCK
    _forked, _LOCK = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

if "NUMBA_THREADING_LAYER" not in os.environ and sys.platform == "linux":
    numba.config.THREADING_LAYER = "omp"  # shares torch's OpenMP pool; others would fight it for the cores

from spheregeo.sparse.engines import kernels  # noqa: E402


@contextmanager
def threads() -> Iterator[int]:
    """Run with torch's number of threads; numba's pools serve one caller at a time."""
    with _LOCK:
        wanted = torch.get_num_threads()
        count = max(1, min(wanted, numba.config.NUMBA_NUM_THREADS))
        before = numba.get_num_threads()
        numba.set_num_threads(count)
        try:
            yield count
        finally:
            numba.set_num_threads(before)
            if torch.get_num_threads() != wanted:  # numba's first launch resizes the OpenMP pool both use
                torch.set_num_threads(wanted)


def forked() -> bool:
    """Whether this is a forked child, which must not enter an OpenMP pool that its parent has used."""
    return _forked


def array(t: Tensor) -> np.ndarray:
    """The tensor as a contiguous array."""
    return t.detach().contiguous().numpy()


class CPUEngine(Gradients):
    """numba kernels for float32 and float64."""

    def __init__(self) -> None:
        self._fallback = TorchEngine()

    def _slow(self, x: Tensor) -> bool:
        return forked() or x.dtype not in (torch.float32, torch.float64)

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        if self._slow(x):
            return self._fallback.apply(pattern, v, w, x, groups)
        v = v.to(x.dtype)
        if w is not None and groups > 4:
            return mix(self._contract(pattern, v, x), w, groups)
        run = self._apply_csr if isinstance(pattern, CSRPattern) else self._apply_rings
        if w is None or groups == 1:
            return run(pattern, v, w, x)  # type: ignore[arg-type]
        parts = zip(x.chunk(groups, 1), w.chunk(groups), strict=True)
        return torch.cat([run(pattern, v, part_w, part_x) for part_x, part_w in parts], 1)  # type: ignore[arg-type]

    def _contract(self, pattern: Pattern, v: Tensor, x: Tensor) -> Tensor:
        run = self._apply_csr if isinstance(pattern, CSRPattern) else self._apply_rings
        z = run(pattern, v, None, x)  # type: ignore[arg-type]
        return z.view(x.shape[0], x.shape[1], v.shape[0], -1)

    def gradients(
        self,
        pattern: Pattern,
        adjoint: Adjoint,
        v: Tensor,
        w: Tensor,
        x: Tensor,
        g: Tensor,
        groups: int,
        need_x: bool,
    ) -> tuple[Tensor | None, Tensor]:
        if self._slow(x) or groups > 4:
            return super().gradients(pattern, adjoint, v, w, x, g, groups, need_x)
        turned, order = adjoint
        v = v.to(x.dtype)[:, order]
        run = self._gradients_csr if isinstance(turned, CSRPattern) else self._gradients_rings
        if groups == 1:
            return run(turned, v, w, x, g, need_x)  # type: ignore[arg-type]
        parts = zip(w.chunk(groups), x.chunk(groups, 1), g.chunk(groups, 1), strict=True)
        gx, gw = zip(*(run(turned, v, *part, need_x) for part in parts), strict=True)  # type: ignore[arg-type]
        return torch.cat(gx, 1) if need_x else None, torch.cat(gw)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        """By the K functions of every channel at once; for many groups, whose weights are few."""
        if self._slow(x):
            return self._fallback.weight_gradient(pattern, v, x, g, groups)
        z = self._contract(pattern, v.to(x.dtype), x).unflatten(1, (groups, -1))
        return torch.einsum("bgop,bgckp->gock", g.unflatten(1, (groups, -1)), z).flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        return self._fallback.value_gradient(pattern, w, x, g, groups)

    # Rings: channels first, longitude innermost.

    @staticmethod
    def _plan(
        pattern: RingPattern, k: int, inputs: int, outputs: int, products: int = 1
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Row chunks, columns a task, and which rows fold; ``products`` follow each contraction."""
        taps = pattern.indptr.diff()
        folds = products * outputs * taps < k * (taps + products * outputs)
        rings = 1.5 * ROWS_PER_CHUNK + 4
        step = int(CACHE_BYTES / 4 / (inputs * (rings + k) + outputs))
        step = min(pattern.columns, max(64, min(512, step // 16 * 16)))
        chunks = np.append(np.arange(0, len(taps), ROWS_PER_CHUNK), len(taps))
        return chunks, step, array(folds)

    @staticmethod
    def _fresh(x: Tensor, pattern: RingPattern, channels: int) -> Tensor:
        """Memory for the result, zeroed where some row will not be written."""
        written = int((pattern.indptr.diff() > 0).sum()) * pattern.columns
        make = x.new_empty if written == pattern.num_target else x.new_zeros
        return make(x.shape[0], channels, pattern.num_target)

    def _apply_rings(self, pattern: RingPattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        channels = x.shape[1]
        k = v.shape[0]
        outputs = channels * k if w is None else w.shape[0]
        y = self._fresh(x, pattern, outputs)
        weight = x.new_empty(0, channels * k) if w is None else w.reshape(outputs, -1)
        chunks, step, folds = self._plan(pattern, k, channels, outputs)
        tensors = [array(t) for t in pattern.tensors]
        with threads():
            kernels.ring_apply(
                array(x),
                array(v),
                array(weight),
                *tensors,
                pattern.columns,
                chunks,
                step,
                folds,
                y.numpy(),
            )
        return y

    def _gradients_rings(
        self, adjoint: RingPattern, v: Tensor, w: Tensor, x: Tensor, g: Tensor, need_x: bool
    ) -> tuple[Tensor | None, Tensor]:
        batch, channels, _ = x.shape
        outputs, k = g.shape[1], v.shape[0]
        chunks, step, folds = self._plan(adjoint, k, outputs, channels, products=1 + need_x)
        weight = w.transpose(0, 1).reshape(channels, outputs * k)
        gx = self._fresh(x, adjoint, channels) if need_x else x.new_empty(batch, 0, 0)
        arrays = (array(g), array(v), array(weight), array(x), *(array(t) for t in adjoint.tensors))
        with threads() as count:
            dw = x.new_zeros(count, channels, outputs * k)
            kernels.ring_gradients(*arrays, adjoint.columns, chunks, step, folds, gx.numpy(), dw.numpy())
        gw = dw.sum(0).view(channels, outputs, k).transpose(0, 1).contiguous()
        return gx if need_x else None, gw

    # Wide rows in Fourier space: frequency innermost.

    @staticmethod
    def _step(x: Tensor, k: int) -> int:
        """Frequencies a task."""
        return max(64, min(512, int(CACHE_BYTES / 8 / (x.shape[2] * (k + x.shape[3])) // 16 * 16)))

    def spectral_mix(self, parts: Tensor, which: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """As :func:`spheregeo.sparse.spectral.mix`."""
        if self._slow(parts):
            return spectral.mix(parts, which, w, x)
        shape = (*x.shape[:2], w.shape[0], parts.shape[1], x.shape[4])
        re, im = parts.new_empty(shape), parts.new_empty(shape)
        function, imaginary = array(which[:, 0]), array(which[:, 1])
        arrays = (array(x.real), array(x.imag), array(parts), function, imaginary, array(w.flatten(1)))
        with threads():
            kernels.spectral_mix(*arrays, self._step(x, w.shape[2]), re.numpy(), im.numpy())
        return torch.complex(re, im)

    def spectral_correlate(self, parts: Tensor, which: Tensor, k: int, x: Tensor, g: Tensor) -> Tensor:
        """As :func:`spheregeo.sparse.spectral.correlate`."""
        if self._slow(parts):
            return spectral.correlate(parts, which, k, x, g)
        channels, outputs = x.shape[2], g.shape[2]
        function, imaginary = array(which[:, 0]), array(which[:, 1])
        arrays = (array(x.real), array(x.imag), array(parts), function, imaginary, k)
        with threads() as count:
            dw = parts.new_zeros(count, outputs, channels * k)
            kernels.spectral_correlate(*arrays, array(g.real), array(g.imag), self._step(x, k), dw.numpy())
        return dw.sum(0).view(outputs, channels, k)

    # Scattered rows: channels last; contracted here, mixed by BLAS, in chunks that stay in cache.

    def _csr_chunks(
        self, pattern: CSRPattern, v: Tensor, x: Tensor
    ) -> Iterator[tuple[int, Tensor | slice, Tensor]]:
        """Yield (batch index, rows, contraction (rows, K*C)) with x (B, Q, C) and v (K, T)."""
        grouped = pattern.shares and v.shape[0] >= GROUPED_FROM
        members = pattern.members if grouped else pattern.members[:0]
        tensors = [array(t) for t in (pattern.indptr, pattern.indices, pattern.start, members)]
        table, width = array(v.T), v.shape[0] * x.shape[2]
        longest = int(pattern.indptr.diff().max()) if pattern.num_target else 0
        step = max(_CSR_BLOCK, min(pattern.num_target, CSR_CHUNK_BYTES // max(1, width * x.element_size())))
        z = x.new_empty(step, width)
        for b in range(x.shape[0]):
            flat = array(x[b]).reshape(-1)
            for first in range(0, pattern.num_target, step):
                last = min(first + step, pattern.num_target)
                with threads():
                    kernels.csr_contract(flat, table, *tensors, first, last, longest, _CSR_BLOCK, z.numpy())
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

    def _gradients_csr(
        self, adjoint: CSRPattern, v: Tensor, w: Tensor, x: Tensor, g: Tensor, need_x: bool
    ) -> tuple[Tensor | None, Tensor]:
        batch, channels, points = x.shape
        outputs, k = g.shape[1], v.shape[0]
        weight = w.permute(2, 0, 1).reshape(k * outputs, channels)
        last = x.transpose(1, 2).contiguous()
        gx = x.new_empty(batch, points, channels) if need_x else None
        gw = x.new_zeros(k * outputs, channels)
        for b, rows, u in self._csr_chunks(adjoint, v, g.transpose(1, 2).contiguous()):
            gw.addmm_(u.T, last[b, rows])
            if gx is not None:
                gx[b, rows] = u @ weight
        gw = gw.view(k, outputs, channels).permute(1, 2, 0).contiguous()
        return None if gx is None else gx.transpose(1, 2), gw

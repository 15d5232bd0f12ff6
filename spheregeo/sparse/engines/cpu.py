"""The compiled CPU engine: numba kernels, threads as torch has them, nothing K times as large as the input kept.

On rings, each row is done in whichever order costs less: contract the K functions and then mix, K*C*T + K*C*O
multiplications a point, or fold the weights into the row's T taps and multiply once, C*O*T. Scattered rows are
contracted with channels last, in blocks of rows that stay in cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines.reference import mix
from spheregeo.sparse.engines.torch import TorchEngine
from spheregeo.sparse.pattern import CSRPattern, Pattern, RingPattern

CACHE_BYTES = 1 << 19  # working set of one task: half of a common per-core L2
ROWS_PER_CHUNK = 8
_CSR_BLOCK = 32
_LOCK = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked, _LOCK
    _forked, _LOCK = True, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)

if "NUMBA_THREADING_LAYER" not in os.environ and os.uname().sysname == "Linux":
    numba.config.THREADING_LAYER = "omp"  # shares torch's OpenMP pool; others would fight it for the cores

from spheregeo.sparse.engines import _cpu_kernels as kernels  # noqa: E402


@contextmanager
def _threads() -> Iterator[int]:
    """Run with torch's number of threads; numba's pools serve one caller at a time."""
    with _LOCK:
        count = max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        before = numba.get_num_threads()
        numba.set_num_threads(count)
        try:
            yield count
        finally:
            numba.set_num_threads(before)


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


class CPUEngine:
    """numba kernels for float32 and float64."""

    def __init__(self) -> None:
        self._fallback = TorchEngine()

    def _slow(self, x: Tensor) -> bool:
        # A forked child must not enter an OpenMP pool that its parent has used.
        return _forked or x.dtype not in (torch.float32, torch.float64)

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

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        if self._slow(x):
            return self._fallback.weight_gradient(pattern, v, x, g, groups)
        v = v.to(x.dtype)
        if groups > 4:
            z = self._contract(pattern, v, x).unflatten(1, (groups, -1))
            return torch.einsum("bgop,bgckp->gock", g.unflatten(1, (groups, -1)), z).flatten(0, 1)
        run = self._weight_csr if isinstance(pattern, CSRPattern) else self._weight_rings
        parts = zip(x.chunk(groups, 1), g.chunk(groups, 1), strict=True)
        return torch.cat([run(pattern, v, part_x, part_g) for part_x, part_g in parts])  # type: ignore[arg-type]

    def value_gradient(
        self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int
    ) -> Tensor:
        return self._fallback.value_gradient(pattern, w, x, g, groups)

    # Rings: channels first, longitude innermost.

    @staticmethod
    def _plan(pattern: RingPattern, k: int, inputs: int, outputs: int) -> tuple[np.ndarray, int, np.ndarray]:
        """Row chunks, columns a task, and which rows fold."""
        taps = pattern.indptr.diff()
        folds = inputs * outputs * taps < k * inputs * (taps + outputs)
        rings = 1.5 * ROWS_PER_CHUNK + 4
        step = int(CACHE_BYTES / 4 / (inputs * (rings + k) + outputs))
        step = min(pattern.columns, max(64, min(512, step // 16 * 16)))
        chunks = np.append(np.arange(0, len(taps), ROWS_PER_CHUNK), len(taps))
        return chunks, step, _array(folds)

    def _apply_rings(self, pattern: RingPattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        batch, channels, _ = x.shape
        k = v.shape[0]
        outputs = channels * k if w is None else w.shape[0]
        y = x.new_zeros(batch, outputs, pattern.num_target)
        weight = x.new_empty(0, channels * k) if w is None else w.reshape(outputs, -1)
        chunks, step, folds = self._plan(pattern, k, channels, outputs)
        tensors = [_array(t) for t in pattern.tensors]
        with _threads():
            kernels.ring_apply(
                _array(x), _array(v), _array(weight), *tensors, pattern.columns, chunks, step, folds, y.numpy()
            )
        return y

    def _weight_rings(self, pattern: RingPattern, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        channels, outputs, k = x.shape[1], g.shape[1], v.shape[0]
        chunks, step, folds = self._plan(pattern, k, channels, outputs)
        tensors = [_array(t) for t in pattern.tensors]
        with _threads() as count:
            dw = x.new_zeros(count, outputs, channels * k)
            kernels.ring_weight_gradient(
                _array(x), _array(v), _array(g), *tensors, pattern.columns, chunks, step, folds, dw.numpy()
            )
        return dw.sum(0).view(outputs, channels, k)

    # Scattered rows: channels last.

    def _apply_csr(self, pattern: CSRPattern, v: Tensor, w: Tensor | None, x: Tensor) -> Tensor:
        batch, channels, _ = x.shape
        k = v.shape[0]
        outputs = channels * k if w is None else w.shape[0]
        y = x.new_empty(batch, pattern.num_target, outputs)
        weight = x.new_empty(0, 1) if w is None else w.permute(2, 1, 0).reshape(k * channels, outputs)
        longest = int(pattern.indptr.diff().max()) if pattern.num_target else 0
        tensors = [_array(t) for t in pattern.tensors]
        with _threads():
            kernels.csr_apply(
                _array(x.transpose(1, 2)), _array(v.T), _array(weight), *tensors, longest, _CSR_BLOCK, y.numpy()
            )
        if w is None:
            return y.view(batch, -1, k, channels).permute(0, 3, 2, 1).reshape(batch, outputs, -1)
        return y.transpose(1, 2)

    def _weight_csr(self, pattern: CSRPattern, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        channels, outputs, k = x.shape[1], g.shape[1], v.shape[0]
        longest = int(pattern.indptr.diff().max()) if pattern.num_target else 0
        tensors = [_array(t) for t in pattern.tensors]
        with _threads() as count:
            dw = x.new_zeros(count, k * channels, outputs)
            kernels.csr_weight_gradient(
                _array(x.transpose(1, 2)),
                _array(v.T),
                _array(g.transpose(1, 2)),
                *tensors,
                longest,
                _CSR_BLOCK,
                dw.numpy(),
            )
        return dw.sum(0).view(k, channels, outputs).permute(2, 1, 0).contiguous()

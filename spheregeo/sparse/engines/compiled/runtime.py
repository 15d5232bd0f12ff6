"""How compiled loops are entered: threads as torch has them, tensors as arrays; importing this module imports numba."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.patterns import Pattern

_LOCK = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked, _LOCK
    _forked, _LOCK = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

if "NUMBA_THREADING_LAYER" not in os.environ and sys.platform == "linux":
    numba.config.THREADING_LAYER = "omp"  # shares torch's OpenMP pool; others would fight it for the cores


class threads:  # noqa: N801
    """Run with torch's number of threads; numba's pools serve one caller at a time."""

    def __enter__(self) -> int:
        _LOCK.acquire()
        self.wanted = torch.get_num_threads()
        count = max(1, min(self.wanted, numba.config.NUMBA_NUM_THREADS))
        self.before = numba.get_num_threads()
        if count != self.before:
            numba.set_num_threads(count)
        self.count = count
        return count

    def __exit__(self, *error: object) -> None:
        try:
            if self.count != self.before:
                numba.set_num_threads(self.before)
            if (
                torch.get_num_threads() != self.wanted
            ):  # numba's first launch resizes the OpenMP pool both use
                torch.set_num_threads(self.wanted)
        finally:
            _LOCK.release()


def forked() -> bool:
    """Whether this is a forked child, which must not enter an OpenMP pool that its parent has used."""
    return _forked


def array(t: Tensor) -> np.ndarray:
    """The tensor as a contiguous array."""
    return (t.detach() if t.requires_grad else t).contiguous().numpy()


def arrays(pattern: Pattern) -> tuple[np.ndarray, ...]:
    """A pattern's tensors as arrays, made once."""
    found: tuple[np.ndarray, ...] | None = pattern.memo.get("arrays")
    if found is None:
        found = pattern.memo["arrays"] = tuple(array(t) for t in pattern.tensors)
    return found


def remembered(memo: dict[Any, Any], key: str, tensors: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
    """Some tensors of a structure as arrays, made once."""
    found: tuple[np.ndarray, ...] | None = memo.get(key)
    if found is None:
        found = memo[key] = tuple(array(t) for t in tensors)
    return found

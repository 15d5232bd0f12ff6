"""Timing and peak memory of a layer's forward and backward pass."""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

MIB = 2**20


@dataclass
class Work:
    """What is timed: a forward call and the tensors whose gradients its backward pass computes."""

    forward: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    gradient: Tensor | None = None

    def both(self) -> None:
        """Run forward and backward once."""
        for leaf in self.leaves:
            leaf.grad = None
        y = self.forward()
        if self.gradient is None:
            self.gradient = torch.randn_like(y)
        y.backward(self.gradient)


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds."""

    forward_ms: float
    both_ms: float


def milliseconds(call: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def interleave(works: list[Work], repeats: int, budget: float = 60.0) -> list[Timing]:
    """Time the works in turn, `repeats` times each, or at least three times if that takes more than `budget` seconds."""
    forward: list[list[float]] = [[] for _ in works]
    both: list[list[float]] = [[] for _ in works]
    for work in works:  # compiles, fills caches
        work.both()
        with torch.no_grad():
            work.forward()
    start = time.perf_counter()
    for i in range(repeats):
        for k, work in enumerate(works):
            with torch.no_grad():
                forward[k].append(milliseconds(work.forward))
            both[k].append(milliseconds(work.both))
        if i >= 2 and time.perf_counter() - start > budget:
            break
    return [Timing(statistics.median(f), statistics.median(b)) for f, b in zip(forward, both, strict=True)]


def peak_mib(call: Callable[[], object], base: int | None = None) -> float:
    """Return the peak of resident memory during `call`, above `base` bytes or what was resident before it, in MiB.

    On Linux the kernel's own high-water mark is reset and read; elsewhere a thread samples every millisecond. What was freed
    before is first given back to the system: a temporary that finds room there would not show.
    """
    release_freed()
    process = psutil.Process()
    before = process.memory_info().rss if base is None else base
    reset = Path("/proc/self/clear_refs")
    if sys.platform == "linux" and reset.exists():
        reset.write_text("5")
        call()
        status = Path("/proc/self/status").read_text()
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
    else:
        peak = sampled_peak(call, process)
    return max(peak - before, 0) / MIB


def release_freed() -> None:
    """Collect garbage and hand freed memory back to the system, where the C library can (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def sampled_peak(call: Callable[[], object], process: psutil.Process) -> int:
    """Return the largest resident set seen by a sampling thread during `call`, in bytes."""
    peak = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()
    return max(peak, process.memory_info().rss)

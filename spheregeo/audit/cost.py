"""What a module costs: parameters, operations, memory and time of a forward and of a forward and backward pass."""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spheregeo import __version__


def machine_of(x: Tensor) -> dict[str, Any]:
    """Return what figures of time were taken on: device of a tensor, processor, threads, versions.

    Args:
        x: a tensor on the device.
    """
    return {
        "device": str(x.device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "spheregeo": __version__,
    }


def time_rows(result: dict[str, Any], nanoseconds: str, place: str) -> list[tuple[str, str]]:
    """Return a report's rows of the times of its passes.

    Args:
        result: a report, as plain numbers.
        nanoseconds: the report's entry of nanoseconds.
        place: what those are for, such as "per voxel".
    """
    return [
        (
            f"time, {name.replace('_', ' + ')}",
            f"{1e3 * seconds:.4g} ms  ({result[nanoseconds][name]:,.0f} ns {place})",
        )
        for name, seconds in result["seconds"].items()
    ]


def aligned(rows: Sequence[tuple[str, str]], machine: dict[str, Any]) -> str:
    """Return a report's rows as aligned text, the machine last.

    Args:
        rows: (name, value) pairs.
        machine: what :func:`machine_of` returned.
    """
    told = f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}"
    rows = [*rows, ("measured on", told)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def count_parameters(module: nn.Module) -> int:
    """Number of learnable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_flops(module: nn.Module, x: Tensor) -> int:
    """Multiplications and additions of a forward pass: matrix products, convolutions, and layers with a ``flops()``.

    Args:
        module: any module; layers may count themselves by a method ``flops()``.
        x: its input, (B, ...).

    A layer's own ``flops()`` is for one sample and replaces what torch counts inside it. Pointwise functions, norms and
    pooling are not counted, as usual.
    """
    own = {
        m: f"{type(module).__name__}.{n}".removesuffix(".") for n, m in module.named_modules() if _counts(m)
    }
    calls = dict.fromkeys(own, 0)
    hooks = [m.register_forward_pre_hook(lambda layer, _: _add(calls, layer)) for m in own]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    inside = counter.get_flop_counts()
    known = sum(sum(inside.get(name, {}).values()) for m, name in own.items() if calls[m])
    return counter.get_total_flops() - known + len(x) * sum(n * m.flops() for m, n in calls.items())


def _counts(module: Any) -> bool:
    return callable(getattr(module, "flops", None)) and not isinstance(module, nn.Sequential)


def _add(calls: dict[Any, int], layer: nn.Module) -> None:
    calls[layer] += 1


def _passes(module: nn.Module, x: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward alone, and forward with backward to input and parameters."""
    leaf = x.detach().clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            module(x)

    def both() -> None:
        leaf.grad = None
        for p in module.parameters():
            p.grad = None
        y = module(leaf)
        y.backward(torch.ones_like(y))

    return forward, both


def measure_time(
    module: nn.Module, x: Tensor, *, repeats: int = 5, budget: float = 20.0
) -> tuple[float, float]:
    """Median seconds of a forward pass, and of a forward and backward pass, after one of each to warm up.

    Args:
        module: any module.
        x: its input.
        repeats: passes of each kind, three at least.
        budget: seconds after which no more passes are begun, half of it for each kind.

    Units: seconds.
    """
    result = []
    synchronise = torch.cuda.synchronize if x.is_cuda else lambda: None
    for call in _passes(module, x):
        call()
        times: list[float] = []
        while len(times) < 3 or (len(times) < repeats and sum(times) < budget / 2):
            synchronise()
            start = time.perf_counter()
            call()
            synchronise()
            times.append(time.perf_counter() - start)
        result.append(statistics.median(times))
    return result[0], result[1]


def measure_memory(module: nn.Module, x: Tensor) -> tuple[int | None, int | None]:
    """Bytes that a forward pass, and a forward and backward pass, need at their peak beyond module, input and geometry.

    Args:
        module: any module.
        x: its input.

    Units: bytes.

    On a GPU it is torch's count. On Linux it is the process's high-water mark of resident memory, reset before and read
    after by the kernel, so that scratch memory outside torch counts too; freed memory is handed back first, and a call to
    warm up comes before. It is good to some 100 KB. None elsewhere: no other counter is both complete and resettable.
    """
    result: list[int | None] = []
    for call in _passes(module, x):
        call()
        for p in module.parameters():
            p.grad = None
        if x.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            torch.cuda.synchronize()
            result.append(torch.cuda.max_memory_allocated() - before)
        else:
            result.append(_resident_peak(call))
    return result[0], result[1]


def _resident_peak(call: Callable[[], None]) -> int | None:
    reset = Path("/proc/self/clear_refs")
    if sys.platform != "linux":
        return None
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        reset.write_text("5")  # the high-water mark becomes what is resident now
        before = _status("VmRSS")
    except (OSError, AttributeError):
        return None  # another C library, or a container that forbids it
    call()
    return max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(name + ":")[1].split()[0])

"""Kernels on stretches of rows, one thread each. Threads live for one call, so that forked workers may call them too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch

LEAST_WORK = 1 << 18  # numbers one thread must have to write for another to pay


def in_parts(kernel: Callable[..., None], rows: int, width: int, first: Any, *rest: Any) -> None:
    """Call kernel(first, start, stop, *rest) so that the stretches start:stop cover the rows once."""
    count = max(1, min(torch.get_num_threads(), rows * width // LEAST_WORK))
    if count == 1:
        kernel(first, 0, rows, *rest)
        return
    bounds = [rows * i // count for i in range(count + 1)]
    with ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(kernel, first, start, stop, *rest) for start, stop in pairwise(bounds[1:])]
        kernel(first, 0, bounds[1], *rest)
        for other in others:
            other.result()

"""What all launches share: tiles, precision, tables of coefficients kept with a structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

LIMIT = 1 << 31  # numbers up to which 32-bit offsets reach
PARTIAL_BYTES = 1 << 26  # of partial sums of a weight gradient
_TF32 = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}


def precision(like: Tensor) -> str:
    """How products of float32 are made, by torch's own switches: exactly, by three tf32 products, or by one.

    "low" for features of low precision, whose products are exact.
    """
    if like.dtype is not torch.float32:
        return "low"
    try:
        return _TF32[torch.get_float32_matmul_precision()]
    except RuntimeError:  # the newer switches were used
        return "ieee" if torch.backends.cuda.matmul.fp32_precision == "ieee" else "tf32x3"


def turns(functions: int) -> tuple[int, int]:
    """Passes over a row's entries, and functions contracted in each, at most three: four need more registers than 128."""
    passes = -(-functions // 3)
    return passes, -(-functions // passes)


def tile(size: int, most: int, least: int = 16) -> int:
    """A power of two that covers a size, between ``least`` and ``most``; products of tiles want 16."""
    return max(least, min(most, 1 << max(size - 1, 0).bit_length()))


class Tiles(NamedTuple):
    """Sizes of a program's tile: rows or longitudes, channels, outputs; and its warps."""

    points: int
    channels: int
    outputs: int
    warps: int


def tiles(kernel: str, product: str, channels: int, outputs: int) -> Tiles:
    """The tile of a kernel: the largest that stays within 128 registers a thread (``benchmarks/triton_kernels.py``).

    Args:
        kernel: its name.
        product: how its products are made, see :func:`precision`, or "low" for features of low precision.
        channels: inputs of one group.
        outputs: outputs of one group.
    """
    narrow, most = tile(channels, 16), tile(channels, 32)
    if kernel.endswith("weights"):
        return Tiles(32, most, tile(outputs, 64), 8)
    if kernel == "csr_mix":
        out = tile(outputs, 64 if product == "ieee" else 128)
        return (
            Tiles(32, narrow, out, 4 if out < 128 else 8)
            if product == "ieee" or out == 128
            else Tiles(32, most, out, 8)
        )
    out = tile(outputs, 128)
    return Tiles(32 if product.startswith("tf32") else 64, narrow, out, 4 if out < 128 else 8)


def padded(t: Tensor, dim: int, size: int) -> Tensor:
    """Zeros appended along an axis."""
    missing = size - t.shape[dim]
    if not missing:
        return t
    shape = list(t.shape)
    shape[dim] = missing
    return torch.cat([t, t.new_zeros(shape)], dim)


def remembered(memo: dict[Any, Any], key: str, source: Tensor, make: Callable[[], Tensor]) -> Tensor:
    """What is made of a tensor, kept until the tensor is another or has been written to."""
    if source.is_inference():  # does not count its changes
        return make()
    mark = (source.data_ptr(), source._version, source.shape, source.stride(), source.dtype)
    kept = memo.get(key)
    if kept is None or kept[0] != mark:
        with torch.inference_mode(False):
            kept = memo[key] = (
                mark,
                source,
                make(),
            )  # the source is kept, so that its memory is not used again
    made: Tensor = kept[2]
    return made


def parts(work: int, programs: int, each: int, device: torch.device) -> int:
    """Programs among which tiles are dealt out: enough to fill the device, few enough for their sums of ``each`` numbers."""
    units = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2
    return max(1, min(work, 4 * units // max(programs, 1), PARTIAL_BYTES // (4 * max(each, 1))))

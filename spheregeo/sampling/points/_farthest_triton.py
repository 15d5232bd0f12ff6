"""Farthest points on a CUDA device, one program a cloud; importing this imports triton."""

# mypy: disable-error-code="no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from spheregeo.sampling.points.query import RELATIVE

BLOCK = 1024  # points at a time


@triton.jit
def farthest(
    points, far, chosen, bounds, counts, places, first, tolerance, SHARE: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the names of a cloud's samples; ``far`` holds squared distances to the nearest sample, -1 for samples."""
    cloud = tl.program_id(0)
    begin, end = tl.load(bounds + cloud), tl.load(bounds + cloud + 1)
    goal = chosen + tl.load(places + cloud)
    tied = tl.load(tolerance + cloud)
    new = tl.load(first + cloud)
    for k in range(tl.load(counts + cloud)):
        tl.store(goal + k, new)
        px, py, pz = tl.load(points + new * 3), tl.load(points + new * 3 + 1), tl.load(points + new * 3 + 2)
        best = tied * 0
        for i0 in range(begin, end, BLOCK):
            i = i0 + tl.arange(0, BLOCK)
            inside = i < end
            x = tl.load(points + i * 3, mask=inside, other=0.0) - px
            y = tl.load(points + i * 3 + 1, mask=inside, other=0.0) - py
            z = tl.load(points + i * 3 + 2, mask=inside, other=0.0) - pz
            d = tl.minimum(tl.load(far + i, mask=inside, other=-1.0), x * x + y * y + z * z)
            d = tl.where(i == new, -1.0, d)
            tl.store(far + i, d, mask=inside)
            best = tl.maximum(best, tl.max(d, 0))
        tl.debug_barrier()  # what one thread wrote another may read
        length = tl.sqrt(best)
        least = length - tl.minimum(tied, SHARE * length)
        least = least * least
        lowest = end
        for i0 in range(begin, end, BLOCK):
            i = i0 + tl.arange(0, BLOCK)
            d = tl.load(far + i, mask=i < end, other=-1.0)
            lowest = tl.minimum(lowest, tl.min(tl.where(d >= least, i, end), 0))
        new = tl.minimum(lowest, end - 1)


def on_device(points: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor) -> Tensor:
    """Indices of samples, cloud after cloud.

    Shape: points (P, 3) float64, bounds (B + 1,), counts and first (B,) int64, tolerance (B,) float64; returns (M,) int64.
    """
    ends = counts.cumsum(0)
    clouds = counts.shape[0]
    chosen = bounds.new_empty(int(ends[-1]) if clouds else 0)
    if chosen.shape[0]:
        far = torch.full((points.shape[0],), torch.inf, dtype=torch.float64, device=points.device)
        farthest[(clouds,)](
            points.contiguous(), far, chosen, bounds, counts, ends - counts, first, tolerance, SHARE=RELATIVE, BLOCK=BLOCK,
            num_warps=8,
        )  # fmt: skip
    return chosen

"""Farthest-point sampling: well-spread subsets of point clouds."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.checks import boundaries, check_batch, check_positions
from spheregeo.sampling.points.query import RELATIVE, extent, tolerance_of

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
KERNELS: dict[str, Kernel] = {}
"""By type of device, what chooses among points (P, 3) float64 with bounds (B + 1,), counts, tolerances and first points (B,)."""

ON_THE_HOST = (
    1 << 16
)  # points up to which another device's loop, a dozen launches a sample, takes longer than the CPU
SMALL = 256  # points up to which their own order serves as well as that of a tree


def farthest_points(
    positions: Tensor,
    ratio_or_count: float | int | Tensor,
    batch: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    random_start: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """A subset of each graph's points: each next one is the farthest from those before it.

    The first is the farthest from the centroid, so that the choice is the same after any rotation and translation; distances that
    differ by rounding are equal (see :mod:`spheregeo.sampling.points.query`) and the lowest index wins. With a ``generator``, or
    ``random_start`` and torch's own generator, the first is random; ``start`` names the first of each graph. No point is taken
    twice, even where points coincide.

    An integer asks for that many points of each graph, or all if there are fewer; a float in (0, 1] for this share of them,
    rounded up. A tensor is one such number for all graphs, or one for each.

    Shape: positions (P, D), any D >= 1, float16 to float64; batch (P,) non-decreasing; ratio_or_count (), (1,) or (B,); start
    (B,), indices of points; returns indices (M,) int64, graph after graph in the order of choice. Distances are float64.
    Raises: ValueError for a count below 1 or a ratio outside (0, 1], NaN or infinite positions, an unsorted batch, a start
    outside its graph.
    Reference: Eldar, Lindenbaum, Porat & Zeevi 1997, The farthest point strategy for progressive image sampling.
    """
    if _goes_to_the_host(positions):
        chosen = farthest_points(
            positions.cpu(),
            ratio_or_count.cpu() if isinstance(ratio_or_count, Tensor) else ratio_or_count,
            batch.cpu() if isinstance(batch, Tensor) else batch,
            generator=generator,
            random_start=random_start,
            start=start.cpu() if isinstance(start, Tensor) else start,
        )
        return chosen.to(positions.device)
    points = check_positions(positions, dimension=None)
    if points.shape[1] < 3:  # points of a line or a plane are points of space
        points = torch.nn.functional.pad(points, (0, 3 - points.shape[1]))
    index = check_batch(batch, positions)
    graphs = int(index[-1]) + 1 if len(index) else 0
    bounds = boundaries(index, graphs)
    counts = _counts(ratio_or_count, bounds.diff())
    tolerance = tolerance_of(extent(points, index, graphs), positions.dtype)
    if start is not None:
        first = _given(start, bounds)
    elif generator is None and random_start:
        first = _random(bounds, None)
    else:
        first = _first(points, index, bounds, tolerance, generator)
    if points.device.type == "cpu" and points.shape[1] == 3:
        return _compiled(points, bounds, counts, tolerance, first)
    kernel = _kernel_of(points.device.type)
    if kernel is not None and points.shape[1] == 3:
        return kernel(points, bounds, counts, tolerance, first)
    return in_torch(points, index, bounds, counts, tolerance, first)


def _kernel_of(device: str) -> Kernel | None:
    """The kernel of a type of devices: one that was registered, or, where CUDA and triton are there, ours."""
    if (
        device == "cuda"
        and device not in KERNELS
        and torch.cuda.is_available()
        and find_spec("triton") is not None
    ):
        KERNELS[device] = _on_cuda
    return KERNELS.get(device)


def _goes_to_the_host(positions: Tensor) -> bool:
    """Whether a device without a kernel of its own leaves the choice, one point after another, to the CPU."""
    if not isinstance(positions, Tensor) or positions.device.type in ("cpu", "meta"):
        return False
    if _kernel_of(positions.device.type) is not None:
        return False
    return positions.ndim == 2 and positions.shape[0] <= ON_THE_HOST


def _counts(wanted: float | int | Tensor, size: Tensor) -> Tensor:
    if isinstance(wanted, Tensor):
        return _counts_of_graphs(wanted, size)
    if isinstance(wanted, float):
        if not 0 < wanted <= 1:
            raise ValueError(f"ratio_or_count is {wanted!r}; expected a share in (0, 1], or an integer")
        return (size * wanted).ceil().long()
    return size.clamp_max(check_count("ratio_or_count", wanted))


def _counts_of_graphs(wanted: Tensor, size: Tensor) -> Tensor:
    if wanted.shape not in ((), (1,), size.shape) or wanted.dtype == torch.bool or wanted.is_complex():
        raise ValueError(
            f"ratio_or_count is {tuple(wanted.shape)} of {wanted.dtype}; expected numbers of (), (1,) or {tuple(size.shape)}"
        )
    wanted = wanted.detach().to(size.device)
    shares = wanted.is_floating_point()
    right = (wanted > 0) & (wanted <= 1) if shares else wanted >= 1
    if not bool(right.all()):
        expected = "shares in (0, 1]" if shares else "counts of 1 or more"
        raise ValueError(f"ratio_or_count is {wanted.tolist()}; expected {expected}")
    if shares:
        wanted = wanted if wanted.dtype == torch.float64 else wanted.float()
        return (
            (size.to(wanted.dtype) * wanted).ceil().long()
        )  # in the share's precision: a fifth of ten is two
    return torch.minimum(size, wanted.long())


def _given(start: Tensor, bounds: Tensor) -> Tensor:
    """The given first points. Raises: ValueError unless each is a point of its graph, if that has any."""
    if not isinstance(start, Tensor) or start.dtype != torch.int64 or start.shape != bounds[1:].shape:
        found = (
            f"{tuple(start.shape)} of {start.dtype}" if isinstance(start, Tensor) else type(start).__name__
        )
        raise ValueError(
            f"start is {found}; expected ({len(bounds) - 1},) of torch.int64, a point for each graph"
        )
    start = start.to(bounds.device)
    wrong = ((start < bounds[:-1]) | (start >= bounds[1:])) & (bounds.diff() > 0)
    if bool(wrong.any()):
        graph = int(wrong.nonzero()[0, 0])
        raise ValueError(f"start[{graph}] is {int(start[graph])}; expected a point of graph {graph}")
    return start


def _random(bounds: Tensor, generator: torch.Generator | None) -> Tensor:
    size = bounds.diff()
    device = size.device if generator is None else generator.device
    share = torch.rand(len(size), generator=generator, device=device, dtype=torch.float64)
    return bounds[:-1] + (share.to(size.device) * size).long()


def _first(
    points: Tensor, index: Tensor, bounds: Tensor, tolerance: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Where each graph's sampling starts, (B,); of no meaning for an empty graph."""
    size = bounds.diff()
    if generator is not None:
        return _random(bounds, generator)
    centre = (
        points.new_zeros(len(size), points.shape[1]).index_add_(0, index, points) / size.clamp_min(1)[:, None]
    )
    distance = torch.linalg.vector_norm(points - centre[index], dim=1)
    return _lowest_of_largest(distance, index, tolerance)


def _lowest_of_largest(distance: Tensor, index: Tensor, tolerance: Tensor) -> Tensor:
    """The first point of each graph whose distance is the largest, or equal to it."""
    largest = torch.full_like(tolerance, -1.0).scatter_reduce_(0, index, distance, "amax")
    least = largest - torch.minimum(tolerance, RELATIVE * largest)
    ties = (distance >= least[index]).nonzero()[:, 0]
    lowest = torch.full_like(tolerance, len(distance), dtype=torch.int64)
    return lowest.scatter_reduce_(0, index[ties], ties, "amin")


def _compiled(points: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor) -> Tensor:
    """Graph after graph with the compiled kernel."""
    from spheregeo.sampling.points._farthest import farthest  # imports numba

    array = points.contiguous().numpy()
    parts = [np.empty(0, np.int64)]
    starts, widths = first.tolist(), tolerance.tolist()
    for graph, count in enumerate(counts.tolist()):
        if not count:
            continue
        begin, end = int(bounds[graph]), int(bounds[graph + 1])
        part, start = array[begin:end], starts[graph] - begin
        if end - begin > SMALL:
            names = cKDTree(part, leafsize=32).indices.astype(np.int64)
            start = int(np.flatnonzero(names == start)[0])
            part = part[names]
        else:
            names = np.arange(end - begin)
        parts.append(farthest(part, names, start, count, widths[graph]) + begin)
    return torch.from_numpy(np.concatenate(parts))


def in_torch(
    points: Tensor, index: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor
) -> Tensor:
    """All graphs at once, a sample of each a step; the same choice as the compiled kernel's."""
    if not len(points):
        return index
    numbers = counts.tolist()
    total, every = sum(numbers), torch.arange(len(points), device=points.device)
    begin = counts.cumsum(0) - counts
    chosen = torch.empty(
        total + 1, dtype=torch.int64, device=points.device
    )  # the last for graphs that have enough
    latest = torch.where(counts > 0, first, len(points))
    marked = points.new_full((len(points) + 1,), torch.inf)  # the last for graphs without points
    far = marked[:-1]
    for k in range(max(numbers)):
        chosen[torch.where(k < counts, begin + k, total)] = latest
        marked[latest] = -1.0
        step = points - points[latest[index]]
        if step.shape[1] == 3:
            x, y, z = step.unbind(1)
            torch.minimum(far, x * x + y * y + z * z, out=far)  # the compiled kernel's order of additions
        else:
            torch.minimum(far, step.square().sum(1), out=far)
        largest = torch.full_like(tolerance, -1.0).scatter_reduce_(0, index, far, "amax")
        length = largest.clamp_min(0).sqrt()
        least = length - torch.minimum(tolerance, RELATIVE * length)
        least = torch.where(largest < 0, -1.0, least * least)
        ties = torch.where(far >= least[index], every, len(points))
        lowest = torch.full_like(counts, len(points)).scatter_reduce_(0, index, ties, "amin")
        latest = torch.where(counts > k + 1, lowest, latest)
    return chosen[:-1]


def _on_cuda(points: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor) -> Tensor:
    """One launch, a program a cloud."""
    from spheregeo.sampling.points._farthest_triton import on_device  # imports triton

    return on_device(points, bounds, counts, tolerance, first)

"""Weak scaling of networks whose points are split over processes: CPU time of each beside that of one process alone.

    python -m torch.distributed.run --nproc-per-node 2 benchmarks/distributed.py --case unet --rows 192

In turns, every process runs the whole network on a grid of ``rows`` rows by itself, and all together one on a grid with as many
more points as there are processes. Efficiency is the ratio of the two CPU times a point; 1 is perfect. Wall time counts what else
the machine does, and waiting.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import distributed, nn

from spheregeo.distributed import Part, Partition, distribute, measured_traffic, sum_gradients
from spheregeo.grids import Equiangular, Grid
from spheregeo.models import SphericalUNet
from spheregeo.nn import DiscoConv, GaugeConv

CASES: dict[str, tuple[Callable[[Grid], nn.Module], int]] = {
    "disco": (lambda grid: DiscoConv(32, 32, grid), 32),
    "gauge": (lambda grid: GaugeConv("16x0 + 8x1", "16x0 + 8x1", grid), 32),
    "unet": (lambda grid: SphericalUNet(3, 2, grid, width=16, depth=4, norm="none"), 3),
}


def step(network: nn.Module, x: torch.Tensor, shared: bool = False) -> tuple[float, float]:
    """CPU and wall seconds of one forward and backward pass."""
    start = time.process_time(), time.perf_counter()
    network(x).square().mean().backward()
    if shared:
        sum_gradients(network)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="unet")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    size, rank = distributed.get_world_size(), distributed.get_rank()
    make, channels = CASES[options.case]
    rows = 8 * round(options.rows * math.sqrt(size) / 8)
    small, large = Equiangular(options.rows, 2 * options.rows), Equiangular(rows, 2 * rows)
    partition = Partition.of(large, size)
    part = Part(partition, rank)
    alone, together = make(small), distribute(make(large), partition, gradients=None)
    x = torch.randn(1, channels, *small.shape, requires_grad=True)
    mine = torch.randn(1, channels, *part.shape, requires_grad=True)
    found: list[list[tuple[float, float]]] = [[], []]
    for _ in range(options.repeats + 2):
        found[0].append(step(alone, x))
        distributed.barrier()
        with measured_traffic() as traffic:
            found[1].append(step(together, mine, True))
    medians = [[statistics.median(t) for t in zip(*times[2:], strict=True)] for times in found]
    told = torch.tensor(
        [*medians[0], *medians[1], small.num_points, part.num_points, sum(traffic.sent), sum(traffic.summed)]
    ).double()
    every = [torch.empty_like(told) for _ in range(size)]
    distributed.all_gather(every, told)
    if rank == 0:
        print(
            f"{options.case}: {small.shape} alone, {large.shape} by {size} processes; forward and backward, float32"
        )
        for k, (cpu, wall, both_cpu, both_wall, n, m, sent, summed) in enumerate(t.tolist() for t in every):
            print(
                f"  process {k}: alone {1e3 * cpu:.0f} ms CPU, {1e3 * wall:.0f} wall; sharing {1e3 * both_cpu:.0f} CPU, "
                f"{1e3 * both_wall:.0f} wall; efficiency {cpu / n / (both_cpu / m):.2f} CPU, {wall / n / (both_wall / m):.2f} "
                f"wall; sent {sent / 2**20:.2f} MiB in {len(traffic.sent)} exchanges, summed {summed / 2**20:.2f} MiB"
            )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()

"""Train a U-Net on fields that several processes share: each holds a band of the sphere.

Alone, or by any number of processes (SHARE of them to a sphere, the others with other samples), with the same result:

    python -m torch.distributed.run --nproc-per-node 2 examples/share_a_sphere.py
"""

from __future__ import annotations

import os

import torch
from torch import distributed

from spheregeo.distributed import (
    Part,
    Partition,
    area_mean,
    distribute,
    group_rank,
    measured_traffic,
    share_groups,
)
from spheregeo.grids import Equiangular
from spheregeo.models import SphericalUNet

processes = int(os.environ.get("WORLD_SIZE", "1"))
if processes > 1:
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
share = int(os.environ.get("SHARE", processes))
group, number, count = share_groups(share)

grid = Equiangular(16, 32)
partition = Partition.of(grid, share)
part = Part(partition, group_rank(group))  # this process's points, a grid like another

torch.manual_seed(0)  # the same weights everywhere
network = SphericalUNet(1, 1, grid, width=4, depth=2)
network = distribute(network, partition, group, gradients=None)  # gradients are DDP's
model = torch.nn.parallel.DistributedDataParallel(network) if processes > 1 else network
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

for step in range(4):
    noise = torch.Generator().manual_seed(step)
    samples = torch.randn(4, 1, *grid.shape, generator=noise)  # a loader would read part.index alone
    x = part.of(samples[number::count])
    height = part.points[:, 2].float().reshape(part.shape)
    with measured_traffic() as traffic:
        error = (model(x) - x * height).square()
        loss = area_mean(error, part.areas, group).mean()  # the same number on all processes of a group
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
    if step % 3 == 0 and group_rank() == 0:
        sent = sum(traffic.sent) / 1024
        print(
            f"step {step}: loss {float(loss.detach()):.4f}, {len(traffic.sent)} exchanges of {sent:.0f} KiB in all"
        )
if processes > 1:
    distributed.destroy_process_group()

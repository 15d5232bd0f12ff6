"""Generated weather rolled out by three networks trained for equal time: errors on upright planets and on tilted ones.

A network sees height, wind and Coriolis parameter, predicts the next six hours, and is fed its own predictions. Tests are then
turned: initial state and axis of the planet together. With ``--full``: the sizes and times of the table in docs/guides/fields.md.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch

from spheregeo.data import ShallowWaterData
from spheregeo.tasks import FieldRegression

NETWORKS: dict[str, dict[str, Any]] = {
    "gauge-unet": {"width": 16, "depth": 2, "options": {"spacings": 3.0}},
    "sfno": {"width": 32, "depth": 3},
    "planar-unet": {"width": 16, "depth": 3},
}
TINY: dict[str, Any] = {
    "train": 2,
    "val": 1,
    "test": 1,
    "frames": 4,
    "lmax": 7,
    "size": (8, 16),
    "test_steps": 3,
}
FULL: dict[str, Any] = {
    "train": 40,
    "val": 4,
    "test": 8,
    "frames": 25,
    "lmax": 21,
    "size": (32, 64),
    "test_steps": 24,
}


def train(task: FieldRegression, data: ShallowWaterData, seconds: float, lr: float = 4e-3) -> int:
    """Train for so many seconds of processor time, and return the number of steps."""
    optimiser = torch.optim.AdamW(task.parameters(), lr, weight_decay=1e-2)
    begin, steps, epoch = time.process_time(), 0, 0
    while True:
        data.first_epoch = epoch
        for batch in data.train_dataloader():
            spent = (time.process_time() - begin) / seconds
            if spent >= 1:
                return steps
            for group in optimiser.param_groups:
                group["lr"] = lr * min(1.0, 0.05 + steps / 20) * 0.5 * (1 + math.cos(math.pi * spent))
            optimiser.zero_grad()
            task.forward_batch(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimiser.step()
            steps += 1
        epoch += 1


@torch.no_grad()
def score(task: FieldRegression, data: ShallowWaterData) -> dict[str, Any]:
    """Scores of the roll-outs of the test, by field and lead time."""
    task.eval()
    for batch in data.test_dataloader():
        task.update_metrics(task.forward_batch(batch))
    task.compute_metrics()
    return dict(task.report()["fields"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--full", action="store_true", help="the guide's sizes and 60 s for each network")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--network", choices=NETWORKS)
    given = parser.parse_args()
    sizes, seconds = (FULL, 60.0) if given.full else (TINY, 1.0)
    upright, turned = (ShallowWaterData(**sizes, batch_size=8, rotate_test=n) for n in (0, 4))
    for name in [given.network] if given.network else NETWORKS:
        torch.manual_seed(0)
        task = FieldRegression(upright.layout, upright.grid, network=name, **NETWORKS[name])
        print(f"{name}: {train(task, upright, given.seconds or seconds)} steps")
        scores = [score(task, data) for data in (upright, turned)]
        last = sizes["test_steps"] - 1
        for field in ("height", "wind"):
            for k in (0, last // 2, last):
                a, b = (found[field]["rmse"][k] for found in scores)
                change = 100 * (b / a - 1)
                print(
                    f"  {field:<6} after {6 * (k + 1):>3} h: RMSE {a:8.4g}, turned {b:8.4g} ({change:+.1f} %)"
                )


if __name__ == "__main__":
    main()

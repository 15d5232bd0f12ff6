"""Two processes learn molecules and clouds as one does: the same losses and scores from the same global batches."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

COMMON = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.train=16", "--data.val=4"]
# AdamW: SOAP takes steps of full size along directions without gradient, where rounding, which differs, is all there is.
FORCES = ["--data.test=2", "--model.width=8", "--model.depth=1", "--model.options={cutoff: 5.0, basis: 8}",
          "--model.optimizer=adamw"]  # fmt: skip
CLOUDS = ["--data.test=10", "--data.num_points=64"]
STEERABLE = "{steerable-points: {width: 8, counts: [16, 4], radii: [0.6, 1.2], k: 8}}"
RUNS = {
    "schnet": ("fit-forces", FORCES, ("val/force_mae", "val/energy_mae")),
    "steerable-molecule": ("fit-forces", FORCES, ("val/force_mae", "val/energy_mae")),
    "steerable-points": ("classify-points", [*CLOUDS, f"--model.options={STEERABLE}"], ("val/accuracy",)),
}
TWO = ["--data.batch_size=4", "--trainer.devices=2", "--trainer.strategy=ddp"]


def scores(programs: Any, recipe: str, names: tuple[str, ...], folder: Path, *options: str) -> list[float]:
    """Every number that a short run logs under these names."""
    done = programs.run(["-m", "spheregeo", "fit", recipe, "--output", str(folder), *COMMON, *options])
    assert done.returncode == 0, done.stderr
    with open(folder / "logs" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [float(row[name]) for name in names for row in rows if row[name]]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
@pytest.mark.parametrize("network", RUNS)
def test_two_processes_train_as_one(network: str, tmp_path: Path, programs: Any) -> None:
    recipe, options, scored = RUNS[network]
    names = ("train/loss", "val/loss", *scored)
    chosen = [*options, f"--model.network={network}"]
    alone = scores(programs, recipe, names, tmp_path / "one", *chosen, "--data.batch_size=8")
    together = scores(programs, recipe, names, tmp_path / "two", *chosen, *TWO)
    assert len(alone) == 2 * len(names) and together == pytest.approx(alone, rel=1e-5)

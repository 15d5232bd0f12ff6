"""Two processes learn energies and forces as one does: the same losses and scores from the same global batches."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

COMMON = [
    "--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.train=16", "--data.val=4", "--data.test=2",
    "--model.width=8", "--model.depth=1", "--ema=0",
]  # fmt: skip
TWO = ["--data.batch_size=4", "--trainer.devices=2", "--trainer.strategy=ddp"]


def scores(folder: Path, *options: str) -> list[float]:
    """Every number that a short run of fit-forces logs."""
    command = [
        sys.executable,
        "-m",
        "spheregeo",
        "fit",
        "fit-forces",
        "--output",
        str(folder),
        *COMMON,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with open(folder / "logs" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    names = ("train/loss", "val/loss", "val/force_mae", "val/energy_mae")
    return [float(row[name]) for name in names for row in rows if row[name]]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    alone = scores(tmp_path / "one", "--data.batch_size=8")
    together = scores(tmp_path / "two", *TWO)
    assert len(alone) == 8 and together == pytest.approx(alone, rel=1e-4)

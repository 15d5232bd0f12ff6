"""Two processes train as one: the same losses and weights from the same global batches."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from spheregeo.cli.runs.hooks import end_without
from spheregeo.tasks import read_checkpoint

# Batch norm with statistics of both processes; of 7 items one process gets one more, and none is seen twice.
RECIPE = """# rooms in two processes
data:
  class_path: spheregeo.data.RoomsData
  init_args: {size: [16, 32], train: 7, val: 6, test: 4}
model:
  class_path: spheregeo.tasks.Segmentation
  init_args: {network: sphere-unet-small, width: 4, depth: 2, class_weights: balanced}
trainer: {max_epochs: 2, accelerator: cpu, strategy: auto}
"""


def losses(run: Path) -> list[float]:
    with open(run / "logs" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [float(r[k]) for k in ("train/loss", "val/loss", "val/miou") for r in rows if r[k]]


def panoramas(root: Path, torn: str) -> Path:
    """Six panoramas for training and four for validation, one of which is half a file."""
    names = [f"p{k}" for k in range(10)]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for k, name in enumerate(names):
        label = np.random.default_rng(k).integers(0, 2, (16, 32), dtype=np.uint8)
        Image.fromarray(label).save(root / "labels" / f"{name}.png")
        Image.fromarray(label * 200).save(root / "images" / f"{name}.png")
    path = root / "images" / f"{torn}.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (root / "classes.txt").write_text("dark\nbright\n")
    for split, chosen in (("train", names[:6]), ("val", names[6:]), ("test", names[6:])):
        (root / f"{split}.txt").write_text("\n".join(chosen))
    return root


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_a_fault_of_one_process_ends_both(tmp_path: Path, programs: Any) -> None:
    # In turns, the processes take p6, p7, p8, p9: the torn one comes to one of them only.
    small = (
        "--data.size [16,32] --data.batch_size 1 --model.width 4 --model.depth 2 --trainer.accelerator cpu"
    )
    two = "--trainer.max_epochs 1 --trainer.devices 2 --trainer.strategy ddp"
    runs = []
    for torn in ("p8", "p9"):
        root = panoramas(tmp_path / torn, torn)
        place = ["--output", str(tmp_path / f"run-{torn}"), "--data.root", str(root)]
        command = ["-m", "spheregeo", "fit", "segment-folder", *place, *small.split(), *two.split()]
        runs.append((torn, programs.start(command)))
    for torn, number in runs:
        process = programs.finish(number, timeout=300)
        errors = process.stderr
        assert process.returncode == 2, errors
        assert f"{torn}.png cannot be read as an image" in errors
        assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_a_lost_process_is_reported_by_the_one_that_is_left(tmp_path: Path) -> None:
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        RECIPE.replace("network: sphere-unet-small", "network: pixel-mlp").replace(
            ", options: {norm: group}", ""
        )
    )
    command = [sys.executable, "-m", "spheregeo", "fit", str(recipe), "--output", str(tmp_path / "run")]
    options = [
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
        "--trainer.max_epochs",
        "100000",
        "--data.batch_size",
        "2",
    ]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        while not process.stdout.readline().startswith("epoch 2/"):
            assert process.poll() is None  # the first epoch is kept once the second has ended
        (other,) = psutil.Process(process.pid).children()
        other.kill()
        process.stdout.read()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 2
    (line,) = errors.splitlines()
    assert (
        line.startswith("spheregeo: error: another process of this run has stopped")
        and "go on with --resume" in line
    )


def test_a_process_that_notices_nothing_is_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the one that is left hangs in an exchange, a thread says so and ends it."""
    killed: list[int] = []
    launcher = SimpleNamespace(procs=[SimpleNamespace(kill=lambda: killed.append(1))])
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    end_without(launcher, grace=0.0)
    assert codes == [2] and killed == [1]
    assert capsys.readouterr().err.startswith("spheregeo: error: another process of this run has stopped")


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_gloo_processes_equal_one(tmp_path: Path, programs: Any) -> None:
    recipe = tmp_path / "two.yaml"
    recipe.write_text(RECIPE)
    command = ["-m", "spheregeo", "fit", str(recipe), "--output"]
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "2"]
    one = ["--trainer.devices", "1", "--data.batch_size", "4"]
    for name, options in (("one", one), ("two", two)):
        ended = programs.run([*command, str(tmp_path / name), *options])
        assert ended.returncode == 0, ended.stderr
    # Sums in another order, in float32, over a few optimiser steps of size 3e-3.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    first, second = (
        read_checkpoint(tmp_path / n / "checkpoints" / "last.ckpt")["state_dict"] for n in ("one", "two")
    )
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-4, msg=name)

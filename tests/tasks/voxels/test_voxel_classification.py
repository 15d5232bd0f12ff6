"""Classification of volumes from the command line: fit, test, predict, audit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from spheregeo.cli import main

TINY = [
    "--data.train", "16", "--data.val", "8", "--data.test", "8", "--data.voxels", "8", "--data.batch_size", "8",
    "--model.width", "4", "--model.depth", "2", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voxels") / "run"
    assert main(["fit", "classify-voxels", "--output", str(folder), *TINY]) == 0
    return folder


def test_a_test_writes_its_report(run: Path) -> None:
    assert main(["test", "classify-voxels", "--output", str(run)]) == 0
    found = [p for p in run.rglob("*") if p.name in ("confusion.png", "predictions.csv", "predictions.png")]
    assert {p.name for p in found} == {"confusion.png", "predictions.csv", "predictions.png"}


def test_prediction_of_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        np.save(tmp_path / "in" / f"{k}.npy", rng.standard_normal((8, 8, 8)).astype(np.float32))
    np.save(tmp_path / "in" / "3.npy", np.zeros((7, 8, 8)))
    call = ["predict", "classify-voxels", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*call, "--ckpt", str(run / "checkpoints" / "best.ckpt")]) == 2
    assert "3.npy" in capsys.readouterr().err
    with open(tmp_path / "out" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and (tmp_path / "out" / "predictions.png").stat().st_size > 1000


def test_audit_measures_turns(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "classify-voxels", "--output", str(run), "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["invariance"]["randomised"]
    assert found["its reflections too"] < 1e-12 < found["any rotations"]
    assert "change by any rotations" in capsys.readouterr().out


def test_export(run: Path, tmp_path: Path) -> None:
    call = ["export", str(run), "--to", "safetensors", "--output", str(tmp_path / "out")]
    assert main(call) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "any rotations" in card and "volume.npy" in card

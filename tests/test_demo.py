"""The demonstration in tiny sizes: every network trains and is tested, the table and the sheet come out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spheregeo.cli import demo


@pytest.mark.slow
def test_the_demonstration_in_tiny(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    less = {
        "segment-sphere": ("--data.size [48,96]", "--data.size [16,32]"),
        "classify-points": ("--data.num_points 128", "--data.num_points 64"),
        "regress-molecules": ("--trainer", "--model.width 8 --trainer"),
    }
    few = {
        "--data.train 200": "--data.train 4",
        "--data.train 600": "--data.train 16",
        "--data.test 200": "--data.test 20",
    }
    runs = []
    for run in demo.RUNS:
        options = run.options.replace(*less[run.recipe])
        for old, new in few.items():
            options = options.replace(old, new)
        runs.append(replace(run, options=options))
    monkeypatch.setattr(demo, "RUNS", tuple(runs))
    scores = demo.run(str(tmp_path), ["--trainer.max_epochs", "1"])
    told = capsys.readouterr().out
    for job in ("panorama", "cloud", "cloud, turned", "molecule, zero-point"):
        assert job in scores and f"\n{job}  " in told
        assert 0 <= scores[job]["ours"][1] and 0 <= scores[job]["baseline"][1]
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    assert (tmp_path / "demo.png").stat().st_size > 50_000
    assert "epoch 1/1" in (tmp_path / "rooms-unet" / "log.txt").read_text()


def test_a_run_that_fails_ends_the_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RUNS", (demo.Run("none", "no-such-recipe", ""),))
    with pytest.raises(FileNotFoundError, match="no recipe 'no-such-recipe'"):
        demo.run(str(tmp_path), [])


def test_the_table_lines_up() -> None:
    found: dict[str, Any] = {
        "a": {"score": "mIoU", "baseline": ["pixels", 0.125], "ours": ["U-Net", 0.5]},
        "longer": {"score": "MAE", "baseline": ["elements", 12.345], "ours": ["network", 3.4567]},
    }
    lines = demo.table(found).splitlines()
    assert lines[2].split() == ["a", "mIoU", "pixels", "0.125", "U-Net", "0.500"]
    assert lines[3].split() == ["longer", "MAE", "elements", "12.3", "network", "3.46"]
    assert len({line.index(name) for line, name in zip(lines[2:], ("U-Net", "network"), strict=True)}) == 1

"""Runs that start from others, with frozen parts; gradients accumulated; logs and profiles by name."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from spheregeo import tasks
from spheregeo.cli import main
from spheregeo.cli.runs.loggers import logger_of, make_loggers
from spheregeo.tasks import read_checkpoint
from spheregeo.tasks.training.start import freeze, take_weights

RECIPE = """# tiny glyphs
data:
  class_path: spheregeo.data.SphericalGlyphsData
  init_args: {grid: HEALPix(4), train: 16, val: 8, test: 8, batch_size: 8}
model:
  class_path: spheregeo.tasks.Classification
  init_args: {width: 4, depth: 2, lr: 0.01}
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run and the recipe beside it."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["fit", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["state_dict"]


def test_a_frozen_part_stays_bit_equal_and_a_new_head_trains(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With averaged weights, new batch statistics, weight decay and a resume, none of which may touch the frozen part."""
    start = weights(place / "run", "best")
    head = [name for name in start if name.startswith("network.head.")]
    # A head for other classes: the stored one has other shapes.
    content = read_checkpoint(place / "run" / "checkpoints" / "best.ckpt")
    last_head = sorted(name for name in head if name.endswith(("weight", "bias")))[-2:]
    for name in last_head:
        content["state_dict"][name] = content["state_dict"][name][:5].clone()
    other = tmp_path / "other.ckpt"
    torch.save(content, other)
    run = tmp_path / "run"
    call = ["fit", str(place / "tiny.yaml"), "--output", str(run), "--ema", "0.5", "--precise_bn", "2"]
    assert main([*call, "--init", str(other), "--freeze", "network.encoder*"]) == 0
    out = capsys.readouterr().out
    assert f"not in {other}, so new: {', '.join(sorted(last_head, key=out.index))}" in out
    assert main([*call[:4], "--resume", "--trainer.max_epochs", "3"]) == 0
    now = weights(run)
    frozen = [name for name in start if name.startswith("network.encoder")]
    assert any("running_mean" in name for name in frozen) and any("weight" in name for name in frozen)
    assert all(torch.equal(now[name], start[name]) for name in frozen)
    moved = [
        name
        for name in head
        if now[name].shape != start[name].shape or not torch.equal(now[name], start[name])
    ]
    assert set(last_head) <= set(moved)
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 2
    assert str(other) in (run / "recipe.yaml").read_text()


def test_all_weights_of_a_run_are_taken(place: Path) -> None:
    task: Any = tasks.load(place / "run" / "checkpoints" / "best.ckpt", weights=False)
    stored = weights(place / "run", "best")
    task.network.eval()
    assert take_weights(task, place / "run" / "checkpoints" / "best.ckpt") == []
    assert all(torch.equal(value, stored[name]) for name, value in task.state_dict().items())


def test_faults_of_the_start(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*options: str) -> str:
        capsys.readouterr()
        assert main(["fit", str(place / "tiny.yaml"), "--output", str(tmp_path / "run"), *options]) == 2
        return capsys.readouterr().err

    run = str(place / "run")
    assert "no parameter of this network" in error("--init", run, "--model.network", "planar")
    assert "none.ckpt" in error("--init", str(tmp_path / "none.ckpt"))
    assert "holds no checkpoint" in error("--init", str(tmp_path))
    assert "pass one of them" in error("--init", run, "--resume")
    assert "freeze is 'decoder.*', which matches no parameter" in error("--freeze", "decoder.*")
    assert "leaves nothing to train" in error("--freeze", "*")
    assert not (tmp_path / "run").exists()


def test_frozen_parameters_are_left_out(place: Path) -> None:
    task = tasks.load(place / "run" / "checkpoints" / "best.ckpt")
    frozen = freeze(task, ["network.encoder*", "*bias"])
    assert frozen == [name for name, p in task.named_parameters() if not p.requires_grad]
    optimizer = task.configure_optimizers()
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(task.parameters())
    ) - len(frozen)


def test_accumulated_gradients_are_those_of_the_larger_batch(place: Path, tmp_path: Path) -> None:
    options = [
        "--model.options",
        "{norm: group}",
        "--trainer.max_epochs",
        "2",
        "--trainer.accelerator",
        "cpu",
    ]
    for name, batch, steps in (("large", 8, 1), ("small", 4, 2)):
        more = ["--data.batch_size", str(batch), "--trainer.accumulate_grad_batches", str(steps)]
        assert main(["fit", str(place / "tiny.yaml"), "--output", str(tmp_path / name), *options, *more]) == 0
    large, small = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("large", "small")
    )
    assert large["global_step"] == small["global_step"] == 4
    initial = weights(place / "run")
    assert not any("running_mean" in name for name in large["state_dict"]) and initial
    for name, value in large["state_dict"].items():
        # sums in another order, through four steps of AdamW
        torch.testing.assert_close(small["state_dict"][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_loggers_by_name(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["fit", str(place / "tiny.yaml"), "--output", str(tmp_path / "run")]
    for name in ("wandb", "mlflow", "tensorboard"):
        if importlib.util.find_spec(name) is None:
            capsys.readouterr()
            assert main([*call, "--trainer.logger", name]) == 2
            assert (
                f"--trainer.logger {name} needs the package {name}; pip install {name}"
                in capsys.readouterr().err
            )
    assert not (tmp_path / "run").exists()
    assert main([*call, "--trainer.logger=csv", "--profile", "simple"]) == 0
    assert "\n  logger: csv\n" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert "training_step" in (tmp_path / "run" / "fit-profile.txt").read_text()
    assert main([*call, "--resume", "--trainer.max_epochs", "2"]) == 0
    assert sorted(p.name for p in (tmp_path / "run" / "logs").iterdir()) == ["version_0", "version_1"]
    assert main([*call, "--overwrite"]) == 0
    assert not (tmp_path / "run" / "fit-profile.txt").exists(), "a profile is a file of its run"


def test_which_logger(tmp_path: Path) -> None:
    content: dict[str, Any] = {"trainer": {"logger": "wandb", "max_epochs": 1}}
    assert logger_of(content, ["--ema", "0.9"]) == ("wandb", ["--ema", "0.9"])
    assert content == {"trainer": {"max_epochs": 1}}
    options = ["--trainer.logger", "mlflow", "--ema", "0.9", "--trainer.logger=csv"]
    assert logger_of({}, options) == ("csv", ["--ema", "0.9"])
    assert logger_of({}, ["--trainer.logger", "false"]) == (None, ["--trainer.logger=false"])
    assert [type(logger).__name__ for logger in make_loggers(tmp_path, "csv")] == ["CSVLogger"]
    shutil.rmtree(tmp_path)

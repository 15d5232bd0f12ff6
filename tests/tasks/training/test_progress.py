"""What a training tells of itself, and which samples a test shows."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spheregeo import tasks
from spheregeo.grids import HEALPix
from spheregeo.tasks.training.callbacks import EpochLine
from spheregeo.tasks.training.progress import EACH, WARM, Chosen, StartLine


def offered(chosen: Chosen, errors: list[float | None], kinds: list[int | None] | None = None) -> list[Any]:
    for k, error in enumerate(errors):
        chosen.offer(lambda k=k: k, error, None if kinds is None else kinds[k])
    return chosen.examples()


def test_worst_median_and_best_are_shown() -> None:
    errors = torch.rand(500, generator=torch.Generator().manual_seed(1)).tolist()
    order = sorted(range(500), key=errors.__getitem__)
    shown = offered(Chosen(6), list(errors))
    assert shown[:2] == order[:-3:-1] and shown[-2:] == [order[1], order[0]]
    assert all(
        0.25 < errors[k] < 0.75 for k in shown[2:4]
    )  # of a dozen drawn ones, the nearest to the median
    assert offered(Chosen(6), [0.5, 0.1, 0.3]) == [0, 2, 1]
    assert offered(Chosen(2), [None] * 5) == [0, 1]
    assert offered(Chosen(6), [float("nan"), 0.5]) == [1]


def test_one_of_each_class_is_shown() -> None:
    kinds: list[int | None] = [3, 3, 1, 0, 1, 3]
    assert offered(Chosen(2), [None] * 6, kinds) == [3, 2, 0]
    assert len(offered(Chosen(2), [None] * 40, list(range(40)))) == EACH


def trainer(**changes: Any) -> Any:
    loader = SimpleNamespace(dataset=range(20))
    settings = {
        "is_global_zero": True,
        "current_epoch": 1, "max_epochs": 5, "should_stop": False, "num_training_batches": 10, "train_dataloader": loader,
        "val_dataloaders": SimpleNamespace(dataset=range(4)), "callback_metrics": {"val/force_mae": torch.tensor(31.2)},
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


def test_lines_have_units_and_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    forces, line = tasks.Forces(width=4, depth=1), EpochLine()
    line.on_train_start(trainer(current_epoch=0), forces)
    clock[0] += 200.0  # two epochs of 100 s; three are left
    line.on_train_epoch_end(trainer(), forces)
    assert capsys.readouterr().out == "epoch 2/5  val/force_mae 31.2000 meV/Å  about 5 min left\n"
    line.on_train_epoch_end(trainer(current_epoch=4), forces)
    assert "left" not in capsys.readouterr().out
    task = tasks.Segmentation(3, 2, HEALPix(2), network="pixel-mlp", width=4)
    start = StartLine()
    start.on_train_start(trainer(), task)
    count = sum(p.numel() for p in task.parameters())
    told = capsys.readouterr().out
    assert told.startswith(
        f"20 training samples; 4 validation samples; 10 steps an epoch; {count} parameters; "
    )
    for step in range(20):
        clock[0] += 9.0 if step < WARM else 2.0  # the first steps compile
        start.on_train_batch_end(trainer(current_epoch=0), task, None, None, step)
    assert capsys.readouterr().out == "2 s a step, about 100 s of training\n"


def test_scores_of_broken_weights_are_refused_by_the_names_of_the_samples() -> None:
    task = tasks.Classification(1, 3, HEALPix(2), width=4, depth=2).eval()
    with torch.no_grad():
        next(iter(task.parameters())).fill_(torch.nan)
    batch = {"image": torch.randn(2, 1, 48), "label": torch.zeros(2).long(), "index": torch.tensor([7, 9])}
    with pytest.raises(ValueError, match="a batch of the samples 7, 9 is nan, so there is no score"):
        task.validation_step(batch, 0)

"""The segmentation task: checks of its input, its loss and scores, its checkpoint."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks import AtomicCheckpointIO, Segmentation, cross_entropy, load, read_checkpoint
from spheregeo.tasks.base import learning_rate_factor


def make(**options: Any) -> Segmentation:
    settings = {"in_channels": 3, "num_classes": 4, "grid": Equiangular(8, 16), "width": 4, "depth": 2}
    return Segmentation(**{**settings, **options})  # type: ignore[arg-type]


def batch(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"image": torch.randn(2, 3, 8, 16), "label": torch.randint(0, 4, (2, 8, 16)), **changes}


def test_scores_and_results() -> None:
    task = make(class_names=["a", "b", "c", "d"]).eval()
    outputs = task.test_step(batch(), 0)
    assert outputs["prediction"].shape == (2, 8, 16)
    task.matrix = task.confusion.compute()
    results = task.report()
    assert 0 <= results["miou"] <= results["accuracy"] + 1
    assert set(results["classes"]) == {"a", "b", "c", "d"}
    assert sum(c["share"] for c in results["classes"].values()) == pytest.approx(1)
    assert float(task.confusion.matrix.sum()) == pytest.approx(2 * 4 * torch.pi, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": torch.randn(2, 4, 8, 16)}, "3 channels"),
        ({"image": torch.randn(2, 3, 16, 32)}, "resample the images"),
        ({"image": torch.full((2, 3, 8, 16), torch.nan)}, "image 0 of the batch holds NaN"),
        ({"label": torch.full((2, 8, 16), 4)}, "label 4 is out of range.*0 to 3"),
        ({"label": torch.full((2, 8, 16), -1)}, "label -1 is out of range"),
        ({"label": torch.zeros(2, 4, 8, dtype=torch.long)}, r"expected \(B, 8, 16\)"),
    ],
    ids=["channels", "size", "nan", "label", "negative", "label-size"],
)
def test_bad_input(changes: dict[str, torch.Tensor], message: str) -> None:
    task = make()
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    with pytest.raises(ValueError, match=message):
        task.training_step(batch(**changes), 0)


def test_data_without_labels() -> None:
    with pytest.raises(ValueError, match="needs 'label'"):
        make().test_step({"image": torch.randn(1, 3, 8, 16)}, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"]}, "1 names but num_classes is 4"),
        ({"class_weights": [1.0]}, "1 numbers for 4 classes"),
        ({"class_weights": "even"}, "'balanced' or null"),
        ({"loss": "dice"}, "loss is 'dice'; choose 'cross_entropy' or 'focal'"),
        ({"loss": "focal", "focal_gamma": -1.0}, "focal_gamma is -1.0"),
        ({"mean": [0.5]}, "mean has 1 numbers"),
        ({"warmup": 1.5}, "share of all steps"),
        ({"network": "resnet"}, "no model is named"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_checkpoint_is_plain_and_comes_back(tmp_path: Path) -> None:
    task = make(
        grid=HEALPix(4), options={"kernel": "Rings(5)", "levels": ["HEALPix(4)", "Icosahedral(1)"]}, depth=None,
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), class_weights=[1.0, 2.0, 3.0, 4.0],
    ).eval()  # fmt: skip
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(content)
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = load(tmp_path / "a.ckpt")
    x = torch.randn(1, 3, 192)
    torch.testing.assert_close(again(x), task(x))
    torch.testing.assert_close(
        again.normalize(torch.ones(3, 192)[..., None]), task.normalize(torch.ones(3, 192)[..., None])
    )
    assert isinstance(again, Segmentation) and again.class_weight.tolist() == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="own list of levels"):
        load(tmp_path / "a.ckpt", grid="HEALPix(8)")


def test_checkpoint_at_another_resolution_and_foreign_files(tmp_path: Path) -> None:
    task = make()
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(content)
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt", grid="Equiangular(16, 32)")(torch.randn(1, 3, 16, 32)).shape == (
        1,
        4,
        16,
        32,
    )
    assert read_checkpoint(tmp_path / "a.ckpt")["task"] == "Segmentation"
    AtomicCheckpointIO().save_checkpoint({**content, "task": "Other"}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="such as Segmentation or Classification, got 'Other'"):
        load(tmp_path / "b.ckpt")
    AtomicCheckpointIO().save_checkpoint({**content, "state_dict": {}}, tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match="does not fit its own description"):
        load(tmp_path / "c.ckpt")


def test_the_focal_loss_is_an_option() -> None:
    torch.manual_seed(0)
    task = make(loss="focal", focal_gamma=1.0)
    sample = batch()
    outputs = task.forward_batch(sample)
    want = cross_entropy(outputs["output"], sample["label"], task.areas, gamma=1.0)
    torch.testing.assert_close(outputs["loss"], want)
    plain = make(loss="focal", focal_gamma=0.0)
    plain.load_state_dict(task.state_dict())
    with torch.no_grad():
        assert plain.forward_batch(sample)["loss"] > outputs["loss"]


def test_an_epoch_without_a_labelled_pixel_says_so() -> None:
    task = make()
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    task.training_step(batch(label=torch.full((2, 8, 16), 255)), 0)
    with pytest.raises(ValueError, match=r"no pixel of the training data is labelled: every label is void"):
        task.on_train_epoch_end()
    task.training_step(batch(), 0)
    task.on_train_epoch_end()


@pytest.mark.parametrize(
    ("split", "message"),
    [("train", r"the loss is nan.*--model\.lr"), ("val", "the loss of a batch is nan, so there is no score")],
)
def test_a_diverged_loss_ends_the_run(split: str, message: str) -> None:
    task = make()
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    with torch.no_grad():
        next(task.network.parameters()).fill_(torch.nan)
    step = task.training_step if split == "train" else task.validation_step
    with pytest.raises(ValueError, match=message):
        step(batch(), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": Equiangular(16, 32)}, r"with grid 'Equiangular\(nlat=8"),
        ({"width": 6}, "with width 4 but this run has 6"),
        ({"options": {"kernel": "Rings(3)"}}, "with options None"),
        ({"num_classes": 5}, "with num_classes 4"),
    ],
    ids=["grid", "width", "options", "classes"],
)
def test_resuming_with_another_network_is_refused(options: dict[str, Any], message: str) -> None:
    content = {"hyper_parameters": dict(make().hparams)}
    make(lr=1.0, class_weights="balanced").on_load_checkpoint(content)
    with pytest.raises(ValueError, match=message):
        make(**options).on_load_checkpoint(content)


def test_learning_rate_rises_and_falls() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5) and factors[100] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert learning_rate_factor(0, 1, 0.0) == 1.0

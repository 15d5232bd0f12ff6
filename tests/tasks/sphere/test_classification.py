"""The classification task: checks of its input, loss, scores, table, pictures and checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks import (
    AtomicCheckpointIO,
    Classification,
    ConfusionMatrix,
    Predictions,
    classification_scores,
    load,
    write_predictions,
)
from spheregeo.tasks.metrics import class_f1, class_precision
from spheregeo.tasks.sphere.photos import classify_photo


def make(**options: Any) -> Classification:
    settings = {"in_channels": 1, "num_classes": 4, "grid": HEALPix(4), "width": 4, "depth": 2}
    return Classification(**{**settings, **options})  # type: ignore[arg-type]


def batch(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"image": torch.randn(6, 1, 192), "label": torch.tensor([0, 1, 2, 3, 3, 0]), **changes}


# ---- scores


def test_scores_by_hand() -> None:
    truth, said = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]), torch.tensor([0, 0, 1, 1, 1, 0, 2, 2])
    metric = ConfusionMatrix(4, ignore_index=-1)
    metric.update(said[:3], truth[:3])
    metric.update(said[3:], truth[3:])
    matrix = metric.compute()
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    scores = classification_scores(matrix)
    assert scores["accuracy"] == pytest.approx(6 / 8)
    assert scores["macc"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)  # the absent class does not count
    # F1 = 2 TP / (2 TP + FP + FN)
    assert scores["macro_f1"] == pytest.approx((4 / 6 + 4 / 5 + 4 / 5) / 3)
    assert class_precision(matrix)[:3].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert class_f1(matrix)[3].isnan() and class_precision(matrix)[3].isnan()
    with pytest.raises(ValueError, match="no labelled area"):
        classification_scores(torch.zeros(2, 2))


def test_a_step_trains_and_a_test_counts() -> None:
    task = make(class_names=["a", "b", "c", "d"])
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    loss = task.training_step(batch(), 0)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())
    logits = task.eval()(batch()["image"])
    assert logits.shape == (6, 4)
    outputs = task.test_step(batch(), 0)
    assert outputs["prediction"].shape == (6,)
    assert float(task.confusion.matrix.sum()) == 6
    task.compute_metrics()
    # compute_metrics forgets the counts
    assert float(task.confusion.matrix.sum()) == 0
    results = task.report()
    assert set(results["classes"]) == {"a", "b", "c", "d"}
    assert sum(c["count"] for c in results["classes"].values()) == 6 == sum(map(sum, results["confusion"]))


def test_loss_is_the_plain_mean_and_smoothing_spreads_it() -> None:
    data = batch()
    for smoothing in (0.0, 0.3):
        task = make(label_smoothing=smoothing).eval()
        expected = torch.nn.functional.cross_entropy(
            task(data["image"]), data["label"], label_smoothing=smoothing
        )
        torch.testing.assert_close(task.forward_batch(data)["loss"], expected)


# ---- the table and the pictures


def test_predictions_come_in_order_and_once() -> None:
    metric = Predictions()
    metric.update(
        torch.tensor([2, 0]), torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]), torch.tensor([5, 1])
    )
    metric.update(
        torch.tensor([1, 2]), torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]), torch.tensor([0, 5])
    )
    index, truth, probability = metric.compute()
    assert index.tolist() == [0, 1, 5] and truth.tolist() == [1, 0, 2]
    assert probability.argmax(1).tolist() == [1, 0, 2]
    counted = Predictions()
    for _ in range(2):
        counted.update(torch.zeros(3).long(), torch.full((3, 2), 0.5))
    assert counted.compute()[0].tolist() == list(range(6))


def test_the_table_as_csv(tmp_path: Path) -> None:
    table = torch.tensor([0, 1]), torch.tensor([1, -1]), torch.tensor([[0.25, 0.75], [0.9, 0.1]])
    write_predictions(tmp_path / "p.csv", table, ["cat, small", "dog"], ["one.png", "two.png"])
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"sample": "one.png", "truth": "dog", "prediction": "dog",
                       "p(cat, small)": "0.250000", "p(dog)": "0.750000"}  # fmt: skip
    assert rows[1]["truth"] == "" and rows[1]["prediction"] == "cat, small"


@pytest.mark.parametrize("grid", [HEALPix(4), Equiangular(8, 16)], ids=lambda g: type(g).__name__)
def test_a_test_draws_its_report(grid: HEALPix, tmp_path: Path) -> None:
    task = make(grid=grid, class_names=["a", "b", "c", "d"]).eval()
    task.log_dict = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    data = batch(image=torch.randn(6, 1, *grid.shape), index=torch.tensor([9, 8, 7, 6, 5, 4]))
    outputs = task.test_step(data, 0)
    task.on_test_epoch_end()
    task.plot(tmp_path, list(task.examples(outputs))[:3])
    assert {p.name for p in tmp_path.iterdir()} == {"confusion.png", "predictions.csv", "predictions.png"}
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["sample"] for r in rows] == ["4", "5", "6", "7", "8", "9"]
    assert [r["truth"] for r in rows] == ["a", "d", "d", "c", "b", "a"]
    assert all(sum(float(r[f"p({c})"]) for c in "abcd") == pytest.approx(1, abs=1e-5) for r in rows)
    task.plot(tmp_path / "none", [])
    assert not (tmp_path / "none" / "predictions.png").exists()


@pytest.mark.parametrize("grid", [HEALPix(8), Equiangular(16, 32)], ids=lambda g: type(g).__name__)
def test_the_globe_is_looked_at_where_the_picture_is(grid: HEALPix) -> None:
    from spheregeo.tasks.pictures.projections import globe

    task = make(grid=grid, network="planar", depth=2)
    centre = torch.tensor([-0.5, 0.7, -0.5]).double()
    spot = torch.exp(-20 * (1 - grid.points @ (centre / centre.norm()))).reshape(1, *grid.shape)
    picture = task.picture_of(spot)
    seen = globe(picture, 64, *task.view_of(spot)).astype(float).mean(-1)
    assert seen[24:40, 24:40].mean() > 150 > 80 > seen[28:36, :8].mean()
    pole = torch.exp(-20 * (1 + grid.points[:, 2])).reshape(1, *grid.shape)
    assert task.view_of(pole)[0] < -1.4


def test_photos_are_classified_whole() -> None:
    task = make(in_channels=1).eval()
    probability = classify_photo(task, torch.rand(3, 20, 40))
    assert probability.shape == (4,) and float(probability.sum()) == pytest.approx(1)
    with pytest.raises(ValueError, match="3 channels but the model was trained on 2"):
        classify_photo(make(in_channels=2).eval(), torch.rand(3, 20, 40))


# ---- errors and checkpoints


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": torch.randn(6, 2, 192)}, "1 channels"),
        ({"image": torch.randn(6, 1, 768)}, "resample the images"),
        ({"image": torch.full((6, 1, 192), torch.nan)}, "image 0 of the batch holds NaN"),
        ({"label": torch.tensor([0, 1, 2, 3, 4, 0])}, r"label 4 is out of range.*0 to 3"),
        ({"label": torch.tensor([0, 1, 2, -1, 1, 0])}, r"label -1 is out of range"),
        ({"label": torch.zeros(5, dtype=torch.long)}, r"label has shape \(5,\); expected \(6,\)"),
        ({"label": torch.zeros(6, 192, dtype=torch.long)}, r"expected \(6,\), one class for each"),
    ],
    ids=["channels", "size", "nan", "label", "negative", "count", "field"],
)
def test_bad_input(changes: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().forward_batch(batch(**changes))


def test_data_without_labels() -> None:
    with pytest.raises(ValueError, match="Classification needs 'label'"):
        make().forward_batch({"image": torch.randn(1, 1, 192)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"]}, "1 names but num_classes is 4"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1\.0"),
        ({"network": "sphere-unet"}, "does not give one label"),
        ({"warmup": 1.5}, "share of all steps"),
        ({"std": [1.0, 1.0]}, "std has 2 numbers"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_checkpoint_comes_back_and_serves_at_another_resolution(tmp_path: Path) -> None:
    task = make(
        class_names=["a", "b", "c", "d"], options={"disco": {"kernel": "Rings(4)"}}, mean=[0.1]
    ).eval()
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(content)
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
    again = load(tmp_path / "a.ckpt")
    assert isinstance(again, Classification) and again.class_names == ["a", "b", "c", "d"]
    assert again.hparams["network"] == "disco-classifier" and again.hparams["options"] == {
        "kernel": "Rings(4)"
    }
    x = torch.randn(2, 1, 192)
    torch.testing.assert_close(again(x), task(x))
    assert load(tmp_path / "a.ckpt", grid="HEALPix(8)")(torch.randn(1, 1, 768)).shape == (1, 4)
    with pytest.raises(ValueError, match="with network 'disco-classifier' but this run has 'planar-cnn'"):
        make(network="planar").on_load_checkpoint(content)

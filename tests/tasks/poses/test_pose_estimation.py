"""Pose estimation from the command line: fit, test, predict, audit; scores."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.cli import main
from spheregeo.groups import random_rotations, rotation_angle
from spheregeo.tasks import PoseEstimation
from spheregeo.tasks.pictures.poses import axis_and_hue
from spheregeo.tasks.poses.scores import PoseScores, by_class, pose_scores, pose_table

TINY = [
    "--data.train", "8", "--data.val", "4", "--data.test", "7", "--data.pixels", "12", "--data.batch_size", "4",
    "--model.width", "4", "--model.depth", "2", "--model.options", "{features: 4, fields: 2, lmax: 3}",
    "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poses") / "run"
    assert main(["fit", "estimate-pose", "--output", str(folder), *TINY]) == 0
    return folder


def test_a_test_writes_its_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "estimate-pose", "--output", str(run)]) == 0
    found = json.loads((run / "test" / "metrics.json").read_text())
    report = found.get("report", found)
    assert "log_likelihood" in json.dumps(report) and (run / "test" / "predictions.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "Acc@15" in shown and "an even density has -2.290" in shown
    with open(run / "test" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 and rows[2]["class"] == "creature" and rows[2]["sample"] == "creature 2"
    matrix = np.array([[float(rows[0][f"r{i}{j}"]) for j in range(3)] for i in range(3)])
    assert np.abs(matrix @ matrix.T - np.eye(3)).max() < 1e-4


def test_prediction_of_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 255, (20, 16), dtype=np.uint8)).save(tmp_path / "in" / f"{k}.png")
    (tmp_path / "in" / "3.png").write_bytes(b"no image")
    call = ["predict", "estimate-pose", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*call, "--ckpt", str(run / "checkpoints" / "best.ckpt")]) == 2
    assert "3.png" in capsys.readouterr().err
    stored = np.load(tmp_path / "out" / "rotations.npz")
    assert stored["names"].tolist() == ["0.png", "1.png", "2.png"] and stored["rotations"].shape == (3, 3, 3)
    with open(tmp_path / "out" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[1]["r00"])] == pytest.approx([stored["rotations"][1, 0, 0]])
    assert (tmp_path / "out" / "predictions.png").stat().st_size > 1000


def test_audit_measures_turns(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "estimate-pose", "--output", str(run), "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["invariance"]["randomised"]
    assert found["quarter turns"] > 1e-3  # a plain backbone
    assert "error under quarter turns" in capsys.readouterr().out


def test_scores_beside_a_count() -> None:
    error = torch.tensor([1.0, 14.9, 20.0, 179.0])
    likelihood, label = torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([0, 0, 0, 1])
    counted = torch.tensor([True, True, True, False])
    found = pose_scores(error, likelihood, counted)
    assert found == pytest.approx({"median_error": 14.9, "acc15": 2 / 3, "acc30": 1.0, "log_likelihood": 3.0})
    classes = by_class(error, likelihood, label, ["cup", "ball"], ["ball"])
    assert math.isnan(classes["ball"]["median_error"]) and classes["ball"]["log_likelihood"] == 6
    assert pose_table(classes, found).splitlines()[2].split() == ["ball", "-", "-", "-", "6.000", "1"]
    scores = PoseScores()
    for part in ([2, 3], [0, 1], [0]):  # one comes twice
        scores.update(error[part], likelihood[part], label[part], torch.tensor(part))
    index, *rest = scores.compute()
    assert (
        index.tolist() == [0, 1, 2, 3]
        and torch.equal(rest[0], error.double())
        and torch.equal(rest[2], label)
    )


def test_a_batch_is_checked_and_scored() -> None:
    task = PoseEstimation(
        2, class_names=["a", "b"], symmetric=["b"], network="pose-cnn", width=4, depth=2
    ).eval()
    truth = random_rotations(3).float()
    batch = {"image": torch.randn(3, 1, 12, 12), "rotation": truth, "label": torch.tensor([0, 1, 0])}
    with torch.no_grad():
        outputs = task.update_metrics(task.forward_batch(batch))
    expected = torch.rad2deg(rotation_angle(outputs["density"].mode(), truth))
    assert torch.allclose(outputs["error"], expected)
    assert task.compute_metrics()["median_error"] == pytest.approx(
        float(expected[[0, 2]].double().quantile(0.5))
    )
    for wrong, message in (
        ({"rotation": truth[:2]}, "rotation has shape"),
        ({"label": torch.tensor([0, 1, 2])}, "label 2 is out of range"),
        ({"image": batch["image"] * float("nan")}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            task.forward_batch({**batch, **wrong})
    with pytest.raises(ValueError, match="symmetric names 'c'"):
        PoseEstimation(2, class_names=["a", "b"], symmetric=["c"])


def test_a_checkpoint_needs_no_file_of_weights(tmp_path: Path) -> None:
    small = {"width": 4, "depth": 2}
    features = PoseEstimation(network="pose-cnn", **small).network.backbone
    torch.save(features.state_dict(), tmp_path / "weights.pth")
    task = PoseEstimation(
        network="pose-cnn", options={"weights": str(tmp_path / "weights.pth"), "hidden": 8}, **small
    )
    assert torch.equal(task.network.backbone.conv1.weight, features.conv1.weight)
    assert task.hparams["options"] == {"hidden": 8}


def test_where_a_picture_shows_a_rotation() -> None:
    """The view axis is the middle, right and up are those of the image; turns about the shown axis change the hue alone."""
    columns = np.array(
        [
            [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        ],
        float,
    )
    longitude, latitude, _ = axis_and_hue(columns)
    assert np.allclose(longitude[:2], [0, math.pi / 2]) and np.allclose(latitude, [0, 0, math.pi / 2])
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)  # a quarter about the thing's own x axis
    rotation = random_rotations(1, torch.Generator().manual_seed(0)).numpy()
    first, second = axis_and_hue(rotation), axis_and_hue(rotation @ turn)
    assert np.allclose(first[:2], second[:2]) and abs((second[2] - first[2]) % 1)[0] == pytest.approx(0.25)

"""Clouds to parts: a short run from the command line, scores against a count by hand, files predicted, batches refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spheregeo import tasks
from spheregeo.cli import main
from spheregeo.data import PartShapes, PartShapesData, read_cloud
from spheregeo.sampling import random_rotations
from spheregeo.tasks import PointSegmentation
from spheregeo.tasks.points.parts import shape_iou

TINY: dict[str, Any] = {
    "network": "sprin",
    "options": {"width": 4, "counts": [8], "k": 4, "rank": 2, "hidden": 4},
}
COMMAND = [
    *("--data.train", "12", "--data.val", "6", "--data.test", "6", "--data.points", "80", "--data.num_points", "40"),
    *("--data.batch_size", "6", "--model.network", "sprin"),
    *("--model.options", "{sprin: {width: 4, counts: [8], k: 4, rank: 2, hidden: 4}}"),
    *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
]  # fmt: skip


def data(**options: Any) -> PartShapesData:
    return PartShapesData(
        **{"train": 6, "val": 6, "test": 6, "points": 80, "num_points": 40, "batch_size": 6, **options}
    )


def task(source: PartShapesData, **options: Any) -> PointSegmentation:
    torch.manual_seed(0)
    parts, names = source.category_parts, list(source.category_names)
    return PointSegmentation(
        16, category_parts=parts, category_names=names, num_points=40, **{**TINY, **options}
    ).eval()


def test_trains_tests_and_predicts_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    output = ["--output", str(tmp_path)]
    assert main(["fit", "segment-points", *output, *COMMAND]) == 0
    assert main(["test", "segment-points", *output, *COMMAND]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= found["miou"] <= 1 and len(found["categories"]) == 6 and len(found["classes"]) == 16
    for name in ("confusion.png", "predictions.png"):
        assert (tmp_path / name).stat().st_size > 5000, name
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.mean([float(row["miou"]) for row in rows]) == pytest.approx(found["miou"], abs=1e-6)

    shapes = PartShapes(6, 90)
    for k in range(2):
        np.savetxt(tmp_path / f"{k}.xyz", shapes[k].points)
    checkpoint = str(tmp_path / "checkpoints" / "best.ckpt")
    out = tmp_path / "out"
    command = ["predict", "segment-points", "--ckpt", checkpoint, "--output", str(out)]
    assert main([*command, "--input", str(tmp_path / "0.xyz")]) == 0
    labelled = read_cloud(out / "0_parts.ply", parts=True)
    assert np.allclose(labelled.points, shapes[0].points, atol=1e-6) and (out / "predictions.png").is_file()
    assert labelled.parts is not None and len(labelled.parts) == 90
    assert isinstance(tasks.load(checkpoint), PointSegmentation)


def test_scores_are_those_counted_by_hand() -> None:
    truth = torch.tensor([0, 0, 1, 1, 3, 255])
    said = torch.tensor([0, 1, 1, 1, 3, 2])
    cloud = torch.tensor([0, 0, 0, 0, 1, 1])
    allowed = torch.tensor([[True, True, False, False], [False, False, True, True]])
    iou = shape_iou(said, truth, cloud, allowed)
    assert iou.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, 1.0])  # part 2 is neither there nor predicted
    assert float(shape_iou(said, truth.roll(1), cloud, allowed)[0]) < 1


@torch.no_grad()
def test_answers_of_other_categories_do_not_count_and_turns_change_nothing() -> None:
    source = data()
    net = task(source).double()
    batch = next(iter(source.val_dataloader()))
    batch["positions"] = batch["positions"].double()
    found = net.update_metrics(net.forward_batch(batch))
    for k, (_, _, said, category) in enumerate(net.examples(found)):
        assert set(said.tolist()) <= set(source.category_parts[category]) and category == k
    turned = net.forward_batch({**batch, "positions": batch["positions"] @ -random_rotations(1)[0].T})[
        "output"
    ]
    assert torch.allclose(turned, found["output"], atol=1e-9)
    scores = net.compute_metrics()
    errors = [net.example_error(example) for example in net.examples(found)]
    assert scores["miou"] == pytest.approx(1 - np.mean(errors)) and scores["category_miou"] == pytest.approx(
        scores["miou"]
    )


def test_bad_batches_and_arguments() -> None:
    source = data()
    net, batch = task(source), next(iter(source.val_dataloader()))
    for change, message in (
        ({"part": batch["part"][:-1]}, r"part has shape \(239,\)"),
        ({"part": batch["part"] + 14}, "part holds .*; expected 0 ... 15, or 255"),
        ({"label": batch["label"] + 1}, "label runs from 1 to 6; expected categories 0 ... 5"),
        ({"positions": batch["positions"] * float("nan")}, "positions hold NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            net.forward_batch({**batch, **change})
    with pytest.raises(
        ValueError,
        match=r"category_parts is .*; expected parts 0 ... 15, some for each category, none for two",
    ):
        PointSegmentation(16, category_parts=[[0], [0, 1]], **TINY)
    with pytest.raises(ValueError, match="category_names has 1 names for 2 categories"):
        PointSegmentation(16, category_parts=[[0], [1]], category_names=["a"], **TINY)

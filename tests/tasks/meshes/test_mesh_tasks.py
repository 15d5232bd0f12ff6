"""Mesh tasks: a short run of each from its recipe's parts, what it writes, and the batches it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from spheregeo.cli import main
from spheregeo.data import CreaturesData, PrimitivesData
from spheregeo.tasks import MeshClassification, MeshCorrespondence

TINY = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
SIZES = ["--data.train", "4", "--data.val", "2", "--data.test", "2", "--data.vertices", "[120,160]"]
WIDE = ["--model.options", "{radius: 0.3, blocks: 1, max_order: 1}"]


@pytest.mark.parametrize(
    ("recipe", "extra", "score"),
    [
        ("classify-mesh", ["--data.batch_size", "2"], "accuracy"),
        ("correspond-mesh", ["--data.template_vertices", "100", "--data.batch_size", "2"], "geodesic_error"),
    ],
)
def test_recipe_trains_tests_and_draws(recipe: str, extra: list[str], score: str, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path), *TINY, *SIZES, *extra, *WIDE, "--model.width", "2"]
    assert main(["fit", recipe, *options]) == 0
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    assert main(["test", recipe, *options]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert score in json.dumps(found)
    assert (tmp_path / "predictions.png").stat().st_size > 5000
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert len(rows) > 2


def test_gradient_reaches_the_self_interaction() -> None:
    """On the shipped settings: d loss / d (weights of the point itself) is not zero."""
    data = PrimitivesData(train=2, val=2, test=2, vertices=(120, 160), batch_size=2)
    task = MeshClassification(data.num_classes, width=2, depth=1, options={"radius": 0.3, "blocks": 1})
    batch = next(iter(data.train_dataloader()))
    loss = torch.nn.functional.cross_entropy(task.logits(batch), batch["label"])
    loss.backward()
    weights = {n: p for n, p in task.named_parameters() if "self_interaction" in n}
    assert weights
    for name, weight in weights.items():
        assert weight.grad is not None and float(weight.grad.norm()) > 0, name


def test_correspondence_errors_by_hand() -> None:
    """The right answers score zero, and one wrong answer its geodesic distance over the root of the area."""
    data = CreaturesData(train=2, val=2, test=2, vertices=(120, 160), template_vertices=100, batch_size=1)
    task = MeshCorrespondence(
        data.num_points, network="gem-cnn", width=2, options={"blocks": 0, "max_order": 1}
    )
    task._template = data.template
    row, table = task.distances()
    assert float(table[row[row >= 0]].diagonal().abs().max()) < 0.2
    judged = (row >= 0).nonzero()[:, 0]
    assert float(table[row[judged], judged].abs().max()) == 0.0
    assert data.template is not None
    points = data.template.mesh.points[data.template.points]
    straight = torch.cdist(points[judged], points) / float(data.template.mesh.area) ** 0.5
    shortfall = (straight - table[row[judged]].double()).max()
    assert float(shortfall) < 0.03  # no path is shorter than the straight one, up to the coarse mesh's error


def test_bad_batches() -> None:
    data = CreaturesData(train=2, val=2, test=2, vertices=(120, 160), template_vertices=100, batch_size=1)
    task = MeshCorrespondence(
        data.num_points, network="gem-cnn", width=2, options={"blocks": 0, "max_order": 1}
    )
    batch = next(iter(data.val_dataloader()))
    with pytest.raises(ValueError, match="target has shape"):
        task.forward_batch({**batch, "target": batch["target"][:-1]})
    with pytest.raises(ValueError, match="out of range"):
        task.forward_batch({**batch, "target": torch.full_like(batch["target"], 100)})
    with pytest.raises(ValueError, match="expected a list of at least one"):
        task.forward_batch({**batch, "mesh": []})
    with pytest.raises(ValueError, match="no template"):
        MeshCorrespondence(0)

"""Mesh tasks: a short run of each from its recipe's parts, what it writes, and the batches it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.cli import main
from spheregeo.data import CreaturePartsData, CreaturesData, PrimitivesData
from spheregeo.tasks import MeshClassification, MeshCorrespondence, MeshSegmentation

TINY = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
SIZES = ["--data.train", "4", "--data.val", "2", "--data.test", "2", "--data.vertices", "[120,160]"]
WIDE = ["--model.options", "{radius: 0.3, blocks: 1, max_order: 1}"]


@pytest.mark.parametrize(
    ("recipe", "extra", "score"),
    [
        ("classify-mesh", ["--data.batch_size", "2"], "accuracy"),
        ("segment-mesh", ["--data.batch_size", "2", "--data.label", "faces", "--model.depth", "1"], "miou"),
        ("correspond-mesh", ["--data.template_vertices", "100", "--data.batch_size", "2"], "geodesic_error"),
    ],
)
def test_recipe_trains_tests_and_draws(recipe: str, extra: list[str], score: str, tmp_path: Path) -> None:
    wide = [] if recipe == "segment-mesh" else WIDE
    options = ["--output", str(tmp_path), *TINY, *SIZES, *extra, *wide, "--model.width", "2"]
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


@pytest.mark.parametrize("network", ["gem-classifier", "diffusion", "delta"])
def test_networks_by_name_with_the_options_filed_for_them(network: str) -> None:
    """Width and depth may be filed, those given with the call win, and a loaded task is the same network."""
    options = {
        "gem-classifier": {"width": 2, "depth": 1, "radius": 0.3, "blocks": 1},
        "diffusion": {"width": 3, "depth": 1, "pairs": 8},
        "delta": {"width": 3, "depth": 1},
    }
    task = MeshClassification(4, network=network, options=options)
    assert task.hparams["width"] == options[network]["width"] and task.hparams["depth"] == 1
    assert "width" not in (task.hparams["options"] or {})
    again = MeshClassification(**task.hparams)
    assert [p.shape for p in again.parameters()] == [p.shape for p in task.parameters()]
    assert MeshClassification(4, network=network, options=options, width=4).hparams["width"] == 4
    mesh = PrimitivesData(train=1, val=1, test=1, vertices=(120, 120)).dataset("train")[0]["mesh"]
    assert task([mesh, mesh]).shape == (2, 4)
    with pytest.raises(ValueError, match="expected one for meshes"):
        MeshClassification(4, network="disco-classifier")


def test_segmentation_by_hand(tmp_path: Path) -> None:
    """Scores of faces are means over their corners, areas weigh, unknown places do not count, answers are written whole."""
    data = CreaturePartsData(2, 1, 1, vertices=(120, 150), batch_size=2, label="faces")
    small = {
        "network": "diffusion-net",
        "width": 3,
        "depth": 1,
        "features": ["heat"],
        "options": {"pairs": 8},
    }
    task = MeshSegmentation(data.num_classes, list(data.class_names), "faces", **small).eval()
    batch = next(iter(data.train_dataloader()))
    vertices = MeshSegmentation(7, **small).eval()
    vertices.load_state_dict(task.state_dict())
    each = vertices.logits(batch["mesh"]).split([mesh.num_points for mesh in batch["mesh"]], 2)
    expected = torch.cat([y[..., mesh.faces].mean(3) for y, mesh in zip(each, batch["mesh"], strict=True)], 2)
    assert (task.logits(batch["mesh"]) - expected).abs().max() < 1e-6

    batch["part"][: len(batch["part"]) // 3] = 255
    with torch.no_grad():
        outputs = task.update_metrics(task.forward_batch(batch))
    known = batch["part"] != 255
    areas = torch.cat([mesh.face_areas / mesh.area for mesh in batch["mesh"]])
    right = (outputs["prediction"] == batch["part"]) & known
    assert task.compute_metrics()["accuracy"] == pytest.approx(float(areas[right].sum() / areas[known].sum()))
    per_face = torch.nn.functional.cross_entropy(
        outputs["output"][0].T, batch["part"].clamp_max(6), reduction="none"
    )
    mean = (per_face * areas)[known].sum() / areas[known].sum()
    assert float(outputs["loss"]) == pytest.approx(float(mean), rel=1e-5)
    examples = list(task.examples(outputs))
    assert len(examples) == 2 and 0 <= task.example_error(examples[1]) <= 1

    import trimesh

    mesh = batch["mesh"][0]
    trimesh.Trimesh(mesh.points, mesh.faces, process=False).export(tmp_path / "a.ply")
    task.predict(tmp_path / "a.ply", tmp_path / "out")
    with np.load(tmp_path / "out" / "a.npz") as stored:
        assert stored["labels"].shape == stored["confidence"].shape == (mesh.num_faces,)
        assert str(stored["elements"]) == "faces" and len(stored["class_names"]) == 7
        said = len(np.unique(stored["labels"]))
    painted = trimesh.load(tmp_path / "out" / "a.ply", process=False)
    assert painted.faces.shape == (mesh.num_faces, 3)
    assert len(np.unique(painted.visual.face_colors, axis=0)) == said
    with (tmp_path / "out" / "predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    assert sum(float(v) for k, v in row.items() if k.startswith("share(")) == pytest.approx(1)

    for part, message in (
        (batch["part"][:-1], "part has shape"), (batch["part"].double(), "whole numbers"), (batch["part"] + 7, "part holds 262"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            task.forward_batch({**batch, "part": part})
    with pytest.raises(ValueError, match="elements is 'edges'"):
        MeshSegmentation(3, elements="edges")


def test_audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, motions, sizes and the order of vertices change nothing; mirror images are told apart."""
    from spheregeo.tasks.meshes import base

    monkeypatch.setattr(base, "AUDITED", 120)
    task = MeshSegmentation(
        3, network="diffusion-net", width=3, depth=1, features=["heat"], options={"pairs": 8}
    )
    found = task.audit()["invariance"]["random weights"]
    assert max(found[k] for k in ("frames", "rotations", "translations", "sizes", "permutations")) < 1e-7
    assert found["reflections"] > 1e-6
    assert "change under frames, random weights" in capsys.readouterr().out

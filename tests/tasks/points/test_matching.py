"""Clouds matched: pairs and their motions, the loss, a run from the command line, files brought to one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor
from torch.nn import functional

from spheregeo.cli import main
from spheregeo.data import CloudFiles, CloudPairs, CloudPairsData, CreatureClouds, collate_pairs, read_cloud
from spheregeo.data.points.dataset import Cloud
from spheregeo.sampling import random_rotations
from spheregeo.tasks import PointMatching
from spheregeo.tasks.points.matching import pair_loss, rotation_error

SMALL = "{risurconv: {width: 4, counts: [12, 6], k: [6, 4], embedding: [4, 8], hidden: [8], k_back: 4}}"
COMMAND = [
    *("--data.train", "4", "--data.val", "2", "--data.test", "2", "--data.num_points", "40", "--data.stored_points", "160"),
    *("--data.batch_size", "2", "--model.options", SMALL, "--model.trials", "50"),
    *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
]  # fmt: skip


def test_pairs_are_one_surface_moved() -> None:
    """Both clouds lie on it after the motion, without a point in common; normals turn with them."""
    stored = CreatureClouds(2, 800)
    pairs = CloudPairs(stored, 300, normals=True)
    item = pairs[3 - 2]
    first, second = item["views"]
    moved = first["positions"] @ item["rotation"].T + item["translation"]
    gap = torch.cdist(moved, second["positions"]).min(1).values
    assert 0 < float(gap.min()) and float(gap.median()) < 0.1
    near = torch.cdist(moved, second["positions"]).argmin(1)
    same = ((first["features"] @ item["rotation"].T) * second["features"][near]).sum(1)
    assert float(same.median()) > 0.95
    assert torch.equal(item["rotation"], pairs[0, 1]["rotation"])
    assert not torch.equal(item["rotation"], pairs[1, 1]["rotation"])
    batch = collate_pairs([pairs[0], pairs[1]])
    assert batch["batch"].bincount().tolist() == [300] * 4 and batch["rotation"].shape == (2, 3, 3)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_overlap_is_the_share_of_points_that_both_see(share: float) -> None:
    class Ball(CreatureClouds):
        def load(self, index: int) -> Cloud:
            p = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).numpy()
            return Cloud(p / np.linalg.norm(p, axis=1, keepdims=True))

    item = CloudPairs(Ball(1), 2000, overlap=(share, share))[0]
    first, second = (view["positions"] for view in item["views"])
    moved = first @ item["rotation"].T + item["translation"]
    seen = (torch.cdist(moved, second).min(1).values < 0.1).float().mean()
    assert abs(float(seen) - share) < 0.1


def test_errors_of_rotations() -> None:
    r = random_rotations(1)[0]
    for angle in (0.0, 1e-4, 5.0, 90.0, 180.0):
        turn = torch.tensor(
            [[np.cos(a), -np.sin(a), 0, np.sin(a), np.cos(a), 0, 0, 0, 1] for a in [np.radians(angle)]]
        )
        assert float(rotation_error(turn.view(3, 3).double() @ r, r)) == pytest.approx(angle, abs=1e-6)


def test_loss_equals_its_slow_twin() -> None:
    a, b = (functional.normalize(torch.randn(n, 4, dtype=torch.float64), dim=1) for n in (6, 8))
    p = torch.randn(6, 3, dtype=torch.float64)
    q = torch.cat([p + 0.02 * torch.randn(6, 3), torch.randn(2, 3) + 9])
    gap = torch.cdist(p, q)
    losses = []
    for x, y, d in ((a, b, gap), (b, a, gap.T)):
        for i in range(len(x)):
            j = int(d[i].argmin())
            if d[i, j] > 0.1:
                continue
            others = [k for k in range(len(y)) if k == j or d[i, k] >= 0.2]
            logits = torch.stack([x[i] @ y[k] / 0.3 for k in others])
            losses.append(logits.logsumexp(0) - x[i] @ y[j] / 0.3)
    total, number = pair_loss(a, b, gap, 0.1, 0.3)
    assert int(number) == len(losses) > 8 and float(total) == pytest.approx(
        float(torch.stack(losses).sum()), rel=1e-5
    )
    assert float(pair_loss(a, b, gap + 1, 0.1, 0.3)[1]) == 0


class Oracle(torch.nn.Module):
    """Features that say where on the surface a point lies: distances to four points of the cloud's own frame."""

    def __init__(self, frames: list[Tensor]) -> None:
        super().__init__()
        self.frames = frames

    def neighbors(self, positions: Tensor, batch: Tensor) -> None:
        return None

    def forward(self, positions: Tensor, features: Any, batch: Tensor, graph: None, count: int) -> Tensor:
        return torch.cat([torch.cdist(positions[batch == k], self.frames[k]) for k in range(count)])


def test_true_features_give_the_true_motion() -> None:
    item = CloudPairs(CreatureClouds(1, 1200), 400, overlap=(0.6, 0.6))[0]
    task = PointMatching(network="pointnet", width=4, trials=300)
    first = torch.randn(8, 3)
    second = first @ item["rotation"].T + item["translation"]
    task.network = Oracle([first, second])
    outputs = task.update_metrics(task.forward_batch(collate_pairs([item])))
    scores = task.compute_metrics()
    assert scores["recall_5"] == 1 and scores["rotation_error"] < 3 and scores["translation_error"] < 0.06
    assert scores["right_matches"] > 0.5 and len(list(task.examples(outputs))) == 1
    assert task.compute_metrics() == {}


def test_trains_tests_aligns_and_audits_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    run = ["--output", str(tmp_path / "run")]
    assert main(["fit", "match-points", *run, *COMMAND]) == 0
    assert main(["test", "match-points", *run, *COMMAND]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= found["recall_5"] <= found["recall_10"] <= 1 and len(found["clouds"]) == 2
    for name in ("predictions.png", "curves.png"):
        assert (tmp_path / "run" / name).stat().st_size > 5000, name
    assert len((tmp_path / "run" / "predictions.csv").read_text().splitlines()) == 3

    folder, out = tmp_path / "clouds", tmp_path / "out"
    folder.mkdir()
    cloud = CreatureClouds(1, 100)[0].points.astype(np.float64)
    turn = random_rotations(1)[0].numpy()
    np.savetxt(folder / "a.xyz", cloud @ turn.T * 7 + 5)
    np.savetxt(folder / "b.xyz", cloud * 7)
    trimesh.creation.box().export(folder / "c.off")
    checkpoint = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    command = ["predict", "match-points", "--ckpt", checkpoint, "--output", str(out)]
    assert main([*command, "--input", str(folder)]) == 0
    matrix = np.array(json.loads((out / "b.json").read_text())["matrix"])
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
    aligned = read_cloud(out / "b_aligned.ply").points
    assert np.allclose(aligned, cloud * 7 @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-6)
    assert np.allclose(matrix[:3, :3], turn, atol=1e-3) and np.allclose(
        aligned, cloud @ turn.T * 7 + 5, atol=1e-2
    )
    assert (out / "predictions.png").stat().st_size > 5000
    capsys.readouterr()
    assert main([*command, "--input", str(folder / "a.xyz"), "--output", str(tmp_path / "one")]) == 2
    assert "expected a folder with two at least" in capsys.readouterr().err
    assert main(["audit", "match-points", *run, *COMMAND[:10], "--model.options", SMALL]) == 0
    assert "change by rotations" in capsys.readouterr().out


def test_folders_and_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no cloud or mesh"):
        CloudFiles(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        CloudPairsData(str(tmp_path / "none")).dataset("test")
    np.savetxt(tmp_path / "a.xyz", np.random.default_rng(0).normal(size=(30, 3)))
    data = CloudPairsData(str(tmp_path), test=3, num_points=10, batch_size=3)
    batch = next(iter(data.test_dataloader()))
    assert batch["features"].shape == (60, 3) and data.items("test").name(2) == "a.xyz"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="overlap is"):
        CloudPairs(CreatureClouds(1, 50), 10, overlap=(0.9, 0.5))
    with pytest.raises(ValueError, match="num_points is 3; expected at least 4"):
        CloudPairs(CreatureClouds(1, 50), 3)
    with pytest.raises(ValueError, match="radius is 0"):
        PointMatching(radius=0)
    with pytest.raises(ValueError, match=r"rotation has shape \(1, 3\)"):
        PointMatching(network="pointnet", width=4).forward_batch(
            {"rotation": torch.ones(1, 3), "translation": torch.ones(1, 3)}
        )

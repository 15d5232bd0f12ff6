"""Audit of networks of points: it finds what is broken, kind by kind, and leaves the network alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spheregeo import models
from spheregeo.audit import measure_invariance, report_points
from spheregeo.audit.points import KINDS, turned_features
from spheregeo.cli import main
from spheregeo.harmonics import wigner_D
from spheregeo.sampling import random_rotations


class Broken(nn.Module):
    """Invariant but for what ``fault`` says."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.scale = fault, nn.Parameter(torch.ones(2))

    def neighbors(self, positions: Tensor, batch: Tensor) -> tuple[()]:
        return ()

    def forward(self, positions: Tensor, features: Any, batch: Tensor, graph: Any) -> Tensor:
        x = positions - (0 if self.fault == "translations" else positions.mean(0))
        if self.fault == "rotations":
            extra = x[:, 2].abs().mean()  # the reflection through the origin leaves it
        elif self.fault == "reflections":
            r = x.norm(dim=1)
            extra = torch.linalg.det(
                torch.stack([(r * x.T).mean(1), (r**2 * x.T).mean(1), (r**3 * x.T).mean(1)])
            )
        elif self.fault == "permutations":
            extra = (x[0] - x[-1]).norm()
        else:
            extra = x.norm(dim=1).mean()
        return self.scale * torch.stack([extra, x.norm(dim=1).max()])


@pytest.mark.parametrize("fault", KINDS)
def test_each_fault_shows(fault: str) -> None:
    positions = torch.randn(30, 3, dtype=torch.float64) + torch.tensor([0.3, 0.2, 0.1])
    found = measure_invariance(Broken(fault), positions)
    assert found[fault] > 1e-4
    clean = {"rotations": ("translations", "permutations"), "translations": ("permutations",)}
    for kind in clean.get(fault, tuple(set(KINDS) - {fault})):
        assert found[kind] < 1e-12, kind


def test_networks_of_the_package_are_invariant_and_stay_as_they_are() -> None:
    model = models.create("vnn-dgcnn", 3, 4, None, width=3, depth=2, embedding=5, k=4, feature_irreps="1x1o")
    before = copy.deepcopy(model.state_dict())
    positions, normals = torch.randn(60, 3), torch.randn(60, 3)
    batch = torch.arange(2).repeat_interleave(30)
    result = report_points(model, positions, normals, batch, feature_irreps="1x1o")
    assert all(found[kind] < 1e-9 for found in result["invariance"].values() for kind in KINDS)
    assert result["invariance"]["randomised"]["spread"] > 1e-4
    assert result["clouds"] == 2 and result["points"] == 60 and result["dtype"] == "float32"
    assert all(s > 0 for s in result["seconds"].values())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    wrong = measure_invariance(model, positions, normals, batch)  # normals that do not turn with the cloud
    assert wrong["rotations"] > 1e-6 and wrong["translations"] < 1e-9


def test_features_turn_by_their_irreps() -> None:
    r = -random_rotations(1)[0]
    x = torch.randn(5, 8, dtype=torch.float64)
    y = turned_features(x, "1x0e+1x0o+1x1o+1x1e", r)
    assert y is not None
    assert torch.equal(y[:, 0], x[:, 0]) and torch.allclose(y[:, 1], -x[:, 1])
    assert torch.allclose(y[:, 2:5], x[:, 2:5] @ r.T) and torch.allclose(y[:, 5:], -x[:, 5:] @ r.T)
    assert turned_features(None, "1x1o", r) is None and turned_features(x, None, r) is x
    z = turned_features(x, "1x2e+3x0e", r)
    assert z is not None and torch.allclose(z[:, :5], x[:, :5] @ wigner_D("1x2e", r).T)
    with pytest.raises(ValueError):
        turned_features(x, "vectors", r)


def test_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    command = ["audit", "classify-points", "--output", str(tmp_path), "--json", str(tmp_path / "a.json")]
    sizes = [
        "--data.num_points",
        "60",
        "--model.options",
        "{k: 6, embedding: 8}",
        "--model.network",
        "vnn-dgcnn",
    ]
    assert main([*command, *sizes]) == 0
    told = capsys.readouterr().out
    assert "change by rotations" in told and "parameters" in told and "untrained" in told
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["points"] == 240 and found["invariance"]["randomised"]["reflections"] < 1e-9

"""The depth task: positive depths, validity, scores."""

from __future__ import annotations

import pytest
import torch

from spheregeo.grids import Equiangular
from spheregeo.tasks import Depth


def make(**options: object) -> Depth:
    return Depth(3, Equiangular(8, 16), width=4, depth=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["l1", "berhu"])
def test_training_step_ignores_what_is_not_valid(loss: str) -> None:
    task = make(loss=loss, max_depth=5.0)
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    image, truth = torch.randn(2, 3, 8, 16), torch.rand(2, 8, 16) + 1
    first = task.training_step({"image": image, "depth": truth.clone()}, 0)
    first.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())
    depths = torch.tensor([0.0, -1.0, torch.nan, torch.inf, 5.5, 4.0]).repeat(22)[:128].reshape(1, 8, 16)
    assert task.forward_batch({"image": image[:1], "depth": depths})["valid"].sum() == 21


def test_decision_is_positive_and_scores_come_out() -> None:
    task = make().eval()
    outputs = task.test_step({"image": torch.randn(1, 3, 8, 16), "depth": torch.rand(1, 8, 16) + 1}, 0)
    assert (outputs["prediction"] > 0).all()
    scores = task.scores.compute()
    assert set(scores) == {"abs_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3"}
    assert 0 <= scores["delta1"] <= scores["delta2"] <= scores["delta3"] <= 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="'l1' or 'berhu'"):
        make(loss="huber")
    with pytest.raises(ValueError, match=r"expected \(B, 8, 16\)"):
        make().test_step({"image": torch.randn(1, 3, 8, 16), "depth": torch.rand(1, 4, 8)}, 0)
    with pytest.raises(ValueError, match="needs 'depth'"):
        make().test_step({"image": torch.randn(1, 3, 8, 16)}, 0)

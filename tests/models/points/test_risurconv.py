"""RISurConv: invariance with random parameters, company, normals given and estimated, gradients, small clouds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.nn import BatchNorm
from spheregeo.sampling import estimate_normals, random_rotations

SIZES = (40, 7, 33)  # the second has fewer points than the first level
SMALL: dict[str, Any] = {
    "width": 4,
    "counts": (12, 6),
    "k": (6, 5),
    "embedding": (4, 8),
    "hidden": (8,),
    "normal_k": 8,
}


def clouds() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(sum(SIZES), 3, dtype=torch.float64, generator=generator)
    return positions * torch.tensor([1.0, 0.8, 0.4]), torch.arange(3).repeat_interleave(torch.tensor(SIZES))


def run(model: Any, p: Tensor, batch: Tensor | None, x: Tensor | None = None) -> Tensor:
    result: Tensor = model(p, x, batch, model.neighbors(p, batch))
    return result


def build(in_channels: int = 0, **options: Any) -> Any:
    model = models.create("risurconv", in_channels, 4, None, **{**SMALL, **options}).double()
    p, batch = clouds()
    for norm in model.modules():
        if isinstance(norm, BatchNorm):
            norm.momentum = 1.0
    run(model.train(), p, batch, normalize(p, dim=1).repeat(1, 2)[:, :in_channels] if in_channels else None)
    return randomise(model).eval()


@torch.no_grad()
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("output", ["label", "field"])
def test_motions_change_nothing(output: str, attention: bool) -> None:
    p, batch = clouds()
    for channels, irreps, tolerance in ((0, "", 1e-10), (3, "1x1o", 1e-12), (4, "1x1o + 1x0e", 1e-12)):
        model = build(channels, attention=attention, output=output, feature_irreps=irreps)
        x = None if not channels else torch.cat([normalize(p, dim=1), p[:, :1] ** 2], 1)[:, :channels]
        y = run(model, p, batch, x)
        assert y.shape == (len(p) if output == "field" else 3, 4) and float(y.std(0).min()) > 1e-4
        for r in random_rotations(2):
            turned = None if x is None else torch.cat([x[:, :3] @ r.T, x[:, 3:]], 1)
            moved = run(model, p @ r.T + torch.tensor([3.0, -2, 1]), batch, turned)
            assert float((moved - y).abs().max()) < tolerance * max(1.0, float(y.abs().max()))
        mirrored = None if x is None else torch.cat([-x[:, :3], x[:, 3:]], 1)
        assert float((run(model, -p, batch, mirrored) - y).abs().max()) > 1e-6


@torch.no_grad()
def test_order_and_company_change_nothing() -> None:
    """The published code attends across the clouds of a batch: there, a cloud's class depends on the others."""
    for output in ("label", "field"):
        model, (p, batch) = build(attention=True, output=output), clouds()
        y = run(model, p, batch)
        assert torch.equal(run(model, p, batch), y)
        alone = torch.cat([run(model, part, None) for part in p.split(SIZES)])
        assert torch.allclose(alone, y, atol=1e-10)
        order = torch.cat([b + torch.randperm(n) for b, n in zip((0, 40, 47), SIZES, strict=True)])
        expected = y[order] if output == "field" else y
        assert torch.allclose(run(model, p[order], batch), expected, atol=1e-9)


@torch.no_grad()
def test_estimated_normals_are_those_that_could_be_given() -> None:
    model, given = build(), build(3, feature_irreps="1x1o")
    given.load_state_dict(model.state_dict())
    p, batch = clouds()
    assert torch.equal(run(given, p, batch, estimate_normals(p, 8, batch)), run(model, p, batch))


@pytest.mark.parametrize("output", ["label", "field"])
def test_gradients_reach_everything_and_small_clouds_have_a_result(output: str) -> None:
    options = {**SMALL, "attention": True, "output": output}
    model: Any = models.create("risurconv", 1, 4, None, **options)
    p, batch = clouds()
    p = p.float().requires_grad_()
    run(model, p, batch, torch.randn(len(p), 1)).square().sum().backward()
    still = [n for n, q in model.named_parameters() if q.grad is None or float(q.grad.abs().max()) == 0]
    assert not still and p.grad is not None and bool(torch.isfinite(p.grad).all())
    for small in (
        torch.zeros(1, 3),
        torch.randn(2, 3),
        torch.ones(9, 3),
        torch.rand(9, 1) * torch.ones(1, 3),
    ):
        assert bool(torch.isfinite(run(model.eval(), small, None, torch.ones(len(small), 1))).all())


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"counts is \(4,\), k \(3, 2\).*expected a k for each count"):
        models.create("risurconv", 0, 4, None, counts=(4,), k=(3, 2))
    for irreps, channels in (("1x1e", 3), ("2x1o", 6), ("1x1o", 4), ("1x0o", 1)):
        with pytest.raises(ValueError, match="expected as many numbers: scalars, and at most one vector"):
            models.create("risurconv", channels, 4, None, feature_irreps=irreps)
    model: Any = models.create("risurconv", 3, 4, None, **SMALL, feature_irreps="1x1o")
    with pytest.raises(ValueError, match=r"features have 0 columns .*in_channels=3"):
        run(model, clouds()[0].float(), None)
    with pytest.raises(ValueError, match="a cloud of points has no periods"):
        model.neighbors(clouds()[0], None, torch.eye(3))

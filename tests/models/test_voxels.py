"""Networks of volumes: invariance as it is promised, and as a baseline lacks it; gradients, export, other dtypes."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models
from spheregeo.audit import measure_equivariance, measure_turns, report_voxels
from spheregeo.audit.voxels import format_voxels

SHAPE = (9, 9, 9)


def network(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return models.create(name, 2, 3, None, width=4, depth=2, **options)


@pytest.mark.parametrize("size", [8, 9])
def test_steerable_network_is_invariant_under_the_cube(size: int) -> None:
    shape = (size, size, size)
    assert measure_equivariance(network("steerable-voxels"), shape, group="o3", channels=2).error < 1e-12
    proper = network("steerable-voxels", group="SO3")
    assert measure_equivariance(proper, shape, channels=2).error < 1e-12
    assert measure_equivariance(network("gmr-voxels"), shape, group="o3", channels=2).error < 1e-12
    assert measure_equivariance(network("voxel-cnn"), shape, channels=2).error > 1e-2


def test_other_rotations_change_little_beside_what_tells_signals_apart() -> None:
    found = measure_turns(network("steerable-voxels"), 16, 2)
    baseline = measure_turns(network("voxel-cnn"), 16, 2)
    assert found["rotations"] < 0.03 and found["spread"] > 5 * found["rotations"]
    rings = measure_turns(network("gmr-voxels"), 16, 2)
    assert rings["rotations"] < 0.03 and rings["spread"] > 5 * rings["rotations"]
    assert baseline["rotations"] > 2 * found["rotations"]


@pytest.mark.parametrize("name", ["steerable-voxels", "gmr-voxels", "voxel-cnn"])
def test_gradients_samples_and_bad_input(name: str) -> None:
    model = network(name).double()
    x = torch.randn(3, 2, *SHAPE, dtype=torch.float64, requires_grad=True)
    model(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(x)[1:2], model(x[1:2]), rtol=1e-10, atol=1e-12)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.float()(x.float())
        assert torch.allclose(half.double(), model.double()(x), rtol=0.1, atol=0.05)
    with pytest.raises(ValueError, match=r"expects \(B, 2, D, H, W\)"):
        model(torch.zeros(1, 3, *SHAPE, dtype=torch.float64))
    with pytest.raises(ValueError, match="works on volumes"):
        models.resolve(name, "label", "points")


@pytest.mark.parametrize("name", ["steerable-voxels", "gmr-voxels", "voxel-cnn"])
def test_norms_and_dropout_know_of_several_processes(name: str) -> None:
    model = network(name)
    plain = (torch.nn.BatchNorm3d, torch.nn.Dropout)
    assert not [key for key, part in model.named_modules() if type(part) in plain]


def test_checkpoints_of_torch_s_batch_norm_give_the_same_numbers() -> None:
    model = network("voxel-cnn")
    x = torch.randn(3, 2, *SHAPE)
    model(x)  # moves the running statistics
    before = network("voxel-cnn")
    for k in (1, 4):
        before.stages[k] = torch.nn.BatchNorm3d(before.stages[k].num_features)
    before.load_state_dict(model.state_dict())
    assert torch.equal(before.eval()(x), model.eval()(x))


def test_report() -> None:
    text = format_voxels(report_voxels(network("steerable-voxels"), SHAPE, channels=2, repeats=3))
    assert "change by any rotations" in text and "its reflections too" in text


@pytest.mark.parametrize("name", ["steerable-voxels", "gmr-voxels", "voxel-cnn"])
def test_blocks_are_averaged_first(name: str) -> None:
    x = torch.randn(2, 2, 8, 8, 8)
    blocks = x.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).mean((-3, -2, -1))
    assert torch.allclose(network(name, pool=2).eval()(x), network(name).eval()(blocks), atol=1e-6)
    with pytest.raises(ValueError, match="multiples of pool"):
        network(name, pool=2)(torch.randn(2, 2, *SHAPE))

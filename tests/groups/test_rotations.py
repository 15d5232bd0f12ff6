"""Single rotations: conventions, quaternions, and the Haar measure."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.groups import axis_angle, from_quaternion, random_rotations, to_quaternion


def test_axis_angle_turns_counter_clockwise() -> None:
    quarter = axis_angle((0, 0, 2.0), math.pi / 2)
    assert torch.allclose(
        quarter @ torch.tensor([1.0, 0, 0]).double(), torch.tensor([0, 1.0, 0]).double(), atol=1e-15
    )


def test_axis_angle_equals_scipy_and_quaternions() -> None:
    from scipy.spatial.transform import Rotation

    for _ in range(20):
        axis = torch.randn(3, dtype=torch.float64)
        axis = axis / axis.norm()
        angle = float(torch.rand(())) * 7 - 3
        got = axis_angle(axis, angle)
        assert (
            got - torch.from_numpy(Rotation.from_rotvec(angle * axis.numpy()).as_matrix())
        ).abs().max() < 1e-15 * 4
        q = torch.cat([torch.tensor([math.cos(angle / 2)], dtype=torch.float64), math.sin(angle / 2) * axis])
        assert (from_quaternion(3 * q) - got).abs().max() < 1e-15 * 4
        assert (from_quaternion(-q) - got).abs().max() < 1e-15 * 4


def test_random_rotations_are_rotations_drawn_evenly() -> None:
    r = random_rotations(20000, torch.Generator().manual_seed(1))
    assert (r @ r.mT - torch.eye(3)).abs().max() < 1e-14
    assert (torch.linalg.det(r) - 1).abs().max() < 1e-14
    assert r.mean(0).abs().max() < 5 / math.sqrt(3 * 20000)  # five standard errors
    # Haar: the angle has density (1 - cos)/pi, so the trace 1 + 2cos has mean 0 and mean square 1
    trace = r.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(trace.mean().item()) < 0.04
    assert abs(trace.square().mean().item() - 1) < 0.06
    again = random_rotations(20000, torch.Generator().manual_seed(1))
    assert torch.equal(r, again)
    assert random_rotations(0).shape == (0, 3, 3)


def test_errors() -> None:
    with pytest.raises(ValueError, match="needs a direction"):
        axis_angle((0, 0, 0), 1.0)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        axis_angle((0, 1), 1.0)
    with pytest.raises(ValueError, match="zero or not a number"):
        from_quaternion(torch.zeros(4))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 4\)"):
        from_quaternion(torch.ones(3))
    with pytest.raises(ValueError, match="n is -1"):
        random_rotations(-1)


def test_quaternions_of_matrices_at_every_angle() -> None:
    axes = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 2, 3), (-1, 1e-6, 0)]
    turns = [axis_angle(axis, angle) for axis in axes for angle in (0, 1e-8, 1.0, math.pi - 1e-9, math.pi)]
    r = torch.cat([torch.stack(turns), random_rotations(50)])
    q = to_quaternion(r)
    assert (q.norm(dim=-1) - 1).abs().max() < 1e-15
    assert (from_quaternion(q) - r).abs().max() < 1e-15 * 4
    largest = q.gather(1, q.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())
    assert to_quaternion(r.float().view(2, -1, 3, 3)).shape == (2, len(r) // 2, 4)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 3, 3\)"):
        to_quaternion(torch.eye(4))

"""Rigid motions: against scipy's, wrong matches, seeds, degenerate matches; matches of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spheregeo.sampling import (
    RigidMotion,
    kabsch,
    match_features,
    random_rotations,
    ransac_motion,
    ransac_motions,
    refine_motion,
    surface_agreement,
)


def points(n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kabsch_equals_scipy_with_noise_and_weights() -> None:
    a, weights = points(), torch.rand(40, dtype=torch.float64)
    b = a @ random_rotations(1)[0].T + 0.3 * points(seed=1)
    found = kabsch(a, b, weights)
    middle = [(weights[:, None] * x).sum(0) / weights.sum() for x in (a, b)]
    other = Rotation.align_vectors((b - middle[1]).numpy(), (a - middle[0]).numpy(), weights.numpy())[0]
    assert np.allclose(found.rotation.numpy(), other.as_matrix(), atol=1e-10)
    assert torch.allclose(found.apply(middle[0][None])[0], middle[1])
    many = kabsch(torch.stack([a, 2 * a]), torch.stack([b, b]), torch.stack([weights, weights]))
    assert torch.allclose(many.rotation[0], found.rotation) and torch.allclose(
        many.apply(a)[0], found.apply(a)
    )


def test_motions_are_proper_and_matrices_move_as_they_do() -> None:
    a = points()
    for b in (-a, a * torch.tensor([1.0, 1, 0]), torch.zeros_like(a), a[:, :1] * torch.ones(3)):
        assert float(torch.linalg.det(kabsch(a, b).rotation)) == pytest.approx(1)
    motion = RigidMotion(random_rotations(1)[0], points(1)[0])
    whole = torch.cat([a, torch.ones(40, 1)], 1) @ motion.matrix().T
    assert torch.allclose(whole[:, :3], motion.apply(a)) and torch.allclose(
        whole[:, 3], torch.ones(40).double()
    )


def test_ransac_finds_the_motion_among_wrong_matches() -> None:
    a, turn = points(100), random_rotations(1)[0]
    b = a @ turn.T + torch.tensor([1.0, 2, 3])
    b[:70] = points(70, 1) * 2
    found = ransac_motion(a, b, 0.02)
    assert torch.allclose(found.rotation, turn, atol=1e-8) and found.inliers is not None
    assert bool(found.inliers[70:].all()) and int(found.inliers.sum()) < 75
    again = ransac_motion(a, b, 0.02)
    assert torch.equal(found.rotation, again.rotation)
    first, second = random_rotations(2)
    moved = ransac_motion(a @ first.T + 1, b @ second.T - 2, 0.02)
    assert torch.allclose(moved.rotation, second @ turn @ first.T, atol=1e-7)


def test_several_motions_come_in_order_and_apart() -> None:
    """Two motions that 50 and 30 of 100 matches follow: both are found, with their matches, and act with either cloud."""
    a, turns = points(100), random_rotations(2)
    b = torch.cat([a[:50] @ turns[0].T, a[50:80] @ turns[1].T + 1, 2 * points(20, 1)])
    found = ransac_motions(a, b, 0.02, count=4)
    assert 2 <= len(found.rotation) <= 4 and found.inliers is not None
    assert torch.allclose(found.rotation[:2], turns, atol=1e-8) and torch.allclose(
        found.translation[:2], torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, 3), atol=1e-8
    )
    assert bool(found.inliers[0, :50].all()) and bool(found.inliers[1, 50:80].all())
    gaps = torch.cdist(found.rotation.flatten(1), found.rotation.flatten(1)) + 9 * torch.eye(
        len(found.rotation)
    )
    assert float(gaps.min()) > 8**0.5 * np.sin(np.radians(7.5))
    first, second = random_rotations(4)[2:]
    moved = ransac_motions(a @ first.T + 1, b @ second.T - 2, 0.02, count=4)
    assert torch.allclose(moved.rotation[:2], second @ turns @ first.T, atol=1e-7)
    assert len(ransac_motions(a[:2], b[:2], 0.02).rotation) == 0


def test_agreement_of_surfaces_finds_what_matches_alone_do_not() -> None:
    """Most matches follow a wrong motion; the right one brings more of two draws of a surface together."""
    u = torch.rand(2, 300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    a, b = (torch.stack([x, y, x * x + 0.5 * x * y - y**3], 1) for x, y in (part.unbind(1) for part in u))
    turn, wrong = random_rotations(2)
    b = b @ turn.T
    right = RigidMotion(turn, torch.zeros(3, dtype=torch.float64))
    scores = [float(surface_agreement(a, b, m, 0.1)) for m in (right, RigidMotion(wrong, right.translation))]
    assert scores[0] > 2 * scores[1] > 0
    distance = torch.cdist(a @ turn.T, b)
    assert scores[0] < float(
        sum((1 - (d.amin(1) / 0.1).square()).clamp_min(0).sum() for d in (distance, distance.T))
    )
    first, second = random_rotations(4)[2:]
    also = RigidMotion(second @ turn @ first.T, torch.ones(3, dtype=torch.float64))
    assert float(surface_agreement(a @ first.T, b @ second.T + 1, also, 0.1)) == pytest.approx(
        scores[0], rel=1e-6
    )
    assert float(surface_agreement(a, b + 5, right, 0.1)) == 0
    assert float(surface_agreement(a[:0], b, right, 0.1)) == 0
    with pytest.raises(ValueError, match="reach is 0"):
        surface_agreement(a, b, right, 0)


def test_refinement_fits_all_points() -> None:
    """Two draws of a surface, 8 degrees and a shift apart; motions of both clouds act on the result."""
    u = torch.rand(2, 500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    a, b = (torch.stack([x, y, x * x + 0.5 * x * y - y**3], 1) for x, y in (part.unbind(1) for part in u))
    turn = Rotation.from_rotvec([0.08, -0.1, 0.06]).as_matrix()
    start = RigidMotion(torch.from_numpy(turn), torch.tensor([0.03, 0.02, -0.02], dtype=torch.float64))
    found = refine_motion(a, b, start, 0.2)
    angle = Rotation.from_matrix(found.rotation.numpy()).magnitude()
    assert np.degrees(angle) < 1.5 and float(found.translation.norm()) < 0.02
    first, second = random_rotations(2)
    moved = RigidMotion(second @ start.rotation @ first.T, second @ start.translation + 1)
    again = refine_motion(a @ first.T, b @ second.T + 1, moved, 0.2)
    assert torch.allclose(again.rotation, second @ found.rotation @ first.T, atol=1e-6)
    assert refine_motion(a[:3], b, start, 0.2).rotation.equal(start.rotation)
    with pytest.raises(ValueError, match="reach is 0"):
        refine_motion(a, b, start, 0)


def test_without_a_motion_there_is_the_identity() -> None:
    for a, b in (
        (points(2), points(2)),
        (points(0), points(0)),
        (torch.zeros(9, 3), points(9)),
        (points(9), 100 * points(9, 1)),
    ):
        found = ransac_motion(a.double(), b, 0.01)
        assert torch.equal(found.rotation, torch.eye(3, dtype=torch.float64))
        assert found.inliers is not None and not bool(found.inliers.any()) and len(found.inliers) == len(a)


def test_features_are_matched_both_ways_and_by_ratio() -> None:
    a = torch.tensor([[0.0], [1.0], [10.0], [10.4]])
    b = torch.tensor([[10.1], [0.9], [0.2]])
    assert [x.tolist() for x in match_features(a, b)] == [[0, 1, 2], [2, 1, 0]]
    assert [x.tolist() for x in match_features(a, b, mutual=False)] == [[0, 1, 2, 3], [2, 1, 0, 0]]
    assert [x.tolist() for x in match_features(a, b, ratio=0.1)] == [[2], [0]]
    assert [len(x) for x in match_features(a[:0], b)] == [0, 0]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"expected \(\.\.\., P, 3\) twice"):
        kabsch(points(4), points(5))
    with pytest.raises(ValueError, match="weights has shape"):
        kabsch(points(4), points(4), torch.ones(5))
    with pytest.raises(ValueError, match=r"threshold is 0 and apart 15\.0; expected positive numbers"):
        ransac_motion(points(4), points(4), 0)
    with pytest.raises(ValueError, match="ratio is 2"):
        match_features(points(4), points(4), ratio=2)
    with pytest.raises(ValueError, match=r"expected \(N, C\) and \(M, C\)"):
        match_features(points(4), points(4)[:, :2])

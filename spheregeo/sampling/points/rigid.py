"""Rigid motions between clouds: from pairs of points (Kabsch), from matches of which many are wrong (RANSAC), from features."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.normals import estimate_normals

__all__ = [
    "RigidMotion",
    "kabsch",
    "match_features",
    "ransac_motion",
    "ransac_motions",
    "refine_motion",
    "surface_agreement",
]

_AT_ONCE = 512  # motions scored together


class RigidMotion(NamedTuple):
    """A rotation, then a translation: ``y = rotation @ x + translation``.

    Attributes:
        rotation: (3, 3) or (H, 3, 3).
        translation: (3,) or (H, 3).
        inliers: matches that the motion explains, (M,) bool; None where it was not fitted to matches that may be wrong.

    Example:
        >>> from spheregeo.sampling import RigidMotion
        >>> RigidMotion(torch.eye(3), torch.tensor([0.0, 0, 1])).matrix()[2].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """

    rotation: Tensor
    translation: Tensor
    inliers: Tensor | None = None

    def apply(self, points: Tensor) -> Tensor:
        """Move points. Shape: (P, 3) -> (P, 3), or (H, P, 3) for H motions."""
        return points @ self.rotation.mT + self.translation.unsqueeze(-2)

    def matrix(self) -> Tensor:
        """The motion as a matrix on (x, y, z, 1). Shape: (4, 4) or (H, 4, 4)."""
        upper = torch.cat([self.rotation, self.translation.unsqueeze(-1)], -1)
        last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
        return torch.cat([upper, last], -2)


def kabsch(source: Tensor, target: Tensor, weights: Tensor | None = None) -> RigidMotion:
    """The rigid motion that brings points to others with the least sum of squared distances; a proper rotation.

    Where the points leave the rotation open (fewer than three, or on a line), one of the best is returned.

    Args:
        source: points to move.
        target: where each should come.
        weights: weight of each pair, not negative; equal ones if None.

    Shape: source and target (..., P, 3), weights (..., P) -> rotation (..., 3, 3), translation (..., 3).
    Raises: ValueError for other shapes.
    Reference: Kabsch 1976, Acta Crystallographica A32, 922; the sign by the determinant after Umeyama 1991.

    Example:
        >>> from spheregeo.sampling import kabsch, random_rotations
        >>> turn, points = random_rotations(1)[0], torch.randn(10, 3, dtype=torch.float64)
        >>> torch.allclose(kabsch(points, points @ turn.T + 1).rotation, turn)
        True
    """
    if source.shape != target.shape or source.ndim < 2 or source.shape[-1] != 3 or not source.shape[-2]:
        raise ValueError(
            f"source has shape {tuple(source.shape)} and target {tuple(target.shape)}; expected (..., P, 3) twice, P at least 1"
        )
    if weights is not None and weights.shape != source.shape[:-1]:
        raise ValueError(f"weights has shape {tuple(weights.shape)}; expected {tuple(source.shape[:-1])}")
    w = torch.ones_like(source[..., 0]) if weights is None else weights.to(source.dtype)
    w = (w / w.sum(-1, keepdim=True).clamp_min(torch.finfo(source.dtype).tiny)).unsqueeze(-1)
    from_, to = (w * source).sum(-2), (w * target).sum(-2)
    moment = (w * (target - to.unsqueeze(-2))).mT @ (source - from_.unsqueeze(-2))
    u, _, vh = torch.linalg.svd(moment)
    sign = torch.linalg.det(u @ vh).sign()
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    rotation = u @ (flip.unsqueeze(-1) * vh)
    return RigidMotion(rotation, to - (rotation @ from_.unsqueeze(-1)).squeeze(-1))


def match_features(
    source: Tensor, target: Tensor, *, mutual: bool = True, ratio: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Pairs of points whose features are nearest to one another.

    Args:
        source: features of the points of one cloud.
        target: features of the points of the other.
        mutual: keep a pair only if each is the other's nearest.
        ratio: keep a pair only if the nearest is nearer than ``ratio`` times the second nearest (Lowe); 1 keeps all.

    Shape: source (N, C), target (M, C) -> (K,) rows of the source, in order, and (K,) rows of the target, int64.
    Raises: ValueError for other shapes, or a ratio outside (0, 1].
    Reference: Lowe 2004, International Journal of Computer Vision 60, 91.

    Example:
        >>> from spheregeo.sampling import match_features
        >>> [rows.tolist() for rows in match_features(torch.tensor([[0.0], [5.0]]), torch.tensor([[5.1], [9.0], [0.2]]))]
        [[0, 1], [2, 0]]
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(
            f"source has shape {tuple(source.shape)} and target {tuple(target.shape)}; expected (N, C) and (M, C)"
        )
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio is {ratio}; expected 0 < ratio <= 1")
    rows = torch.arange(len(source), device=source.device)
    if not len(source) or not len(target):
        return rows[:0], rows[:0]
    distance = torch.cdist(source.detach(), target.detach())
    nearest = distance.argmin(1)
    kept = torch.ones_like(rows, dtype=torch.bool)
    if mutual:
        kept &= distance.argmin(0)[nearest] == rows
    if ratio < 1 and len(target) > 1:
        two = distance.topk(2, 1, largest=False).values
        kept &= two[:, 0] <= ratio * two[:, 1]
    return rows[kept], nearest[kept]


def ransac_motions(
    source: Tensor,
    target: Tensor,
    threshold: float,
    *,
    count: int = 20,
    trials: int = 4000,
    apart: float = 15.0,
    seed: int = 0,
) -> RigidMotion:
    """Different rigid motions on which many matches agree, those with most of them first, from random triples of matches.

    Triples whose triangles differ by more than twice the threshold in a side are passed over, for no rigid motion brings one to
    the other. Of motions whose rotations are nearer than ``apart``, and whose translations are nearer than ten thresholds, the
    best one is kept.

    Args:
        source: points of the matches in one cloud.
        target: points of the matches in the other.
        threshold: distance up to which a match agrees.
        count: most motions to return.
        trials: number of triples.
        apart: least angle in degrees between rotations.
        seed: of the triples; the same seed gives the same motions.

    Shape: source and target (M, 3) -> rotation (H, 3, 3), translation (H, 3), inliers (H, M) bool; H is at most ``count``, and
        zero for fewer than three matches or where no triple fits. Computed and returned in float64.
    Units: threshold in those of the points.
    Equivariance: motions of either cloud act on the result, to rounding.
    Raises: ValueError for other shapes, a threshold or an angle that is not positive.
    Reference: Fischler & Bolles 1981, Communications of the ACM 24, 381.

    Example:
        >>> from spheregeo.sampling import random_rotations, ransac_motions
        >>> turn, points = random_rotations(1)[0].float(), torch.randn(50, 3)
        >>> ransac_motions(points, points @ turn.T, 0.05, count=3).rotation.shape[1:]
        torch.Size([3, 3])
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(
            f"source has shape {tuple(source.shape)} and target {tuple(target.shape)}; expected (M, 3) twice"
        )
    if not (threshold > 0 and apart > 0):
        raise ValueError(f"threshold is {threshold} and apart {apart}; expected positive numbers")
    check_count("trials", trials)
    check_count("count", count)
    a, b = source.detach().double(), target.detach().double()
    tried = _of_triples(a, b, threshold, trials, seed)
    score = a.new_zeros(len(tried.rotation))
    for begin in range(0, len(score), _AT_ONCE):
        part = RigidMotion(*(t[begin : begin + _AT_ONCE] for t in tried[:2]))
        gap = (part.apply(a) - b).norm(dim=2)
        score[begin : begin + _AT_ONCE] = (1 - (gap / threshold).square()).clamp_min(0).sum(1)
    chord = 8**0.5 * math.sin(math.radians(apart) / 2)  # of rotations that far apart
    order = score.argsort(descending=True, stable=True)
    kept: list[int] = []
    while len(order) and len(kept) < count:
        best = int(order[0])
        kept.append(best)
        turned = (tried.rotation[order] - tried.rotation[best]).flatten(1).norm(dim=1)
        moved = (tried.translation[order] - tried.translation[best]).norm(dim=1)
        order = order[(turned > chord) | (moved > 10 * threshold)]
    motions = RigidMotion(tried.rotation[kept], tried.translation[kept])
    return motions._replace(inliers=(motions.apply(a) - b).norm(dim=2) <= threshold)


def _of_triples(a: Tensor, b: Tensor, threshold: float, trials: int, seed: int) -> RigidMotion:
    """The motions of random triples of matches whose triangles fit one another. Shape: (M, 3) twice -> (T, 3, 3), (T, 3)."""
    if len(a) < 3:
        return RigidMotion(a.new_zeros(0, 3, 3), a.new_zeros(0, 3))
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(a), (trials, 3), generator=draw).to(a.device)
    p, q = a[rows], b[rows]
    sides = [(x - x.roll(1, 1)).norm(dim=2) for x in (p, q)]
    fits = ((sides[0] - sides[1]).abs() <= 2 * threshold).all(1) & (sides[0].amin(1) > threshold)
    return kabsch(p[fits], q[fits])


def ransac_motion(
    source: Tensor,
    target: Tensor,
    threshold: float,
    *,
    trials: int = 2000,
    refine: int = 5,
    seed: int = 0,
) -> RigidMotion:
    """The rigid motion on which most matches agree: the best one of random triples of matches, fitted to its inliers.

    Args:
        source: points of the matches in one cloud.
        target: points of the matches in the other.
        threshold: distance up to which a match is an inlier.
        trials: number of triples.
        refine: how often the motion is fitted to its inliers, and these found anew.
        seed: of the triples; the same seed gives the same motion.

    Shape: source and target (M, 3) -> rotation (3, 3), translation (3,), inliers (M,) bool, none where fewer than three agree:
        then the motion is the identity. Computed in float64, returned in the dtype of the source.
    Units: threshold in those of the points.
    Equivariance: motions of either cloud act on the result, to rounding.
    Raises: ValueError for other shapes, a threshold that is not positive.
    Reference: Fischler & Bolles 1981, Communications of the ACM 24, 381.

    Example:
        >>> from spheregeo.sampling import random_rotations, ransac_motion
        >>> turn, points = random_rotations(1)[0].float(), torch.randn(50, 3)
        >>> moved = points @ turn.T
        >>> moved[:20] = torch.randn(20, 3)  # wrong ones
        >>> torch.allclose(ransac_motion(points, moved, 0.05).rotation, turn, atol=1e-4)
        True
    """
    best = ransac_motions(source, target, threshold, count=1, trials=trials, seed=seed)
    found = None
    if len(best.rotation):
        assert best.inliers is not None
        found = _of_inliers(source, target, best.inliers[0], threshold, refine)
    return found or RigidMotion(
        torch.eye(3, dtype=source.dtype, device=source.device), source.new_zeros(3),
        torch.zeros(len(source), dtype=torch.bool, device=source.device),
    )  # fmt: skip


def _of_inliers(
    source: Tensor, target: Tensor, inliers: Tensor, threshold: float, steps: int
) -> RigidMotion | None:
    """The motion fitted to matches, those that agree with it taken anew ``steps`` times; None where fewer than three do."""
    a, b = source.detach().double(), target.detach().double()
    motion = None
    for _ in range(max(steps, 1)):
        if int(inliers.sum()) < 3:
            return None
        motion = kabsch(a[inliers], b[inliers])
        found = (motion.apply(a) - b).norm(dim=1) <= threshold
        if torch.equal(found, inliers):
            break
        inliers = found
    if motion is None or int(inliers.sum()) < 3:
        return None
    return RigidMotion(motion.rotation.to(source.dtype), motion.translation.to(source.dtype), inliers)


def surface_agreement(
    source: Tensor,
    target: Tensor,
    motion: RigidMotion,
    reach: float,
    normals: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """How much of two clouds lies together once one of them has moved: near points, whose tangent planes agree, of both.

    The sum over points of both clouds of (1 - (d / reach)^2) |n . m| for the distance d to the nearest point of the other, and
    the normals n and m of the two; 0 beyond ``reach``. Matches that are wrong together, as of a limb and another one, bring few
    points of two surfaces together.

    Args:
        source: points of the cloud that moves.
        target: points of the other cloud.
        motion: the motion.
        reach: distance up to which points count.
        normals: of the source, before it moves, and of the target, up to sign; estimated if None.

    Shape: source and normals[0] (N, 3), target and normals[1] (M, 3) -> (). Computed in float64.
    Units: reach in those of the points.
    Equivariance: invariant to motions of either cloud, with which ``motion`` changes.
    Raises: ValueError for a reach that is not positive.

    Example:
        >>> from spheregeo.sampling import RigidMotion, surface_agreement
        >>> points = torch.rand(100, 3) * torch.tensor([1.0, 1.0, 0.0])
        >>> stay, away = (RigidMotion(torch.eye(3), torch.full((3,), t)) for t in (0.0, 0.05))
        >>> bool(surface_agreement(points, points, stay, 0.1) > surface_agreement(points, points, away, 0.1))
        True
    """
    if not reach > 0:
        raise ValueError(f"reach is {reach}; expected a positive distance")
    a, b = source.detach().double(), target.detach().double()
    if not len(a) or not len(b):
        return a.new_zeros(())
    of_a, of_b = normals if normals is not None else (estimate_normals(x, 8, outward=False) for x in (a, b))
    rotation = motion.rotation.double()
    distance = torch.cdist(a @ rotation.T + motion.translation.double(), b)
    turned, of_b = of_a.double() @ rotation.T, of_b.double()
    total = a.new_zeros(())
    for gaps, own, others in ((distance, turned, of_b), (distance.T, of_b, turned)):
        gap, near = gaps.min(1)
        alike = (own * others[near]).sum(1).abs()
        total = total + ((1 - (gap / reach).square()).clamp_min(0) * alike).sum()
    return total


def refine_motion(
    source: Tensor,
    target: Tensor,
    motion: RigidMotion,
    reach: float,
    *,
    steps: int = 20,
    k: int = 8,
    normals: Tensor | None = None,
) -> RigidMotion:
    """A motion improved by the points themselves: each step moves the source towards the tangent planes of its nearest points.

    Normals of the target are estimated unless given; a pair farther apart than ``reach`` does not count. A step with fewer than
    six pairs, or one that leaves the motion open, ends the search.

    Args:
        source: points of the cloud that moves.
        target: points of the other cloud.
        motion: where to begin.
        reach: largest distance of a point from its nearest one.
        steps: number of steps.
        k: neighbours from which normals are estimated.
        normals: of the target, up to sign, zero where unknown; estimated if None.

    Shape: source (N, 3), target and normals (M, 3) -> rotation (3, 3), translation (3,), the inliers of ``motion``. Computed in
        float64.
    Units: reach in those of the points.
    Equivariance: motions of either cloud act on the result, to rounding.
    Raises: ValueError for a reach that is not positive.
    Reference: Chen & Medioni 1992, Image and Vision Computing 10, 145.

    Example:
        >>> from spheregeo.sampling import RigidMotion, refine_motion
        >>> x, y = torch.rand(2, 500)
        >>> points = torch.stack([x, y, x * x - x * y], 1)
        >>> found = refine_motion(points, points + 0.02, RigidMotion(torch.eye(3), torch.zeros(3)), 0.2)
        >>> torch.allclose(found.translation, torch.full((3,), 0.02), atol=1e-3)
        True
    """
    if not reach > 0:
        raise ValueError(f"reach is {reach}; expected a positive distance")
    a, b = source.detach().double(), target.detach().double()
    rotation, translation = motion.rotation.double(), motion.translation.double()
    if not len(a) or not len(b):
        return motion
    up = estimate_normals(b, k, outward=False) if normals is None else normals.detach().double()
    for _ in range(steps):
        moved = a @ rotation.T + translation
        gap, near = torch.cdist(moved, b).min(1)
        kept = (gap <= reach) & (up[near].abs().sum(1) > 0)
        if int(kept.sum()) < 6:
            break
        p, n, q = moved[kept], up[near[kept]], b[near[kept]]
        middle = p.mean(0)
        rows = torch.cat([torch.linalg.cross(p - middle, n), n], 1)
        weight = (1 - (gap[kept] / reach).square()).square()[:, None]
        normal = rows.T @ (weight * rows)
        if float(torch.linalg.cond(normal)) > 1e10:
            break
        step = torch.linalg.solve(normal, rows.T @ (weight[:, 0] * ((q - p) * n).sum(1)))
        (x, y, z), o = step[:3].unbind(), torch.zeros_like(step[0])
        turn = torch.linalg.matrix_exp(torch.stack([o, -z, y, z, o, -x, -y, x, o]).view(3, 3))
        rotation, translation = turn @ rotation, turn @ (translation - middle) + middle + step[3:]
        if float(step.abs().max()) < 1e-7:
            break
    return RigidMotion(rotation.to(source.dtype), translation.to(source.dtype), motion.inliers)

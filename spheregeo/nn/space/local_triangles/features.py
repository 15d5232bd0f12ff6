"""Fourteen numbers for each neighbour of a point that no rotation changes: a length, and cosines of two triangles and of normals.

Neighbours x_1 ... x_k of a point p are ordered by their angle about the normal of p. Neighbour x_i, the one before and the one
after it make the triangles (p, x_i, x_{i-1}) and (p, x_i, x_{i+1}) of a local surface.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.nn.statistics import working_dtype

FEATURES = 14
_STEPS = {torch.float64: 2.0**-32}  # of angles, below which two are equal
_STEP = 2.0**-17
Vector = tuple[Tensor, Tensor, Tensor]


def _dot(a: Vector, b: Vector) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _unit(a: Vector) -> tuple[Tensor, Vector]:
    """Length and direction; the direction of a zero vector is zero, and so is its gradient."""
    square = _dot(a, a)
    some = square > 0
    length = torch.where(some, square, 1.0).sqrt()
    return length * some, (a[0] / length, a[1] / length, a[2] / length)


def _check(near: Tensor, normals: Tensor) -> None:
    check_tensor(near, "near")
    check_tensor(normals, "normals")
    if near.ndim != 3 or near.shape[2] != 3:
        raise ValueError(f"near has shape {tuple(near.shape)}; expected (M, k, 3)")
    if normals.shape != (near.shape[0], 3):
        raise ValueError(f"normals has shape {tuple(normals.shape)}; expected ({near.shape[0]}, 3)")


@torch.no_grad()
def order_around(near: Tensor, normals: Tensor) -> Tensor:
    """The order of each point's neighbours by their angle about its normal, counter-clockwise seen from its tip.

    The angle is counted from the neighbour that is farthest from the normal's axis, the first one given if several are.
    Neighbours on the axis, such as the point itself, come first, and those at one angle stay as they were given.

    Args:
        near: neighbours, relative to their point.
        normals: normal of each point; where it is zero there is no angle, and the order is that of the cosines.

    Shape: near (M, k, 3), normals (M, 3) -> (M, k) int64.
    Equivariance: the order is the same after any rotation; a reflection reverses it.
    Raises: ValueError for other shapes.

    Example:
        >>> from spheregeo.nn.space.local_triangles import order_around
        >>> near = torch.tensor([[[3.0, 0, 0], [0, -1, 0], [0, 2, 1]]])
        >>> order_around(near, torch.tensor([[0.0, 0, 1]])).tolist()
        [[0, 2, 1]]
    """
    _check(near, normals)
    if not near.shape[1]:
        return torch.empty(near.shape[:2], dtype=torch.int64, device=near.device)
    step = _STEPS.get(near.dtype, _STEP)
    points, up = near.double(), normals.double()[:, None]
    flat = points - (points * up).sum(2, keepdim=True) * up
    length = flat.norm(dim=2)
    most = length.amax(1, keepdim=True)
    size = points.norm(dim=2).amax(1, keepdim=True)
    first = (length >= (1 - step) * most).to(torch.uint8).argmax(1)
    zero = flat[torch.arange(len(flat), device=flat.device), first][:, None].expand_as(flat)
    sine = (torch.linalg.cross(zero, flat) * up).sum(2)
    angle = torch.atan2(sine, (zero * flat).sum(2))
    angle = torch.where(angle < -step, angle + 2 * math.pi, angle.clamp_min(0))
    angle = torch.where(angle > 2 * math.pi - step, 0.0, angle)
    key = torch.where(length <= step * size, -1.0, (angle / step).round())
    return key.sort(dim=1, stable=True).indices


def triangle_features(near: Tensor, near_normals: Tensor, normals: Tensor) -> Tensor:
    """The fourteen invariants of each neighbour x_i of a point p; the neighbours have to be ordered (:func:`order_around`).

    With unit directions, n the normals, and x_- and x_+ the neighbours before and after x_i, cyclically::

        0        |x_i - p|
        1, 2     cosines of x_i - p with n(p) and n(x_i)
        3        cosine between x_i - p and x_- - p
        4, 5     cosines of x_- - p with n(p) and n(x_-)
        6        cosine at x_- between p and x_i
        7, 8     cosines of x_- - x_i with n(x_i) and n(x_-)
        9        cosine between x_i - p and x_+ - p
        10       cosine at x_+ between p and x_i
        11, 12   cosines of n(x_+) with x_+ - x_i and with x_i - p
        13       inner product of the two triangles' normals (x_+ - p) × (x_i - p) and (x_- - p) × (x_i - p), of unit sides

    Directions between points that coincide are zero.

    Args:
        near: neighbours, relative to their point.
        near_normals: normals of the neighbours.
        normals: normals of the points.

    Shape: near and near_normals (M, k, 3), normals (M, 3) -> (M, k, 14).
    Units: the first is a length in those of ``near``.
    Equivariance: invariant to rotations; a reflection exchanges x_- and x_+, so mirror images differ.
    Raises: ValueError for other shapes.
    Reference: Zhang, Yang & Xiang 2024, arXiv:2408.06110, section 3.1.

    Example:
        >>> from spheregeo.nn.space.local_triangles import triangle_features
        >>> triangle_features(torch.randn(5, 8, 3), torch.randn(5, 8, 3), torch.randn(5, 3)).shape
        torch.Size([5, 8, 14])
    """
    _check(near, normals)
    if near_normals.shape != near.shape:
        raise ValueError(
            f"near_normals has shape {tuple(near_normals.shape)}; expected {tuple(near.shape)}, that of near"
        )
    dtype = near.dtype
    wide = working_dtype(near)
    x, m, n = (t.to(wide) for t in (near, near_normals, normals))
    own: Vector = tuple(n[:, None].unbind(2))  # type: ignore[assignment]
    (here, here_n), (before, before_n), (after, after_n) = (
        (tuple(x.roll(shift, 1).unbind(2)), tuple(m.roll(shift, 1).unbind(2))) for shift in (0, 1, -1)
    )
    length, a = _unit(here)  # type: ignore[arg-type]
    b, c = _unit(before)[1], _unit(after)[1]  # type: ignore[arg-type]
    back = _unit(_minus(before, here))[1]  # type: ignore[arg-type]
    ahead = _unit(_minus(after, here))[1]  # type: ignore[arg-type]
    found = [
        length, _dot(a, own), _dot(a, here_n), _dot(a, b), _dot(b, own), _dot(b, before_n), _dot(b, back),  # type: ignore[arg-type]
        _dot(back, here_n), _dot(back, before_n), _dot(a, c), _dot(c, ahead), _dot(ahead, after_n), _dot(a, after_n),  # type: ignore[arg-type]
        _dot(_cross(c, a), _cross(b, a)),
    ]  # fmt: skip
    return torch.stack(torch.broadcast_tensors(*found), 2).to(dtype)

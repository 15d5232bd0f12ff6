r"""Rotations as 3×3 matrices, quaternions and Euler angles: about an axis, checked, and drawn evenly from SO(3).

Rodrigues' formula R = cos α · 1 + sin α [u]× + (1 − cos α) u uᵀ; a normalised Gaussian quaternion is Haar-distributed.
Reference: Shoemake 1992, "Uniform random rotations", Graphics Gems III.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def axis_angle(axis: Sequence[float] | Tensor, angle: float) -> Tensor:
    """Rotation by ``angle`` about ``axis``, counter-clockwise seen from the axis's tip.

    Shape: axis (3,), any length -> (3, 3) float64. Units: radians.
    Raises: ValueError for an axis of zero length or of other than three entries.
    """
    u = torch.as_tensor(axis, dtype=torch.float64)
    if u.shape != (3,):
        raise ValueError(f"axis_angle: axis has shape {tuple(u.shape)}, expected (3,)")
    norm = u.norm()
    if not norm > 0:
        raise ValueError(f"axis_angle: axis is {u.tolist()}; it needs a direction")
    x, y, z = (u / norm).tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    # K² = u uᵀ − 1 for a unit axis; 2 sin²(α/2) is 1 − cos α without cancellation
    return (
        torch.eye(3, dtype=torch.float64)
        + math.sin(angle) * cross
        + 2 * math.sin(angle / 2) ** 2 * (cross @ cross)
    )


def from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices of quaternions (w, x, y, z), which are normalised first.

    Shape: (..., 4) -> (..., 3, 3) float64. Raises: ValueError for another last axis or a zero quaternion.
    """
    q = quaternion.to(torch.float64)
    if q.ndim < 1 or q.shape[-1] != 4:
        raise ValueError(
            f"from_quaternion: quaternion has shape {tuple(q.shape)}, expected (..., 4) as (w, x, y, z)"
        )
    norm = q.norm(dim=-1, keepdim=True)
    if not bool((norm > 0).all()):
        raise ValueError("from_quaternion: a quaternion is zero or not a number; it needs a direction")
    w, x, y, z = (q / norm).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (w, x, y, z) of rotation matrices, by the largest of the four: right at angle π as at 0.

    Shape: (..., 3, 3) -> (..., 4) of the same dtype. q and −q are one rotation; the component of largest size is positive.
    Raises: ValueError for another shape. Matrices are taken for rotations unseen.
    Reference: Shepperd 1978, J. Guidance and Control 1, 223.
    """
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"to_quaternion: matrix has shape {tuple(matrix.shape)}; expected (..., 3, 3)")
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # 4 q qᵀ, row by row: any row is q times four of that row's own component
    outer = torch.stack(
        [
            1 + a + e + i, h - f, c - g, d - b,
            h - f, 1 + a - e - i, b + d, c + g,
            c - g, b + d, 1 - a + e - i, f + h,
            d - b, c + g, f + h, 1 - a - e + i,
        ], -1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    pivot = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, pivot[..., None, None].expand(*pivot.shape, 1, 4)).squeeze(-2)
    return row / row.norm(dim=-1, keepdim=True)


def euler_matrix(alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """The rotation R_z(α) R_y(β) R_z(γ). Shape: three (...) that broadcast -> (..., 3, 3). Units: radians."""
    alpha, beta, gamma = torch.broadcast_tensors(alpha, beta, gamma)
    ca, sa, cb, sb, cg, sg = (f(t) for t in (alpha, beta, gamma) for f in (torch.cos, torch.sin))
    rows = [
        ca * cb * cg - sa * sg, -ca * cb * sg - sa * cg, ca * sb,
        sa * cb * cg + ca * sg, -sa * cb * sg + ca * cg, sa * sb,
        -sb * cg, sb * sg, cb,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def euler_angles(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Angles (α, β, γ) of rotations R_z(α) R_y(β) R_z(γ), with 0 ≤ β ≤ π; α + γ or α − γ is right even where β is near 0 or π.

    Shape: matrices (..., 3, 3) -> three (...) of the same dtype. Units: radians.
    Raises: ValueError for another shape. Matrices are taken for rotations unseen.
    """
    w, x, y, z = to_quaternion(rotation).unbind(-1)
    beta = 2 * torch.atan2(torch.hypot(x, y), torch.hypot(w, z))
    half_sum, half_difference = torch.atan2(z, w), torch.atan2(-x, y)
    return half_sum + half_difference, beta, half_sum - half_difference


def rotation_matrix(rotation: Tensor | Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Rotation as float64 matrices, checked.

    Args:
        rotation: matrices (..., 3, 3), or unit quaternions (..., 4) in the order (w, x, y, z).

    Shape: (..., 3, 3) or (..., 4) -> (..., 3, 3).
    Raises: ValueError where it is no proper rotation to 1e-4; within that it is made one to 1e-15.
    """
    r = torch.as_tensor(rotation, dtype=torch.float64).detach().cpu()
    if r.ndim >= 2 and r.shape[-2:] == (3, 3):
        error = (r @ r.mT - torch.eye(3, dtype=torch.float64)).abs().max()
        if not float(error) <= 1e-4:
            raise ValueError(
                f"rotation is not orthonormal: R R^T is off the identity by {float(error):.3g}, at most 1e-4"
            )
        if bool((torch.linalg.det(r) < 0).any()):
            raise ValueError("rotation has determinant -1, a reflection; expected +1 (did you flip an axis?)")
        u, _, vh = torch.linalg.svd(r)  # the nearest orthonormal matrix takes float32's rounding away
        return r if float(error) < 1e-14 else u @ vh
    if r.ndim >= 1 and r.shape[-1] == 4:
        norm = r.norm(dim=-1, keepdim=True)
        if not bool(((norm - 1).abs() < 1e-4).all()):
            raise ValueError(
                f"rotation is a quaternion of length {float(norm.min()):g}, expected 1; order (w, x, y, z)"
            )
        return from_quaternion(r)
    raise ValueError(
        f"rotation has shape {tuple(r.shape)}, expected (3, 3) or a quaternion (4,) as (w, x, y, z)"
    )


def random_rotations(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Rotations drawn evenly (Haar) from SO(3).

    Shape: (n, 3, 3) float64. Raises: ValueError for n < 0.
    """
    if n < 0:
        raise ValueError(f"random_rotations: n is {n}, expected zero or more")
    return from_quaternion(torch.randn(n, 4, dtype=torch.float64, generator=generator))


def rotation_from_6d(x: Tensor) -> Tensor:
    """Return rotations whose first two columns are two vectors made orthonormal, the first before the second.

    Args:
        x: the two vectors, one after the other.

    Shape: (..., 6) -> (..., 3, 3).
    Equivariance: a rotation of both vectors from the left is that of the result, exact.
    Raises: ValueError for another last axis.
    Reference: Zhou, Barnes, Lu, Yang & Li 2019, arXiv:1812.07035.

    Example:
        >>> import torch
        >>> from spheregeo.groups import rotation_from_6d
        >>> rotation_from_6d(torch.tensor([2.0, 0, 0, 1, 3, 0]))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    if x.ndim < 1 or x.shape[-1] != 6:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., 6)")
    first, second = x[..., :3], x[..., 3:]
    a = first / first.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    b = second - (a * second).sum(-1, keepdim=True) * a
    b = b / b.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return torch.stack([a, b, torch.linalg.cross(a, b)], -1)


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle of the rotation between two rotations, accurate near 0 and near π.

    Args:
        first: rotations.
        second: rotations.

    Shape: (..., 3, 3) twice, broadcast -> (...).
    Units: radians, 0 to π.

    Example:
        >>> import torch
        >>> from spheregeo.groups import rotation_angle
        >>> round(float(rotation_angle(torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0])))), 5)
        3.14159
    """
    chord = (first - second).flatten(-2).norm(dim=-1)  # 2 √2 sin(ω/2)
    trace = (first * second).flatten(-2).sum(-1)  # 1 + 2 cos ω
    return 2 * torch.atan2(chord / 8**0.5, ((1 + trace) / 4).clamp_min(0).sqrt())

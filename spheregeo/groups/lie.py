r"""The motions of the plane, SE(2), and the rotations of space, SO(3): products, exponentials and logarithms.

An element of SE(2) is (x, y, θ), first turned by θ, then moved by (x, y): (x, θ)(x′, θ′) = (x + R_θ x′, θ + θ′). With h = θ/2 and
sinc z = sin z / z the logarithm of SE(2) is the half-angle coordinates (b₁, b₂) = R_{−h} x over sinc h, a form without θ in a
denominator; SO(3)'s logarithm goes by the unit quaternion, which is well conditioned at angle π as at 0.
Reference: Chirikjian 2012, "Stochastic Models, Information Theory, and Lie Groups", vol. 2, ch. 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.groups.rotations import to_quaternion


def _coordinates(name: str, what: str, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: {what} is {kind}, expected a tensor of real floating numbers")
    if x.ndim < 1 or x.shape[-1] != 3:
        raise ValueError(f"{name}: {what} has shape {tuple(x.shape)}, expected (..., 3)")
    return x


def _sinc(x: Tensor) -> Tensor:
    return torch.sinc(x / math.pi)


def _turn(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    c, s = angle.cos(), angle.sin()
    return c * x - s * y, s * x + c * y


def wrap_angle(angle: Tensor) -> Tensor:
    """The angle in [−π, π] that is equal to ``angle`` up to full turns. Shape: (...) -> (...). Units: radians."""
    return angle - 2 * math.pi * (angle / (2 * math.pi)).round()


def se2_product(g: Tensor, h: Tensor) -> Tensor:
    """Products g h of motions of the plane (x, y, θ).

    Shape: two (..., 3) that broadcast -> (..., 3); the angle is in [−π, π]. Units: radians for θ.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    g, h = torch.broadcast_tensors(_coordinates("se2_product", "g", g), _coordinates("se2_product", "h", h))
    x, y = _turn(h[..., 0], h[..., 1], g[..., 2])
    return torch.stack([g[..., 0] + x, g[..., 1] + y, wrap_angle(g[..., 2] + h[..., 2])], -1)


def se2_inverse(g: Tensor) -> Tensor:
    """Inverses of motions of the plane (x, y, θ): (−R_{−θ} x, −θ).

    Shape: (..., 3) -> (..., 3); the angle is in [−π, π]. Units: radians for θ.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    g = _coordinates("se2_inverse", "g", g)
    x, y = _turn(g[..., 0], g[..., 1], -g[..., 2])
    return torch.stack([-x, -y, wrap_angle(-g[..., 2])], -1)


def se2_matrix(g: Tensor) -> Tensor:
    """Motions of the plane (x, y, θ) as matrices [[R_θ, x], [0, 1]].

    Shape: (..., 3) -> (..., 3, 3). Units: radians for θ. Raises: TypeError, ValueError for other than real (..., 3).
    """
    x, y, angle = _coordinates("se2_matrix", "g", g).unbind(-1)
    c, s = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, -s, x, s, c, y, zero, zero, one], -1).unflatten(-1, (3, 3))


def se2_half_angle(g: Tensor) -> Tensor:
    """Half-angle coordinates (b₁, b₂, θ) of motions of the plane, (b₁, b₂) = R_{−θ/2} x.

    The first is the way forwards, the second the way sideways, in the frame half-way; all three change sign with the inverse.

    Shape: (..., 3) -> (..., 3); the angle is in [−π, π]. Units: radians for θ.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    x, y, angle = _coordinates("se2_half_angle", "g", g).unbind(-1)
    angle = wrap_angle(angle)
    return torch.stack([*_turn(x, y, -angle / 2), angle], -1)


def se2_log(g: Tensor) -> Tensor:
    """Logarithms of motions of the plane (x, y, θ): (c₁, c₂, c₃) with exp(c₁ A₁ + c₂ A₂ + c₃ A₃) = g.

    Shape: (..., 3) -> (..., 3), c₃ in [−π, π]. Units: radians for θ.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    b1, b2, angle = se2_half_angle(_coordinates("se2_log", "g", g)).unbind(-1)
    scale = _sinc(angle / 2)
    return torch.stack([b1 / scale, b2 / scale, angle], -1)


def se2_exp(c: Tensor) -> Tensor:
    """Motions of the plane (x, y, θ) that start with velocity (c₁, c₂) in their own frame and turn evenly by c₃.

    Shape: (..., 3) -> (..., 3); the angle is in [−π, π]. Units: radians for c₃.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    c1, c2, angle = _coordinates("se2_exp", "c", c).unbind(-1)
    scale = _sinc(angle / 2)
    return torch.stack([*_turn(scale * c1, scale * c2, angle / 2), wrap_angle(angle)], -1)


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation vectors (axis times angle, 0 to π) of rotation matrices; at angle π either sign of the axis.

    Shape: (..., 3, 3) -> (..., 3) of the same dtype. Units: radians.
    Raises: ValueError for another shape. Matrices are taken for rotations unseen.
    """
    return quaternion_log(to_quaternion(rotation))


def quaternion_log(quaternion: Tensor) -> Tensor:
    """Rotation vectors (axis times angle, 0 to π) of unit quaternions (w, x, y, z); at angle π either sign of the axis.

    Shape: (..., 4) -> (..., 3) of the same dtype. Units: radians. Quaternions are taken for unit ones unseen.
    """
    w, v = quaternion[..., :1], quaternion[..., 1:]
    sign = torch.where(w < 0, -1.0, 1.0).to(w.dtype)
    w, v = w * sign, v * sign
    square = (v * v).sum(-1, keepdim=True)
    turned = square > 0
    sine = torch.where(turned, square, 1.0).sqrt()
    return v * torch.where(turned, 2 * torch.atan2(sine, w) / sine, 2 / w.clamp_min(0.5))


def so3_exp(vector: Tensor) -> Tensor:
    """Rotation matrices of rotation vectors (axis times angle).

    Shape: (..., 3) -> (..., 3, 3) of the same dtype. Units: radians.
    Raises: TypeError, ValueError for other than real (..., 3).
    """
    x, y, z = _coordinates("so3_exp", "vector", vector).unbind(-1)
    square = x * x + y * y + z * z
    turned = square > 0
    angle = torch.where(turned, torch.where(turned, square, 1.0).sqrt(), 0.0)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    first, second = _sinc(angle)[..., None, None], _sinc(angle / 2)[..., None, None]
    return torch.eye(3, dtype=x.dtype, device=x.device) + first * cross + second**2 / 2 * (cross @ cross)

r"""Wigner matrices of rotations and of edges, differentiable to every order without a pole.

The closed form is never differentiated: D(rotation by ω · R) = (1 + Σ_k ω_k 𝒳_k) D(R) + O(ω²), so with G the cotangent of D
the torque τ_k = Σ_l ⟨G^l, 𝒳_k D^l⟩ is the whole gradient, and τ is bilinear in G and D with derivatives of the same kind. What
remains is how ω follows the argument: 2 vec(dq q⁻¹) for a quaternion, dR Rᵀ for a matrix, ŷ × (R dr̂) for an edge.
Reference: Passaro & Zitnick 2023, arXiv:2302.03655 (edge frames); the rest as in :mod:`spheregeo.harmonics.wigner_forms`.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spheregeo.autograd import is_watched
from spheregeo.groups import to_quaternion
from spheregeo.harmonics import wigner_forms as forms

if TYPE_CHECKING:
    from e3nn.o3 import Irreps

LARGEST_DEGREE = 60


def wigner_D(irreps: Irreps | str | int, rotations: Tensor) -> Tensor:
    """Representation matrices of rotations, block diagonal, as e3nn has them: D(R1 R2) = D(R1) D(R2), and l = 1 is R.

    Args:
        irreps: e3nn irreps such as "4x0e+2x1o", or one degree l.
        rotations: matrices (..., 3, 3) or quaternions (w, x, y, z), (..., 4), of any length. For irreps, matrices of determinant
            −1 are elements of O(3): parities count. For a degree they must be proper.

    Shape: (..., dim, dim), of the rotations' dtype. Gradients are tangent to the group. Degrees to 60.
    Equivariance: D Y(r) = Y(R r) and composition to 1e-13 in float64 and 3e-6 in float32 for l ≤ 8, at all angles.
    Raises: ValueError for other shapes, matrices that are not orthogonal (to 1e-3), zero quaternions.
    Reference: e3nn's ``Irreps.D_from_matrix``, which loses up to half the digits near its poles and fails at some rotations by π.
    """
    if isinstance(irreps, int):
        degree = operator.index(irreps)
        if not 0 <= degree <= LARGEST_DEGREE:
            raise ValueError(f"wigner_D: degree is {degree}; expected 0 to {LARGEST_DEGREE}")
        return unpack_wigner(packed_wigner(rotations, degree))[degree]
    from e3nn.o3 import Irreps

    irreps = Irreps(irreps)
    if _kind(rotations) == "matrix":
        _check_orthogonal(rotations)
        sign = torch.linalg.det(rotations.detach()).sign()
        rotations = rotations * sign[..., None, None]
    else:
        sign = rotations.new_ones(rotations.shape[:-1])
    matrices = unpack_wigner(packed_wigner(rotations, irreps.lmax)) if irreps.dim else []
    out = rotations.new_zeros(*sign.shape, irreps.dim, irreps.dim)
    for (mul, ir), part in zip(irreps, irreps.slices(), strict=True):
        block = matrices[ir.l] * sign[..., None, None] if ir.p == -1 else matrices[ir.l]
        for i in range(mul):
            at = slice(part.start + i * ir.dim, part.start + (i + 1) * ir.dim)
            out[..., at, at] = block
    return out


def packed_wigner(rotations: Tensor, lmax: int) -> Tensor:
    """Wigner matrices of all degrees up to and including ``lmax``, one after the other in one row a rotation.

    Shape: matrices (..., 3, 3) or quaternions (..., 4) -> (..., Σ(2l + 1)²); see :func:`unpack_wigner`.
    Otherwise as :func:`wigner_D`.
    """
    lmax = _degree("packed_wigner", lmax)
    kind = _kind(rotations)
    width = 2 if kind == "matrix" else 1
    _check_finite_rotations(rotations, kind)
    flat = rotations.reshape(-1, *rotations.shape[rotations.ndim - width :])
    out: Tensor = wigner_matrices(_computed(flat), lmax)
    return out.to(rotations.dtype).reshape(*rotations.shape[:-width], forms.packed_size(lmax))


def wigner_to_y(vectors: Tensor, lmax: int) -> Tensor:
    """Wigner matrices of rotations R that take each vector's direction to the polar axis: R r/|r| = (0, 1, 0).

    R is the shortest such rotation: deterministic, smooth but at −ŷ, where it is the half turn about x. D of a vector of
    length zero is the identity. **The gradient is right where the result does not depend on the choice of R**: rotate
    features in, act with anything that commutes with rotations about y, rotate back. Then it is exact for every direction,
    ±ŷ included, to every order.

    Shape: vectors (..., 3) -> (..., Σ(2l + 1)²), l = 0 … lmax; see :func:`unpack_wigner`.
    Equivariance: D Y(r) = Y(ŷ) to 1e-13 in float64, 3e-6 in float32 for l ≤ 8.
    Raises: ValueError for another last axis, integers, or lmax outside 0 … 60.
    """
    lmax = _degree("wigner_to_y", lmax)
    if vectors.ndim < 1 or vectors.shape[-1] != 3 or not vectors.is_floating_point():
        raise ValueError(
            f"wigner_to_y: vectors has shape {tuple(vectors.shape)} and dtype {vectors.dtype}; expected (..., 3), floating"
        )
    out: Tensor = wigner_matrices(_computed(vectors.reshape(-1, 3)), lmax)
    return out.to(vectors.dtype).reshape(*vectors.shape[:-1], forms.packed_size(lmax))


def unpack_wigner(packed: Tensor) -> list[Tensor]:
    """The matrices of each degree, as views.

    Shape: (..., Σ(2l + 1)²) -> list of (..., 2l + 1, 2l + 1), l = 0 … lmax. Raises: ValueError if no lmax fits.
    """
    return forms.blocks(packed)


def edge_quaternions(vectors: Tensor) -> Tensor:
    """The rotations of :func:`wigner_to_y` as unit quaternions (w, x, y, z): (N, 3) -> (N, 4), y = 0. No derivative."""
    vectors = vectors.detach()
    size = vectors.abs().amax(-1, keepdim=True)
    scaled = vectors / torch.where(size == 0, 1, size)
    length = scaled.norm(dim=-1, keepdim=True)
    x, y, z = (scaled / torch.where(length == 0, 1, length)).unbind(-1)
    rho = torch.hypot(x, z)
    # half the angle from ŷ: w = cos, and sin, each without cancellation
    up = y >= 0
    large = ((1 + y.abs()) / 2).sqrt()
    small = rho / (2 * large)
    w, sine = torch.where(up, large, small), torch.where(up, small, large)
    w = torch.where(size[..., 0] == 0, torch.ones_like(w), w)
    sine = torch.where(size[..., 0] == 0, torch.zeros_like(w), sine)
    pole = rho == 0
    safe = torch.where(pole, 1, rho)
    # the axis r × ŷ = (−z, 0, x)
    axis_x, axis_z = torch.where(pole, 1, -z / safe), torch.where(pole, 0, x / safe)
    return torch.stack([w, sine * axis_x, torch.zeros_like(w), sine * axis_z], -1)


def _kind(rotations: Tensor) -> str:
    if rotations.is_floating_point():
        if rotations.ndim >= 2 and rotations.shape[-2:] == (3, 3):
            return "matrix"
        if rotations.ndim >= 1 and rotations.shape[-1] == 4:
            return "quaternion"
    raise ValueError(
        f"rotations has shape {tuple(rotations.shape)} and dtype {rotations.dtype}; expected matrices (..., 3, 3) or "
        "quaternions (..., 4), floating"
    )


def _degree(name: str, lmax: int) -> int:
    lmax = operator.index(lmax)
    if not 0 <= lmax <= LARGEST_DEGREE:
        raise ValueError(f"{name}: lmax is {lmax}; expected 0 to {LARGEST_DEGREE}")
    return lmax


def _computed(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def _check_orthogonal(matrices: Tensor) -> None:
    if is_watched() or not matrices.numel():
        return
    m = matrices.detach().double()
    error = (m @ m.transpose(-1, -2) - torch.eye(3, dtype=m.dtype, device=m.device)).abs().amax()
    if not float(error) <= 1e-3:
        raise ValueError(f"rotations is not orthogonal: R Rᵀ differs from 1 by {float(error):.3g}")


def _check_finite_rotations(rotations: Tensor, kind: str) -> None:
    if is_watched() or not rotations.numel():
        return
    if kind == "matrix":
        _check_orthogonal(rotations)
        if not bool((torch.linalg.det(rotations.detach().double()) > 0).all()):
            raise ValueError(
                "rotations has matrices of determinant −1; expected proper rotations, or irreps with parities"
            )
    elif not bool((rotations.detach().abs().amax(-1) > 0).all()):
        raise ValueError("rotations has a quaternion that is zero or not a number; it needs a direction")


def _matrices(rotations: Tensor, lmax: int) -> Tensor:
    """Packed matrices of vectors (N, 3), quaternions (N, 4) or rotation matrices (N, 3, 3)."""
    dtype, rotations = rotations.dtype, rotations.detach().double()
    if rotations.ndim == 3:
        q = to_quaternion(rotations)
    elif rotations.shape[1] == 3:
        q = edge_quaternions(rotations)
    else:
        q = rotations / rotations.abs().amax(-1, keepdim=True)
        q = q / q.norm(dim=-1, keepdim=True)
    return forms.packed_matrices(q, lmax, dtype)


wigner_matrices = torch.library.custom_op("spheregeo::wigner_matrices", _matrices, mutates_args=())
wigner_torque = torch.library.custom_op("spheregeo::wigner_torque", forms.torque, mutates_args=())
wigner_turn = torch.library.custom_op("spheregeo::wigner_turn", forms.turn, mutates_args=())


@wigner_matrices.register_fake
def _(rotations: Tensor, lmax: int) -> Tensor:
    return rotations.new_empty(rotations.shape[0], forms.packed_size(lmax))


@wigner_torque.register_fake
def _(left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty(left.shape[0], 3)


@wigner_turn.register_fake
def _(vectors: Tensor, right: Tensor) -> Tensor:
    return right.new_empty(right.shape)


def _save_matrices(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _differentiate_matrices(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    rotations, matrices = ctx.saved_tensors
    if matrices.shape[1] == 1:  # l = 0 alone
        return torch.zeros_like(rotations), None
    tau: Tensor = wigner_torque(grad, matrices)
    if rotations.ndim == 3:
        return torch.linalg.cross(tau[:, :, None], rotations, dim=1) / 2, None
    if rotations.shape[1] == 3:
        square = rotations.square().sum(1, keepdim=True)
        apart = square > 0
        inverse = torch.where(apart, 1 / torch.where(apart, square, 1).sqrt(), 0)
        return (tau[:, 2:] * matrices[:, 1:4] - tau[:, :1] * matrices[:, 7:10]) * inverse, None
    w, v = rotations[:, :1], rotations[:, 1:]
    product = torch.cat(
        [-(tau * v).sum(1, keepdim=True), w * tau + torch.linalg.cross(tau, v, dim=1)], 1
    )  # (0, τ) q
    return 2 * product / rotations.square().sum(1, keepdim=True), None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_torque(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    left, right = ctx.saved_tensors
    return wigner_turn(grad, right), -wigner_turn(grad, left)


def _differentiate_turn(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    vectors, right = ctx.saved_tensors
    return wigner_torque(grad, right), -wigner_turn(vectors, grad)


wigner_matrices.register_autograd(_differentiate_matrices, setup_context=_save_matrices)
wigner_torque.register_autograd(_differentiate_torque, setup_context=_save)
wigner_turn.register_autograd(_differentiate_turn, setup_context=_save)

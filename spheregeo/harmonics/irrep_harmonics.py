r"""Real spherical harmonics of directions in e3nn's basis: polar axis y, l = 1 is (x, y, z); for features and messages.

With u = r/|r| and C_m + i S_m = (u_z + i u_x)^m the harmonics are Y_{l,m} = Q_lm(u_y) C_m and Y_{l,−m} = Q_lm(u_y) S_m, where
Q_lm, a derivative of a Legendre polynomial, follows by a recurrence in l. No angle and no division occurs, so no point of
the sphere is special, and derivatives are recurrences too. On the CPU compiled kernels do values, gradient and
the derivative of the gradient; higher derivatives, other devices and ``normalize=False`` go through plain torch operations.
Reference: Press et al., Numerical Recipes, 3rd ed., §6.7 (recurrence); Drautz 2020, Phys. Rev. B 102, 024104 (Cartesian form).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.harmonics.recurrence import LARGEST_COMPILED as LARGEST_DEGREE
from spheregeo.harmonics.recurrence import coefficients, polynomials

SINGLE_DEGREE = 12  # beyond it torch's float32 points are done in float64: the recurrence's numbers grow
NORMALIZATIONS = ("component", "norm", "integral")
_plainly = False  # see plain_operations


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, :func:`component_harmonics` is made of torch's own operations, as programs need that run without this library."""
    global _plainly
    before, _plainly = _plainly, True
    try:
        yield
    finally:
        _plainly = before


def component_harmonics(
    vectors: Tensor, lmax: int, *, normalization: str = "component", normalize: bool = True
) -> Tensor:
    """Harmonics of all degrees up to and including ``lmax`` at the directions of ``vectors``, in e3nn's basis.

    Shape: vectors (..., 3) -> (..., (lmax + 1)²) of the same dtype, index l² + l + m; l = 1 is (x, y, z).
    Units: Σ_m Y² is 2l + 1 ("component"), 1 ("norm"), or (2l + 1)/4π ("integral", orthonormal on the unit sphere).
    A vector of length zero has no direction: l = 0 as everywhere, all else 0, and gradient 0. ``normalize=False`` gives the
    homogeneous polynomials |r|^l Y_l(r/|r|). Differentiable to every order.
    Equivariance: Y_l(R r) = D^l(R) Y_l(r) for all of O(3), parity (−1)^l; measured to l = 8 on values up to √17: 2e-14 in
    float64, 1e-6 in float32 (arithmetic is in float64 on the CPU).
    Raises: ValueError for another last axis, another normalization, integer vectors, or lmax outside 0…300.
    Reference: e3nn's ``spherical_harmonics``, equal to rounding (there l ≤ 12).
    """
    lmax = operator.index(lmax)
    if not 0 <= lmax <= LARGEST_DEGREE:
        raise ValueError(f"component_harmonics: lmax is {lmax}; expected 0 to {LARGEST_DEGREE}")
    if vectors.ndim < 1 or vectors.shape[-1] != 3:
        raise ValueError(f"component_harmonics: vectors has shape {tuple(vectors.shape)}; expected (..., 3)")
    if not vectors.is_floating_point():
        raise ValueError(f"component_harmonics: vectors is {vectors.dtype}; expected a floating type")
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"component_harmonics: normalization is {normalization!r}; expected one of {', '.join(NORMALIZATIONS)}"
        )
    dtype = vectors.dtype
    if dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    if normalize and vectors.device.type == "cpu" and not _plainly:
        out: Tensor = harmonics_values(vectors.reshape(-1, 3), lmax, normalization)
        return out.to(dtype).reshape(*vectors.shape[:-1], (lmax + 1) ** 2)
    if lmax > SINGLE_DEGREE:
        vectors = vectors.double()
    return plain_harmonics(vectors, lmax, normalization, normalize).to(dtype)


def plain_harmonics(vectors: Tensor, lmax: int, normalization: str, normalize: bool = True) -> Tensor:
    """The same by differentiable torch operations alone: the slow twin, and the path of other devices."""
    first, a, b = coefficients(lmax, normalization)
    squared: Tensor | None = None
    some: Tensor | None = None
    if normalize:
        size = vectors.detach().abs().amax(-1, keepdim=True)
        nothing = size == 0
        scaled = torch.where(nothing, 1.0, vectors) / torch.where(nothing, 1.0, size)
        unit = scaled / (scaled * scaled).sum(-1, keepdim=True).sqrt()
        x, y, z = torch.where(nothing, 0.0, unit).unbind(-1)
        some = (~nothing[..., 0]).to(vectors.dtype)
    else:
        x, y, z = vectors.unbind(-1)
        squared = x * x + y * y + z * z
    values: list[Tensor] = [vectors.new_empty(0)] * (lmax + 1) ** 2
    cos, sin = torch.ones_like(x), torch.zeros_like(x)
    for m in range(lmax + 1):
        start = torch.full_like(y, first[m])
        for degree, current in polynomials(start, y, m, lmax, a, b, squared):
            centre = degree * degree + degree
            if m:
                values[centre + m], values[centre - m] = current * cos, current * sin
            else:
                values[centre] = current if some is None or degree == 0 else current * some
        cos, sin = z * cos - x * sin, z * sin + x * cos
    return torch.stack(values, -1)


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


def _values(vectors: Tensor, lmax: int, normalization: str) -> Tensor:
    if vectors.device.type != "cpu":
        return plain_harmonics(vectors, lmax, normalization)
    from spheregeo.harmonics.compiled.harmonics import forward
    from spheregeo.jit.threads import in_parts

    out = vectors.new_empty(len(vectors), (lmax + 1) ** 2)
    tables = coefficients(lmax, normalization)
    in_parts(forward, len(vectors), out.shape[1], _array(vectors), lmax, *tables, out.numpy())
    return out


def _gradient(grad: Tensor, vectors: Tensor, lmax: int, normalization: str) -> Tensor:
    if vectors.device.type != "cpu":
        return _plain_gradient(grad, vectors, lmax, normalization)
    from spheregeo.harmonics.compiled.harmonics import backward
    from spheregeo.jit.threads import in_parts

    out = vectors.new_empty(vectors.shape)
    tables = coefficients(lmax, normalization)
    in_parts(backward, len(vectors), grad.shape[1], _array(vectors), lmax, *tables, _array(grad), out.numpy())
    return out


def _second(
    along: Tensor, grad: Tensor, vectors: Tensor, lmax: int, normalization: str
) -> tuple[Tensor, Tensor]:
    if vectors.device.type != "cpu":
        values, out = _plain_second(along, grad, vectors, lmax, normalization)
        return values.detach(), out.detach()
    from spheregeo.harmonics.compiled.harmonics import second
    from spheregeo.jit.threads import in_parts

    values, out = vectors.new_empty(grad.shape), vectors.new_empty(vectors.shape)
    tables = coefficients(lmax, normalization)
    arrays = (_array(grad), _array(along), values.numpy(), out.numpy())
    in_parts(second, len(vectors), grad.shape[1], _array(vectors), lmax, *tables, *arrays)
    return values, out


def _plain_gradient(grad: Tensor, vectors: Tensor, lmax: int, normalization: str) -> Tensor:
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_()
        (out,) = torch.autograd.grad(plain_harmonics(leaf, lmax, normalization), leaf, grad)
    return out


def _plain_second(
    along: Tensor, grad: Tensor, vectors: Tensor, lmax: int, normalization: str
) -> tuple[Tensor, Tensor]:
    """Derivatives of ⟨along, gradient⟩ with respect to the cotangent and the vectors, differentiable in all three."""
    with torch.enable_grad():
        v, g = _separate(vectors), _separate(grad)
        y = plain_harmonics(v, lmax, normalization)
        (gradient,) = torch.autograd.grad(y, v, g, create_graph=True)
        values, out = torch.autograd.grad(gradient, (g, v), along, create_graph=True)
    return values, out


def _separate(t: Tensor) -> Tensor:
    """A view to differentiate by: what the tensor was computed from is beyond it."""
    return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()


harmonics_values = torch.library.custom_op("spheregeo::component_harmonics", _values, mutates_args=())
harmonics_gradient = torch.library.custom_op(
    "spheregeo::component_harmonics_gradient", _gradient, mutates_args=()
)
harmonics_second = torch.library.custom_op("spheregeo::component_harmonics_second", _second, mutates_args=())


@harmonics_values.register_fake
def _(vectors: Tensor, lmax: int, normalization: str) -> Tensor:
    return vectors.new_empty(vectors.shape[0], (lmax + 1) ** 2)


@harmonics_gradient.register_fake
def _(grad: Tensor, vectors: Tensor, lmax: int, normalization: str) -> Tensor:
    return vectors.new_empty(vectors.shape)


@harmonics_second.register_fake
def _(along: Tensor, grad: Tensor, vectors: Tensor, lmax: int, normalization: str) -> tuple[Tensor, Tensor]:
    return vectors.new_empty(grad.shape), vectors.new_empty(vectors.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:-2])
    ctx.rest = inputs[-2:]


def _differentiate_values(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
    (vectors,) = ctx.saved_tensors
    return harmonics_gradient(grad, vectors, *ctx.rest), None, None


def _differentiate_gradient(ctx: Any, along: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    values, out = harmonics_second(along, *ctx.saved_tensors, *ctx.rest)
    return values, out, None, None


def _differentiate_second(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    """Third derivatives and up, by torch's own differentiation of the plain recurrence."""
    with torch.enable_grad():
        along, grad, vectors = inputs = [_separate(t) for t in ctx.saved_tensors]
        outputs = _plain_second(along, grad, vectors, *ctx.rest)
        found = torch.autograd.grad(
            outputs, inputs, cotangents, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return (*found, None, None)


harmonics_values.register_autograd(_differentiate_values, setup_context=_save)
harmonics_gradient.register_autograd(_differentiate_gradient, setup_context=_save)
harmonics_second.register_autograd(_differentiate_second, setup_context=_save)

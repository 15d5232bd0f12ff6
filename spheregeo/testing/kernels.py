"""The compliance suite of kernels."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

import spheregeo.kernels
from spheregeo.audit import equivariance_error
from spheregeo.grids import Equiangular, HEALPix
from spheregeo.kernels import Kernel
from spheregeo.kernels.moments import disc_rule
from spheregeo.nn import DiscoConv
from spheregeo.testing.report import Suite, distance, require

RADIUS = 0.3


def check_kernel(
    kernel: Kernel,
    *,
    namespace: Mapping[str, Any] | None = None,
    size: int | None = None,
    equivariance: float = 0.2,
    skip: Collection[str] = (),
) -> dict[str, str]:
    """Check a filter basis against everything that layers rely on.

    The checks, by name:

    * ``values``: shapes, float64, functions of r / radius, periodic in φ, zero beyond the radius and outside the support;
    * ``orders``: each function turns as its order says, and ``isotropic`` agrees;
    * ``independent``: no function is a mixture of the others;
    * ``kinks``: quadrature split at the declared kinks agrees with a fine rule;
    * ``value``: frozen, hashable, equal after ``repr``, ``pickle`` and ``deepcopy``;
    * ``layers``: a convolution on the fast engine equals the reference; equivariant under turns by columns, isotropic: SO(3).

    Args:
        kernel: the kernel.
        namespace: names in which ``repr(kernel)`` evaluates; those of ``spheregeo.kernels`` and the kernel's own class if None.
        size: number of functions expected.
        equivariance: largest error of a convolution with the kernel, if isotropic, signals of degree below 4.
        skip: names of checks to leave out.

    Returns:
        what was found, by check.

    Raises: ComplianceError where checks fail.

    Example:
        >>> from spheregeo.kernels import GaussianRings
        >>> check_kernel(GaussianRings(3), size=3)["orders"]
        '3 functions, isotropic'
    """
    suite = Suite(repr(kernel), skip)
    names = {**vars(spheregeo.kernels), type(kernel).__name__: type(kernel), **(namespace or {})}
    r = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4
    phi = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 8 - 4
    suite.run("values", _values, kernel, r, phi, size)
    suite.run("orders", _orders, kernel, r, phi)
    suite.run("independent", _independent, kernel)
    suite.run("kinks", _kinks, kernel)
    suite.run("value", _value, kernel, names)
    suite.run("layers", _layers, kernel, equivariance)
    return suite.finish()


def _values(kernel: Kernel, r: Tensor, phi: Tensor, size: int | None) -> str:
    values, support = kernel(r, phi, RADIUS), kernel.support(r, phi, RADIUS)
    count = len(kernel.orders)
    require(size in (None, count), f"the kernel has {count} functions, expected {size}")
    require(kernel.num_functions == count, f"num_functions is {kernel.num_functions} but orders has {count}")
    require(
        tuple(values.shape) == (count, len(r)),
        f"values have shape {tuple(values.shape)}, expected ({count}, {len(r)})",
    )
    require(
        support.shape == values.shape and support.dtype == torch.bool,
        "support is no mask of the values' shape",
    )
    require(values.dtype == torch.float64 and values.isfinite().all(), "values are not finite float64")
    require(
        (values[:, r > RADIUS] == 0).all() and not support[:, r > RADIUS].any(),
        "a function reaches beyond the radius",
    )
    require((values[~support] == 0).all(), "a function is not zero outside its support")
    require((values.abs().amax(1) > 0).all(), "a function is zero everywhere")
    gap = distance(kernel(r, phi + 2 * math.pi, RADIUS), values)
    require(gap < 1e-11, f"values differ by {gap:.1e} after a whole turn of φ")
    gap = distance(kernel(2 * r, phi, 2 * RADIUS), values)
    require(gap < 1e-11, f"values differ by {gap:.1e} at twice the distance and twice the radius")
    return f"{count} functions"


def _orders(kernel: Kernel, r: Tensor, phi: Tensor) -> str:
    values, alpha = kernel(r, phi, RADIUS), 0.7
    turned = kernel(r, phi + alpha, RADIUS)
    for k, order in enumerate(kernel.orders):
        if order is None:
            require(
                distance(turned[k], values[k]) > 1e-3, f"function {k} has order None but does not depend on φ"
            )
            continue
        expected = values[k]
        if order:
            quarter = kernel(r, phi + math.pi / (2 * abs(order)), RADIUS)[k]
            expected = math.cos(order * alpha) * values[k] + math.sin(abs(order) * alpha) * quarter
        gap = distance(turned[k], expected)
        require(gap < 1e-10, f"function {k} does not turn as order {order} does: {gap:.1e} off")
    same = distance(turned, values) < 1e-10
    require(
        kernel.isotropic == same,
        f"isotropic is {kernel.isotropic} but functions {'do not ' * same}depend on φ",
    )
    return f"{len(kernel.orders)} functions, {'isotropic' if same else 'directional'}"


def _independent(kernel: Kernel) -> str:
    r, phi, weight = disc_rule(kernel, RADIUS)
    values = kernel(r, phi, RADIUS) * weight.sqrt()
    values = values / values.norm(dim=1, keepdim=True)
    smallest = float(torch.linalg.eigvalsh(values @ values.T)[0])
    require(smallest > 1e-6, f"functions are dependent: the Gram matrix has an eigenvalue of {smallest:.1e}")
    return f"smallest eigenvalue {smallest:.1e}"


def _kinks(kernel: Kernel) -> str:
    """Quadrature between the declared kinks against a fine midpoint rule, which no kink disturbs much."""
    r, phi, weight = disc_rule(kernel, RADIUS)
    found = (kernel(r, phi, RADIUS) ** 2 * weight).sum(1)
    n = 600
    t = (torch.arange(n, dtype=torch.float64) + 0.5) * (RADIUS / n)
    angle = (torch.arange(240, dtype=torch.float64) + 0.5) * (2 * math.pi / 240)
    at, around = (a.flatten() for a in torch.meshgrid(t, angle, indexing="ij"))
    expected = (kernel(at, around, RADIUS) ** 2 * at.sin()).sum(1) * (RADIUS / n) * (2 * math.pi / 240)
    gap = distance(found, expected)
    require(
        gap < 2e-3,
        f"quadrature is off by {gap:.1e}: list the radii and angles where functions are not smooth",
    )
    return f"norms to {gap:.1e}"


def _value(kernel: Kernel, names: Mapping[str, Any]) -> str:
    twins = {
        "copy.deepcopy": copy.deepcopy(kernel),
        "pickle": pickle.loads(pickle.dumps(kernel)),
        "repr": eval(repr(kernel), dict(names)),
    }
    for how, twin in twins.items():
        require(twin == kernel and hash(twin) == hash(kernel), f"the kernel is unequal to itself after {how}")
    try:
        kernel.anything = 7  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return f"equal after {', '.join(twins)}"
    require(False, "the kernel can be changed; make it a frozen dataclass")
    return ""


def _layers(kernel: Kernel, bound: float) -> str:
    grid = Equiangular(8, 16)
    layers = [
        DiscoConv(2, 2, grid, kernel=kernel, radius=0.9, engine=e).double() for e in (None, "reference")
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(1, 2, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gap = distance(layers[0](x), layers[1](x))
    require(gap < 1e-11, f"a convolution differs from the reference engine by {gap:.1e}")
    columns = equivariance_error(layers[0], grid, group="grid", num_rotations=2)
    require(columns < 1e-11, f"turns by whole columns: equivariance error {columns:.1e}")
    if not kernel.isotropic:
        return f"engines agree to {gap:.1e}, columns to {columns:.1e}"
    sphere = HEALPix(8)
    conv = DiscoConv(1, 1, sphere, kernel=kernel, spacings=3)
    error = equivariance_error(conv, sphere, lmax=4, num_rotations=2, num_signals=1)
    require(error <= bound, f"any rotation: equivariance error {error:.1e}, at most {bound:.1e} allowed")
    return f"engines agree to {gap:.1e}, columns to {columns:.1e}, any rotation to {error:.1e}"

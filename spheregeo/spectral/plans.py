"""Harmonic transforms on grids of rings as one linear operator of torch, with its transpose as derivative.

A plan is written as text, so that compiled and exported programs name it; what it needs (tables, factors, index lists) is made
when it is first used on a device, and kept with the geometry of grids, bounded in bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from spheregeo.autograd import Function
from spheregeo.grids import HEALPix, parse_grid
from spheregeo.grids.base import Grid, LatitudeRings
from spheregeo.grids.cache import geometry, nbytes
from spheregeo.spectral.engines import LegendreEngine, get_engine
from spheregeo.spectral.legendre import Legendre, triangle
from spheregeo.spectral.stages.quadrature import Weights, ring_weights
from spheregeo.spectral.stages.rings import RingStage


@dataclass(frozen=True)
class Plan:
    """What a transform on a grid of rings does.

    Args:
        kind: "synthesis" or "analysis".
        grid: repr of the grid.
        lmax: largest degree.
        spin: order of the tangent field.
        engine: of the Legendre stage.
        iterations: of the analysis, c ← c + A(x − S c).
        weights: of the analysis: "grid", or "ring" on HEALPix.
    """

    kind: str
    grid: str
    lmax: int
    spin: int = 0
    engine: str = "auto"
    iterations: int = 0
    weights: str = "grid"

    @property
    def text(self) -> str:
        """The plan as text."""
        return json.dumps(astuple(self))


@lru_cache(maxsize=256)
def read(text: str) -> tuple[Plan, Grid]:
    """The plan that is written as text, and its grid."""
    plan = Plan(*json.loads(text))
    return plan, parse_grid(plan.grid)


def rings_of(grid: Grid) -> LatitudeRings | None:
    """A grid's mirror-symmetric rings, None where it has none; those of nested HEALPix are as in ring order."""
    nested = isinstance(grid, HEALPix) and grid.nested
    rings = replace(grid, order="ring").rings if nested else grid.rings  # type: ignore[type-var]
    if rings is None:
        return None
    mirrored = math.pi - rings.colatitude.flip(0)
    return None if (rings.colatitude - mirrored).abs().max() > 1e-12 else rings


def order_of(grid: Grid) -> Tensor | None:
    """Where the points of the rings are stored; None where that is ring by ring."""
    if not (isinstance(grid, HEALPix) and grid.nested):
        return None
    import healpy
    import numpy as np

    return torch.from_numpy(healpy.ring2nest(grid.nside, np.arange(grid.num_points)))


class Transform:
    """Synthesis on a grid of rings on one device and in one type, its transpose, and the analysis."""

    def __init__(self, plan: Plan, grid: Grid, like: Tensor) -> None:
        rings = rings_of(grid)
        assert rings is not None
        self.plan, self.device = plan, like.device
        self.legendre = Legendre(plan.lmax, rings.colatitude.to(like.device), plan.spin)
        self.rings = RingStage(rings, plan.lmax, like, order_of(grid))
        self.weights: Weights | None = None
        if plan.kind == "analysis":
            self.weights = ring_weights(grid, rings, plan.lmax, plan.spin, plan.weights).to(like)
        degree, m = triangle(plan.lmax)
        centre = degree * (degree + 1)
        index = torch.stack([centre + m, centre - m], 1)
        signs = torch.stack([torch.ones(len(m)), torch.where(m > 0, -1.0, 0.0)], 1)
        places = torch.empty((plan.lmax + 1) ** 2, dtype=torch.int64)
        places[index[:, 1]] = 2 * torch.arange(len(m)) + 1
        places[index[:, 0]] = 2 * torch.arange(len(m))
        self.index, self.places = index.reshape(-1).to(like.device), places.to(like.device)
        self.signs = signs.reshape(-1).to(like)
        self.parity = (1.0 - 2.0 * ((degree + m + plan.spin) % 2)).to(like)[:, None, None]

    @property
    def kept(self) -> list[Any]:
        """All tensors that the transform keeps itself; functions are kept by the engine."""
        own = [self.index, self.places, self.signs, self.parity, self.legendre, self.rings.batches]
        return own if self.weights is None else [*own, self.weights.diagonal, self.weights.matrices]

    @property
    def engine(self) -> LegendreEngine:
        """Who evaluates the Legendre stage at present: not the compiled loops in a process forked since the plan was made."""
        return get_engine(self.plan.engine, self.device)

    @property
    def mover(self) -> Any:
        """The engine, where it puts coefficients and ring values in order by compiled passes; else None."""
        engine = self.engine
        return engine if hasattr(engine, "pack") else None

    def apply(self, x: Tensor, transpose: bool) -> Tensor:
        """The plan's transform or its transpose. Shape: (B, n) -> (B, n')."""
        if self.plan.kind == "synthesis":
            return self.transposed(x) if transpose else self.synthesis(x)
        if transpose:  # Σ_k A (1 − S A)^k, transposed
            total = x
            for _ in range(self.plan.iterations):
                x = x - self.transposed(self.synthesis(x, self.weights))
                total = total + x
            return self.synthesis(total, self.weights)
        c = self.transposed(x, self.weights)
        for _ in range(self.plan.iterations):
            c += self.transposed(x - self.synthesis(c), self.weights)
        return c

    def synthesis(self, c: Tensor, weights: Weights | None = None) -> Tensor:
        """Fields of coefficients; with weights, the transpose of the weighted analysis."""
        spin, l2 = self.plan.spin, len(self.places)
        c = c.view(-1, l2)
        maps = len(c)
        if self.mover is None:
            a = (c[:, self.index] * self.signs).view(maps, -1, 2).transpose(0, 1).contiguous()
        else:
            a = self.mover.pack(c, self.plan.lmax)
        if spin:
            gradient, curl = torch.view_as_complex(a.view(len(a), -1, 2, 2)).unbind(2)
            turned = 1j * curl
            a = torch.view_as_real(
                torch.stack([gradient + turned, self.parity[..., 0] * (gradient - turned)], 2)
            )
        values = self.engine.synthesis(self.legendre, a.reshape(len(a), -1))
        diagonal = weights.diagonal if weights is not None else None
        if weights is not None and diagonal is None:
            values = weights.apply(values)
        z = torch.view_as_complex(values.view(*values.shape[:2], -1, 2))
        if spin:
            plus, minus = z.unflatten(2, (-1, 2)).unbind(3)
            minus = minus.flip(1)
            z = torch.stack([-0.5 * (plus + minus), 0.5j * (minus - plus)], 3).flatten(2)
        return self.rings.synthesis(z, self.mover, diagonal).view(maps // (2 if spin else 1), -1)

    def transposed(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        """The transpose of the synthesis; with weights, the analysis by quadrature."""
        spin, l2 = self.plan.spin, len(self.places)
        diagonal = weights.diagonal if weights is not None else None
        z = self.rings.transpose(x.reshape(-1, self.rings.num_points), self.mover, diagonal)
        if spin:
            south, east = z.unflatten(2, (-1, 2)).unbind(3)
            minus = -0.5 * south - 0.5j * east
            z = torch.stack([0.5j * east - 0.5 * south, minus.flip(1)], 3).flatten(2)
        values = torch.view_as_real(z.contiguous()).flatten(2)
        if weights is not None and diagonal is None:
            values = weights.apply(values)
        a = self.engine.analysis(self.legendre, values)
        if spin:
            plus, minus = torch.view_as_complex(a.view(len(a), -1, 2, 2)).unbind(2)
            minus = self.parity[..., 0] * minus
            a = torch.view_as_real(torch.stack([plus + minus, 1j * (minus - plus)], 2))
        if self.mover is not None:
            return self.mover.unpack(a.reshape(len(a), -1), self.plan.lmax).view(len(x), -1)
        a = a.reshape(len(a), -1, 2).transpose(0, 1).flatten(1)
        return (a * self.signs)[:, self.places].view(-1, l2 * (2 if spin else 1))


def _sizes(text: str) -> tuple[int, int]:
    """Entries of a plan's input and output."""
    plan, grid = read(text)
    parts = 2 if plan.spin else 1
    sizes = parts * (plan.lmax + 1) ** 2, parts * grid.num_points
    return sizes if plan.kind == "synthesis" else sizes[::-1]


def kept_bytes(plan: str) -> int:
    """Bytes of index lists, factors and functions of a plan in float32 on the CPU, which is made for that."""
    found, grid = read(plan)
    like = torch.empty(0)
    made: Transform = geometry.get(
        ("transform", plan, like.dtype, like.device), lambda: Transform(found, grid, like)
    )
    functions = getattr(made.engine, "kept_bytes", lambda structure, like: 0)
    return nbytes(made) + int(functions(made.legendre, like))


def transformed(x: Tensor, plan: str, transpose: bool = False) -> Tensor:
    """A plan's transform of each row of x, or the transpose, with derivatives of every order. Shape: (B, n) -> (B, n')."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        found: Tensor = harmonic_transform(x, plan, transpose)
        return found
    result: Tensor = _Eager.apply(x, plan, transpose)
    return result


def _evaluate(x: Tensor, plan: str, transpose: bool) -> Tensor:
    if not len(x):
        return x.new_empty(0, _sizes(plan)[0 if transpose else 1])
    found, grid = read(plan)
    key = ("transform", plan, x.dtype, x.device)
    transform: Transform = geometry.get(key, lambda: Transform(found, grid, x))
    return transform.apply(x.detach().contiguous(), transpose).contiguous()


@torch.library.custom_op("spheregeo::harmonic_transform", mutates_args=())
def harmonic_transform(x: Tensor, plan: str, transpose: bool) -> Tensor:
    """:func:`transformed` for compilers and exporters, who see one operator."""
    return _evaluate(x, plan, transpose)


@harmonic_transform.register_fake
def _fake(x: Tensor, plan: str, transpose: bool) -> Tensor:
    return x.new_empty(x.shape[0], _sizes(plan)[0 if transpose else 1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.plan, ctx.transpose = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return harmonic_transform(grad, ctx.plan, not ctx.transpose), None, None


def _batched(info: Any, in_dims: Any, x: Tensor, plan: str, transpose: bool) -> tuple[Tensor, int]:
    x = x.movedim(in_dims[0], 0)
    return transformed(x.flatten(0, 1), plan, transpose).unflatten(0, x.shape[:2]), 0


harmonic_transform.register_autograd(_backward, setup_context=_remember)
harmonic_transform.register_vmap(_batched)


class _Eager(Function):
    """The operator without the dispatcher, whose own derivative is its transpose."""

    @staticmethod
    def forward(x: Tensor, plan: str, transpose: bool) -> Tensor:
        return _evaluate(x, plan, transpose)

    setup_context = staticmethod(_remember)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return transformed(grad, ctx.plan, not ctx.transpose), None, None

    vmap = staticmethod(_batched)

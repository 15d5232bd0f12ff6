r"""Outputs at rotated points, without interpolation, for modules that end in a DISCO layer.

A DISCO layer's output is defined at every point p of the sphere, not at its target's points alone. So y_f(R⁻¹p) is had by
building the same layer, with the same weights and source, for the turned target points R⁻¹p; what follows it must act
point by point. Reference: Ocampo, Price & McEwen 2023, arXiv:2209.13603, eq. 8.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.grids.base import frames_of
from spheregeo.nn import DiscoConv, DiscoConvTranspose


@dataclass(frozen=True)
class Turned(Grid):
    """The points R⁻¹p of some points p of a grid, with their areas and with frames (south, east) as every grid has them.

    ``sample`` of the grid's points take part, the same for every rotation, or all where it has no more.
    """

    base: Grid
    rotation: tuple[float, ...]
    sample: int

    @property
    def index(self) -> Tensor:
        """Which points of the grid take part, ascending. Shape: (n,)."""
        n = self.base.num_points
        if n <= self.sample:
            return torch.arange(n)
        return torch.randperm(n, generator=torch.Generator().manual_seed(0))[: self.sample].sort().values

    @property
    def _matrix(self) -> Tensor:
        return torch.tensor(self.rotation, dtype=torch.float64).reshape(3, 3)

    @property
    def shape(self) -> tuple[int]:
        return (min(self.sample, self.base.num_points),)

    @property
    def points(self) -> Tensor:
        return self.base.points[self.index] @ self._matrix  # rows: (R⁻¹ p)ᵀ = pᵀ R

    @property
    def areas(self) -> Tensor:
        return self.base.areas[self.index]

    @property
    def spacing(self) -> float:
        return self.base.spacing

    def _frames(self) -> Tensor:
        # About z (south, east) turn along, and at a pole only they know the longitude.
        if self._matrix[2, 2] > 1 - 1e-14:
            return self.base.frames[self.index] @ self._matrix
        return frames_of(self.points)


@dataclass(frozen=True)
class Ending:
    """A module taken apart: what comes before its last DISCO layer, that layer, and the pointwise rest."""

    head: nn.Module
    layer: DiscoConv | DiscoConvTranspose
    tail: nn.Module

    def at(self, points: Turned) -> Callable[[Tensor], Tensor]:
        """The module with its outputs at these points: x -> (B, C, points.num_points)."""
        layer = copy.deepcopy(self.layer)
        layer.target = points
        layer.rebuild("map")

        def run(x: Tensor) -> Tensor:
            y = layer(self.head(x))  # (B, C, n)
            # The rest may insist on its grid's shape: it gets one, filled where it is looked at.
            whole = y.new_zeros(*y.shape[:2], points.base.num_points)
            index = points.index.to(y.device)
            whole[..., index] = y
            done: Tensor = self.tail(whole.unflatten(2, points.base.shape))
            return done.flatten(2)[..., index]

        return run


def find_ending(module: object, x: Tensor) -> Ending | None:
    """Take a module apart, or None where it does not end in a DISCO layer and pointwise modules.

    Args:
        x: an input, with which it is tried whether the rest acts point by point.
    """
    steps = _steps(module)
    last = max(
        (i for i, m in enumerate(steps) if isinstance(m, (DiscoConv, DiscoConvTranspose))), default=None
    )
    if last is None:
        return None
    layer: Any = steps[last]
    # Sums over all rows of the target enter these, which other points would change.
    normalization = layer.normalization
    if normalization == "mean" or (normalization is not None and isinstance(layer, DiscoConvTranspose)):
        return None
    ending = Ending(nn.Sequential(*steps[:last]), layer, nn.Sequential(*steps[last + 1 :]))
    return ending if _pointwise(ending.tail, ending.layer, ending.head, x) else None


@torch.no_grad()
def _pointwise(tail: nn.Module, layer: nn.Module, head: nn.Module, x: Tensor) -> bool:
    """Whether points may be exchanged, and half of them changed, without the others' output noticing."""
    if not list(tail.children()):
        return True
    y = layer(head(x))  # (B, C, *shape)
    flat = y.flatten(2)
    order = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(0)).to(y.device)
    half = flat.shape[2] // 2
    moved = flat[..., order]
    moved[..., half:] = moved[..., half:] * -2 + 1
    expected, seen = tail(y).flatten(2), tail(moved.reshape(y.shape)).flatten(2)
    if expected.shape[2:] != flat.shape[2:]:
        return False
    expected = expected[..., order[:half]]
    tolerance = 16 * torch.finfo(y.dtype).eps * float(expected.abs().max())
    return bool(torch.allclose(seen[..., :half], expected, rtol=0, atol=tolerance))


def _steps(module: object) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [step for child in module for step in _steps(child)]
    return [module] if isinstance(module, nn.Module) else []

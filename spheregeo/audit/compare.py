r"""Comparisons of M(R f) with R M(f) for signals f that are known everywhere: exact, by resampling, by permutation.

error² = Σ_i a_i |y_{Rf}(p_i) − y_f(R⁻¹p_i)|² / Σ_i a_i |y_{Rf}(p_i)|², summed over channels, signals and rotations.
Fields that turn (tangent fields, irreps) are compared as irreps, y_f(R⁻¹p) multiplied by D(R); see :mod:`spheregeo.audit.fields`.
R f is sampled exactly; y_f(R⁻¹p), the output between the grid's points, is had in one of these ways:

* ``points``: exactly, from the last layer built for turned points (:mod:`spheregeo.audit.turned`);
* ``resample``: y_f is fitted below degree ``lmax_out``; the fit is turned exactly, what it leaves is interpolated linearly;
* ``project``: both outputs are fitted and only the fits compared. What they leave, ``remainder`` of the output, is not
  looked at. It errs where the signal's high degrees do, so this figure alone is optimistic (docs/guides/equivariance.md);
* ``permute``: R permutes the grid's points, so nothing lies between them. f is white noise there;
* ``invariant``: the module gives one vector for a whole signal, as classifiers do. M(R f) is compared with D(R) M(f), which is
  M(f) unless the output is declared to be irreps.

The own error of ``resample`` and ``project`` is measured on a stand-in for the remainder that is known everywhere, its
degrees lmax_out … 2 lmax_out − 1, and subtracted: error² = raw² − own². As the stand-in resembles the remainder to a few per
cent only, a difference below a quarter of ``own`` is not resolved, and that quarter is reported instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.audit.fields import FieldSpec
from spheregeo.audit.rotations import symmetries
from spheregeo.audit.signals import BandFit, analyse, evaluate_on_grid, resolved_degree
from spheregeo.audit.turned import Ending, Turned
from spheregeo.grids import Grid
from spheregeo.sampling import interpolation_map, rotate
from spheregeo.sampling.fields import flatten

TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Trial:
    """A module from fields on ``grid`` to fields on ``target``, and the signals it is tried with.

    Shape: coefficients (signals * field_in.lifted.dim, lmax²) float64.
    """

    module: Callable[[Tensor], Tensor]
    grid: Grid
    target: Grid
    coefficients: Tensor
    signals: int
    dtype: torch.dtype
    device: torch.device
    field_in: FieldSpec
    field_out: FieldSpec | None = None  # scalars, of any number, where it is None

    def field(self, components: Tensor) -> Tensor:
        """Components of irreps, (fields, N) or (B, C, N), as the module's input."""
        values = components.reshape(self.signals, -1, self.grid.num_points)
        values = self.field_in.project(values, _frames(self.field_in, self.grid))
        return values.reshape(self.signals, -1, *self.grid.shape).to(device=self.device, dtype=self.dtype)

    def signal(self, rotation: Tensor | None = None) -> Tensor:
        """R f as the module's input."""
        if rotation is None:
            return self.field(evaluate_on_grid(self.coefficients, self.grid))
        values = evaluate_on_grid(self.coefficients, self.grid, rotation).unflatten(0, (self.signals, -1))
        return self.field(self.field_in.turn(values, rotation))

    def gives_vectors(self) -> bool:
        """Whether the module gives one vector (O,) for a whole signal, and no field."""
        with torch.no_grad():
            return bool(self.module(self.signal()).ndim == 2)

    def run(self, x: Tensor) -> Tensor:
        """The module's output as components of irreps, (B, O, N) float64 on the CPU, its shape checked."""
        with torch.no_grad():
            y = self.module(x)
        whole = y.ndim == 2
        if whole:  # (B, O) for whole signals: the same wherever one looks
            y = y.reshape(*y.shape, *[1] * len(self.target.shape)).expand(*y.shape, *self.target.shape)
        if y.ndim != 2 + len(self.target.shape):
            raise ValueError(
                f"the module returned shape {tuple(y.shape)}, expected (B, O, *{tuple(self.target.shape)}); "
                "pass target= if its output is on another grid"
            )
        y = flatten(y, self.target, "the target").to("cpu", torch.float64)
        return y if self.field_out is None else lifted(y, self.field_out, self.target, whole)

    def turned(self, y: Tensor, rotation: Tensor) -> Tensor:
        """D(R) y. Shape: (B, O, N) -> the same."""
        return y if self.field_out is None else self.field_out.turn(y, rotation)


def lifted(y: Tensor, field: FieldSpec, target: Grid, whole: bool = False) -> Tensor:
    """Output channels as components of irreps; checks how many there are. Shape: (B, field.dim, N) -> (B, O, N)."""
    if y.shape[1] != field.dim:
        raise ValueError(
            f"field_out is {field!s}, {field.dim} channels, but the module returned {y.shape[1]}"
        )
    if whole and field.has_frames:
        raise ValueError(
            f"field_out is {field!s} but the module returned one vector for a signal, without frames"
        )
    return field.lift(y, _frames(field, target))


def _frames(field: FieldSpec, grid: Grid) -> Tensor | None:
    return grid.frames if field.has_frames else None


@dataclass(frozen=True)
class Comparison:
    """(squared distance, squared norm) for each rotation, the method's own relative error, what it left out of the fit."""

    pairs: list[tuple[float, float]]
    own: float = 0.0
    remainder: float = 0.0


def power(y: Tensor, areas: Tensor) -> float:
    """Squared norm, weighted by area. Shape: y (..., N), areas (N,)."""
    return float((y.square() * areas).sum())


def _pair(y: Tensor, expected: Tensor, areas: Tensor) -> tuple[float, float]:
    return power(y - expected, areas), power(y, areas)


def permuted(trial: Trial, rotations: int, generator: torch.Generator) -> Comparison:
    """By rotations that permute the points of both grids, with white noise."""
    pairs = []
    for rotation, of_grid, of_target in symmetries(trial.grid, trial.target, rotations, generator):
        x = torch.randn(
            len(trial.coefficients), trial.grid.num_points, dtype=torch.float64, generator=generator
        ).unflatten(0, (trial.signals, -1))
        turned = trial.field_in.turn(x, rotation)
        moved = trial.run(trial.field(torch.empty_like(x).index_copy_(2, of_grid, turned)))
        y = trial.turned(trial.run(trial.field(x)), rotation)
        pairs.append(_pair(moved, torch.empty_like(y).index_copy_(2, of_target, y), trial.target.areas))
    return Comparison(pairs)


def invariant(trial: Trial, turns: Tensor) -> Comparison:
    """One vector for each signal, before and after the signal is turned."""
    areas = trial.target.areas
    y = trial.run(trial.signal())
    return Comparison(
        [_pair(trial.run(trial.signal(rotation)), trial.turned(y, rotation), areas) for rotation in turns]
    )


def exact(trial: Trial, ending: Ending, turns: Tensor, max_points: int) -> Comparison:
    """At up to ``max_points`` turned points, for which the last layer is built anew."""
    f, pairs = trial.signal(), []
    for rotation in turns:
        points = Turned(trial.target, tuple(rotation.flatten().tolist()), max_points)
        y = trial.run(trial.signal(rotation))[..., points.index]
        with torch.no_grad():
            expected = ending.at(points)(f).to("cpu", torch.float64)
        pairs.append(_pair(y, trial.turned(expected, rotation), points.areas))
    return Comparison(pairs)


def sampled(trial: Trial, turns: Tensor, lmax_out: int, project: bool) -> Comparison:
    """By a fit below degree ``lmax_out``, and interpolation of what it leaves unless ``project``."""
    target = trial.target
    fit = BandFit(target, lmax_out)
    y = trial.run(trial.signal())
    band, rest = fit(y)
    size = max(math.sqrt(power(y, target.areas)), TINY)
    pairs = []
    for rotation in turns:
        moved = trial.run(trial.signal(rotation))
        expected = evaluate_on_grid(band, target, rotation)
        if project:
            moved_band = evaluate_on_grid(fit(moved)[0], target)
            distance = power(moved_band - trial.turned(expected, rotation), target.areas)
        else:
            expected = expected + _interpolate(rest, target, rotation)
            distance = power(moved - trial.turned(expected, rotation), target.areas)
        pairs.append((distance, power(moved, target.areas)))

    top = max(min(2 * lmax_out, 2 * resolved_degree(target)), lmax_out + 1)
    stand_in = analyse(rest, target, top, lmax_out)
    leak, left = fit(evaluate_on_grid(stand_in, target))  # the fit should see nothing of it
    if project:
        own = math.sqrt(2) * float(leak.norm()) / size  # it enters both sides
    else:  # for one of the rotations: it hardly depends on which
        guess = evaluate_on_grid(leak, target, turns[0]) + _interpolate(left, target, turns[0])
        own = math.sqrt(power(evaluate_on_grid(stand_in, target, turns[0]) - guess, target.areas)) / size
    return Comparison(pairs, own, math.sqrt(power(rest, target.areas)) / size)


def _interpolate(y: Tensor, grid: Grid, rotation: Tensor) -> Tensor:
    """y at R⁻¹p, linearly. Shape: (..., N) -> the same."""
    if torch.linalg.det(rotation) < 0:
        return interpolation_map(grid, grid.points @ rotation, "linear")(y)
    return rotate(y.unflatten(-1, grid.shape), grid, rotation).flatten(-len(grid.shape))

r"""Equivariance error: the relative distance between M(R f) and R M(f), for random band-limited f and rotations R.

error² = Σ_i a_i |y_{Rf}(p_i) − y_f(R⁻¹p_i)|² / Σ_i a_i |y_{Rf}(p_i)|², summed over channels, signals and rotations. R f is sampled
exactly; y_f(R⁻¹p), the output between the grid's points, is had in one of these ways:

* ``points``: exactly, from the last layer built for turned points (:mod:`spheregeo.audit.turned`);
* ``resample``: y_f is fitted below degree ``lmax_out``; the fit is turned exactly, what it leaves is interpolated linearly;
* ``project``: both outputs are fitted and only the fits compared. What they leave, ``remainder`` of the output, is not
  looked at. It errs where the signal's high degrees do, so this figure alone is optimistic (docs/equivariance.md);
* ``permute``: R permutes the grid's points, so nothing lies between them. f is white noise there.

The own error of ``resample`` and ``project`` is measured on a stand-in for the remainder that is known everywhere, its
degrees lmax_out … 2 lmax_out − 1, and subtracted: error² = raw² − own². As the stand-in resembles the remainder to a few per
cent only, a difference below a quarter of ``own`` is not resolved, and that quarter is reported instead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.audit.rotations import draw, symmetries
from spheregeo.audit.signals import BandFit, analyse, evaluate, random_coefficients, resolved_degree
from spheregeo.audit.turned import Turned, find_ending
from spheregeo.grids import Grid
from spheregeo.sampling import rotate, rotation_matrix
from spheregeo.sampling.fields import flatten

# unlike .to(dtype), these leave complex parameters and buffers complex
_CAST = {torch.float64: nn.Module.double, torch.float32: nn.Module.float, torch.bfloat16: nn.Module.bfloat16}
METHODS = ("auto", "points", "resample", "project")
RESOLVED = 0.25  # own² known to 6 % leaves √0.06 of own in the difference of squares


@dataclass(frozen=True)
class EquivarianceReport:
    """An equivariance error and how it was measured. All errors are relative L2 norms, weighted by area."""

    error: float  # with the measuring method's own error subtracted
    raw: float  # as it came
    own: float  # of the method, as measured on a known field; 0 where it is exact
    remainder: float  # norm of what the fit leaves over that of the output; 0 where nothing is fitted
    worst: float  # largest error of one rotation, own error subtracted
    rotations: int
    signals: int
    lmax: int | None  # signals have degrees below; None for white noise
    lmax_out: int | None
    group: str
    method: str
    dtype: str
    randomised: bool


def equivariance_error(
    module: Callable[[Tensor], Tensor],
    grid: Grid,
    rotations: Tensor | None = None,
    field_in: str | None = None,
    field_out: str | None = None,
    **options: Any,
) -> float:
    """Relative equivariance error of any module from scalar fields on ``grid`` to scalar fields on a grid.

    The arguments are those of :func:`measure_equivariance`, which also says how the figure came about.
    Raises: ValueError as there.
    """
    return measure_equivariance(module, grid, rotations, field_in, field_out, **options).error


def measure_equivariance(
    module: Callable[[Tensor], Tensor],
    grid: Grid,
    rotations: Tensor | None = None,
    field_in: str | None = None,
    field_out: str | None = None,
    *,
    target: Grid | None = None,
    group: str = "so3",
    lmax: int | None = None,
    lmax_out: int | None = None,
    num_rotations: int = 3,
    num_signals: int = 2,
    channels: int | None = None,
    randomise: bool = True,
    method: str = "auto",
    max_points: int = 4096,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> EquivarianceReport:
    """Equivariance error of a module, with what is needed to judge it. The module itself is left as it is.

    Args:
        module: from (B, C, *grid.shape) to (B, O, *target.shape); a copy of it is measured, in eval mode.
        grid, target: where the fields live; the target is read off the module where it declares one, else ``grid``.
        rotations: (G, 3, 3) or quaternions (G, 4), in place of random ones.
        field_in, field_out: "scalar", which is also what modules that declare nothing are taken for.
        group: "so3" for rotations drawn evenly, "azimuthal" for turns about z by any angle, "grid" for rotations that
            permute the points (whole columns on lat-lon grids).
        lmax: signals have degrees l < lmax; by default 8, or half the grid's Nyquist degree if that is less.
        lmax_out: degree below which outputs are turned exactly; 2 lmax by default, as far as the target resolves it.
        num_rotations, num_signals: how many of each.
        channels: C, where the module does not say (``in_channels``).
        randomise: draw all parameters, biases and norm statistics anew, see :func:`spheregeo.audit.randomise`.
        method: "points", "resample" or "project"; "auto" takes the first where it is possible, else the second.
        max_points: "points" compares at no more of the target's points, drawn evenly from its list: a layer has to be
            built for them anew with every rotation.
        dtype: the module's and the fields' while measured; signals and errors are computed in float64.
        seed: of signals, rotations and parameters.

    Raises: ValueError for a grid, field, group, method or degree that does not fit.
    """
    _check(module, grid, field_in, field_out, group, method, dtype, (num_rotations, num_signals, max_points))
    generator = torch.Generator().manual_seed(seed)
    lmax = min(8, resolved_degree(grid)) if lmax is None else _degree("lmax", lmax, grid)
    target = _target(module, grid) if target is None else target
    channels = _channels(module) if channels is None else channels
    fields = num_signals * channels
    a = random_coefficients(fields, lmax, generator)

    device = next((t.device for t in _tensors(module)), torch.device("cpu"))
    shape = (num_signals, channels, *grid.shape)

    def feed(values: Tensor) -> Tensor:
        return values.reshape(shape).to(device=device, dtype=dtype)

    f = feed(evaluate(a, grid.points))
    if isinstance(module, nn.Module):
        module = _CAST[dtype](copy.deepcopy(module).eval())
        if randomise:
            randomise_(module, generator, f)
    run = _runner(module, target)

    if group == "grid" and rotations is None:
        errors = []
        for of_grid, of_target in symmetries(grid, target, num_rotations, generator):
            x = torch.randn(num_signals, channels, grid.num_points, dtype=torch.float64, generator=generator)
            turned = run(feed(torch.empty_like(x).index_copy_(2, of_grid, x)))
            y = run(feed(x))
            errors.append(_compare(turned, torch.empty_like(y).index_copy_(2, of_target, y), target.areas))
        return _summary(errors, 0.0, 0.0, num_signals, None, None, group, "permute", dtype, randomise)

    turns = draw(group, num_rotations, generator) if rotations is None else rotation_matrix(rotations).reshape(-1, 3, 3)
    group = group if rotations is None else "given"
    with torch.no_grad():
        ending = find_ending(module, f) if method in ("auto", "points") else None
    if method == "points" and ending is None:
        raise ValueError(
            "method is 'points' but the module is no DiscoConv, nor a Sequential of any modules, a DiscoConv and "
            "pointwise ones; expected one that can be evaluated anywhere; use method='resample'"
        )
    errors = []
    if ending is not None:
        for rotation in turns:
            points = Turned(target, tuple(rotation.flatten().tolist()), max_points)
            y = run(feed(evaluate(a, grid.points @ rotation)))[..., points.index]
            errors.append(_compare(y, _runner(ending.at(points), points)(f), points.areas))
        return _summary(errors, 0.0, 0.0, num_signals, lmax, None, group, "points", dtype, randomise)

    method = "resample" if method == "auto" else method
    if lmax_out is None:
        lmax_out = min(2 * lmax, resolved_degree(target))
    fit = BandFit(target, _degree("lmax_out", lmax_out, target))
    y = run(f)  # (B, O, N) float64
    band, rest = fit(y)
    size = max(math.sqrt(_power(y, target.areas)), torch.finfo(torch.float64).tiny)
    share = math.sqrt(_power(rest, target.areas)) / size
    for rotation in turns:
        back = target.points @ rotation
        y_turned = run(feed(evaluate(a, grid.points @ rotation)))
        if method == "project":
            there, expected = evaluate(fit(y_turned)[0], target.points), evaluate(band, back)
        else:
            there, expected = y_turned, evaluate(band, back) + _interpolate(rest, target, rotation)
        distance, _ = _compare(there, expected, target.areas)
        errors.append((distance, _power(y_turned, target.areas)))
    top = max(min(2 * lmax_out, 2 * resolved_degree(target)), lmax_out + 1)
    stand_in = analyse(rest, target, top, lmax_out)
    sampled = evaluate(stand_in, target.points)
    leak, left = fit(sampled)  # what the fit takes from degrees that it should not see
    if method == "project":
        own = math.sqrt(2) * float(leak.norm()) / size  # it enters both sides
    else:  # for one of the rotations: it hardly depends on which
        back = target.points @ turns[0]
        guess = evaluate(leak, back) + _interpolate(left, target, turns[0])
        own = math.sqrt(_power(evaluate(stand_in, back) - guess, target.areas)) / size
    return _summary(errors, own, share, num_signals, lmax, lmax_out, group, method, dtype, randomise)


def _runner(module: Callable[[Tensor], Tensor], target: Grid) -> Callable[[Tensor], Tensor]:
    """The module from a field to (B, O, N) float64 on the CPU, its shape checked."""

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            y = module(x)
        if y.ndim < 2 + len(target.shape):
            raise ValueError(f"the module returned shape {tuple(y.shape)}, expected (B, O, *{target.shape}); pass target=")
        return flatten(y, target, "the target").to("cpu", torch.float64)

    return run


def _interpolate(y: Tensor, grid: Grid, rotation: Tensor) -> Tensor:
    """y at R⁻¹p, linearly. Shape: (..., N) -> the same."""
    return rotate(y.unflatten(-1, grid.shape), grid, rotation).flatten(-len(grid.shape))


def _power(y: Tensor, areas: Tensor) -> float:
    return float((y.square() * areas).sum())


def _compare(y: Tensor, expected: Tensor, areas: Tensor) -> tuple[float, float]:
    """Squared distance and squared norm."""
    return _power(y - expected, areas), _power(y, areas)


def _summary(
    errors: list[tuple[float, float]],
    own: float,
    remainder: float,
    signals: int,
    lmax: int | None,
    lmax_out: int | None,
    group: str,
    method: str,
    dtype: torch.dtype,
    randomised: bool,
) -> EquivarianceReport:
    tiny = torch.finfo(torch.float64).tiny
    squares = [distance / max(norm, tiny) for distance, norm in errors]
    raw = sum(distance for distance, _ in errors) / max(sum(norm for _, norm in errors), tiny)
    return EquivarianceReport(
        error=_subtract(raw, own),
        raw=math.sqrt(raw),
        own=own,
        remainder=remainder,
        worst=_subtract(max(squares), own),
        rotations=len(errors),
        signals=signals,
        lmax=lmax,
        lmax_out=lmax_out,
        group=group,
        method=method,
        dtype=str(dtype).removeprefix("torch."),
        randomised=randomised,
    )


def _subtract(square: float, own: float) -> float:
    return math.sqrt(square) if not math.isfinite(square) else max(math.sqrt(max(square - own**2, 0.0)), RESOLVED * own)


def _check(
    module: object,
    grid: object,
    field_in: str | None,
    field_out: str | None,
    group: str,
    method: str,
    dtype: torch.dtype,
    counts: tuple[int, int, int],
) -> None:
    if not callable(module):
        raise ValueError(f"module is {type(module).__name__}, expected a module or a function of one tensor")
    if not isinstance(grid, Grid) or not grid.is_sphere:
        raise ValueError(f"grid is {grid!r}, expected a grid on the sphere; positions in space are not supported yet")
    for name, field in (("field_in", field_in), ("field_out", field_out)):
        field = getattr(module, name, None) if field is None else field
        if field not in (None, "scalar"):
            raise ValueError(f"{name} is {field!r}, expected 'scalar'; other fields are not supported yet")
    source = getattr(module, "source", None)
    if isinstance(source, Grid) and source != grid:
        raise ValueError(f"grid is {grid!s} but the module takes fields on {source!s}; pass that grid")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(map(repr, METHODS))}")
    if dtype not in _CAST:
        raise ValueError(f"dtype is {dtype}, expected one of {', '.join(map(str, _CAST))}")
    if group not in ("so3", "azimuthal", "grid"):
        raise ValueError(f"group is {group!r}, expected 'so3', 'azimuthal' or 'grid'")
    for name, value in zip(("num_rotations", "num_signals", "max_points"), counts):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")


def _degree(name: str, value: int, grid: Grid) -> int:
    nyquist = int(math.pi / grid.spacing)
    if not 1 <= value <= nyquist:
        raise ValueError(
            f"{name} is {value}, expected 1 to {nyquist}, which {grid!s} can represent; take a finer grid or fewer degrees"
        )
    return value


def _tensors(module: object) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []


def _target(module: object, grid: Grid) -> Grid:
    """What the module or, in a Sequential, its last child that knows declares as ``target``; else the input's grid."""
    for child in [module, *(reversed(module) if isinstance(module, nn.Sequential) else ())]:
        found = getattr(child, "target", None)
        if isinstance(found, Grid):
            return found
    return grid


def _channels(module: object) -> int:
    """Number of input channels that the module or its first layer that knows declares; else 1."""
    for child in module.modules() if isinstance(module, nn.Module) else [module]:
        for name in ("in_channels", "in_features", "num_features"):
            found = getattr(child, name, None)
            if isinstance(found, int):
                return found
    return 1

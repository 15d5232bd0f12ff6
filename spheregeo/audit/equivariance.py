"""Equivariance error: the relative distance between M(R f) and R M(f), for random band-limited f and rotations R.

How the two are compared is in :mod:`spheregeo.audit.compare`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.compare import TINY, Comparison, Trial, exact, invariant, permuted, sampled
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.audit.rotations import draw
from spheregeo.audit.signals import random_coefficients, resolved_degree
from spheregeo.audit.turned import find_ending
from spheregeo.grids import Grid
from spheregeo.sampling import rotation_matrix

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
        module: from (B, C, *grid.shape) to (B, O, *target.shape), or to (B, O), which should be invariant; a copy of it is
            measured, in eval mode.
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
        method: "points", "resample" or "project"; "auto" takes the first where it is possible, else the second. Vectors
            (B, O) need none of them and are compared as they stand.
        max_points: "points" compares at no more of the target's points, drawn evenly from its list: a layer has to be
            built for them anew with every rotation.
        dtype: the module's and the fields' while measured; signals and errors are computed in float64.
        seed: of signals, rotations and parameters.

    Raises: ValueError for a grid, field, group, method or degree that does not fit.
    """
    _check(module, grid, field_in, field_out, group, method, dtype, (num_rotations, num_signals, max_points))
    generator = torch.Generator().manual_seed(seed)
    lmax = min(8, resolved_degree(grid)) if lmax is None else _degree("lmax", lmax, grid)
    target = declared_target(module, grid) if target is None else target
    channels = declared_channels(module) if channels is None else channels
    coefficients = random_coefficients(num_signals * channels, lmax, generator)
    device = next((t.device for t in _tensors(module)), torch.device("cpu"))
    if isinstance(module, nn.Module):
        module = _CAST[dtype](copy.deepcopy(module).eval())
    trial = Trial(module, grid, target, coefficients, num_signals, dtype, device)
    if isinstance(module, nn.Module) and randomise:
        randomise_(module, generator, trial.signal())
    facts: dict[str, Any] = {
        "signals": num_signals,
        "dtype": str(dtype).removeprefix("torch."),
        "randomised": randomise,
    }

    if group == "grid" and rotations is None:
        found = permuted(trial, num_rotations, generator)
        return _summary(found, lmax=None, lmax_out=None, group=group, method="permute", **facts)
    turns = draw(group, num_rotations, generator) if rotations is None else _matrices(rotations)
    facts |= {"lmax": lmax, "group": group if rotations is None else "given"}
    if trial.gives_vectors():
        return _summary(invariant(trial, turns), lmax_out=None, method="invariant", **facts)
    with torch.no_grad():
        ending = find_ending(module, trial.signal()) if method in ("auto", "points") else None
    if ending is not None:
        return _summary(exact(trial, ending, turns, max_points), lmax_out=None, method="points", **facts)
    if method == "points":
        raise ValueError(
            "method is 'points' but the module is no DiscoConv, nor a Sequential of any modules, a DiscoConv and "
            "pointwise ones; expected one that can be evaluated anywhere; use method='resample'"
        )
    method = "resample" if method == "auto" else method
    lmax_out = (
        min(2 * lmax, resolved_degree(target)) if lmax_out is None else _degree("lmax_out", lmax_out, target)
    )
    found = sampled(trial, turns, lmax_out, project=method == "project")
    return _summary(found, lmax_out=lmax_out, method=method, **facts)


def _matrices(rotations: Tensor) -> Tensor:
    return rotation_matrix(rotations).reshape(-1, 3, 3)


def _summary(found: Comparison, **facts: Any) -> EquivarianceReport:
    worst = max(distance / max(norm, TINY) for distance, norm in found.pairs)
    raw = sum(distance for distance, _ in found.pairs) / max(sum(norm for _, norm in found.pairs), TINY)
    return EquivarianceReport(
        error=_subtract(raw, found.own),
        raw=math.sqrt(raw),
        own=found.own,
        remainder=found.remainder,
        worst=_subtract(worst, found.own),
        rotations=len(found.pairs),
        **facts,
    )


def _subtract(square: float, own: float) -> float:
    if not math.isfinite(square):
        return math.sqrt(square)
    return max(math.sqrt(max(square - own**2, 0.0)), RESOLVED * own)


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
        raise ValueError(
            f"grid is {grid!r}, expected a grid on the sphere; positions in space are not supported yet"
        )
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


def declared_target(module: object, grid: Grid) -> Grid:
    """What the module or, in a Sequential, its last child that knows declares as ``target``; else the input's grid."""
    for child in [module, *(reversed(module) if isinstance(module, nn.Sequential) else ())]:
        found = getattr(child, "target", None)
        if isinstance(found, Grid):
            return found
    return grid


def declared_channels(module: object) -> int:
    """Number of input channels that the module or its first layer that knows declares; else 1."""
    for child in module.modules() if isinstance(module, nn.Module) else [module]:
        for name in ("in_channels", "in_features", "num_features"):
            found = getattr(child, name, None)
            if isinstance(found, int):
                return found
    return 1

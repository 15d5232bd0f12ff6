"""Equivariance error: the relative distance between M(R f) and R M(f), for random fields f and rotations R.

One function for every kind of field (:mod:`spheregeo.audit.fields`) and everything that fields live on. How the two sides are
compared is in :mod:`spheregeo.audit.compare` for spheres, and in ``on_meshes``, ``on_points``, ``on_voxels`` and ``on_plane``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.call import Called, gauge_extras
from spheregeo.audit.compare import TINY, Comparison, Trial, exact, invariant, permuted, sampled
from spheregeo.audit.fields import FieldSpec, declared_field
from spheregeo.audit.on_meshes import on_mesh
from spheregeo.audit.on_plane import declared_plane, on_plane, plane_field, quarter_turns, width_of
from spheregeo.audit.on_points import on_points
from spheregeo.audit.on_voxels import cube_rotations, on_voxels
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.audit.rotations import draw
from spheregeo.audit.signals import random_coefficients, resolved_degree
from spheregeo.audit.turned import find_ending
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.sampling import rotation_matrix

# unlike .to(dtype), these leave complex parameters and buffers complex
_CAST = {torch.float64: nn.Module.double, torch.float32: nn.Module.float, torch.bfloat16: nn.Module.bfloat16}
GROUPS = ("so3", "o3", "azimuthal", "grid")
METHODS = ("auto", "points", "resample", "project")
FieldLike = Any  # text, a FieldType, e3nn Irreps, a FieldSpec or None
RESOLVED = 0.25  # own² known to 6 % leaves √0.06 of own in the difference of squares


@dataclass(frozen=True)
class EquivarianceReport:
    """An equivariance error and how it was measured. All errors are relative L2 norms, weighted by area.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from torch import nn
        >>> found = measure_equivariance(nn.Identity(), HEALPix(4), lmax=3)
        >>> found.method, found.error < 1e-10
        ('resample', True)
    """

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


@renamed_arguments(grid="grid_or_positions")
def equivariance_error(
    module: Callable[..., Tensor],
    grid_or_positions: Grid | Tensor | tuple[int, ...],
    rotations: Tensor | None = None,
    field_in: FieldLike = None,
    field_out: FieldLike = None,
    **options: Any,
) -> float:
    """Relative equivariance error of any module, for any kind of field in and out, on spheres, meshes, points, voxels and images.

    Args:
        module, grid_or_positions, rotations, field_in, field_out: as for :func:`measure_equivariance`, which also returns how the
            figure came about.
        options: further arguments of :func:`measure_equivariance`.

    Raises: ValueError as there.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import GaugeConv
        >>> grid = HEALPix(4)
        >>> equivariance_error(GaugeConv("2x0 + 1x1", "2x1", grid), grid, group="grid") < 1e-12
        True
    """
    return measure_equivariance(module, grid_or_positions, rotations, field_in, field_out, **options).error


@renamed_arguments(grid="grid_or_positions")
def measure_equivariance(
    module: Callable[..., Tensor],
    grid_or_positions: Grid | Tensor | tuple[int, ...],
    rotations: Tensor | None = None,
    field_in: FieldLike = None,
    field_out: FieldLike = None,
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
    features: Tensor | None = None,
    batch: Tensor | None = None,
    edge_index: Tensor | None = None,
    radius: float | None = None,
    build: Callable[[Grid], nn.Module] | None = None,
) -> EquivarianceReport:
    """Equivariance error of a module, with what is needed to judge it. The module itself is left as it is.

    Args:
        module: a copy is measured, in eval mode. On spheres and meshes from (B, C, *shape) to (B, O, *target.shape), or to
            (B, O) for a whole signal; on voxels from (B, C, n, n, n), on images from (B, C, H, W); on points from (P, C) to
            (P, O), or a network of ``neighbors(positions, batch)`` and ``module(positions, features, batch, graph)``. What layers
            take beside their features (``geometry``, ``areas``, ``positions``, ``edge_index``) is given to them, also within a
            ``Sequential``.
        grid_or_positions: a sphere grid, a :class:`~spheregeo.mesh.TriangleMesh`, positions (P, 3), (n, n, n) for voxels, or
            (H, W) for images.
        rotations: (G, 3, 3), reflections allowed unless on a sphere grid, or quaternions (G, 4), in place of random ones; None
            for images.
        field_in, field_out: kinds of fields: "scalar"; tangent fields "4x0 + 2x1"; irreps "4x0e + 2x1o"; a sum of both; a
            ``FieldType`` or e3nn ``Irreps``; on images a ``PlanarType`` or its text "2x0 + 4xD4". None: read off the module, for
            a ``Sequential`` off its first and last layer that declares one; modules that declare nothing are taken for scalars.
        target: grid of the output; read off the module where it declares one, else the input's.
        group: "so3" for rotations drawn evenly, "o3" for reflections as well, "azimuthal" for turns about z by any angle,
            "grid" for rotations that permute the points of a sphere grid (whole columns on lat-lon grids). On voxels and images
            those of the group that permute them: of images quarter turns, with "o3" also flips.
        lmax: on spheres, signals have degrees l < lmax; by default 8, or half the grid's Nyquist degree if that is less.
            Elsewhere, and for "grid", signals are white noise.
        lmax_out: degree below which outputs are turned exactly; 2 lmax by default, as far as the target resolves it.
        num_rotations, num_signals: how many of each; points have one signal.
        channels: C, where the module does not declare it (``in_channels``).
        randomise: draw all parameters, biases and norm statistics anew, see :func:`spheregeo.audit.randomise`.
        method: on spheres, "points", "resample" or "project"; "auto" takes the first where it is possible, else the second.
            Vectors (B, O) need none of them and are compared as they stand.
        max_points: "points" compares at no more of the target's points, drawn evenly from its list: a layer has to be
            built for them anew with every rotation.
        dtype: the module's and the fields' while measured; signals and errors are computed in float64.
        seed: of signals, rotations and parameters.
        features: on points, in place of white noise: (P, C), or whole numbers (P,) such as those of atoms, which nothing turns.
        batch: on points, cloud of each point (P,); one cloud if None.
        edge_index: on points, (2, E) for layers; or
        radius: of the edges; by default such that a point has some twelve neighbours.
        build: on meshes, a function that returns the module on another mesh, into which the weights are loaded; needed only
            for modules whose layers cannot build their geometry anew.

    Returns:
        the report; ``report.error`` is the figure.

    Raises: ValueError for a grid, field, group, method or degree that does not fit.
    """
    where = grid_or_positions
    _check(module, where, group, method, dtype, (num_rotations, num_signals, max_points))
    plane = isinstance(where, tuple) and len(where) == 2
    fields: Any = (_plane_fields if plane else _fields)(module, field_in, field_out, channels)
    generator = torch.Generator().manual_seed(seed)
    device = next((t.device for t in _tensors(module)), torch.device("cpu"))
    if isinstance(module, nn.Module):
        module = _CAST[dtype](copy.deepcopy(module).eval())
    drawn = isinstance(module, nn.Module) and randomise
    facts: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "randomised": randomise,
        "group": group if rotations is None else "given",
    }
    if not isinstance(where, Grid) or isinstance(where, TriangleMesh):
        prepare = (lambda run, x: randomise_(run, generator, x)) if drawn else None
        turns: Any
        if plane:
            if rotations is not None:
                raise ValueError(
                    "rotations are given for an image; expected None: group says which elements are measured"
                )
            turns = quarter_turns(group, num_rotations, generator)
        elif rotations is not None:
            turns = _matrices(rotations, reflections=True)
        elif isinstance(where, (Grid, Tensor)):
            turns = draw("so3" if group == "grid" else group, num_rotations, generator)
        else:
            turns = cube_rotations(group, num_rotations, generator)
        common: dict[str, Any] = {"dtype": dtype, "generator": generator, "prepare": prepare}
        if isinstance(where, Tensor):
            found = on_points(
                module, where, turns, fields, features=features, batch=batch, edge_index=edge_index, radius=radius, **common
            )  # fmt: skip
        elif isinstance(where, TriangleMesh):
            found = on_mesh(
                module, where, turns, fields, signals=num_signals, device=device, build=build, **common
            )
        elif plane:
            found = on_plane(
                module, (where[0], where[1]), turns, fields, signals=num_signals, device=device, **common
            )
        else:
            found = on_voxels(module, where, turns, fields, signals=num_signals, device=device, **common)
        signals = 1 if isinstance(where, Tensor) else num_signals
        return _summary(found, lmax=None, lmax_out=None, method="moved", signals=signals, **facts)
    facts["signals"] = num_signals
    return _on_sphere(
        module, where, declared_target(module, where) if target is None else target, rotations, fields,
        lmax=lmax, lmax_out=lmax_out, counts=(num_rotations, num_signals, max_points), drawn=drawn, method=method, group=group,
        dtype=dtype, device=device, generator=generator, facts=facts,
    )  # fmt: skip


def _on_sphere(
    module: Callable[..., Tensor],
    grid: Grid,
    target: Grid,
    rotations: Tensor | None,
    fields: tuple[FieldSpec, FieldSpec | None],
    *,
    lmax: int | None,
    lmax_out: int | None,
    counts: tuple[int, int, int],
    drawn: bool,
    method: str,
    group: str,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    facts: dict[str, Any],
) -> EquivarianceReport:
    field_in, field_out = fields
    num_rotations, num_signals, max_points = counts
    lmax = min(8, resolved_degree(grid)) if lmax is None else _degree("lmax", lmax, grid)
    coefficients = random_coefficients(num_signals * field_in.lifted.dim, lmax, generator)
    extras = gauge_extras(module, grid, dtype, device)
    run = Called(module, extras) if extras else module
    trial = Trial(run, grid, target, coefficients, num_signals, dtype, device, field_in, field_out)
    if drawn:
        randomise_(run, generator, trial.signal())  # type: ignore[arg-type]
    if group == "grid" and rotations is None:
        found = permuted(trial, num_rotations, generator)
        return _summary(found, lmax=None, lmax_out=None, method="permute", **facts)
    turns = draw(group, num_rotations, generator) if rotations is None else _matrices(rotations)
    facts["lmax"] = lmax
    if trial.gives_vectors():
        return _summary(invariant(trial, turns), lmax_out=None, method="invariant", **facts)
    with torch.no_grad():
        anywhere = method in ("auto", "points") and not (field_out is not None and field_out.has_frames)
        ending = find_ending(run, trial.signal()) if anywhere else None
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


def _fields(
    module: object, field_in: FieldLike, field_out: FieldLike, channels: int | None
) -> tuple[FieldSpec, FieldSpec | None]:
    """Kinds of the input and the output; None for an output of any number of scalars."""
    network = callable(getattr(module, "neighbors", None))  # its irreps are those within
    found = [
        (None if network and not hasattr(module, f"field_{side}") else declared_field(module, side))
        if given is None
        else None
        if given == "scalar"
        else FieldSpec.of(given, f"field_{side}")
        for side, given in (("in", field_in), ("out", field_out))
    ]
    taken = found[0] or FieldSpec.of(declared_channels(module) if channels is None else channels)
    if channels is not None and taken.dim != channels:
        raise ValueError(
            f"channels is {channels} but field_in is {taken!s}, {taken.dim} channels; give one of them"
        )
    return taken, found[1]


def _plane_fields(
    module: object, field_in: FieldLike, field_out: FieldLike, channels: int | None
) -> tuple[Any, Any]:
    """Kinds of the input and the output on images; None for an output of any number of scalars."""
    found: list[Any] = [
        declared_plane(module, side)
        if given is None
        else plane_field(given, f"field_{side}")
        if given != "scalar"
        else None
        for side, given in (("in", field_in), ("out", field_out))
    ]
    kinds = [None if kind == "scalar" else kind for kind in found]
    taken = kinds[0] or (declared_channels(module) if channels is None else channels)
    if channels is not None and width_of(taken) != channels:
        raise ValueError(
            f"channels is {channels} but field_in is {taken!s}, {width_of(taken)} channels; give one of them"
        )
    return taken, kinds[1]


def _matrices(rotations: Tensor, reflections: bool = False) -> Tensor:
    if reflections and rotations.shape[-2:] == (3, 3):
        matrices = rotations.detach().to("cpu", torch.float64).reshape(-1, 3, 3)
        signs = torch.linalg.det(matrices).sign()[:, None, None]
        return signs * rotation_matrix(signs * matrices)
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
    where: object,
    group: str,
    method: str,
    dtype: torch.dtype,
    counts: tuple[int, int, int],
) -> None:
    if not callable(module):
        raise ValueError(f"module is {type(module).__name__}, expected a module or a function of one tensor")
    if isinstance(where, Tensor):
        if where.ndim != 2 or where.shape[1] != 3 or not where.is_floating_point() or len(where) < 2:
            raise ValueError(
                f"positions have shape {tuple(where.shape)}, {where.dtype}; expected (P, 3) floating, P > 1"
            )
    elif isinstance(where, tuple):
        if len(where) not in (2, 3) or (len(where) == 3 and len(set(where)) != 1):
            raise ValueError(
                f"voxels are {where}; expected a cube (n, n, n), which rotations map to itself, or an image (H, W)"
            )
    elif not isinstance(where, Grid) or not (where.is_sphere or isinstance(where, TriangleMesh)):
        raise ValueError(
            f"grid is {where!r}, expected a grid on the sphere, a TriangleMesh, positions (P, 3), voxels (n, n, n) or "
            "an image (H, W)"
        )
    source = getattr(module, "source", None)
    if isinstance(source, Grid) and source != where:
        raise ValueError(f"grid is {where!s} but the module takes fields on {source!s}; pass that grid")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(map(repr, METHODS))}")
    if dtype not in _CAST:
        raise ValueError(f"dtype is {dtype}, expected one of {', '.join(map(str, _CAST))}")
    if group not in GROUPS:
        raise ValueError(f"group is {group!r}, expected one of {', '.join(map(repr, GROUPS))}")
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

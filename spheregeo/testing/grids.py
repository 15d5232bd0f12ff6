"""The compliance suite of grids."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

import spheregeo.grids
import spheregeo.mesh
from spheregeo.audit import equivariance_error
from spheregeo.grids import Grid
from spheregeo.harmonics import real_harmonics
from spheregeo.nn import DiscoConv, Resample
from spheregeo.testing.report import Suite, agree, distance, require

ROUNDING = 1e-13


def check_grid(
    grid: Grid,
    *,
    namespace: Mapping[str, Any] | None = None,
    degree: int = 0,
    quadrature: float = ROUNDING,
    equivariance: float = 0.2,
    skip: Collection[str] = (),
) -> dict[str, str]:
    """Check a grid against everything that layers, sampling and the audit rely on.

    The checks, by name: ``tensors`` (shapes, float64, shared between equal grids), ``frames`` (orthonormal, right-handed; on
    spheres south and east), ``sphere`` (unit vectors, angles, areas that sum to 4π), ``value`` (frozen, hashable, equal after
    ``repr``, ``pickle`` and ``deepcopy``), ``rings``, ``symmetry`` and ``levels`` (where the grid has them, they fit its points),
    ``quadrature``, and ``layers`` (a convolution keeps constants and is equivariant, resampling runs).

    Args:
        grid: the grid, small: some hundred points.
        namespace: names in which ``repr(grid)`` evaluates; those of ``spheregeo.grids`` and the grid's own class if None.
        degree: on spheres, harmonics up to this degree are integrated
        quadrature: with at most this error, relative to a harmonic's norm.
        equivariance: largest error of a convolution on the grid, signals of degree below 4.
        skip: names of checks to leave out.

    Returns:
        what was found, by check.

    Raises: ComplianceError where checks fail.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> found = check_grid(HEALPix(4), degree=1)
        >>> found["sphere"]
        '192 points'
    """
    suite = Suite(str(grid), skip)
    names = {**vars(spheregeo.grids), type(grid).__name__: type(grid), **(namespace or {})}
    suite.run("tensors", _tensors, grid)
    suite.run("frames", _frames, grid)
    suite.run("value", _value, grid, names)
    if grid.is_sphere:
        suite.run("sphere", _sphere, grid)
        suite.run("rings", _rings, grid)
        suite.run("symmetry", _symmetry, grid)
        suite.run("quadrature", _quadrature, grid, degree, quadrature)
        suite.run("layers", _layers, grid, equivariance)
    suite.run("levels", _levels, grid)
    return suite.finish()


def _tensors(grid: Grid) -> str:
    n = math.prod(grid.shape)
    require(grid.num_points == n, f"num_points is {grid.num_points} but shape {grid.shape} has {n}")
    shapes = {"points": (n, 3), "areas": (n,), "frames": (n, 2, 3), "normals": (n, 3)}
    for name, shape in shapes.items():
        tensor: Tensor = getattr(grid, name)
        require(tuple(tensor.shape) == shape, f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        require(tensor.dtype == torch.float64, f"{name} is {tensor.dtype}, expected float64")
        require(
            tensor.isfinite().all() and not tensor.requires_grad,
            f"{name} is not finite or requires a gradient",
        )
    require(grid.spacing > 0, f"spacing is {grid.spacing}, expected a positive length")
    require((grid.areas > 0).all(), "areas are not all positive")
    return f"{n} points"


def _frames(grid: Grid) -> str:
    f = grid.frames
    square = float((f @ f.mT - torch.eye(2)).abs().max())
    hand = float((torch.linalg.cross(f[:, 0], f[:, 1]) - grid.normals).abs().max())
    require(
        square < ROUNDING and hand < ROUNDING,
        f"frames are off orthonormal by {square:.1e}, off right-handed by {hand:.1e}",
    )
    if grid.is_sphere:
        require((f[:, 0, 2] <= 1e-15).all(), "the first vectors of the frames do not point south")
        require((f[:, 1, 2].abs() < 1e-15).all(), "the second vectors of the frames are not horizontal")
    return f"orthonormal to {square:.1e}"


def _value(grid: Grid, names: Mapping[str, Any]) -> str:
    twins = {"copy.deepcopy": copy.deepcopy(grid), "pickle": pickle.loads(pickle.dumps(grid))}
    if not isinstance(grid, spheregeo.mesh.TriangleMesh):  # whose repr names a hash
        twins["repr"] = eval(repr(grid), dict(names))
    for how, twin in twins.items():
        require(twin == grid and hash(twin) == hash(grid), f"the grid is unequal to itself after {how}")
        require(torch.equal(twin.points, grid.points), f"points differ after {how}")
        require(
            twin.frames.data_ptr() == grid.frames.data_ptr(),
            f"frames are computed anew after {how}; keep them by value",
        )
    require(grid != object(), "the grid is equal to any object")
    try:
        setattr(grid, dataclasses.fields(grid)[0].name, 3)  # type: ignore[arg-type]
    except (AttributeError, TypeError):
        return f"equal after {', '.join(twins)}"
    require(False, "the grid can be changed; make it a frozen dataclass")
    return ""


def _sphere(grid: Grid) -> str:
    off = float((grid.points.norm(dim=1) - 1).abs().max())
    require(off < 4e-15, f"points are off the unit sphere by {off:.1e}")
    total = float(grid.areas.sum()) / (4 * math.pi)
    require(abs(total - 1) < ROUNDING, f"areas sum to {total} times 4π")
    theta, phi = grid.colatitude, grid.longitude
    require((theta >= 0).all() and (theta <= math.pi).all(), "colatitudes are not in [0, π]")
    require((phi >= 0).all() and (phi < 2 * math.pi).all(), "longitudes are not in [0, 2π)")
    again = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)
    gap = float((again - grid.points).abs().max())
    require(gap < 8e-15, f"points at the grid's angles differ from its points by {gap:.1e}")
    return f"{grid.num_points} points"


def _rings(grid: Grid) -> str:
    rings = grid.rings
    if rings is None:
        return "none"
    require(int(rings.length.sum()) == grid.num_points, "ring lengths do not sum to the number of points")
    require(
        torch.equal(rings.start, rings.length.cumsum(0) - rings.length),
        "rings do not start where the one before ends",
    )
    require((rings.colatitude.diff() > 0).all(), "rings do not run from north to south")
    ring = torch.arange(len(rings.length)).repeat_interleave(rings.length)
    gap = float((grid.colatitude - rings.colatitude[ring]).abs().max())
    require(gap < 1e-14, f"colatitudes differ from their ring's by {gap:.1e}")
    column = torch.arange(grid.num_points) - rings.start[ring]
    expected = rings.phase[ring] + 2 * math.pi * column.double() / rings.length[ring]
    turn = (grid.longitude - expected + math.pi).remainder(2 * math.pi) - math.pi
    gap = float((turn * grid.colatitude.sin()).abs().max())
    require(gap < 1e-14, f"points are off equidistant places in their ring by {gap:.1e}")
    return f"{len(rings.length)} rings"


def _symmetry(grid: Grid) -> str:
    symmetry = grid.symmetry
    if symmetry is None:
        return "none"
    require(
        torch.equal(symmetry.permutations[0], torch.arange(grid.num_points)), "element 0 is not the identity"
    )
    worst = 0.0
    for rotation, permutation in zip(symmetry.rotations, symmetry.permutations, strict=True):
        require(
            torch.equal(permutation.sort().values, torch.arange(grid.num_points)),
            "an element is no permutation",
        )
        worst = max(worst, float((grid.points @ rotation.T - grid.points[permutation]).abs().max()))
        require(distance(grid.areas[permutation], grid.areas) < 1e-12, "a symmetry changes areas")
    require(worst < 1e-14, f"a symmetry moves points to {worst:.1e} beside others")
    return f"{len(symmetry.rotations)} rotations, to {worst:.1e}"


def _quadrature(grid: Grid, degree: int, tolerance: float) -> str:
    integrals = grid.areas @ real_harmonics(grid.points, degree)
    integrals[0] -= math.sqrt(4 * math.pi)
    worst = float(integrals.abs().max())
    require(worst <= tolerance, f"the integral of a harmonic of degree ≤ {degree} is off by {worst:.1e}")
    return f"{worst:.1e} at degrees to {degree}"


def _layers(grid: Grid, bound: float) -> str:
    conv = DiscoConv(1, 1, grid, spacings=2.5, bias=False).double()
    with torch.no_grad():
        y = conv(torch.ones(1, 1, *grid.shape, dtype=torch.float64))
    spread = float((y.max() - y.min()) / y.abs().max())
    require(
        spread < 1e-9, f"a convolution of a constant varies by {spread:.1e}: its moments cannot be corrected"
    )
    error = equivariance_error(conv, grid, lmax=4, num_rotations=2, num_signals=1)
    require(error <= bound, f"a convolution's equivariance error is {error:.1e}, at most {bound:.1e} allowed")
    there = Resample(grid, spheregeo.grids.HEALPix(2)).double()(
        torch.ones(1, 1, *grid.shape, dtype=torch.float64)
    )
    agree("a constant, resampled,", [there], [torch.ones_like(there)], 1e-12)
    return f"constants kept to {spread:.1e}, equivariance error {error:.1e}"


def _levels(grid: Grid) -> str:
    try:
        fine = grid.refine()
    except ValueError:
        return "none"
    require(fine.coarsen() == grid, f"refine() gives {fine!r}, whose coarsen() is another grid")
    try:
        children, parents = grid.children(), fine.parents()
    except ValueError:
        return "not nested"
    held = children >= 0
    require(
        torch.equal(children[held].sort().values, torch.arange(fine.num_points)), "children are no partition"
    )
    own = torch.arange(grid.num_points)[:, None].expand_as(children)
    require(torch.equal(parents[children[held]], own[held]), "parents and children disagree")
    gap = (fine.points[children.clamp(min=0)] - grid.points[:, None]).norm(dim=-1)
    shape = grid.shape
    reach = max(grid.spacing, 2 * math.pi / shape[-1] if len(shape) == 2 and grid.is_sphere else 0.0)
    require(
        float((gap * held).max()) < reach,
        f"a child is {float((gap * held).max()):.2g} from its parent, beyond {reach:.2g}",
    )
    return "nested"

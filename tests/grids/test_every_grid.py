"""What every kind of grid promises: areas, frames, value semantics, symmetry, hierarchy."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from spheregeo import grids
from spheregeo.grids import (
    Equiangular,
    Fibonacci,
    GaussLegendre,
    Grid,
    HEALPix,
    Icosahedral,
    Plane,
    Scattered,
)
from spheregeo.testing import small_grids


def scattered(n: int = 60) -> Scattered:
    p = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return Scattered(p / p.norm(dim=1, keepdim=True))


SPHERES = [
    Equiangular(8, 16), Equiangular(7, 12, offset=-5.5), Equiangular(9, 16, poles=True), Equiangular(2, 2, poles=True),
    GaussLegendre(8, 16), GaussLegendre(5, 9, offset=0.25), HEALPix(1), HEALPix(6), HEALPix(8), HEALPix(4, order="nested"),
    Icosahedral(0), Icosahedral(1), Icosahedral(3), Fibonacci(1), Fibonacci(96), scattered(),
]  # fmt: skip
SPHERES += [grid for grid in small_grids() if grid not in SPHERES]
EVERY = [*SPHERES, Plane(4, 6), Plane(3, 5, pixel=0.5)]
every = pytest.mark.parametrize("grid", EVERY, ids=str)
spheres = pytest.mark.parametrize("grid", SPHERES, ids=str)


@every
def test_shapes_and_dtypes(grid: Grid) -> None:
    n = grid.num_points
    assert n == math.prod(grid.shape)
    for name, shape in (("points", (n, 3)), ("areas", (n,)), ("frames", (n, 2, 3)), ("normals", (n, 3))):
        tensor = getattr(grid, name)
        assert tensor.shape == shape and tensor.dtype == torch.float64 and tensor.device.type == "cpu", name
        assert not tensor.requires_grad and tensor.isfinite().all()
    assert grid.spacing > 0


@every
def test_frames_are_orthonormal_and_right_handed(grid: Grid) -> None:
    f = grid.frames
    assert (f @ f.mT - torch.eye(2)).abs().max() < 1e-14
    assert (torch.linalg.cross(f[:, 0], f[:, 1]) - grid.normals).abs().max() < 1e-14
    if grid.is_sphere:
        assert (f[:, 0, 2] <= 1e-15).all(), "e_theta does not point south"
        assert f[:, 1, 2].abs().max() == 0, "e_phi is not horizontal"


@spheres
def test_points_are_unit_vectors_at_their_angles_and_areas_cover_the_sphere(grid: Grid) -> None:
    assert (grid.points.norm(dim=1) - 1).abs().max() < 1e-15 * 4
    assert abs(grid.areas.sum().item() / (4 * math.pi) - 1) < 1e-13
    assert (grid.areas > 0).all()
    theta, phi = grid.colatitude, grid.longitude
    assert (0 <= theta).all() and (theta <= math.pi).all() and (0 <= phi).all() and (phi < 2 * math.pi).all()
    rebuilt = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)
    assert (rebuilt - grid.points).abs().max() < 1e-15 * 8


@every
def test_repr_evaluates_back_and_equality_is_by_value(grid: Grid) -> None:
    again = eval(repr(grid), vars(grids))
    assert again == grid and hash(again) == hash(grid) and again is not grid
    assert torch.equal(again.points, grid.points) and torch.equal(again.areas, grid.areas)
    for twin in (pickle.loads(pickle.dumps(grid)), copy.deepcopy(grid)):
        assert twin == grid and hash(twin) == hash(grid)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(grid, dataclasses.fields(grid)[0].name, 3)


def test_different_grids_are_unequal() -> None:
    assert len({*EVERY, *copy.deepcopy(EVERY)}) == len(EVERY)
    for i, a in enumerate(EVERY):
        assert all(a != b for b in EVERY[i + 1 :])
    assert Equiangular(8, 16) != GaussLegendre(8, 16)


@every
def test_tensors_are_shared_between_equal_grids(grid: Grid) -> None:
    twin = copy.deepcopy(grid)
    assert grid.frames.data_ptr() == twin.frames.data_ptr()
    if not isinstance(grid, Scattered):  # holds its points itself
        assert grid.points.data_ptr() == twin.points.data_ptr()


@spheres
def test_rings_describe_the_points(grid: Grid) -> None:
    rings = grid.rings
    if rings is None:
        assert not isinstance(grid, grids.LatLon) and not (isinstance(grid, HEALPix) and grid.order == "ring")
        return
    assert rings.length.sum() == grid.num_points
    assert torch.equal(rings.start, rings.length.cumsum(0) - rings.length)
    ring = torch.arange(len(rings.length)).repeat_interleave(rings.length)
    theta, phi = grid.colatitude, grid.longitude
    assert (theta - rings.colatitude[ring]).abs().max() < 1e-14
    column = torch.arange(grid.num_points) - rings.start[ring]
    expected = rings.phase[ring] + 2 * math.pi * column.double() / rings.length[ring]
    assert ((phi - expected + math.pi).remainder(2 * math.pi) - math.pi).abs().max() < 1e-14
    assert (
        (rings.colatitude.diff() > 0).all() and (rings.phase < 2 * math.pi).all() and (rings.phase >= 0).all()
    )


@spheres
def test_symmetry_permutes_the_points_and_keeps_the_areas(grid: Grid) -> None:
    symmetry = grid.symmetry
    if symmetry is None:
        assert not isinstance(grid, (HEALPix, Icosahedral))
        return
    assert torch.equal(symmetry.rotations[0], torch.eye(3, dtype=torch.float64))
    assert torch.equal(symmetry.permutations[0], torch.arange(grid.num_points))
    for rotation, permutation in zip(symmetry.rotations, symmetry.permutations, strict=True):
        assert torch.equal(permutation.sort().values, torch.arange(grid.num_points))
        assert (grid.points @ rotation.T - grid.points[permutation]).abs().max() < 1e-14
        assert (grid.areas[permutation] / grid.areas - 1).abs().max() < 1e-12


NESTED = [g for g in EVERY if isinstance(g, (HEALPix, Icosahedral)) or
          (isinstance(g, (grids.LatLon, Plane)) and not getattr(g, "poles", False))]  # fmt: skip


@pytest.mark.parametrize("grid", NESTED, ids=str)
def test_parents_and_children_agree(grid: Grid) -> None:
    fine = grid.refine()
    assert fine.coarsen() == grid
    children, parents = grid.children(), fine.parents()
    assert children.shape == (grid.num_points, 4) and parents.shape == (fine.num_points,)
    held = children >= 0
    assert torch.equal(children[held].sort().values, torch.arange(fine.num_points)), (
        "each fine point has one parent"
    )
    own = torch.arange(grid.num_points)[:, None].expand_as(children)
    assert torch.equal(parents[children[held]], own[held])


@pytest.mark.parametrize("grid", NESTED, ids=str)
def test_children_lie_round_their_parent(grid: Grid) -> None:
    fine, children = grid.refine(), grid.children()
    weights = (children >= 0).double()
    mean = (fine.points[children.clamp(min=0)] * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
    if grid.is_sphere:
        mean = mean / mean.norm(dim=1, keepdim=True)
    # an icosahedral parent is a corner of its block of four, HEALPix pixels are curved; blocks of pixels are centred
    reach = {Plane: 1e-12, Equiangular: 0.2, GaussLegendre: 0.35, HEALPix: 0.3, Icosahedral: 0.5}[type(grid)]
    assert (mean - grid.points).norm(dim=1).max() < reach * grid.spacing
    distance = (fine.points[children.clamp(min=0)] - grid.points[:, None]).norm(dim=-1) * weights
    assert distance.max() < 0.9 * max(
        grid.spacing, 2 * math.pi / grid.shape[-1] if len(grid.shape) == 2 else 0
    )


@pytest.mark.parametrize(
    ("grid", "what"),
    [
        (Icosahedral(0), "level 0"), (HEALPix(3), "nside is odd"), (Equiangular(7, 8), "nlat is 7"),
        (GaussLegendre(8, 6).coarsen(), "nlon is 3"), (Equiangular(8, 8, poles=True), "nlat must be odd"),
        (Fibonacci(6), "not a multiple of 4"), (Plane(3, 4), "must be even"), (scattered(), "no coarser level"),
    ],
)  # fmt: skip
def test_impossible_coarsening_is_explained(grid: Grid, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        grid.coarsen()
    with pytest.raises(ValueError):
        grid.parents()


@pytest.mark.parametrize("grid", [Equiangular(9, 16, poles=True), Fibonacci(8), scattered()], ids=str)
def test_unnested_levels_have_no_parents_or_children(grid: Grid) -> None:
    with pytest.raises(ValueError, match=r"not nested; use sampling\.resample"):
        grid.parents()
    with pytest.raises(ValueError, match=r"not nested; use sampling\.resample"):
        grid.children()
    if isinstance(grid, Scattered):
        with pytest.raises(ValueError, match="no finer level"):
            grid.refine()
    else:
        assert grid.refine().coarsen() == grid


@pytest.mark.parametrize(
    ("build", "error", "what"),
    [
        (lambda: Equiangular(1, 8), ValueError, "nlat is 1, expected at least 2"),
        (lambda: Equiangular(8, 0), ValueError, "nlon is 0"),
        (lambda: GaussLegendre(8.0, 16), TypeError, "nlat must be an integer, got 8.0"),
        (lambda: Equiangular(8, 16, poles="yes"), TypeError, "poles must be True or False"),
        (lambda: Equiangular(8, 16, offset=float("nan")), ValueError, "offset is nan"),
        (lambda: Equiangular(8, 16, offset="x"), TypeError, "offset must be a number"),
        (lambda: HEALPix(0), ValueError, "nside is 0"),
        (lambda: HEALPix(True), TypeError, "nside must be an integer"),
        (lambda: HEALPix(6, order="nested"), ValueError, "power of two, got 6"),
        (lambda: HEALPix(8, order="NEST"), ValueError, "'NEST', expected 'ring' or 'nested'"),
        (lambda: Icosahedral(-1), ValueError, "level is -1"),
        (lambda: Icosahedral(13), ValueError, "at most 12"),
        (lambda: Fibonacci(0), ValueError, "n is 0"),
        (lambda: Plane(0, 3), ValueError, "height is 0"),
        (lambda: Plane(3, 3, pixel=0), ValueError, "pixel is 0.0, expected a finite positive"),
    ],
)
def test_bad_sizes_are_refused(build, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        build()


def test_numpy_integers_are_sizes_too() -> None:
    import numpy as np

    grid = Equiangular(np.int64(8), torch.tensor(16), poles=np.bool_(False))
    assert grid == Equiangular(8, 16) and repr(grid) == repr(Equiangular(8, 16))

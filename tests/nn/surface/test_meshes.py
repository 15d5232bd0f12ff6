"""Gauge layers on meshes: scale, frames, batches, and the scanned and modelled meshes of the real data."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh, load_mesh
from spheregeo.nn.surface import GaugeBlock, GaugeConv, GaugeGeometry
from spheregeo.sampling import surface_neighbors

NAMES = ("bunny", "cheburashka", "cow", "fandisk", "homer", "rocker-arm", "spot", "suzanne", "teapot")


def blob(level: int = 3, **options: object) -> TriangleMesh:
    """A bumpy closed surface."""
    import trimesh

    sphere = trimesh.creation.icosphere(level)
    p = torch.tensor(sphere.vertices)
    size = 1 + 0.3 * torch.sin(3 * p[:, 0]) * torch.cos(2 * p[:, 1] + p[:, 2])
    return TriangleMesh(p * size[:, None], torch.tensor(sphere.faces), **options)  # type: ignore[arg-type]


def test_scale_and_pose_do_not_matter() -> None:
    """A layer with a radius in spacings gives the same scalars on a mesh turned, moved and in other units."""
    mesh = blob()
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0]
    moved = TriangleMesh(1000 * mesh.points @ turn.T + 5, mesh.faces)
    torch.manual_seed(0)
    layer = randomise(GaugeConv("2x0", "3x0").double())
    x = torch.randn(1, 2, mesh.num_points, dtype=torch.float64)
    y, other = (layer(x, GaugeGeometry.of(m, frequency=2, dtype=torch.float64)) for m in (mesh, moved))
    assert (y - other).abs().max() < 1e-9 * y.abs().max()


@pytest.mark.parametrize("transport", ["normals", "intrinsic"])
@pytest.mark.parametrize("log_map", ["chord", "geodesic"])
def test_block_in_any_frames(transport: str, log_map: str) -> None:
    """Block with gates, all parameters and statistics random: outputs and gradients follow the frames."""
    mesh = blob(2)
    angle = 6.3 * torch.rand(mesh.num_points, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    c, s = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    e, f = mesh.frames.unbind(1)
    turned = mesh.with_frames(torch.stack([c * e + s * f, c * f - s * e], 1))
    torch.manual_seed(0)
    kind = "3x0 + 2x1 + 1x2"
    block = GaugeBlock(kind).double()
    x = torch.randn(1, 9, mesh.num_points, dtype=torch.float64)
    head = torch.randn(9, mesh.num_points, dtype=torch.float64)
    randomise(block, torch.Generator().manual_seed(0))
    block.eval()
    field, results = block.conv.in_type, []
    for surface, fields, cotangent in (
        (mesh, x, head),
        (turned, field.turn(x, angle), field.turn(head, angle)),
    ):
        geometry = GaugeGeometry.of(surface, transport=transport, log_map=log_map, dtype=torch.float64)
        y = block(fields, geometry)
        results.append((y, torch.autograd.grad((y * cotangent).sum(), list(block.parameters()))))
    (y, gradients), (other, others) = results
    assert (field.turn(y, angle) - other).abs().max() < 1e-11 * y.abs().max()
    for a, b in zip(gradients, others, strict=True):
        assert (a - b).abs().max() < 1e-10 * a.abs().max()


def test_block_in_mirrored_frames() -> None:
    """Reflections reach every part of the block."""
    mesh = blob(2)
    kind = "3x0e + 2x0o + 2x1"
    block = randomise(GaugeBlock(kind, reflections=True).double(), torch.Generator().manual_seed(0)).eval()
    field = block.conv.in_type  # type: ignore[union-attr]
    near = surface_neighbors(mesh, radius=2 * mesh.spacing)
    mirrored = dataclasses.replace(near, angle=-near.angle, transport=-near.transport)
    x = torch.randn(1, 9, mesh.num_points, dtype=torch.float64)
    y, other = (
        block(
            v, GaugeGeometry.from_neighborhood(pairs, mesh.areas, 2 * mesh.spacing, dtype=torch.float64)
        ).detach()
        for v, pairs in ((x, near), (field.reflect(x), mirrored))  # type: ignore[operator]
    )
    assert (field.reflect(y) - other).abs().max() < 1e-12 * y.abs().max()  # type: ignore[operator]
    with pytest.raises(ValueError, match="options holds bias"):
        GaugeBlock(kind, bias=True)


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_autocast_and_bad_values(engine: str) -> None:
    """Gradients under autocast, in the precision of the layer; an infinite value stays with those who see it."""
    mesh = blob(2)
    layer = GaugeConv("2x0 + 1x1", "1x0 + 1x1", mesh, engine=engine, self_interaction=False)
    x = torch.randn(1, 4, mesh.num_points)
    plain = torch.autograd.grad(layer(x).sum(), layer.weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        cast = torch.autograd.grad(y.float().sum(), layer.weight)[0]
    assert torch.equal(plain, cast)
    x[..., 0] = math.inf
    assert layer.geometry is not None
    seen = torch.bincount(layer.geometry.map.back_indices[: int(layer.geometry.map.back_indptr[1])].long())
    assert int((~torch.isfinite(layer(x))).any(1).sum()) == int(seen.sum())


def test_sparse_neighbourhoods_are_named() -> None:
    mesh = blob(2)
    with pytest.warns(UserWarning, match="fewer than 4 neighbours"):
        GaugeGeometry.of(mesh, radius=0.1 * mesh.spacing)
    for options in ({"radius": 0}, {"spacings": -1.0}):
        with pytest.raises(ValueError, match="expected a positive number"):
            GaugeGeometry.of(mesh, **options)  # type: ignore[arg-type]


def test_two_sets_of_points() -> None:
    mesh = blob(2)
    geometry = GaugeGeometry.of(mesh, mesh.coarsen(), spacings=3)
    x = torch.randn(1, 2, mesh.num_points)
    assert GaugeConv("2x0", "1x1", self_interaction=False)(x, geometry).shape[2] == mesh.coarsen().num_points
    with pytest.raises(ValueError, match="self_interaction=False"):
        GaugeConv("2x0", "2x0")(x, geometry)
    with pytest.raises(TypeError, match="expected a GaugeGeometry"):
        GaugeConv("2x0", "2x0")(x, mesh)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"dtype=torch\.float64"):
        GaugeConv("2x0", "2x0").double()(x.double(), GaugeGeometry.of(mesh))


def test_density_hardly_matters() -> None:
    """One radius, a coarse and a fine sampling of the same surface: nearly the same values at common vertices."""
    coarse, fine = blob(3), blob(4)
    torch.manual_seed(0)
    layer = GaugeConv("1x0", "2x0", self_interaction=False).double()
    radius = 4 * coarse.spacing
    values = []
    for mesh in (coarse, fine):
        x = torch.sin(2 * mesh.points[:, 2])[None, None]
        values.append(
            layer(x, GaugeGeometry.of(mesh, radius=radius, dtype=torch.float64))[..., : coarse.num_points]
        )
    assert (values[0] - values[1]).norm() < 0.03 * values[1].norm()


def test_batch_is_side_by_side() -> None:
    meshes = [blob(1), blob(2)]
    geometries = [GaugeGeometry.of(m, frequency=2) for m in meshes]
    both = GaugeGeometry.concatenate(geometries)
    assert both.counts == tuple(m.num_points for m in meshes)
    assert torch.equal(both.batch, torch.repeat_interleave(torch.arange(2), torch.tensor(both.counts)))
    layer = GaugeConv("2x0 + 1x1", "1x0 + 1x1", bias="edge")
    xs = [torch.randn(1, 4, m.num_points) for m in meshes]
    apart = torch.cat([layer(x, g) for x, g in zip(xs, geometries, strict=True)], 2)
    assert (layer(torch.cat(xs, 2), both) - apart).abs().max() < 1e-5


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_real_meshes(name: str, real_data: Path) -> None:
    """Each loads, repaired where its faults are named, and a layer with gradients runs on it."""
    (path,) = (real_data / "meshes").glob(f"*{name}.obj")
    try:
        mesh = load_mesh(path)
    except ValueError as error:
        assert name in ("bunny", "suzanne") and "repair" in str(error)
        mesh = load_mesh(path, repair=True)
    assert isinstance(mesh, TriangleMesh)
    layer = GaugeConv("3x0", "4x0 + 4x1", num_rings=2)
    x = ((mesh.points - mesh.points.mean(0)) / mesh.points.std()).float().T[None].requires_grad_()
    y = layer(x, GaugeGeometry.of(mesh, frequency=1))
    assert bool(torch.isfinite(y).all()) and float(y.detach().std()) > 1e-3
    y.square().sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())

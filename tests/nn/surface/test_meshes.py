"""Gauge layers on meshes: scale, frames, batches, and the scanned and modelled meshes of the real data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh, load_mesh
from spheregeo.nn.surface import GaugeBlock, GaugeConv, GaugeGeometry

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

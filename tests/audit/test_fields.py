"""Errors of tangent fields, irreps and mixtures: on spheres, meshes, points and voxels, read off modules, and never missed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spheregeo import audit, models
from spheregeo.audit.fields import FieldSpec, declared_field, tangent_basis
from spheregeo.grids import Equiangular, Fibonacci, Grid, HEALPix, Icosahedral
from spheregeo.groups import FieldType, random_rotations
from spheregeo.harmonics import wigner_D
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import (
    DiscoConv,
    FieldBatchNorm,
    FieldLinear,
    GatedNonlinearity,
    GaugeConv,
    ImplicitConv,
    IrrepsBatchNorm,
    IrrepsGate,
    NormNonlinearity,
    SteerableConv,
    SteerableVoxelConv,
)

KIND = "2x0 + 2x1 + 1x2"
FAST: dict[str, Any] = {"num_rotations": 2, "num_signals": 1}


def blob() -> TriangleMesh:
    """A bumpy closed surface without symmetries, 162 vertices."""
    import trimesh

    sphere = trimesh.creation.icosphere(2)
    p = torch.tensor(sphere.vertices)
    size = 1 + 0.3 * torch.sin(3 * p[:, 0]) * torch.cos(2 * p[:, 1] + p[:, 2])
    return TriangleMesh(p * size[:, None], torch.tensor(sphere.faces))


def gauge_net(grid: Grid | None, end: str = "1x0 + 1x1", **options: Any) -> nn.Sequential:
    """Convolution, norm, gates, convolution."""
    return nn.Sequential(
        GaugeConv("1x0 + 1x1", KIND, grid, **options),
        FieldBatchNorm(KIND, grid),
        GatedNonlinearity(KIND),
        GaugeConv(KIND, end, grid, **options),
    )


def steerable_net() -> nn.Sequential:
    gate = IrrepsGate("4x0e + 2x1o + 1x2e")
    return nn.Sequential(
        SteerableConv("2x0e + 1x1o", gate.irreps_in, lmax=2, edge_dim=3),
        IrrepsBatchNorm(gate.irreps_in),
        gate,
        SteerableConv(gate.irreps_out, "1x0e + 1x1o + 1x0o + 1x1e", lmax=2, edge_dim=3),
    )


class Marked(nn.Module):
    """Adds a constant to one component everywhere, which no rotation may leave."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        mark = torch.zeros(x.shape[1], dtype=x.dtype)
        mark[self.channel] = 0.5
        return x + mark.view(1, -1, *[1] * (x.ndim - 2))


# ---- kinds


def test_text_types_and_irreps_are_read() -> None:
    assert (
        FieldSpec.of("4x0 + 2x1") == FieldSpec.of(FieldType("4x0 + 2x1"))
        and FieldSpec.of("4x0 + 2x1").dim == 8
    )
    assert str(FieldSpec.of("2x0o + 2x1e + 1e + 3x2").lifted) == "2x0o+2x1e+1x1e+3x2e"
    assert FieldSpec.of(3).dim == 3 and FieldSpec.of("3x0").invariant and not FieldSpec.of("1x0o").invariant
    mixed = FieldSpec.of("1x0 + 2x1 + 1x1o + 1x2")
    assert mixed.dim == 1 + 4 + 3 + 2 and mixed.lifted.dim == 1 + 6 + 3 + 5


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_pairs_turn_with_their_frames(order: int) -> None:
    """A frame turned by α turns the pair by ρ(−α); one turned by R has the pair turned by D(R): the field stays the same."""
    frames = HEALPix(2).frames
    angle = torch.rand(len(frames), dtype=torch.float64) * 6
    c, s = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    e, f = frames.unbind(1)
    turned = torch.stack([c * e + s * f, c * f - s * e], 1)
    kind, field = FieldType(f"2x{order}"), FieldSpec.of(f"2x{order}")
    x = torch.randn(1, 4, len(frames), dtype=torch.float64)
    z = field.lift(x, frames)
    torch.testing.assert_close(field.project(z, turned), kind.turn(x, angle), rtol=0, atol=1e-12)
    torch.testing.assert_close(field.project(z, frames), x, rtol=0, atol=1e-12)
    rotation = random_rotations(1)[0]
    there = tangent_basis(frames @ rotation.T, order)
    torch.testing.assert_close(
        there, wigner_D(order, rotation) @ tangent_basis(frames, order), rtol=0, atol=1e-12
    )


def test_vectors_in_frames_are_vectors() -> None:
    frames = HEALPix(2).frames
    x = torch.randn(1, 2, len(frames), dtype=torch.float64)
    expected = x[0, 0, :, None] * frames[:, 0] + x[0, 1, :, None] * frames[:, 1]
    torch.testing.assert_close(FieldSpec.of("1x1").lift(x, frames)[0].T, expected, rtol=0, atol=1e-12)


def test_sequentials_declare_the_first_and_the_last() -> None:
    grid = HEALPix(2)
    net = nn.Sequential(nn.Dropout(), nn.Sequential(gauge_net(grid)), nn.Identity())
    assert str(declared_field(net, "in")) == "1x0e + 1x1" == str(declared_field(net, "out"))
    scalars_first = nn.Sequential(DiscoConv(2, 3, grid), GaugeConv("3x0", "1x1", grid))
    assert declared_field(scalars_first, "in") is None and str(declared_field(scalars_first, "out")) == "1x1"
    assert str(declared_field(steerable_net(), "in")) == "2x0e + 1x1o"
    assert declared_field(nn.GELU(), "in") is None


# ---- spheres


@pytest.mark.parametrize(
    "grid", [HEALPix(4), Icosahedral(2), Equiangular(12, 24), Equiangular(13, 24, poles=True)], ids=str
)
def test_tangent_fields_under_permutations_of_the_grid(grid: Grid) -> None:
    net = gauge_net(grid)
    assert audit.equivariance_error(net, grid, group="grid", **FAST) < 1e-12
    assert audit.equivariance_error(net, grid, group="grid", dtype=torch.float32, **FAST) < 2e-5
    wrong = audit.equivariance_error(net, grid, field_in="3x0", field_out="3x0", group="grid", **FAST)
    assert wrong > 0.1 or isinstance(grid, Equiangular)  # turns about z keep the frames of lat-lon grids
    assert audit.equivariance_error(
        nn.Sequential(net, Marked(1)), grid, group="grid", field_out="1x0 + 1x1", **FAST
    ) > 0.1 or (isinstance(grid, Equiangular))


@pytest.mark.parametrize("grid", [HEALPix(8), Equiangular(24, 48), Fibonacci(800)], ids=str)
def test_identity_of_any_field_is_equivariant_to_the_methods_own_error(grid: Grid) -> None:
    for kind in (KIND, "1x0e + 1x1o + 1x1e", "1x1 + 1x2e"):
        channels = FieldSpec.of(kind).dim
        for group in ("so3", "o3"):
            found = audit.measure_equivariance(
                nn.Identity(),
                grid,
                field_in=kind,
                field_out=kind,
                channels=channels,
                lmax=3,
                group=group,
                **FAST,
            )
            assert found.error < 1e-3, (kind, group)
        wrong = audit.equivariance_error(
            nn.Identity(), grid, field_in=kind, field_out=f"{channels}x0", lmax=3, **FAST
        )
        assert wrong > 0.1, kind


def test_gauge_convolutions_under_any_rotation() -> None:
    """The error falls with resolution; the same numbers declared as scalars, or a component marked, stand out."""
    errors = []
    for level in (3, 4):
        grid = Icosahedral(level)
        net = gauge_net(grid)
        errors.append(audit.equivariance_error(net, grid, lmax=4, **FAST))
    assert errors[1] < errors[0] / 2 and errors[1] < 0.02
    assert audit.equivariance_error(net, grid, lmax=4, field_out="3x0", **FAST) > 0.2
    assert audit.equivariance_error(net, grid, lmax=4, field_in="3x0", **FAST) > 0.2
    marked = nn.Sequential(net, Marked(2))
    assert audit.equivariance_error(marked, grid, lmax=4, **FAST) > 0.1
    # without a grid of its own the net is given the geometry
    loose = gauge_net(None)
    assert audit.equivariance_error(loose, grid, lmax=4, **FAST) < 0.02


def test_reflections_need_layers_of_o2() -> None:
    grid, options = Icosahedral(3), {"lmax": 3, "group": "o3", **FAST}
    kinds = "1x0e + 1x0o + 1x1", "1x0e + 1x0o + 1x1"
    mirrored = audit.equivariance_error(GaugeConv(*kinds, grid, reflections=True), grid, **options)
    oriented = audit.equivariance_error(GaugeConv(*kinds, grid), grid, **options)
    assert mirrored < 0.05 and oriented > 0.2
    assert audit.equivariance_error(GaugeConv(*kinds, grid), grid, lmax=3, **FAST) < 0.05


def test_mixtures_of_scalars_and_fields_and_vectors_for_whole_signals() -> None:
    grid = HEALPix(8)
    net = nn.Sequential(DiscoConv(2, 3, grid), nn.GELU(), GaugeConv("3x0", "1x1", grid))
    assert audit.equivariance_error(net, grid, lmax=3, **FAST) < 0.02
    assert (
        audit.measure_equivariance(
            nn.Sequential(GaugeConv("1x1", "2x0", grid), DiscoConv(2, 2, grid)), grid
        ).method
        == "points"
    )

    class Mean(nn.Module):  # a tangent vector field's mean is one vector of space
        field_in, field_out = "1x1", "1x1o"

        def forward(self, x: Tensor) -> Tensor:
            vectors = FieldSpec.of("1x1").lift(x, grid.frames)
            return vectors @ (grid.areas / grid.areas.sum())

    assert audit.equivariance_error(Mean(), grid, lmax=3) < 0.01
    assert audit.equivariance_error(Mean(), grid, lmax=3, field_out="scalar") > 0.3
    with pytest.raises(ValueError, match="without frames"):
        audit.equivariance_error(Mean(), grid, lmax=3, field_out="1x0 + 1x1")


# ---- meshes


@pytest.mark.parametrize("built", [True, False])
def test_meshes_move_and_their_frames_turn(built: bool) -> None:
    mesh = blob()
    net = gauge_net(mesh if built else None)
    before = copy.deepcopy(net.state_dict())
    found = audit.measure_equivariance(net, mesh)
    assert found.error < 1e-11 and found.method == "moved" and found.own == 0
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert audit.equivariance_error(net, mesh, dtype=torch.float32) < 2e-5
    assert audit.equivariance_error(net, mesh, field_out="3x0") > 0.1
    assert audit.equivariance_error(net, mesh, field_in="3x0") > 0.1
    assert audit.equivariance_error(nn.Sequential(net, Marked(1)), mesh) > 0.1


def test_meshes_are_mirrored() -> None:
    mesh = blob()
    kinds = "1x0e + 1x0o + 1x1", "1x0e + 1x0o + 1x1 + 1x2"
    assert audit.equivariance_error(GaugeConv(*kinds, reflections=True), mesh, group="o3") < 1e-11
    assert audit.equivariance_error(GaugeConv(*kinds), mesh, group="o3") > 0.1
    assert audit.equivariance_error(GaugeConv(*kinds), mesh) < 1e-11


def test_networks_on_meshes() -> None:
    mesh = blob()
    model = models.GemCNN(2, 3, mesh, width=2, depth=1, blocks=1, samples=101)
    assert audit.equivariance_error(model, mesh, num_rotations=1) < 1e-6

    def build(other: Grid) -> nn.Module:
        return models.GemCNN(2, 3, other, width=2, depth=1, blocks=1, samples=101)

    assert audit.equivariance_error(model, mesh, num_rotations=1, build=build) < 1e-6
    kept = nn.Conv1d(3, 3, 1)
    kept.grid = mesh  # type: ignore[assignment]
    kept.register_buffer("table", torch.zeros(3), persistent=False)
    with pytest.raises(ValueError, match="pass build="):
        audit.equivariance_error(kept, mesh)


# ---- points


@pytest.mark.parametrize("group", ["so3", "o3"])
def test_points_and_irreps(group: str) -> None:
    positions = torch.randn(30, 3)
    net = steerable_net()
    found = audit.measure_equivariance(net, positions, group=group)
    assert found.error < 1e-12 and found.signals == 1
    assert audit.equivariance_error(net, positions, group=group, dtype=torch.float32) < 1e-5
    for wrong in ({"field_in": "5x0e"}, {"field_out": "8x0e"}):
        assert audit.equivariance_error(net, positions, group=group, **wrong) > 0.1
    swapped = audit.equivariance_error(net, positions, group=group, field_out="1x0e + 1x1e + 1x0o + 1x1o")
    assert swapped > 0.1 if group == "o3" else swapped < 1e-12
    assert audit.equivariance_error(nn.Sequential(net, Marked(2)), positions, group=group) > 0.1


def test_implicit_kernels_with_attributes_of_edges() -> None:
    positions = torch.randn(20, 3)
    conv = ImplicitConv(
        "1x0e + 1x1o", "1x0e + 1x1o", attributes="1x0e + 1x1o", nonlinearity="product", hidden=3
    )
    assert audit.equivariance_error(conv, positions, group="o3") < 1e-11
    assert audit.equivariance_error(conv, positions, field_out="4x0e") > 0.05


def test_functions_of_positions_and_networks() -> None:
    positions = torch.randn(25, 3, dtype=torch.float64)

    def moment(x: Tensor, positions: Tensor) -> Tensor:
        centred = positions - positions.mean(0)
        return x * centred

    assert audit.equivariance_error(moment, positions, field_in=1, field_out="1x1o", group="o3") < 1e-12
    assert (
        audit.equivariance_error(lambda x, positions: x * positions, positions, field_in=1, field_out="1x1o")
        > 0.1
    )
    model = models.create("vnn-dgcnn", 3, 4, None, width=3, depth=2, embedding=5, k=4, feature_irreps="1x1o")
    batch = torch.arange(1).repeat_interleave(25)
    assert audit.equivariance_error(model, positions, field_in="1x1o", batch=batch, group="o3") < 1e-9
    assert audit.equivariance_error(model, positions, field_in="3x0e") > 1e-6
    with pytest.raises(TypeError, match="an argument 'colour' that an audit cannot give"):
        audit.equivariance_error(lambda x, colour: x, positions)


# ---- voxels


def test_voxels() -> None:
    conv = SteerableVoxelConv("1x0e + 1x1o", "1x0e + 1x1o + 1x2e", 3)
    for group in ("so3", "o3", "azimuthal"):
        assert audit.equivariance_error(conv, (5, 5, 5), group=group) < 1e-12
    assert audit.equivariance_error(conv, (5, 5, 5), field_out="9x0e") > 0.1
    assert audit.equivariance_error(nn.Conv3d(2, 3, 3, padding=1), (5, 5, 5)) > 0.1
    proper = SteerableVoxelConv("1x0e + 1x1o", "1x0e + 1x1o", 3, group="SO3")
    assert audit.equivariance_error(proper, (5, 5, 5)) < 1e-12
    assert audit.equivariance_error(proper, (5, 5, 5), group="o3") > 1e-3


# ---- what is refused, and what stays


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected a cube \(n, n, n\)"):
        audit.equivariance_error(nn.Identity(), (3, 3, 4))
    with pytest.raises(ValueError, match=r"positions have shape \(4, 2\)"):
        audit.equivariance_error(nn.Identity(), torch.randn(4, 2))
    with pytest.raises(ValueError, match="channels is 3 but field_in is 1x1, 2 channels"):
        audit.equivariance_error(nn.Identity(), HEALPix(2), field_in="1x1", channels=3)
    with pytest.raises(ValueError, match="features has shape"):
        audit.equivariance_error(nn.Linear(2, 2), torch.randn(4, 3), features=torch.randn(4, 3))


def test_given_rotations_and_the_former_name_of_the_grid() -> None:
    positions = torch.randn(10, 3)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    conv = SteerableConv("1x0e + 1x1o", "1x0o + 1x1e", lmax=1)
    assert audit.equivariance_error(conv, positions, mirror) < 1e-12
    grid = HEALPix(2)
    with pytest.warns(DeprecationWarning, match="argument grid is called grid_or_positions"):
        error = audit.equivariance_error(nn.Identity(), grid=grid, group="grid")
    assert error == 0


def test_pointwise_layers_hold_for_norms() -> None:
    grid = HEALPix(4)
    net = nn.Sequential(FieldLinear(KIND, KIND), NormNonlinearity(KIND))
    assert audit.equivariance_error(net, grid, group="grid", **FAST) < 1e-12
    assert math.isfinite(audit.equivariance_error(net, grid, lmax=3, **FAST))

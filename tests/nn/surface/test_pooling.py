"""Pooling of tangent fields: any frames, adjoint of unpooling, hierarchies of spheres, ragged batches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from spheregeo.grids import Equiangular, Grid, HEALPix, Icosahedral
from spheregeo.groups import FieldType
from spheregeo.nn.surface import ClusterGeometry, FieldPool, FieldUnpool

KIND = FieldType("2x0 + 2x1 + 1x3")


@dataclasses.dataclass(frozen=True, eq=False)
class Turned(Grid):
    """A grid whose frames are turned by given angles."""

    grid: Grid
    angle: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def points(self) -> torch.Tensor:
        return self.grid.points

    @property
    def areas(self) -> torch.Tensor:
        return self.grid.areas

    @property
    def frames(self) -> torch.Tensor:
        e, f = self.grid.frames.unbind(1)
        c, s = torch.cos(self.angle)[:, None], torch.sin(self.angle)[:, None]
        return torch.stack([c * e + s * f, c * f - s * e], 1)


@pytest.mark.parametrize(
    "grid", [HEALPix(4), HEALPix(4, order="nested"), Icosahedral(2), Equiangular(8, 16)], ids=str
)
def test_any_frames(grid: Grid) -> None:
    coarse, parents = grid.coarsen(), grid.parents()
    fine_turn = 6.3 * torch.rand(grid.num_points, dtype=torch.float64)
    coarse_turn = 6.3 * torch.rand(coarse.num_points, dtype=torch.float64)
    plain = ClusterGeometry.of(grid, dtype=torch.float64)
    other = ClusterGeometry.of(
        Turned(grid, fine_turn), Turned(coarse, coarse_turn), parents, dtype=torch.float64
    )
    x = torch.randn(2, KIND.dim, grid.num_points, dtype=torch.float64)
    y = FieldPool(KIND)(x, plain)
    assert (FieldPool(KIND)(KIND.turn(x, fine_turn), other) - KIND.turn(y, coarse_turn)).abs().max() < 1e-12
    back = FieldUnpool(KIND)(y, plain)
    turned = FieldUnpool(KIND)(KIND.turn(y, coarse_turn), other)
    assert (turned - KIND.turn(back, fine_turn)).abs().max() < 1e-12


def test_values() -> None:
    """The area-weighted mean of transported fields, by hand; scalars are plain means."""
    grid = Equiangular(8, 16)
    clusters = ClusterGeometry.of(grid, dtype=torch.float64)
    x = torch.randn(1, KIND.dim, grid.num_points, dtype=torch.float64)
    y = FieldPool(KIND)(x, clusters)
    parents, areas = grid.parents(), grid.areas
    for point in (0, 5, 31):
        members = (parents == point).nonzero()[:, 0]
        carried = torch.stack([KIND.representation(clusters.turn[q]) @ x[0, :, q] for q in members])
        expected = (areas[members, None] * carried).sum(0) / areas[members].sum()
        assert (y[0, :, point] - expected).abs().max() < 1e-14
    assert float(clusters.turn.abs().max()) > 0.01


def test_pooling_inverts_unpooling() -> None:
    clusters = ClusterGeometry.of(HEALPix(4), dtype=torch.float64)
    y = torch.randn(1, KIND.dim, 48, dtype=torch.float64)
    assert (FieldPool(KIND)(FieldUnpool(KIND)(y, clusters), clusters) - y).abs().max() < 1e-14


def test_layers_with_a_grid() -> None:
    grid = Equiangular(8, 16)
    x = torch.randn(1, KIND.dim, 8, 16)
    pooled = FieldPool(KIND, grid)(x)
    assert pooled.shape == (1, KIND.dim, 4, 8)
    assert FieldUnpool(KIND, grid)(pooled).shape == x.shape
    expected = FieldPool(KIND)(x.flatten(2), ClusterGeometry.of(grid))
    assert torch.equal(pooled.flatten(2), expected)


def test_concatenate() -> None:
    grids = [HEALPix(2), Icosahedral(1)]
    parts = [ClusterGeometry.of(g, dtype=torch.float64) for g in grids]
    both = ClusterGeometry.concatenate(parts)
    xs = [torch.randn(1, KIND.dim, g.num_points, dtype=torch.float64) for g in grids]
    ys = [FieldPool(KIND)(x, c) for x, c in zip(xs, parts, strict=True)]
    assert (FieldPool(KIND)(torch.cat(xs, 2), both) - torch.cat(ys, 2)).abs().max() < 1e-14
    back = [FieldUnpool(KIND)(y, c) for y, c in zip(ys, parts, strict=True)]
    assert (FieldUnpool(KIND)(torch.cat(ys, 2), both) - torch.cat(back, 2)).abs().max() < 1e-14
    assert torch.equal(both.areas, torch.cat([c.areas for c in parts]))


def test_errors() -> None:
    grid = HEALPix(2)
    with pytest.raises(ValueError, match="belong together"):
        ClusterGeometry.of(grid, grid.coarsen())
    with pytest.raises(ValueError, match="no fine point"):
        ClusterGeometry.of(grid, grid.coarsen(), torch.zeros(48, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected \\(48,\\) and 0 to 11"):
        ClusterGeometry.of(grid, grid.coarsen(), torch.full((48,), 12))
    with pytest.raises(ValueError, match="opposite"):
        ClusterGeometry.of(grid, grid, (-grid.points @ grid.points.T).argmax(1))
    with pytest.raises(ValueError, match="clusters must be given"):
        FieldPool(KIND)(torch.zeros(1, KIND.dim, 48))
    with pytest.raises(ValueError, match="x has 47 points"):
        FieldPool(KIND, grid)(torch.zeros(1, KIND.dim, 47))
    with pytest.raises(ValueError, match="clusters is empty"):
        ClusterGeometry.concatenate([])


@pytest.mark.parametrize("layer", [FieldPool, FieldUnpool])
def test_float64_is_taken_anew(layer: type[FieldPool] | type[FieldUnpool]) -> None:
    """Angles are not rounded to float32 and widened."""
    grid = Equiangular(8, 16)
    own = layer(KIND, grid).double()
    exact = ClusterGeometry.of(grid, dtype=torch.float64)
    shape = (8, 16) if layer is FieldPool else (4, 8)
    x = torch.randn(1, KIND.dim, *shape, dtype=torch.float64)
    assert (own(x).flatten(2) - layer(KIND)(x.flatten(2), exact)).abs().max() < 1e-14

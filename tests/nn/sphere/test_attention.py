"""Attention on grids: against dense softmax, between grids, over neighbourhoods, in every engine; errors of rotations."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor

from spheregeo.audit import measure_equivariance
from spheregeo.grids import Equiangular, GaussLegendre, HEALPix, Icosahedral
from spheregeo.kernels import PiecewiseLinear, Rings
from spheregeo.nn import SphereAttention
from spheregeo.sampling import neighbors
from spheregeo.sparse import AttentionMap, CSRPattern

PAIRS = [
    (Equiangular(8, 16), Equiangular(8, 16)),
    (GaussLegendre(4, 8), Equiangular(8, 16, poles=True)),
    (HEALPix(4), HEALPix(2)),
    (HEALPix(4), Equiangular(6, 12)),
    (Icosahedral(1), Icosahedral(2)),
]


def randomized(layer: SphereAttention) -> SphereAttention:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
    return layer.double()


def dense(layer: SphereAttention, x: Tensor, query: Tensor) -> Tensor:
    """Every pair's score, with the logarithm of the source's area; pairs beyond the radius have none."""
    source, target = layer.source, layer.target
    rows, asking = x.flatten(2).mT, query.flatten(2).mT
    q, k, v = (
        t.unflatten(2, (layer.heads, -1)).transpose(1, 2)
        for t in (layer.query(asking), layer.key(rows), layer.value(rows))
    )
    bias = source.areas.log().expand(layer.heads, target.num_points, -1)
    near = neighbors(source, target, math.pi if layer.radius is None else layer.radius)
    if layer.position is not None:
        values = layer.position(near.distance, near.angle, math.pi if layer.radius is None else layer.radius)
        bias = bias.index_put((torch.arange(layer.heads)[:, None], near.rows, near.indices.long()),
                              bias[:, near.rows, near.indices.long()] + layer.position_weight @ values)  # fmt: skip
    seen = torch.zeros(target.num_points, source.num_points, dtype=torch.bool)
    seen[near.rows, near.indices.long()] = True
    y = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=bias.masked_fill(~seen, -torch.inf)
    )
    return layer.mix(y.transpose(1, 2).flatten(2)).mT.unflatten(2, target.shape)


def compare(layer: SphereAttention, tolerance: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, layer.channels, *layer.source.shape, dtype=torch.float64, requires_grad=True)
    query = torch.randn(2, layer.channels, *layer.target.shape, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, layer.channels, *layer.target.shape, dtype=torch.float64)
    leaves = [x, query, *layer.parameters()]
    fast, slow = layer(x, query), dense(layer, x, query)
    assert (fast - slow).abs().max() <= tolerance * slow.abs().max()
    for a, b in zip(torch.autograd.grad(fast, leaves, g), torch.autograd.grad(slow, leaves, g), strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_global_attention_is_dense_attention_with_areas(source, target) -> None:  # type: ignore[no-untyped-def]
    compare(randomized(SphereAttention(6, source, target, heads=3)), 1e-10)
    compare(randomized(SphereAttention(6, source, target, heads=3, position=Rings(5))), 1e-10)


@pytest.mark.parametrize("engine", ["cpu", "torch", "reference"])
@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_neighborhoods_are_dense_attention_with_a_mask(source, target, engine) -> None:  # type: ignore[no-untyped-def]
    compare(randomized(SphereAttention(4, source, target, radius=0.9, heads=2, engine=engine)), 1e-10)
    options = {"radius": 0.9, "head_channels": 3, "position": PiecewiseLinear(5, 3), "engine": engine}
    compare(randomized(SphereAttention(4, source, target, **options)), 1e-10)


def test_a_neighborhood_of_radius_pi_is_the_sphere() -> None:
    for grid in (Equiangular(6, 12), HEALPix(2)):
        near, far = SphereAttention(4, grid, radius=math.pi, position=None), SphereAttention(4, grid)
        far.load_state_dict(near.state_dict())
        x = torch.randn(1, 4, *grid.shape, dtype=torch.float64)
        torch.testing.assert_close(near.double()(x), far.double()(x), rtol=0, atol=1e-12)


def test_many_rows_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("spheregeo.sparse.engines.portable.plans")
    monkeypatch.setattr(module, "CHUNK_BYTES", 4096)
    for source, target in PAIRS[:3]:
        compare(randomized(SphereAttention(4, source, target, radius=0.9, heads=2, engine="torch")), 1e-10)


def test_scores_that_would_overflow() -> None:
    layer = SphereAttention(4, HEALPix(2), radius=0.9, heads=2)
    x = torch.randn(1, 4, 48) * 300
    expected = randomized(layer)(x.double())
    for engine in ("cpu", "torch"):
        single = SphereAttention(4, HEALPix(2), radius=0.9, heads=2, engine=engine)
        single.load_state_dict({k: v.float() for k, v in layer.state_dict().items()})
        found = single(x)
        assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()  # scores of 1e5 in float32


def test_points_without_neighbors_get_the_bias() -> None:
    """At a radius below the distance to the nearest source no value reaches a point; gradients stay finite."""
    for engine in ("cpu", "torch", "reference"):
        layer = randomized(SphereAttention(2, HEALPix(1), HEALPix(4), radius=0.2, engine=engine))
        x = torch.randn(1, 2, 12, dtype=torch.float64, requires_grad=True)
        y = layer(x, torch.randn(1, 2, 192, dtype=torch.float64))
        alone = neighbors(HEALPix(1), HEALPix(4), 0.2).indptr.diff() == 0
        assert 0 < int(alone.sum()) < 192
        torch.testing.assert_close(y[0, :, alone], layer.mix.bias[:, None].expand(-1, int(alone.sum())))
        assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("grid", [GaussLegendre(24, 48), HEALPix(12), Icosahedral(3)], ids=str)
def test_error_of_rotations(grid) -> None:  # type: ignore[no-untyped-def]
    bounds = {None: 0.004, 0.6: 0.05}
    for radius, bound in bounds.items():
        layer = randomized(SphereAttention(4, grid, radius=radius, heads=2))
        found = measure_equivariance(layer, grid, group="so3", channels=4, lmax=5)
        assert found.error < bound, (radius, found.error)


def test_what_does_not_fit_is_named() -> None:
    grid = HEALPix(2)
    with pytest.raises(ValueError, match="heads is 3 but channels is 4"):
        SphereAttention(4, grid, heads=3)
    with pytest.raises(ValueError, match="radius is 1 and spacings 2"):
        SphereAttention(4, grid, radius=1, spacings=2)
    with pytest.raises(TypeError, match="target is 'HEALPix'; expected a grid"):
        SphereAttention(4, HEALPix(2), "HEALPix", spacings=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="position is 'rings'; expected 'auto', None or a kernel"):
        SphereAttention(4, grid, position="rings")
    layer = SphereAttention(4, grid, HEALPix(1))
    with pytest.raises(ValueError, match="query is None; expected a field on the target"):
        layer(torch.zeros(1, 4, 48))
    with pytest.raises(ValueError, match=r"query has shape \(1, 4, 48\); expected \(batch, 4, 12\)"):
        layer(torch.zeros(1, 4, 48), torch.zeros(1, 4, 48))
    pattern = CSRPattern.of(torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), 2)
    with pytest.raises(ValueError, match=r"offset has shape \(2,\) and basis \(0, 3\)"):
        AttentionMap(pattern, torch.zeros(2))
    with pytest.raises(ValueError, match=r"bias has shape \(1, 2\); expected \(1, 0\)"):
        AttentionMap(pattern, torch.zeros(3))(*torch.zeros(3, 1, 2, 4), 1, torch.zeros(1, 2))

"""GlobalPool, Pool, Unpool and Resample against the functions they stand for, with gradients and symmetry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.nn import GlobalPool, Pool, Resample, Unpool
from spheregeo.sampling import pool, resample, unpool

NESTED = [Equiangular(6, 8), GaussLegendre(4, 8), HEALPix(2), HEALPix(2, order="nested"), Icosahedral(1)]


@pytest.mark.parametrize("grid", [*NESTED, Fibonacci(30)], ids=str)
def test_global_pool(grid: Grid) -> None:
    x = torch.randn(2, 3, *grid.shape, dtype=torch.float64, requires_grad=True)
    mean, top = GlobalPool(grid).double(), GlobalPool(grid, "max").double()
    expected = (x.flatten(2) * grid.areas).sum(2) / grid.areas.sum()
    torch.testing.assert_close(mean(x), expected, rtol=0, atol=1e-14)
    assert torch.equal(top(x), x.flatten(2).max(2).values)
    assert torch.autograd.gradcheck(mean, (x,)) and torch.autograd.gradcheck(top, (x,))
    assert not mean.state_dict()
    if grid.symmetry is not None:
        for permutation in grid.symmetry.permutations[1::9]:
            torch.testing.assert_close(mean(x[..., permutation]), mean(x), rtol=0, atol=1e-13)
            assert torch.equal(top(x[..., permutation]), top(x))


def test_global_pool_integrates_over_the_sphere() -> None:
    """<z^2> = 1/3 on every grid, though pixels crowd at the poles of a lat-lon grid."""
    for grid in (Equiangular(12, 24), GaussLegendre(6, 12), HEALPix(8)):
        z = grid.points[:, 2].view(1, 1, *grid.shape)
        assert (
            abs(float(GlobalPool(grid).double()(z**2)) - 1 / 3)
            < 1e-2 * (not isinstance(grid, Equiangular)) + 1e-12
        )


@pytest.mark.parametrize("grid", NESTED, ids=str)
def test_pool_and_unpool_layers_are_the_functions(grid: Grid) -> None:
    x = torch.randn(2, 3, *grid.shape, dtype=torch.float64, requires_grad=True)
    for layer, expected in [(Pool(grid, r), pool(x, grid, r)) for r in ("mean", "area", "max")] + [
        (Unpool(grid, m), unpool(x, grid, m)) for m in ("nearest", "linear")
    ]:
        layer.double()
        y = layer(x)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-14)
        g = torch.randn_like(y)
        (a,), (b,) = torch.autograd.grad(y, x, g), torch.autograd.grad(expected, x, g)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
        assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)
        assert not layer.state_dict()


@pytest.mark.parametrize("grid", [HEALPix(4), HEALPix(4, order="nested"), Icosahedral(2)], ids=str)
def test_equivariance_under_the_grids_rotations(grid: Grid) -> None:
    coarse, fine = grid.coarsen(), grid.refine()
    layers: list[tuple[nn.Module, Grid]] = [(Unpool(grid, "nearest"), fine), (Resample(grid, coarse), coarse)]
    layers += [(Pool(grid, reduce), coarse) for reduce in ("mean", "area", "max")]
    x = torch.randn(1, 2, *grid.shape)
    assert grid.symmetry is not None
    for layer, out in layers:
        assert out.symmetry is not None
        for g in range(1, len(grid.symmetry.permutations), 5):
            here, there = (torch.argsort(s.permutations[g]) for s in (grid.symmetry, out.symmetry))
            if not _carries_parents(grid, g) and not isinstance(layer, Resample):
                continue
            torch.testing.assert_close(layer(x[..., here]), layer(x)[..., there], rtol=0, atol=1e-6)


def _carries_parents(grid: Grid, g: int) -> bool:
    """Whether rotation g takes children of one parent to children of one parent."""
    assert grid.symmetry is not None
    coarse = grid.coarsen()
    assert coarse.symmetry is not None
    parents = grid.parents()
    return torch.equal(parents[grid.symmetry.permutations[g]], coarse.symmetry.permutations[g][parents])


@pytest.mark.parametrize("method", ["linear", "nearest", "average"])
def test_resample_layer(method: str) -> None:
    for source, target in ((HEALPix(2), Equiangular(4, 8)), (Equiangular(6, 12), Icosahedral(1))):
        x = torch.randn(2, 3, *source.shape)
        layer = Resample(source, target, method)
        torch.testing.assert_close(layer(x), resample(x, source, target, method))
        exact = layer.double()(x.double())
        torch.testing.assert_close(exact, resample(x.double(), source, target, method), rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(layer, (x[:1, :1].double().requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize(
    "layer",
    [
        Pool(Equiangular(4, 8)),
        Pool(Equiangular(4, 8), "max"),
        Pool(HEALPix(2), "area"),
        Pool(Icosahedral(1), "max"),
        Unpool(Equiangular(4, 8)),
        Unpool(HEALPix(2)),
        Resample(HEALPix(2), Equiangular(4, 8)),
        GlobalPool(HEALPix(2)),
    ],
    ids=str,
)
def test_compile_export_and_half(layer: nn.Module) -> None:
    x = torch.randn(2, 3, *getattr(layer, "source", getattr(layer, "grid", None)).shape)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), layer(x))
    half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "layer", [Pool(HEALPix(2)), Unpool(HEALPix(2)), Resample(HEALPix(2), HEALPix(4))], ids=str
)
def test_fields_with_channels_last_in_memory_stay_so(layer: nn.Module) -> None:
    x = torch.randn(2, 48, 3).transpose(1, 2)
    y = layer(x)
    assert y.stride() == (3 * y.shape[2], 1, 3)
    torch.testing.assert_close(y, layer(x.contiguous()))


def test_errors() -> None:
    grid = HEALPix(2)
    with pytest.raises(ValueError, match="reduce is 'sum'"):
        GlobalPool(grid, "sum")
    with pytest.raises(ValueError, match="reduce is 'sum'"):
        Pool(grid, "sum")
    with pytest.raises(ValueError, match="method is 'cubic'"):
        Unpool(grid, "cubic")
    with pytest.raises(ValueError, match="method is 'cubic'"):
        Resample(grid, grid, "cubic")
    for make in (Pool, Unpool):
        with pytest.raises(ValueError, match=r"cannot be coarsened|not nested"):
            make(Fibonacci(30))
        with pytest.raises(ValueError, match="not nested"):
            make(Equiangular(5, 8, poles=True))
    for layer in (Pool(grid), Unpool(grid), Resample(grid, grid), GlobalPool(grid)):
        with pytest.raises(ValueError, match=r"x has shape \(1, 2, 192\)"):
            layer(torch.zeros(1, 2, 192))

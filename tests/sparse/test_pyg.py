"""The torch-sparse engine: runs where the packages are installed, says how to install them where not."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.nn import DiscoConv
from spheregeo.sparse import SparseMap

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch_scatter", "torch_sparse"))


@pytest.mark.skipif(not INSTALLED, reason="torch-scatter and torch-sparse are not installed")
@pytest.mark.parametrize("grid", [Equiangular(8, 16), HEALPix(4)], ids=str)
def test_engine_agrees_with_the_reference(grid) -> None:  # type: ignore[no-untyped-def]
    layers = [DiscoConv(3, 4, grid, engine=name).double() for name in ("pyg", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(2, 3, *grid.shape, dtype=torch.float64, requires_grad=True)
    outputs = [layer(x) for layer in layers]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(outputs[0])
    gradients = [
        torch.autograd.grad(y, (x, layer.weight), g) for y, layer in zip(outputs, layers, strict=True)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not INSTALLED, reason="torch-scatter and torch-sparse are not installed")
def test_exchange_of_sparse_tensors() -> None:
    from spheregeo.sparse.engines.pyg import from_sparse_tensor, to_sparse_tensor

    map_ = DiscoConv(1, 1, Equiangular(4, 8)).map
    matrix = to_sparse_tensor(map_, 1)
    torch.testing.assert_close(matrix.to_dense(), map_.to_dense()[1], rtol=0, atol=0)
    torch.testing.assert_close(from_sparse_tensor(matrix).to_dense()[0], map_.to_dense()[1], rtol=0, atol=0)
    with pytest.raises(ValueError, match="component is 2; the map has 2"):
        to_sparse_tensor(map_, 2)


@pytest.mark.skipif(INSTALLED, reason="torch-scatter and torch-sparse are installed")
def test_missing_packages_are_named() -> None:
    map_ = SparseMap(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), 1, engine="pyg")
    with pytest.raises(ImportError, match="pip install torch-scatter torch-sparse --no-build-isolation"):
        map_(torch.ones(1))

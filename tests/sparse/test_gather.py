"""Gather against a dense matrix: values, gradients of every order, batches, layouts, precision, transforms, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from spheregeo.sparse import Gather

INDEX = [3, -1, 0, 0, 4, 2, -1, 3]
EXTRAS = ([1, 1, 5, 2], [0, 4, 1, 2], [0.5, 0.25, -1.0, 2.0])
SOURCE = 6  # point 5 is read by nobody


def dense() -> Tensor:
    matrix = torch.zeros(len(INDEX), SOURCE, dtype=torch.float64)
    for row, point in enumerate(INDEX):
        if point >= 0:
            matrix[row, point] += 1
    for row, point, weight in zip(*EXTRAS):
        matrix[row, point] += weight
    return matrix


@pytest.mark.parametrize("engine", [None, "reference"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("last", [False, True])
def test_values_and_gradients(batch: int, last: bool, engine: str | None) -> None:
    gather, matrix = Gather(INDEX, SOURCE, EXTRAS, engine=engine), dense()
    x = torch.randn(batch, 2, SOURCE, dtype=torch.float64)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    x.requires_grad_()
    y, expected = gather(x), x @ matrix.T
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-15)
    assert y.stride(1) == 1  # channels last in memory
    g = torch.randn_like(y)
    (a,), (b,) = torch.autograd.grad(y, x, g), torch.autograd.grad(expected, x, g)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(gather, (x,))
    assert torch.autograd.gradgradcheck(gather, (x,))


def test_a_plain_permutation_has_no_extras() -> None:
    order = torch.randperm(50)
    gather = Gather(order, 50)
    assert not len(gather.get_buffer("adjoint_target")) and not len(gather.get_buffer("empty"))
    x = torch.randn(2, 3, 50)
    assert torch.equal(gather(x), x[..., order])
    assert torch.equal(Gather(order.argsort(), 50)(gather(x)), x)


def test_compile_export_copies_and_half() -> None:
    gather = Gather(INDEX, SOURCE, EXTRAS)
    x = torch.randn(2, 3, SOURCE)
    compiled = torch.compile(gather, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), gather(x))
    exported = torch.export.export(gather, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), gather(x))
    half = gather(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), gather(x), rtol=0.02, atol=0.02)
    twin = copy.deepcopy(gather)
    assert twin is not gather and twin.get_buffer("index") is gather.get_buffer("index")
    assert not gather.state_dict() and gather.memory_bytes() > 4 * len(INDEX)
    assert gather(x[:0]).shape == (0, 3, len(INDEX))


def test_errors() -> None:
    with pytest.raises(ValueError, match="index runs from 0 to 7; expected 0 to 6"):
        Gather([0, 7], 7)
    with pytest.raises(ValueError, match="source runs from -1"):
        Gather([0], 7, ([0], [-1], [1.0]))
    with pytest.raises(ValueError, match="target runs from 1 to 1; expected 0 to 0"):
        Gather([0], 7, ([1], [0], [1.0]))
    with pytest.raises(ValueError, match=r"x has shape \(1, 2, 5\); expected \(batch, channels, 7\)"):
        Gather([0], 7)(torch.randn(1, 2, 5))

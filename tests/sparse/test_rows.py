"""A matrix for each row: compiled loops, plain torch and the coupling with one pair a row give the same, derivatives too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.sparse import Coupling, Pairs, Path, RowMaps, Rows

F64 = torch.float64
BLOCKS, GROUPS, POINTS, ROWS, DIM = [(1, 3), (3, 2), (5, 4), (7, 1), (4, 2)], [2, 3, 1], 5, 9, 6


def structure() -> list[Path]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for block, group in ((0, 0), (1, 0), (2, 1), (0, 1), (3, 2), (4, 2), (2, 0)):
        c = torch.randn(GROUPS[group], BLOCKS[block][0], DIM, generator=generator, dtype=F64)
        found.append(Path(block, group, c * (c > 0.3)))
    return found


def maps(engine: str | None = None) -> RowMaps:
    return RowMaps(BLOCKS, GROUPS, structure(), DIM, engine=engine)


def data(made: RowMaps) -> tuple[Tensor, Tensor, Tensor, Rows]:
    generator = torch.Generator().manual_seed(1)
    index = torch.tensor([3, 0, 0, 4, 1, 3, 3, 0, 1])  # nothing names point 2
    x = torch.randn(POINTS * made.inputs, generator=generator, dtype=F64, requires_grad=True)
    y = torch.randn(ROWS, DIM, generator=generator, dtype=F64, requires_grad=True)
    g = torch.randn(ROWS * made.outputs, generator=generator, dtype=F64, requires_grad=True)
    return x, y, g, Rows.of(index, POINTS)


@pytest.mark.parametrize("engine", [None, "torch", "reference"])
def test_equals_the_coupling_of_one_pair_a_row(engine: str | None) -> None:
    made, twin = maps(engine), Coupling(BLOCKS, GROUPS, structure(), DIM, engine="torch")
    x, y, g, rows = data(made)
    pairs = Pairs(torch.arange(ROWS + 1), rows.source, POINTS)
    z, expected = made(x, made.coefficients(y), rows), twin(x, y, pairs)
    assert torch.allclose(z, expected, rtol=1e-13, atol=1e-13)
    assert [p.shape for p in made.split(z, ROWS)] == [p.shape for p in twin.split(expected, ROWS)]
    got, want = (torch.autograd.grad(v, (x, y), g, retain_graph=True) for v in (z, expected))
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(got, want, strict=True))
    assert torch.allclose(made.adjoint(g, made.coefficients(y), rows), want[0], rtol=1e-12, atol=1e-12)


def test_derivatives_of_second_order() -> None:
    made = maps()
    x, y, g, rows = data(made)

    def forward(x: Tensor, y: Tensor) -> Tensor:
        return made(x, made.coefficients(y), rows)[::5]

    def adjoint(g: Tensor, y: Tensor) -> Tensor:
        return made.adjoint(g, made.coefficients(y), rows)[::5]

    for f, inputs in ((forward, (x, y)), (adjoint, (g, y))):
        assert torch.autograd.gradcheck(f, inputs)
        assert torch.autograd.gradgradcheck(f, inputs)


def test_float32_and_bfloat16() -> None:
    made = maps()
    x, y, _, rows = data(made)
    z = made(x, made.coefficients(y), rows).detach()
    for dtype, bound in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        low = made(x.to(dtype), made.coefficients(y.to(dtype)), rows).detach()
        assert low.dtype == dtype and float((low.double() - z).norm() / z.norm()) < bound


def test_rows_and_their_points() -> None:
    rows = Rows.of(torch.tensor([1, 1, 3]), 4, ordered=True)
    assert rows.indptr.tolist() == [0, 0, 2, 2, 3] and rows.order.tolist() == [0, 1, 2]
    assert Rows.of(torch.tensor([2, 0, 2]), 3).order.tolist() == [1, 0, 2]
    empty, made = Rows.of(torch.zeros(0, dtype=torch.int64), POINTS), maps()
    x, y, _, _ = data(made)
    assert made(x, made.coefficients(y[:0]), empty).shape == (0,)
    assert not made.adjoint(x[:0], made.coefficients(y[:0]), empty).any()


def test_bad_sizes() -> None:
    made = maps()
    x, y, _, rows = data(made)
    with pytest.raises(ValueError, match=r"features have shape \(3,\)"):
        made(x[:3], made.coefficients(y), rows)
    with pytest.raises(ValueError, match="constants of a path have shape"):
        RowMaps(BLOCKS, GROUPS, [Path(0, 0, torch.zeros(2, 3, DIM))], DIM)

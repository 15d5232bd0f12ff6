"""Regular fields of C_N: shifts, Fourier change of basis, restriction of SO(2) types."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.groups import FieldType, RegularType, fourier_rows, restrict

SIZES = [1, 2, 3, 4, 5, 6, 7, 8]


def test_text() -> None:
    kind = RegularType.of("4xC6")
    assert kind == RegularType(4, 6) == RegularType.of(kind) == eval(repr(kind)) and str(kind) == "4xC6"
    assert kind.dim == 24 and kind.field_type == FieldType("4x0 + 4x1 + 4x2 + 4x3")
    for bad in ("4x6", "C6", "4xC", ""):
        with pytest.raises(ValueError, match="expected text such as '4xC6'"):
            RegularType.of(bad)
    with pytest.raises(ValueError, match="expected at least 1 each"):
        RegularType.of("0xC6")


@pytest.mark.parametrize("size", SIZES)
def test_fourier_rows_are_orthogonal(size: int) -> None:
    rows = fourier_rows(size)
    assert rows.shape == (size, size)
    assert (rows @ rows.T - torch.eye(size)).abs().max() < 1e-14
    if size % 2 == 0:
        signs = torch.tensor([(-1.0) ** j for j in range(size)], dtype=torch.float64)
        assert (rows[-1] - signs / math.sqrt(size)).abs().max() < 1e-15


def test_fourier_rows_of_some_orders() -> None:
    for size in (5, 6, 9):
        rows = fourier_rows(size, 2)
        assert rows.shape == (5, size)
        assert (rows @ rows.T - torch.eye(5)).abs().max() < 1e-14
        assert torch.equal(rows, fourier_rows(size)[:5])
    few = fourier_rows(4, 2)  # orders the samples cannot tell apart
    assert (few @ few.T - torch.eye(5)).abs().max() > 0.5
    with pytest.raises(ValueError, match="size is 0"):
        fourier_rows(0)
    with pytest.raises(ValueError, match="max_order is -1"):
        fourier_rows(3, -1)


@pytest.mark.parametrize("size", SIZES)
def test_fourier_change_intertwines_shifts_and_turns(size: int) -> None:
    kind = RegularType(3, size)
    field = kind.field_type
    q = kind.to_field_matrix()
    assert (q.T @ q - torch.eye(kind.dim)).abs().max() < 1e-14
    if size % 2:
        assert q.shape == (kind.dim, kind.dim)
    x = torch.randn(2, kind.dim, 5, dtype=torch.float64)
    for k in range(-2, size + 2):
        angle = torch.full((5,), 2 * math.pi * k / size, dtype=torch.float64)
        assert (kind.to_field(kind.turn(x, k)) - field.turn(kind.to_field(x), angle)).abs().max() < 1e-14
        regular = q @ kind.representation(k)
        assert (regular - field.representation(angle[0]) @ q).abs().max() < 1e-14
    assert (kind.to_field(kind.reflect(x)) - field.reflect(kind.to_field(x))).abs().max() < 1e-14
    assert (kind.from_field(kind.to_field(x)) - x).abs().max() < 1e-14
    y = torch.randn(2, field.dim, 5, dtype=torch.float64)
    again = kind.to_field(kind.from_field(y))
    if size % 2 == 0:  # one pattern of samples for the pair at the Nyquist order: its sine is lost
        y[:, kind.field_type.dim - 5 :: 2] = 0
    assert (again - y).abs().max() < 1e-14


def test_a_step_for_each_point() -> None:
    kind = RegularType(2, 6)
    x = torch.randn(3, 12, 7)
    steps = torch.randint(-8, 9, (7,))
    expected = torch.stack([kind.turn(x[..., i], int(k)) for i, k in enumerate(steps)], -1)
    assert torch.equal(kind.turn(x, steps), expected)
    assert torch.equal(kind.turn(kind.turn(x, steps), -steps), x)
    assert torch.equal(kind.turn(x, 1)[:, 0], x[:, 1])  # f[j] -> f[j + k]
    assert torch.equal(kind.turn(x.movedim(1, -1), 2, axis=-1), kind.turn(x, 2).movedim(1, -1))
    with pytest.raises(ValueError, match=r"expected integers of shape \(7,\)"):
        kind.turn(x, torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match="expected integers"):
        kind.turn(x, torch.zeros(7))
    with pytest.raises(ValueError, match="expected 12 channels on axis 1 for '2xC6'"):
        kind.turn(x[:, :11], 1)
    with pytest.raises(ValueError, match="expected 14 for type"):
        kind.from_field(x)


@pytest.mark.parametrize("size", SIZES)
def test_restriction_of_orders(size: int) -> None:
    kind = FieldType("2x0 + 1x0o + 2x1 + 1x2 + 2x3 + 1x5 + 1x6 + 1x7")
    restricted, signs = restrict(kind, size)
    assert restricted.dim == kind.dim and restricted.max_order <= size // 2
    d = torch.diag(signs)
    for k in range(size):
        angle = torch.tensor(2 * math.pi * k / size, dtype=torch.float64)
        assert (restricted.representation(angle) @ d - d @ kind.representation(angle)).abs().max() < 1e-14
    assert ((torch.tensor(restricted.signs) - torch.tensor(kind.signs)) == 0).all()
    assert restrict("4x0 + 2x1", 8)[0] == FieldType("4x0 + 2x1")
    assert restrict("1x5", 6)[0] == FieldType("1x1") and restrict("1x5", 6)[1].tolist() == [1, -1]
    with pytest.raises(ValueError, match="size is 0"):
        restrict(kind, 0)

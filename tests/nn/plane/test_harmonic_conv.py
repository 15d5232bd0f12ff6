"""``HarmonicConv2d``: complex filters of every order, negative ones alone too, exact at quarter turns."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.audit.randomise import randomise
from spheregeo.groups import FieldType
from spheregeo.nn import FieldBatchNorm, HarmonicConv2d, NormNonlinearity


def as_complex(x: Tensor, real: bool = False) -> Tensor:
    """Features as complex numbers. Shape: (B, channels, H, W) -> (B, features, H, W)."""
    return x + 0j if real else torch.complex(x[:, ::2], x[:, 1::2])


def orders(streams: FieldType) -> Tensor:
    return torch.cat([torch.full((t.multiplicity,), t.order, dtype=torch.float64) for t in streams.terms])


def turned(x: Tensor, streams: FieldType, angle: float, real: bool = False) -> Tensor:
    """Components of features turned by an angle, pixels left alone. Shape: of x."""
    if real:
        return x
    z = as_complex(x) * torch.exp(1j * angle * orders(streams))[:, None, None]
    return torch.stack([z.real, z.imag], 2).flatten(1, 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("into", "out", "real"),
    [("1x0", "1x0 + 2x1 + 1x2", True), ("2x1", "2x0", False), ("1x0 + 2x1", "1x0 + 1x1 + 1x2", False)],
)
def test_quarter_turns(into: str, out: str, real: bool, stride: int) -> None:
    """The second has filters of order −1 alone."""
    layer = HarmonicConv2d(into, out, 5, real_input=real, stride=stride).double()
    randomise(layer)
    x = torch.randn(2, layer.sizes[0], 7, 7, dtype=torch.float64)
    y = layer(x)
    for quarter in range(1, 4):
        angle = quarter * math.pi / 2
        moved = turned(torch.rot90(x, quarter, (-2, -1)), layer.in_streams, angle, real)
        expected = turned(torch.rot90(y, quarter, (-2, -1)), layer.out_streams, angle)
        torch.testing.assert_close(layer(moved), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(layer.export(7)(x), y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("real", [True, False])
def test_equals_the_complex_convolution(real: bool) -> None:
    layer = HarmonicConv2d("2x0" if real else "1x0 + 2x1", "1x0 + 2x1", 3, real_input=real).double()
    randomise(layer)
    inside, outside = orders(layer.in_streams), orders(layer.out_streams)
    kernel = torch.zeros(len(outside), len(inside), 3, 3, dtype=torch.complex128)
    rows = {order: (outside == order).nonzero()[:, 0] for order in outside.int().tolist()}
    columns = {order: (inside == order).nonzero()[:, 0] for order in inside.int().tolist()}
    pairs = [(o, i) for o in rows for i in columns]
    for (o, i), profile, phase in zip(pairs, layer.profiles, layer.phases, strict=True):
        for a, row in enumerate(rows[o]):
            for b, column in enumerate(columns[i]):
                radial = torch.einsum("j,jhw->hw", profile[a, b], layer.basis.profiles(o - i))
                kernel[row, column] = radial * torch.exp(1j * ((o - i) * layer.basis.angles() + phase[a, b]))
    x = torch.randn(2, layer.sizes[0], 5, 5, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(as_complex(x, real), kernel, padding=1)
    assert layer.bias is not None
    shift = torch.zeros(len(outside), dtype=torch.complex128)
    shift[outside == 0] = torch.view_as_complex(layer.bias.view(-1, 2))
    expected = expected + shift[:, None, None]
    found = layer(x)
    torch.testing.assert_close(as_complex(found), expected, rtol=0, atol=1e-13)
    g = torch.randn_like(found)
    inputs = [x, *layer.parameters()]
    slow = torch.autograd.grad(torch.stack([expected.real, expected.imag], 2).flatten(1, 2), inputs, g)
    for a, b in zip(torch.autograd.grad(found, inputs, g), slow):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_responses_turn_by_the_order_times_the_angle(bumps: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    streams = "3x0 + 3x1"
    first = HarmonicConv2d("1x0", streams, 5, real_input=True, padding=0).double()
    second = HarmonicConv2d(streams, "2x0 + 2x1 + 2x2", 5, padding=0).double()
    act = NormNonlinearity(first.magnitudes, "relu").double()
    for angle in (0.5, math.pi / 4):
        with torch.no_grad():
            y, z = (as_complex(second(act(first(bumps(9, a, 2.0, 24)))))[..., 0, 0] for a in (0.0, angle))
        for order in range(3):
            part = slice(2 * order, 2 * order + 2)
            error = z[:, part] - cmath.exp(1j * order * angle) * y[:, part]
            assert 1e-10 < error.abs().square().mean() / y[:, part].abs().square().mean() < 3e-2**2


def test_norms_act_on_magnitudes() -> None:
    layer = HarmonicConv2d("1x0", "2x0 + 3x1", real_input=True)
    assert layer.magnitudes == FieldType("5x1")
    norm, act = FieldBatchNorm(layer.magnitudes), NormNonlinearity(layer.magnitudes, "relu")
    z = as_complex(layer(torch.randn(2, 1, 9, 9)))
    out = as_complex(act(norm(torch.stack([z.real, z.imag], 2).flatten(1, 2))))
    cosine = (out * z.conj()).real / (out.abs() * z.abs())
    torch.testing.assert_close(cosine, torch.ones_like(cosine))  # phases stay


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no filter of size 3"):
        HarmonicConv2d("1x0", "1x5", 3)
    with pytest.raises(ValueError, match="order 0 alone"):
        HarmonicConv2d("1x1", "1x1", 3, real_input=True)
    with pytest.raises(ValueError, match="basis has size"):
        HarmonicConv2d("1x0", "1x1", 3, basis=HarmonicConv2d("1x0", "1x1", 5).basis)

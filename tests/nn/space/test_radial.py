"""Radial functions: their ends, their values against torch's, derivatives at zero."""

from __future__ import annotations

import pytest
import torch

from spheregeo.nn import RadialBasis, RadialNetwork
from spheregeo.nn.space import polynomial_envelope


@pytest.mark.parametrize("kind", ["bessel", "gaussian"])
def test_vanishes_with_two_derivatives_at_the_cutoff(kind: str) -> None:
    basis = RadialBasis(2.5, 4, kind).double()
    distance = torch.tensor([2.5 - 1e-6, 2.5, 4.0], dtype=torch.float64, requires_grad=True)
    y = basis(distance)
    (first,) = torch.autograd.grad(y.sum(), distance, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), distance)
    assert (
        float(y.detach().abs().max()) < 1e-14
        and float(first.detach().abs().max()) < 1e-9
        and float(second.abs().max()) < 1e-3
    )
    assert not y[2].any() and not first[2].any() and not second[2].any()


def test_bessel_functions_are_sines_over_the_distance() -> None:
    basis = RadialBasis(3.0, 5, envelope=False).double()
    r = torch.cat(
        [torch.linspace(0, 0.3, 200, dtype=torch.float64), torch.linspace(0.3, 3, 50, dtype=torch.float64)]
    )
    n = torch.arange(1.0, 6.0, dtype=torch.float64)
    assert torch.allclose(basis(r), 2**0.5 * n * torch.sinc(r[:, None] * n / 3), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "count", "error"),
    [(torch.float32, 8, 2e-6), (torch.float32, 32, 2e-5), (torch.bfloat16, 32, 4e-3)],
)
def test_bessel_functions_in_low_precision(dtype: torch.dtype, count: int, error: float) -> None:
    r = torch.linspace(0, 1, 257).to(dtype)  # exact in bfloat16 too
    r = r[(r.double() * 256) % 1 == 0]
    n = torch.arange(1, count + 1, dtype=torch.float64)
    waves = 2**0.5 * n * torch.sinc(r.double()[:, None] * n)
    found = RadialBasis(1.0, count, envelope=False)(r)
    assert found.dtype == dtype
    assert float((found.double() - waves).abs().max() / waves.abs().max()) < error


@pytest.mark.parametrize("kind", ["bessel", "gaussian"])
def test_derivatives_at_zero(kind: str) -> None:
    basis = RadialBasis(3.0, 3, kind).double()
    r = torch.tensor([0.0, 0.05, 0.19, 0.21, 1.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis, r)
    r = torch.tensor([1e-3, 0.2, 1.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(basis, r)
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(basis(zero).sum(), zero, create_graph=True)
    assert bool(torch.isfinite(torch.autograd.grad(first.sum(), zero)[0]).all())


def test_network_vanishes_where_the_envelope_does() -> None:
    network = RadialNetwork(4, [8], 3, extra=2)
    envelope = polynomial_envelope(torch.tensor([0.5, 1.0, 2.0]))
    y = network(torch.randn(3, 4), envelope, torch.randn(3, 2))
    assert y.shape == (3, 3) and bool(y[0].any()) and not y[1:].any()


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="kind is 'wavelet'"):
        RadialBasis(1.0, 3, "wavelet")
    with pytest.raises(ValueError, match="count is 0"):
        RadialBasis(1.0, 0)
    with pytest.raises(ValueError, match="cutoff is -1"):
        RadialBasis(-1.0)

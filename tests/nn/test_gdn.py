"""Divisive normalisation: its formula, gradients, bounds, and that parameters can leave them."""

from __future__ import annotations

import pytest
import torch

from spheregeo.nn import GDN


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_range(dtype: torch.dtype) -> None:
    """Squares of 1e3 and constants of 1e-6 lie outside float16's range; both must reach output and gradients."""
    layer, eps = GDN(3, beta_min=1e-7), torch.finfo(dtype).eps
    x = (torch.randn(2, 3, 50) * 1e3).to(dtype)
    for given in (x, x * 1e-6):
        found, exact = given.clone().requires_grad_(), given.double().requires_grad_()
        twin = GDN(3, beta_min=1e-7).double()
        twin.load_state_dict(layer.state_dict())
        with torch.autocast("cpu", dtype):
            y = layer(found)
        y.sum().backward()
        twin(exact).sum().backward()
        torch.testing.assert_close(y.double(), twin(exact), rtol=2 * eps, atol=1e-7)
        assert found.grad is not None and exact.grad is not None
        worst = (found.grad.double() - exact.grad).abs().max()
        assert worst < 2 * eps * exact.grad.abs().max() + 1e-7


@pytest.mark.parametrize("inverse", [False, True])
def test_formula_and_gradients(inverse: bool) -> None:
    layer = GDN(3, inverse=inverse).double()
    torch.testing.assert_close(
        layer.beta, torch.ones(3).double(), rtol=0, atol=1e-7
    )  # kept in float32 before
    torch.testing.assert_close(
        layer.gamma, 0.1 * torch.eye(3).double(), rtol=0, atol=1e-7
    )  # kept in float32 before
    for p in layer.parameters():
        torch.nn.init.uniform_(p, 0.2, 1.0)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    norm = layer.beta[:, None, None] + torch.einsum("ij,bjhw->bihw", layer.gamma, x.square())
    expected = x * norm**0.5 if inverse else x / norm**0.5
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    g = torch.randn_like(x)
    leaves = [x, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(layer(x), leaves, g), torch.autograd.grad(expected, leaves, g)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_parameters_stay_positive_and_come_back() -> None:
    layer = GDN(2)
    with torch.no_grad():
        layer.root_beta.fill_(-1.0)
        layer.root_gamma.fill_(-1.0)
    assert (layer.beta > 0).all() and (layer.gamma >= 0).all()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    x = torch.randn(64, 2, 8)
    for _ in range(30):  # towards weaker outputs, hence larger norms
        optimiser.zero_grad()
        layer(x).square().mean().backward()
        optimiser.step()
    assert (layer.gamma > 0.01).all() and (layer.beta > 0.01).all()


def test_errors() -> None:
    with pytest.raises(ValueError, match="channels is 0"):
        GDN(0)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 4\); expected \(batch, 2"):
        GDN(2)(torch.randn(1, 3, 4))

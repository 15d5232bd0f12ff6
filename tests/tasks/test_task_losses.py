"""Losses against integrals written out point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks import balanced_weights, cross_entropy, depth_berhu, depth_l1

GRID = Equiangular(4, 8)
AREAS = GRID.areas.reshape(GRID.shape)


def test_cross_entropy_equals_the_sum() -> None:
    logits, label = torch.randn(2, 3, 4, 8), torch.randint(0, 3, (2, 4, 8))
    label[0, 0, :3] = 255
    weights = torch.tensor([0.5, 1.0, 2.0])
    total = norm = 0.0
    for b, i, j in np.ndindex(2, 4, 8):
        c = int(label[b, i, j])
        if c == 255:
            continue
        z = logits[b, :, i, j].double()
        a = float(AREAS[i, j]) * float(weights[c])
        total += a * (math.log(float(z.exp().sum())) - float(z[c]))
        norm += a
    assert float(cross_entropy(logits, label, AREAS, 255, weights)) == pytest.approx(total / norm, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_equals_the_sum_with_its_gradient(gamma: float) -> None:
    logits, label = torch.randn(2, 3, 4, 8, requires_grad=True), torch.randint(0, 3, (2, 4, 8))
    label[0, 0, :3] = 255
    weights = torch.tensor([0.5, 1.0, 2.0])
    slow = logits.detach().double().requires_grad_()
    total, norm = torch.zeros((), dtype=torch.float64), 0.0
    for b, i, j in np.ndindex(2, 4, 8):
        c = int(label[b, i, j])
        if c != 255:
            p = slow[b, :, i, j].softmax(0)[c]
            a = float(AREAS[i, j]) * float(weights[c])
            total, norm = total - a * (1 - p) ** gamma * p.log(), norm + a
    got = cross_entropy(logits, label, AREAS, 255, weights, gamma=gamma)
    torch.testing.assert_close(got.double(), total / norm, rtol=1e-5, atol=1e-7)
    (want_gradient,) = torch.autograd.grad(total / norm, slow)
    (gradient,) = torch.autograd.grad(got, logits)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=1e-4, atol=1e-7)
    sure = (
        40.0 * torch.nn.functional.one_hot(torch.zeros(1, 4, 8).long(), 3).permute(0, 3, 1, 2)
    ).requires_grad_()
    (at_one,) = torch.autograd.grad(
        cross_entropy(sure, torch.zeros(1, 4, 8).long(), AREAS, gamma=gamma), sure
    )
    assert bool(torch.isfinite(at_one).all())


def test_constant_logits_cost_log_classes_on_every_grid() -> None:
    for grid in (GRID, HEALPix(2)):
        logits = torch.zeros(1, 7, *grid.shape)
        label = torch.randint(0, 7, (1, *grid.shape))
        value = cross_entropy(logits, label, grid.areas.reshape(grid.shape))
        assert float(value) == pytest.approx(math.log(7), rel=1e-6)


def test_nothing_valid_gives_zero_with_a_gradient() -> None:
    logits = torch.randn(1, 3, 4, 8, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 8), 255), AREAS)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_depth_losses_equal_the_sums_and_ignore_what_is_not_valid() -> None:
    truth, prediction = torch.rand(2, 4, 8) + 1, torch.rand(2, 4, 8) + 1
    valid = torch.rand(2, 4, 8) > 0.3
    truth[~valid] = torch.nan
    error = (prediction - truth).abs()[valid].double()
    areas = AREAS.expand(2, 4, 8)[valid]
    assert float(depth_l1(prediction, truth, valid, AREAS)) == pytest.approx(
        float((areas * error).sum() / areas.sum()), rel=1e-6
    )
    c = 0.2 * error.max()
    berhu = torch.where(error <= c, error, (error**2 + c**2) / (2 * c))
    assert float(depth_berhu(prediction, truth, valid, AREAS)) == pytest.approx(
        float((areas * berhu).sum() / areas.sum()), rel=1e-6
    )
    prediction.requires_grad_()
    depth_berhu(prediction, truth, valid, AREAS).backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
    assert prediction.grad[~valid].abs().max() == 0


def test_labels_that_are_all_void_are_named() -> None:
    with pytest.raises(ValueError, match="no pixel of the training data is labelled"):
        balanced_weights(torch.zeros(3))


def test_balanced_weights() -> None:
    weights = balanced_weights(torch.tensor([8.0, 2.0, 0.0]))
    assert weights[2] == 0
    assert weights[1] > weights[0]
    assert float((weights * torch.tensor([0.8, 0.2, 0.0])).sum()) == pytest.approx(1.0)
    assert float(weights[1] / weights[0]) == pytest.approx(math.log(1.82) / math.log(1.22), rel=1e-6)

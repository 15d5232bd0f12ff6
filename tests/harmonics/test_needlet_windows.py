"""Windows of needlets and framelets: partition of unity, supports, values by independent quadrature, localised needlets."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from scipy.special import eval_legendre

from spheregeo.harmonics import framelet_windows, needlet_profile, needlet_windows


@pytest.mark.parametrize("B", [1.05, 1.5, 2, math.e, 10.0])
@pytest.mark.parametrize("lowest", [0, 2])
@pytest.mark.parametrize("lmax", [0, 1, 17, 256])
def test_squares_of_needlet_windows_sum_to_one(lmax: int, B: float, lowest: int) -> None:
    windows = needlet_windows(lmax, B, lowest)
    torch.testing.assert_close(
        windows.square().sum(0), torch.ones(lmax + 1, dtype=torch.float64), rtol=0, atol=1e-14
    )
    assert windows.min() >= 0
    assert bool((windows[1:] > 0).any(1).all()), "a band without a degree was kept"
    assert not bool(((windows[1:-2] > 0) & (windows[3:] > 0)).any()), "bands two apart overlap"


@pytest.mark.parametrize("lmax", [0, 1, 8, 100])
@pytest.mark.parametrize("lowest", [0, 3])
def test_squares_of_framelet_windows_sum_to_one(lmax: int, lowest: int) -> None:
    windows = framelet_windows(lmax, lowest)
    torch.testing.assert_close(
        windows.square().sum(0), torch.ones(lmax + 1, dtype=torch.float64), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("B", [1.5, 2.0, 3.0])
def test_needlet_windows_are_the_stated_integral(B: float) -> None:
    """Against mpmath at 30 digits, degree by degree, and the stated supports."""
    mpmath.mp.dps = 30

    def bump(t: mpmath.mpf) -> mpmath.mpf:
        return mpmath.exp(-1 / (1 - t * t)) if abs(t) < 1 else mpmath.mpf(0)

    whole = mpmath.quad(bump, mpmath.linspace(-1, 1, 9))

    def step(x: mpmath.mpf) -> mpmath.mpf:
        b = mpmath.mpf(B)
        if x <= 1 / b:
            return mpmath.mpf(1)
        if x >= 1:
            return mpmath.mpf(0)
        return mpmath.quad(bump, mpmath.linspace(-1, 1 - 2 * b / (b - 1) * (x - 1 / b), 9)) / whole

    lmax = 12
    windows = needlet_windows(lmax, B)
    row, scale = 1, 0
    while row < len(windows):
        steps = [
            [step(mpmath.mpf(degree) / mpmath.mpf(B) ** (scale + k)) for degree in range(1, lmax + 1)]
            for k in (0, 1)
        ]
        squares = torch.tensor([float(b - a) for a, b in zip(*steps)], dtype=torch.float64)
        if bool((squares > 0).any()):
            torch.testing.assert_close(windows[row, 1:].square(), squares, rtol=0, atol=1e-14)
            outside = torch.tensor([not B ** (scale - 1) < d < B ** (scale + 1) for d in range(1, lmax + 1)])
            assert not bool(windows[row, 1:][outside].any())
            row += 1
        scale += 1


def test_framelets_refine_one_another() -> None:
    """α̂² + β̂₁² + β̂₂² of a level is α̂² of the next; the low pass is 1 up to a quarter and 0 from a half."""
    coarse, fine = framelet_windows(40, 4), framelet_windows(40, 5)
    torch.testing.assert_close(coarse[:3].square().sum(0), fine[0].square(), rtol=0, atol=1e-15)
    assert coarse[0, :5].tolist() == [1.0] * 5
    assert not bool(coarse[0, 8:].any())
    assert 0 < coarse[0, 6] < 1


def test_a_needlet_is_a_sum_of_legendre_polynomials_and_falls_off() -> None:
    windows = needlet_windows(64)
    angle = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    degrees = torch.arange(65)
    polynomials = torch.from_numpy(eval_legendre(degrees.numpy()[:, None], angle.cos().numpy()))
    expected = (windows[5] * (2 * degrees + 1) / (4 * math.pi)) @ polynomials
    torch.testing.assert_close(needlet_profile(windows[5], angle), expected, rtol=0, atol=1e-11)
    windows = needlet_windows(256)
    angle = torch.linspace(0, math.pi, 1000, dtype=torch.float64)
    for scale in range(2, 8):  # |ψ_j(θ)| ≤ C B^{2j} / (1 + B^j θ)³ with one C for all scales
        bound = 4.0**scale / (1 + 2.0**scale * angle) ** 3
        row = windows[scale + 1]
        assert (needlet_profile(row, angle).abs() / bound).max() < 60
        sharp = needlet_profile((row > 0).double(), angle).abs()
        assert (sharp / bound).max() > 30 * 4.0 ** (scale - 2), (
            "cut off sharply, bands fall off as slowly as this"
        )


def test_bad_arguments_are_named() -> None:
    for wrong in (1.0, 0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="B is"):
            needlet_windows(8, wrong)
    with pytest.raises(ValueError, match="lmax is -1"):
        needlet_windows(-1)
    with pytest.raises(ValueError, match="lowest is -2"):
        framelet_windows(8, -2)

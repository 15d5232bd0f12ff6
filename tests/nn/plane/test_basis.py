"""``PlanarBasis``: exact under quarter turns, phases for all others, and the error of turning that it promises."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.nn.plane.basis import LENGTH, POWER, PlanarBasis


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        (1, [1]),
        (2, [1]),
        (3, [2, 1]),
        (4, [2, 1]),
        (5, [3, 2, 1]),
        (7, [4, 2, 2, 1, 1]),
        (9, [4, 3, 3, 2, 2, 1, 1]),
    ],
)
def test_as_many_profiles_as_ever(size: int, counts: list[int]) -> None:
    """Weights of checkpoints depend on the count of functions."""
    basis = PlanarBasis(size)
    assert [basis.count(m) for m in range(basis.top + 2)] == [*counts, 0]


@pytest.mark.parametrize("size", [2, 5, 6])
def test_quarter_turns_reflections_and_phases(size: int) -> None:
    basis = PlanarBasis(size, 0.02)
    f = basis.functions()
    assert f.shape == (basis.num_functions, size, size)
    torch.testing.assert_close(torch.rot90(f, 1, (-2, -1)), basis.functions(math.pi / 2), rtol=0, atol=1e-14)
    torch.testing.assert_close(f.flip(-1), basis.functions(reflect=True), rtol=0, atol=1e-14)
    both = torch.rot90(f.flip(-1), 1, (-2, -1))
    torch.testing.assert_close(both, basis.functions(math.pi / 2, reflect=True), rtol=0, atol=1e-14)
    # a turn of the pair of weights is a turn of the function
    m = torch.tensor(basis.frequencies)
    phase = m.abs().double() * 0.7
    partner = torch.arange(len(m)) + m.sign()  # the sine beside each cosine, and the cosine beside each sine
    turned = phase.cos()[:, None, None] * f + (m.sign() * phase.sin())[:, None, None] * f[partner]
    torch.testing.assert_close(basis.functions(0.7), turned, rtol=0, atol=1e-14)
    if size % 2:
        assert not f[m != 0][:, size // 2, size // 2].any()


def test_profiles_are_orthonormal_within_the_tolerance_and_rings_go_outwards() -> None:
    basis = PlanarBasis(5, 0.015)
    x = torch.arange(5.0, dtype=torch.float64) - 2
    phi = basis.angles().flatten()
    rho = torch.linspace(1e-3, math.sqrt(2) * math.pi, 1500, dtype=torch.float64)
    alpha = torch.arange(48, dtype=torch.float64) * 2 * math.pi / 48
    spectrum = rho * (1 + (LENGTH * rho) ** 2) ** -POWER
    spectrum = spectrum / spectrum.sum()
    phase = rho[:, None, None] * (
        alpha.cos()[:, None] * x.repeat(5) - alpha.sin()[:, None] * x.repeat_interleave(5)
    )
    waves = torch.exp(-1j * phase)
    for m in range(basis.top + 1):
        rings = basis.profiles(m).flatten(1)
        torch.testing.assert_close(rings @ rings.T, torch.eye(len(rings), dtype=torch.float64))
        radius = rings.square() @ torch.hypot(x.repeat(5), x.repeat_interleave(5))
        assert (radius.diff() > 0.3).all()
        # the response on a circle of waves, and its parts of other frequencies than m
        parts = torch.fft.fft(waves @ (rings * torch.exp(1j * m * phi)).T, dim=1) / 48
        parts[:, m] = 0
        error = torch.einsum("w,wnj->j", spectrum, parts.abs().square()).sqrt()
        assert (error <= basis.tolerance).all()
        assert error.max() > 1e-4 * m


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance is 0"):
        PlanarBasis(3, 0)
    with pytest.raises(ValueError, match="size"):
        PlanarBasis(0)
    assert PlanarBasis(5, max_frequency=1).top == 1
    assert PlanarBasis(3).profiles(7).shape == (0, 3, 3)

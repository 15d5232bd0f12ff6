"""Quadrature rules: exactness, golden tables, and torch-harmonics as oracle."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre

from spheregeo.harmonics import clenshaw_curtis, fejer1, fejer2, gauss_legendre

RULES = {
    "fejer1": fejer1,
    "fejer2": fejer2,
    "clenshaw_curtis": clenshaw_curtis,
    "gauss_legendre": gauss_legendre,
}
TABLE = Path(__file__).parents[2] / "meshes" / "quadrature" / "rules.csv"


def degree(name: str, n: int) -> int:
    """Highest degree that n nodes integrate exactly; the symmetric rules gain one at odd n."""
    return 2 * n - 1 if name == "gauss_legendre" else n - 1 + n % 2


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", range(2, 34))
def test_legendre_polynomials_up_to_the_rules_degree_are_exact(name: str, n: int) -> None:
    theta, weights = RULES[name](n)
    values = legendre.legvander(np.cos(theta.numpy()), degree(name, n) + 2)
    integrals = weights.numpy() @ values
    expected = np.zeros(degree(name, n) + 1)
    expected[0] = 2
    np.testing.assert_allclose(integrals[: degree(name, n) + 1], expected, atol=1e-13)
    assert np.abs(integrals[degree(name, n) + 1 :]).max() > 1e-3 / n, "the stated degree is not the highest"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [127, 512, 2049])
def test_large_rules_sum_to_two_and_are_positive_and_symmetric(name: str, n: int) -> None:
    theta, weights = RULES[name](n)
    assert abs(weights.sum().item() - 2) < 1e-13
    assert (weights > 0).all() and (theta.diff() > 0).all()
    assert torch.equal(weights, weights.flip(0))
    assert (theta + theta.flip(0) - torch.pi).abs().max() < 1e-15 * 4
    assert theta.dtype == weights.dtype == torch.float64


def test_golden_tables() -> None:
    rows = defaultdict(list)
    with open(TABLE) as file:
        for row in csv.DictReader(file):
            rows[row["rule"], int(row["n"])].append((float(row["colatitude"]), float(row["weight"])))
    assert {rule for rule, _ in rows} == set(RULES)
    for (rule, n), expected in rows.items():
        got = torch.stack(RULES[rule](n), -1).numpy()
        np.testing.assert_allclose(got, expected, atol=2e-15, err_msg=f"{rule}({n})")


@pytest.mark.parametrize("n", [5, 32, 33, 181])
def test_torch_harmonics_agrees(n: int) -> None:
    th = pytest.importorskip("torch_harmonics.quadrature")
    for grid, rule in (("equiangular", clenshaw_curtis), ("legendre-gauss", gauss_legendre)):
        theta, weights = th.precompute_latitudes(n, grid=grid)
        got_theta, got_weights = rule(n)
        assert (got_theta - theta).abs().max() < 5e-14
        assert (got_weights - weights).abs().max() < 1e-14


@pytest.mark.parametrize("n", [1, 2, 181, 2048])
def test_gauss_legendre_keeps_its_digits_at_the_poles(n: int) -> None:
    """The first node and weight in 40 digits: scipy's own are off by 6e-11 (n = 181) and 1e-7 (2048) there."""
    import mpmath as mp

    theta, weights = gauss_legendre(n)
    with mp.workdps(40):
        x = mp.cos(mp.mpf(theta[0].item()))
        for _ in range(4):
            before, value = mp.mpf(1), x
            for k in range(1, n):
                before, value = value, ((2 * k + 1) * x * value - k * before) / (k + 1)
            slope = n * (before - x * value) / (1 - x * x)
            x -= value / slope
        assert abs(theta[0].item() - mp.acos(x)) < 5e-16
        assert abs(weights[0].item() * (1 - x * x) * slope**2 / 2 - 1) < 1e-12


@pytest.mark.parametrize(
    ("name", "n"), [("fejer1", 0), ("fejer2", 0), ("clenshaw_curtis", 1), ("gauss_legendre", -3)]
)
def test_too_few_nodes_are_refused(name: str, n: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: n is {n}, expected at least"):
        RULES[name](n)

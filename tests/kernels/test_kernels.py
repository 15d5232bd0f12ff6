"""Every kernel: size, orders, support, cut-off, repr; the bases shared with torch-harmonics equal theirs."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from spheregeo import kernels
from spheregeo.kernels import (
    CircularHarmonics,
    FourierBessel,
    GaussianRings,
    Kernel,
    Morlet,
    PiecewiseLinear,
    Rings,
    Zernike,
    from_torch_harmonics,
)
from spheregeo.kernels.moments import disc_rule
from spheregeo.testing import small_kernels

ALL = [
    (Rings(1), 1),
    (Rings(3), 2),
    (Rings(4), 2),
    (Rings(5), 3),
    (PiecewiseLinear(3, 3), 4),
    (PiecewiseLinear(5, 4), 9),
    (PiecewiseLinear(4, 3), 6),
    (PiecewiseLinear(3, 1), 2),
    (GaussianRings(3), 3),
    (CircularHarmonics(2, 3), 14),
    (Zernike(3), 10),
    (Morlet(3, 3), 9),
    (FourierBessel(3, 3), 13),
]
ALL += [
    (kernel, len(kernel.orders)) for kernel in small_kernels() if kernel not in dict(ALL)
]  # those exported since
IDS = [str(kernel) for kernel, _ in ALL]


def scatter(count: int = 4000, reach: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, dtype=torch.float64) * reach, torch.rand(count, dtype=torch.float64) * 8 - 4


@pytest.mark.parametrize(("kernel", "size"), ALL, ids=IDS)
def test_values(kernel: Kernel, size: int) -> None:
    r, phi = scatter()
    values, support = kernel(r, phi, 0.3), kernel.support(r, phi, 0.3)
    assert values.shape == support.shape == (size, len(r)) and values.dtype == torch.float64
    assert kernel.num_functions == size == len(kernel.orders)
    assert (values[:, r > 0.3] == 0).all() and not support[:, r > 0.3].any()
    assert (values[~support] == 0).all()
    assert (values.abs().amax(1) > 0.1).all()
    assert torch.allclose(values, kernel(r, phi + 2 * math.pi, 0.3), atol=1e-12)
    assert torch.allclose(values, kernel(2 * r, phi, 0.6), atol=1e-12)  # a function of r / radius


@pytest.mark.parametrize(("kernel", "size"), ALL, ids=IDS)
def test_value_semantics(kernel: Kernel, size: int) -> None:
    twin = eval(repr(kernel), vars(kernels))
    assert twin == kernel and hash(twin) == hash(kernel)
    with pytest.raises(AttributeError):
        kernel.num_rings = 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kernel", "size"), ALL, ids=IDS)
def test_orders(kernel: Kernel, size: int) -> None:
    """A function of order m, turned by alpha, mixes with its partner as cos and sin of m alpha; order 0 stays."""
    r, phi = scatter()
    alpha, values = 0.7, kernel(r, phi, 0.3)
    turned, quarter = kernel(r, phi + alpha, 0.3), {}
    for k, order in enumerate(kernel.orders):
        if order == 0:
            assert torch.allclose(turned[k], values[k], atol=1e-12)
        elif order is not None:
            quarter = kernel(r, phi + math.pi / (2 * abs(order)), 0.3)[k]
            assert torch.allclose(
                turned[k],
                math.cos(order * alpha) * values[k] + math.sin(abs(order) * alpha) * quarter,
                atol=1e-12,
            )
        else:
            assert not torch.allclose(turned[k], values[k], atol=1e-2)
    assert kernel.isotropic == bool(torch.allclose(turned, values, atol=1e-12))


@pytest.mark.parametrize(
    "kernel", [CircularHarmonics(3, 2), Zernike(4), FourierBessel(3, 3), Morlet(3, 3)], ids=str
)
def test_unit_norm_on_the_flat_disc(kernel: Kernel) -> None:
    r, phi, weight = disc_rule(kernel, 1e-3)
    norms = (kernel(r, phi, 1e-3) ** 2 * weight).sum(1).sqrt() / 1e-3
    # Morlet is normalised by torch-harmonics' midpoint rule of 50 radii, good to some 1e-4
    torch.testing.assert_close(
        norms, torch.ones_like(norms), rtol=1e-3 if isinstance(kernel, Morlet) else 1e-6, atol=0
    )


@pytest.mark.parametrize("kernel", [Zernike(4), FourierBessel(3, 3)], ids=str)
def test_orthogonal_on_the_flat_disc(kernel: Kernel) -> None:
    r, phi, weight = disc_rule(kernel, 1e-3)
    values = kernel(r, phi, 1e-3) / 1e-3
    torch.testing.assert_close(
        (values * weight) @ values.T, torch.eye(len(values), dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_partition_of_unity() -> None:
    r, phi = scatter(reach=0.2)
    for kernel in (Rings(5), PiecewiseLinear(5, 4), PiecewiseLinear(3, 2)):
        total = kernel(r, phi, 0.3).sum(0)  # rings at 0, .1, .2 for 5; 0, .15 for 3
        inner = r <= (0.2 if kernel.num_rings == 5 else 0.15)
        torch.testing.assert_close(total[inner], torch.ones_like(total[inner]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("basis_type", "kernel_shape"),
    [
        ("piecewise linear", s)
        for s in (1, 2, 3, 4, 5, (3,), (3, 1), (3, 2), (3, 3), (2, 3), (4, 3), (4, 4), (5, 4), (7, 5))
    ]
    + [("harmonic", s) for s in (3, (3, 3), (1, 1), (2, 5), (4, 3))]
    + [("morlet", (3, 3))]
    + [("zernike", s) for s in (1, 2, 3, (5,))]  # from 6 on, theirs rounds its factorials to float32
    + [("fourier-bessel", s) for s in (2, (1, 0), (3, 3), (4, 6))],
)
def test_equals_torch_harmonics(basis_type: str, kernel_shape: int | tuple[int, ...]) -> None:
    theirs = pytest.importorskip("torch_harmonics.filter_basis")
    r, phi = (a.reshape(50, 80) for a in scatter())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "morlet" is their deprecated alias
        basis = theirs.get_filter_basis(kernel_shape, basis_type)
    index, nonzeros = basis.compute_support_vals(r, phi.remainder(2 * math.pi), r_cutoff=0.3)
    expected = torch.zeros(basis.kernel_size, 50, 80, dtype=torch.float64)
    expected[tuple(index.T)] = nonzeros
    support = torch.zeros_like(expected, dtype=torch.bool)
    support[tuple(index.T)] = True
    kernel, permutation = from_torch_harmonics(basis_type, kernel_shape)
    torch.testing.assert_close(kernel(r, phi, 0.3), expected[permutation], rtol=0, atol=1e-12)
    assert torch.equal(kernel.support(r, phi, 0.3), support[permutation])
    assert [order == 0 for order in kernel.orders] == basis.isotropic_mask


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rings(0),
        lambda: Rings(2.0),  # type: ignore[arg-type]
        lambda: PiecewiseLinear(3, 0),
        lambda: GaussianRings(-1),
        lambda: CircularHarmonics(1, -1),
        lambda: Zernike(-1),
        lambda: Morlet(0, 3),
        lambda: FourierBessel(0, 1),
    ],
)
def test_wrong_size(make: object) -> None:
    with pytest.raises(ValueError, match="expected an integer >="):
        make()  # type: ignore[operator]


def test_wrong_call() -> None:
    r, phi = scatter(5)
    with pytest.raises(ValueError, match="phi has shape"):
        Rings(3)(r, phi[:4], 0.3)
    with pytest.raises(ValueError, match="radius is 0"):
        Rings(3)(r, phi, 0)

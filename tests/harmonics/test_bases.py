"""The converters between e3nn's basis and layout and the others, round trip and against what each library defines."""

from __future__ import annotations

import warnings

import pytest
import torch
from e3nn.o3 import Irreps

from spheregeo.groups import random_rotations
from spheregeo.harmonics import (
    component_harmonics,
    from_z_polar,
    real_harmonics,
    to_ir_mul,
    to_mul_ir,
    to_z_polar,
    wigner_D,
    z_polar_matrix,
)

IRREPS = Irreps("4x0e+3x1o+0x4e+2x2e+1x3o+2x1e")


def test_harmonics_of_both_polar_axes() -> None:
    p = torch.nn.functional.normalize(torch.randn(30, 3, dtype=torch.float64), dim=1)
    irreps = Irreps.spherical_harmonics(8)
    ours = component_harmonics(p, 8, normalization="integral")
    assert (to_z_polar(ours, irreps) - real_harmonics(p, 8)).abs().max() < 1e-13
    assert (from_z_polar(real_harmonics(p, 8), irreps) - ours).abs().max() < 1e-13


def test_round_trips() -> None:
    x = torch.randn(2, 5, IRREPS.dim, dtype=torch.float64)
    assert (from_z_polar(to_z_polar(x, IRREPS), IRREPS) - x).abs().max() < 1e-14
    assert torch.equal(to_mul_ir(to_ir_mul(x, IRREPS), IRREPS), x)
    assert torch.equal(to_ir_mul(to_mul_ir(x, IRREPS), IRREPS), x)


def test_vectors_are_cycled() -> None:
    # the z-polar l = 1 is (y, z, x), as in escnn
    x = torch.tensor([1.0, 2.0, 3.0])
    assert (to_z_polar(x, "1x1o") - torch.tensor([2.0, 3.0, 1.0])).abs().max() < 1e-6
    matrix = z_polar_matrix(4)
    assert (matrix @ matrix.T - torch.eye(9, dtype=torch.float64)).abs().max() < 1e-14


def test_layouts_move_components_where_they_say() -> None:
    x = torch.arange(7.0)  # a scalar, then two vectors
    assert to_ir_mul(x, "1x0e+2x1o").tolist() == [0, 1, 4, 2, 5, 3, 6]


def test_z_polar_matrices_are_those_of_real_harmonics() -> None:
    rotation = random_rotations(1)[0]
    p = torch.nn.functional.normalize(torch.randn(9, 3, dtype=torch.float64), dim=1)
    for degree in (1, 2, 5):
        part = slice(degree**2, (degree + 1) ** 2)
        a = z_polar_matrix(degree)
        turned = real_harmonics(p, degree)[:, part] @ (a @ wigner_D(degree, rotation) @ a.T).T
        assert (turned - real_harmonics(p @ rotation.T, degree)[:, part]).abs().max() < 1e-13


def test_gradients_pass_through() -> None:
    x = torch.randn(2, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: to_ir_mul(to_z_polar(x, IRREPS), IRREPS), x)


def test_escnn_agrees() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = pytest.importorskip("escnn.group", exc_type=ImportError)  # needs numpy below 2
    so3 = group.so3_group(4)
    rotation = random_rotations(1)[0]
    element = so3.element(rotation.numpy(), "MAT")
    for degree in range(5):
        a = z_polar_matrix(degree)
        expected = torch.from_numpy(so3.irrep(degree)(element))
        assert (a @ wigner_D(degree, rotation) @ a.T - expected).abs().max() < 1e-10


@pytest.mark.parametrize("function", [to_z_polar, from_z_polar, to_ir_mul, to_mul_ir])
def test_bad_shapes_are_named(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"expected \(..., 3\)"):
        function(torch.zeros(2, 4), "1x1o")
    assert function(torch.zeros(2, 0), "").shape == (2, 0)

"""Motions of the plane and rotation vectors: scipy's matrix logarithm as the oracle, the group's axioms, ends of the range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.groups import (
    axis_angle,
    random_rotations,
    se2_exp,
    se2_half_angle,
    se2_inverse,
    se2_log,
    se2_matrix,
    se2_product,
    so3_exp,
    so3_log,
)

# angles at and near both ends, where formulas with cot θ/2 or θ/sin θ lose digits
ENDS = [0.0, 1e-12, -1e-9, 1e-7, -1e-4, 1e-2, math.pi - 1e-2, -math.pi + 1e-4, math.pi - 1e-7, math.pi - 1e-9]


def motions(n: int) -> Tensor:
    g = torch.randn(n, 3, dtype=torch.float64) * 3
    g[:, 2] = (torch.rand(n, dtype=torch.float64) * 2 - 1) * math.pi
    g[: len(ENDS), 2] = torch.tensor(ENDS, dtype=torch.float64)
    return g


def turns(n: int) -> Tensor:
    axis = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=-1)
    angle = torch.rand(n, dtype=torch.float64) * math.pi
    angle[: len(ENDS)] = torch.tensor(ENDS, dtype=torch.float64).abs()
    return axis * angle[:, None]


def scipy_errors(n: int) -> tuple[float, float]:
    """The largest differences from scipy's logarithms over n motions and n rotations, and of scipy's exponentials from them.

    Within 1e-4 of a half turn scipy's logarithm keeps about 1e-16 / (π − θ) only, so there the exponential alone is the oracle.
    """
    from scipy.linalg import expm, logm

    logarithm, exponential = 0.0, 0.0
    g, v = motions(n), turns(n)
    flat = ([(0, 2), (1, 2), (1, 0)], [(2, 1), (0, 2), (1, 0)])
    for matrices, ours, places in (
        (se2_matrix(g), se2_log(g), flat[0]),
        (so3_exp(v), so3_log(so3_exp(v)), flat[1]),
    ):
        for matrix, c in zip(matrices.numpy(), ours.numpy(), strict=True):
            x, y, z = c
            algebra = (
                [[0, -z, x], [z, 0, y], [0, 0, 0]]
                if places is flat[0]
                else [[0, -z, y], [z, 0, -x], [-y, x, 0]]
            )
            exponential = max(exponential, abs(expm(np.array(algebra)) - matrix).max())
            if math.pi - (abs(z) if places is flat[0] else np.linalg.norm(c)) > 0.99e-4:
                a = logm(matrix)
                logarithm = max(logarithm, *(abs(a[i] - c[k]) for k, i in enumerate(places)))
    return logarithm, exponential


def test_logarithms_equal_scipys_at_both_ends_too() -> None:
    torch.manual_seed(0)
    logarithm, exponential = scipy_errors(250)
    assert logarithm < 1e-10
    assert exponential < 1e-13


def test_motions_are_a_group_of_matrices() -> None:
    torch.manual_seed(1)
    g, h = motions(50), motions(50).flip(0)
    assert (se2_matrix(se2_product(g, h)) - se2_matrix(g) @ se2_matrix(h)).abs().max() < 1e-14
    assert (se2_matrix(se2_inverse(g)) @ se2_matrix(g) - torch.eye(3).double()).abs().max() < 1e-14


def test_exponentials_undo_logarithms_and_inverses_change_signs() -> None:
    torch.manual_seed(2)
    g = motions(200)
    assert (se2_exp(se2_log(g)) - g).abs().max() < 1e-14
    for coordinates in (se2_log, se2_half_angle):
        assert (coordinates(se2_inverse(g)) + coordinates(g)).abs().max() < 1e-13
    v = turns(200)
    assert (
        so3_log(so3_exp(v)) - v
    ).abs().max() < 3e-9  # the angle is within 1e-9 of π: its cosine knows no more
    assert (so3_exp(so3_log(so3_exp(v))) - so3_exp(v)).abs().max() < 1e-14
    r = random_rotations(200)
    assert (so3_log(r.mT) + so3_log(r)).abs().max() < 1e-13


def test_rotation_vectors_are_axis_and_angle() -> None:
    assert torch.allclose(
        so3_exp(torch.tensor([0.0, 0.0, 0.7]).double()), axis_angle((0, 0, 1), 0.7), atol=1e-15
    )
    half = so3_log(axis_angle((0.0, 3.0, 4.0), math.pi))
    assert torch.allclose(half.abs(), math.pi * torch.tensor([0.0, 0.6, 0.8]).double(), atol=1e-15)
    assert float(so3_log(torch.eye(3)).abs().max()) == 0


def test_gradients_are_right_and_finite_at_the_unit() -> None:
    torch.manual_seed(3)
    assert torch.autograd.gradcheck(se2_log, (motions(16)[[0, 3, 5, 11, 12, 13]].requires_grad_(),))
    assert torch.autograd.gradcheck(se2_exp, (torch.randn(4, 3).double().requires_grad_(),))
    v = torch.cat([torch.zeros(1, 3), torch.randn(3, 3) * 0.8]).double().requires_grad_()
    assert torch.autograd.gradcheck(so3_exp, (v,))
    assert torch.autograd.gradcheck(lambda u: so3_log(so3_exp(u)), (v,))


def test_other_shapes_and_types_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"se2_log: g has shape \(2,\)"):
        se2_log(torch.zeros(2))
    with pytest.raises(TypeError, match=r"so3_exp: vector is torch.int64"):
        so3_exp(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected"):
        so3_log(torch.zeros(3))

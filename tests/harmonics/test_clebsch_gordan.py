"""Clebsch–Gordan coefficients against e3nn's, their symmetries, and the generators of rotations."""

from __future__ import annotations

import math
import time

import pytest
import torch
from e3nn import o3

from spheregeo.groups import random_rotations
from spheregeo.harmonics import (
    clebsch_gordan,
    clebsch_gordan_entries,
    packed_wigner,
    rotation_generators,
    unpack_wigner,
)


def triples(lmax: int) -> list[tuple[int, int, int]]:
    degrees = range(lmax + 1)
    return [(a, b, c) for a in degrees for b in degrees for c in range(abs(a - b), min(a + b, lmax) + 1)]


def test_equal_to_e3nn_in_size_and_sign() -> None:
    for triple in triples(5):
        expected = o3.wigner_3j(*triple, dtype=torch.float64)
        assert (clebsch_gordan(*triple) - expected).abs().max() < 1e-15, triple


@pytest.mark.parametrize("triple", [(20, 15, 9), (18, 18, 18), (16, 17, 20)])
def test_large_degrees_are_orthonormal(triple: tuple[int, int, int]) -> None:
    # beyond l1 + l2 + l3 = 52 the sums are done in integers; Σ_ab C_abc C_abd = δ_cd / (2 l3 + 1)
    c = clebsch_gordan(*triple)
    gram = torch.einsum("abc,abd->cd", c, c) * (2 * triple[2] + 1)
    assert (gram - torch.eye(2 * triple[2] + 1, dtype=torch.float64)).abs().max() < 1e-13


def test_invariant_under_rotations() -> None:
    matrices = unpack_wigner(packed_wigner(random_rotations(3), 4))
    for a, b, c in [(1, 1, 1), (2, 3, 4), (4, 4, 3), (0, 2, 2)]:
        tensor = clebsch_gordan(a, b, c)
        turned = torch.einsum("nai,nbj,nck,ijk->nabc", matrices[a], matrices[b], matrices[c], tensor)
        assert (turned - tensor).abs().max() < 1e-14


def test_forbidden_entries_are_exactly_zero() -> None:
    # without the symmetry's zeros some of these would be 1e-17
    count = 0
    for triple in triples(4):
        dense = clebsch_gordan(*triple)
        assert not bool(((dense != 0) & (dense.abs() < 1e-6)).any()), triple
        count += int((dense != 0).sum())
    natural = sum(int((clebsch_gordan(*t) != 0).sum()) for t in triples(2) if sum(t) % 2 == 0)
    assert natural == 83 and count > 1158


def test_entries_rebuild_the_tensor() -> None:
    for triple in [(2, 3, 4), (1, 1, 1), (0, 0, 0)]:
        indices, values = clebsch_gordan_entries(*triple)
        dense = clebsch_gordan(*triple)
        rebuilt = torch.zeros_like(dense)
        rebuilt[tuple(indices.T)] = values
        assert indices.dtype == torch.int64 and torch.equal(rebuilt, dense)
        assert bool((values != 0).all()) and len(values) == int((dense != 0).sum())


def test_the_result_is_a_copy() -> None:
    before = clebsch_gordan(1, 1, 2)
    clebsch_gordan(1, 1, 2).zero_()
    rotation_generators(2).zero_()
    assert torch.equal(clebsch_gordan(1, 1, 2), before)
    assert float(rotation_generators(2).abs().max()) > 1


def test_a_second_request_costs_microseconds() -> None:
    clebsch_gordan(6, 6, 6)
    start = time.process_time()
    for _ in range(100):
        clebsch_gordan(6, 6, 6)
    assert time.process_time() - start < 0.05


def test_generators_are_those_of_rotations() -> None:
    # 𝒳_k v = e_k × v at l = 1; [𝒳_x, 𝒳_y] = 𝒳_z; Σ 𝒳² = −l(l + 1); and D is their exponential
    v = torch.randn(3, dtype=torch.float64)
    for k, unit in enumerate(torch.eye(3, dtype=torch.float64)):
        assert (rotation_generators(1)[k] @ v - torch.linalg.cross(unit, v)).abs().max() < 1e-15
    omega = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64)
    rotation = torch.linalg.matrix_exp(torch.einsum("k,kab->ab", omega, rotation_generators(1)))
    matrices = unpack_wigner(packed_wigner(rotation, 6))
    for degree in range(7):
        x, y, z = generators = rotation_generators(degree)
        assert (x @ y - y @ x - z).abs().max() < 1e-14 * max(1, degree**2)
        casimir = (generators @ generators).sum(0)
        expected = -degree * (degree + 1) * torch.eye(2 * degree + 1, dtype=torch.float64)
        assert (casimir - expected).abs().max() < 1e-13 * max(1, degree**2)
        exponential = torch.linalg.matrix_exp(torch.einsum("k,kab->ab", omega, generators))
        assert (matrices[degree] - exponential).abs().max() < 1e-13
    assert math.isclose(float(rotation_generators(3).norm()) ** 2, 3 * 4 * 7, rel_tol=1e-13)


@pytest.mark.parametrize("triple", [(1, 1, 3), (2, 5, 2), (-1, 1, 1)])
def test_bad_degrees_are_named(triple: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        clebsch_gordan(*triple)
    with pytest.raises(ValueError, match="expected"):
        clebsch_gordan_entries(*triple)


def test_bad_generator_degree() -> None:
    with pytest.raises(ValueError, match="degree is -1"):
        rotation_generators(-1)

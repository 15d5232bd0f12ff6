"""Products of features beside plain sums over all tuples of components in float64: values, all derivatives, rotations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from e3nn.o3 import Irreps, wigner_3j
from torch import Tensor

from spheregeo.groups import random_rotations
from spheregeo.harmonics import wigner_D
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.space.many_body import Kinds, SymmetricContraction, product_basis
from spheregeo.nn.space.many_body import polynomial as polynomials

KINDS = torch.tensor([3, 0, 3, 1])


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def dense(lmax: int, target: int, degree: int) -> Tensor:
    """The tables U in full, (paths, 2 L + 1, V, ..., V), symmetric in the variables."""
    basis, size = product_basis(lmax, target, degree), (lmax + 1) ** 2
    full = torch.zeros(basis.size, 2 * target + 1, *[size] * degree)
    for name, row, path, value in zip(basis.monomials.tolist(), basis.rows, basis.paths, basis.values):
        orders = set(itertools.permutations(name))
        for order in orders:
            full[(int(path), int(row), *order)] = value / len(orders)
    return full


def twin(layer: SymmetricContraction, x: Tensor, kinds: Tensor) -> Tensor:
    """The sum over all tuples of components, degree by degree."""
    c = layer.channels
    variables = torch.cat(
        [block.unflatten(1, (c, -1)) for block in x.split([m.dim for m in layer.irreps_in], 1)], 2
    )
    lmax = len(layer.irreps_in) - 1
    outs: dict[int, Tensor] = {}
    for target, degree, first, count in layer.blocks:
        weight = layer.weight[kinds, first : first + count]  # (N, paths, C)
        value = torch.einsum("pm...,npc->ncm...", dense(lmax, target, degree), weight)
        for _ in range(degree):
            value = torch.einsum("ncm...v,ncv->ncm...", value, variables)
        outs[target] = outs[target] + value if target in outs else value
    return torch.cat([out.flatten(1) for out in outs.values()], 1)


def all_derivatives(f: Callable[..., Tensor], x: Tensor, weight: Tensor) -> list[Tensor]:
    """Value, gradients, and gradients of a function of the gradient to x, as a loss of forces needs them, and once more."""
    generator = torch.Generator().manual_seed(1)
    y = f(x)
    g = torch.randn(y.shape, generator=generator).requires_grad_()
    first = torch.autograd.grad(y, [x, weight], g, create_graph=True)
    loss = first[0].square().sum() + (first[1] * torch.randn(weight.shape, generator=generator)).sum()
    second = torch.autograd.grad(loss, [x, weight, g], create_graph=True)
    third = torch.autograd.grad(second[0].square().sum() + second[2].square().sum(), [x, weight])
    return [y, *first, *second, *third]


@pytest.mark.parametrize(
    ("lmax", "targets", "correlation"), [(1, "0e", 4), (2, "0e + 1o", 3), (2, "1o + 2e", 2), (0, "0e", 3)]
)
def test_contraction_is_the_sum_over_all_tuples(lmax: int, targets: str, correlation: int) -> None:
    irreps = Irreps([(2, (l, (-1) ** l)) for l in range(lmax + 1)])
    out = Irreps([(2, ir) for _, ir in Irreps(targets)])
    layer = SymmetricContraction(irreps, out, correlation, num_kinds=4)
    x = torch.randn(4, irreps.dim, requires_grad=True)
    fast = all_derivatives(lambda x: layer(x, KINDS), x, layer.weight)
    slow = all_derivatives(lambda x: twin(layer, x, KINDS), x, layer.weight)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_every_equivariant_polynomial_is_there_once() -> None:
    """Their number by characters: the mean over rotations of the symmetric power's character times the target's."""
    nodes, weights = (torch.arange(64) + 0.5) * math.pi / 64, None
    weights = (1 - nodes.cos()) / 64  # of rotations by this angle
    for lmax, target, degree in itertools.product((1, 2, 3), (0, 1, 2), (1, 2, 3, 4)):
        if (lmax, degree) == (3, 4):
            continue

        def character(l: int, k: int, parity: int) -> Tensor:
            m = torch.arange(-l, l + 1)
            sign = parity ** (l * k)
            return sign * torch.cos(k * nodes[:, None] * m).sum(1)

        total = 0.0
        for parity in (1, -1):
            powers = {
                k: torch.stack([character(l, k, parity) for l in range(lmax + 1)]).sum(0)
                for k in range(1, degree + 1)
            }
            symmetric: list[Tensor] = [torch.ones(64)]
            for n in range(1, degree + 1):  # Newton's identities
                terms = [powers[k] * symmetric[n - k] for k in range(1, n + 1)]
                symmetric.append(torch.stack(terms).sum(0) / n)
            total += float((symmetric[degree] * character(target, 1, parity) * weights).sum()) / 2
        assert product_basis(lmax, target, degree).size == round(total), (lmax, target, degree)


def test_tables_are_orthonormal_and_hold_the_coupling_of_two() -> None:
    full = dense(2, 1, 2)
    gram = torch.einsum("pmab,qmab->pq", full, full)
    torch.testing.assert_close(gram, 3 * torch.eye(len(full)), rtol=0, atol=1e-13)
    coupled = torch.zeros(3, 9, 9)
    coupled[:, 1:4, 4:9] = wigner_3j(1, 1, 2).permute(0, 1, 2)
    coupled = (coupled + coupled.mT) / 2
    part = torch.einsum("pmab,mab->p", full, coupled)
    torch.testing.assert_close(torch.einsum("p,pmab->mab", part, full) / 3, coupled, rtol=0, atol=1e-13)


def test_rotations_and_reflections() -> None:
    layer = SymmetricContraction("3x0e + 3x1o + 3x2e + 3x3o", "3x0e + 3x1o + 3x2e", 3, 4)
    x, kinds = torch.randn(4, 48), KINDS
    turn = random_rotations(1, torch.Generator().manual_seed(0)).double()[0]
    d = {l: wigner_D(l, turn) for l in range(4)}
    for sign in (1, -1):
        turned = Stacks.from_mul_ir(x, layer.irreps_in)
        turned = Stacks.of(
            [sign**l * d[l] @ part for (l, _, _), part in zip(turned.terms, turned.parts)], turned.terms
        )
        found, plain = layer(turned, kinds), Stacks.from_mul_ir(layer(x, kinds), layer.irreps_out)
        for l, (a, b) in enumerate(zip(found.parts, plain.parts)):
            torch.testing.assert_close(a, sign**l * d[l] @ b, rtol=0, atol=1e-12)


def test_tasks_of_several_threads_and_kept_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SymmetricContraction("2x0e + 2x1o", "2x0e + 2x1o", 3, 4)
    x, kinds = torch.randn(9, 8, requires_grad=True), torch.arange(9) % 4
    plain = all_derivatives(lambda x: layer(x, kinds), x, layer.weight)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = all_derivatives(lambda x: layer(x, kinds), x, layer.weight)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)
    layer.eval().requires_grad_(False)
    made = Kinds.of(kinds, 4)
    assert layer.coefficients(made, torch.float64) is layer.coefficients(made, torch.float64)
    torch.testing.assert_close(layer(x, kinds), plain[0], rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(polynomials, "is_compiled", lambda x: False)
    whole = Kinds.of(torch.zeros(0, dtype=torch.int64), 4)
    assert layer(x[:0], whole).shape == (0, 8)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="as many copies of each degree"):
        SymmetricContraction("2x0e + 3x1o", "2x0e", 2)
    with pytest.raises(ValueError, match="2 copies of each degree"):
        SymmetricContraction("2x0e + 2x1o", "2x1e", 2)
    with pytest.raises(ValueError, match="expected 1 to 4"):
        SymmetricContraction("2x0e", "2x0e", 5)
    layer = SymmetricContraction("2x0e", "2x0e", 2, num_kinds=3)
    with pytest.raises(ValueError, match="expected 0 to 2"):
        layer(torch.randn(1, 2), torch.tensor([3]))
    with pytest.raises(ValueError, match="expected 2, those of x"):
        layer(torch.randn(2, 2), torch.tensor([1]))
    with pytest.raises(ValueError, match="leading axes"):
        layer(torch.randn(2, 2, 2), torch.tensor([1, 1]))

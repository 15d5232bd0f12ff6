"""Groups as tables: axioms, subgroups, cosets; irreducible representations and Fourier transforms from the table alone."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from spheregeo.groups import (
    FiniteGroup,
    convolution_matrix,
    fourier_singular_values,
    group_fourier,
    inverse_group_fourier,
    irreps,
    schatten_norm,
)

# order, conjugacy classes, dimensions of the complex and of the real irreducible representations (characters in Serre 1977)
GROUPS = {
    "C1": (1, 1, [1], [1]),
    "C5": (5, 5, [1] * 5, [1, 2, 2]),
    "D4": (8, 5, [1, 1, 1, 1, 2], [1, 1, 1, 1, 2]),
    "D5": (10, 4, [1, 1, 2, 2], [1, 1, 2, 2]),
    "Q8": (8, 5, [1, 1, 1, 1, 2], [1, 1, 1, 1, 4]),
    "T": (12, 4, [1, 1, 1, 3], [1, 2, 3]),
    "O": (24, 5, [1, 1, 2, 3, 3], [1, 1, 2, 3, 3]),
    "S4": (24, 5, [1, 1, 2, 3, 3], [1, 1, 2, 3, 3]),
    "I": (60, 5, [1, 3, 3, 4, 5], [1, 3, 3, 4, 5]),
    "A5": (60, 5, [1, 3, 3, 4, 5], [1, 3, 3, 4, 5]),
    "D3xC2": (12, 6, [1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 2, 2]),
}
# classes of conjugate subgroups: Conway & Smith 2003 for the solids
SUBGROUPS = {"C6": 4, "D4": 8, "T": 5, "O": 11, "I": 9}


@pytest.mark.parametrize("name", GROUPS)
def test_known_groups(name: str) -> None:
    order, classes, complex_ones, real_ones = GROUPS[name]
    group = FiniteGroup.of(name)
    assert (group.order, len(group.classes)) == (order, classes)
    assert sum(len(c) for c in group.classes) == order
    assert group.table[torch.arange(order), group.inverse].eq(0).all()
    assert len(group.subgroup(group.generators)) == order
    for real, dimensions in ((False, complex_ones), (True, real_ones)):
        found = irreps(group, real=real)
        assert [rho.shape[1] for rho in found] == dimensions
        assert (found[0] - 1).abs().max() < 1e-12  # the trivial one
        for rho in found:
            homomorphism = torch.einsum("aij,bjk->abik", rho, rho) - rho[group.table]
            assert homomorphism.abs().max() < 1e-12
            assert (rho @ rho.mH - torch.eye(rho.shape[1])).abs().max() < 1e-12
            norm = float(torch.einsum("gii->g", rho).abs().square().sum()) / order
            assert norm == pytest.approx({1: 1, 2: 2, 4: 4}[round(norm)], abs=1e-9) and (
                real or round(norm) == 1
            )


def test_large_groups_of_the_study() -> None:
    frobenius = FiniteGroup.of("(C5xC5):Q8")
    assert frobenius.order == 200 and len(frobenius.classes) == 8
    assert [rho.shape[1] for rho in irreps(frobenius)] == [1, 1, 1, 1, 2, 8, 8, 8]
    assert FiniteGroup.of("C10xC10xC2").order == 200


@pytest.mark.parametrize("name", ["D4", "Q8", "T"])
def test_fourier_transforms(name: str) -> None:
    group, generator = FiniteGroup.of(name), torch.Generator().manual_seed(1)
    f, k = torch.randn(2, group.order, generator=generator, dtype=torch.float64)
    representations = irreps(group)
    of_f, of_k = group_fourier(f, representations), group_fourier(k, representations)
    parseval = sum(t.shape[-1] * float(t.abs().square().sum()) for t in of_f)
    assert parseval == pytest.approx(group.order * float(f.square().sum()), rel=1e-12)
    assert (inverse_group_fourier(of_f, representations) - f).abs().max() < 1e-12
    # the convolution as a sum over the group, as a matrix, and as a product of transforms
    slow = torch.zeros_like(f)
    for u, v in product(range(group.order), repeat=2):
        slow[u] += f[int(group.table[u, group.inverse[v]])] * k[v]
    assert (convolution_matrix(f, group) @ k - slow).abs().max() < 1e-12
    for a, b, c in zip(group_fourier(slow, representations), of_f, of_k, strict=True):
        assert (a - b @ c).abs().max() < 1e-12
    values = (
        torch.cat([torch.linalg.svdvals(t).repeat(t.shape[-1]) for t in of_f]).sort(descending=True).values
    )
    assert (fourier_singular_values(f, group) - values).abs().max() < 1e-12
    assert float(schatten_norm(f, group, 1)) == pytest.approx(float(values.sum()), rel=1e-12)
    assert float(schatten_norm(f, group, 2)) == pytest.approx(group.order**0.5 * float(f.norm()), rel=1e-12)


@pytest.mark.parametrize("name", SUBGROUPS)
def test_subgroups_cosets_and_double_cosets(name: str) -> None:
    group = FiniteGroup.of(name)
    assert len(group.subgroups) == SUBGROUPS[name]
    for h in group.subgroups:
        assert group.order % len(h) == 0
        cosets = group.cosets(h)
        assert torch.equal(cosets[0], h) and all(len(c) == len(h) for c in cosets)
        moved = group.action_on_cosets(h)
        # g (h x) = (g h) x
        assert torch.equal(moved[group.table], torch.stack([moved[g][moved] for g in range(group.order)]))
    trivial, whole = group.subgroups[0], group.subgroups[-1]
    assert len(group.double_cosets(trivial, trivial)) == group.order
    assert len(group.double_cosets(whole, trivial)) == 1
    h, k = group.subgroups[1], group.subgroups[-2]
    members = {int(x) for x in group.table[group.table[h, 1]][:, k].flatten()}
    assert members in [set(d.tolist()) for d in group.double_cosets(h, k)]


def test_order_of_dihedral_elements_is_that_of_planar_groups() -> None:
    group, n = FiniteGroup.of("D4"), 4
    for a, b in product(range(8), repeat=2):
        (m, r), (mm, rr) = divmod(a, n), divmod(b, n)
        assert group.table[a, b] == n * (m ^ mm) + (r + (-1) ** m * rr) % n


def test_what_is_no_group_is_refused() -> None:
    for name in ("E8", "D0", "C5y", "", "S9"):
        with pytest.raises(ValueError, match="group is"):
            FiniteGroup.of(name)
    latin = torch.tensor(
        [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    )
    with pytest.raises(ValueError, match=r"\(ab\)c is not a\(bc\)"):
        FiniteGroup(latin)
    with pytest.raises(ValueError, match="repeats an element"):
        FiniteGroup(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected \(n, n\) integers"):
        FiniteGroup(torch.eye(2))
    with pytest.raises(ValueError, match="no permutation"):
        FiniteGroup.from_permutations([[0, 0]])
    group = FiniteGroup.of("C6")
    with pytest.raises(ValueError, match="not closed"):
        group.cosets([0, 1])
    with pytest.raises(ValueError, match="generators are"):
        group.subgroup([6])
    with pytest.raises(ValueError, match="p is 0"):
        schatten_norm(torch.ones(6), group, 0)
    with pytest.raises(ValueError, match="expected 6"):
        convolution_matrix(torch.ones(5), group)


def test_groups_whose_table_would_not_fit() -> None:
    for name in ("C2000", "D513", "C100xC100"):
        with pytest.raises(ValueError, match="expected at most 1024"):
            FiniteGroup.of(name)
    with pytest.raises(ValueError, match="generators is empty"):
        FiniteGroup.from_permutations([])

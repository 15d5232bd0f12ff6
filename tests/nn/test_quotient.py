"""Generalised convolution: equal to its sum over the group, and every equivariant linear map found numerically is one."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from spheregeo.groups import FiniteGroup, PlanarType
from spheregeo.nn import GroupConv2d, QuotientConv
from spheregeo.testing import ComplianceError, check_linear_layer


def actions(group: FiniteGroup, subgroup: Tensor) -> list:
    """Functions that move functions on cosets by the generators: (g f)(x) = f(g⁻¹x)."""
    moved = group.action_on_cosets(subgroup)
    back = [moved[int(group.inverse[g])] for g in group.generators or [0]]
    return [lambda x, b=b: x[:, b] for b in back]


def test_equals_the_sum_over_the_group() -> None:
    """y(uK) = Σ_{xH} χ(x⁻¹u) f(xH) with values, input gradients and weight gradients."""
    group = FiniteGroup.of("O")
    h, k = group.subgroups[3], group.subgroups[1]
    conv = QuotientConv(group, 2, 3, in_subgroup=h, out_subgroup=k).double()
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 2 * 24 // len(h), dtype=torch.float64, requires_grad=True)
    filters = torch.zeros(3, 2, group.order, dtype=torch.float64)
    for d, members in enumerate(group.double_cosets(h, k)):
        for g in members:
            filters = filters + torch.nn.functional.one_hot(g, group.order) * conv.weight[..., d, None]
    lifted = x.view(2, 2, -1)[:, :, group.coset_index(h)]  # functions on the group, constant on gH
    slow = []
    for coset in group.cosets(k):
        u = int(coset[-1])  # any member gives one value
        chi = filters[:, :, group.relative[:, u]] / len(h)
        slow.append(torch.einsum("big,oig->bo", lifted, chi) + conv.bias)
    slow = torch.stack(slow, -1).flatten(1)
    wanted = [x, conv.weight, conv.bias]
    y = conv(x)
    assert (y - slow).abs().max() < 1e-12
    cotangent = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad((y * cotangent).sum(), wanted),
        torch.autograd.grad((slow * cotangent).sum(), wanted),
        strict=True,
    ):
        assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["C6", "D4", "T"])
def test_every_equivariant_map_is_a_generalised_convolution(name: str) -> None:
    """The null space of P_out(g) A = A P_in(g) has as many dimensions as double cosets, and the layer spans it."""
    group = FiniteGroup.of(name)
    for h, k in product(group.subgroups, repeat=2):
        conv = QuotientConv(group, 1, 1, in_subgroup=h, out_subgroup=k)
        found = check_linear_layer(conv, (group.order // len(h),), actions(group, h), actions(group, k))
        assert found["dimension"] == found["rank"] == conv.num_parameters
        assert found["residual"] < 1e-12


@pytest.mark.parametrize(("name", "sizes"), [("O", (4, 3)), ("I", (5, 10))])
def test_maps_between_functions_on_solids(name: str, sizes: tuple[int, int]) -> None:
    group = FiniteGroup.of(name)
    h, k = (next(s for s in group.subgroups if len(s) == n) for n in sizes)
    conv = QuotientConv(group, 1, 1, in_subgroup=h, out_subgroup=k)
    found = check_linear_layer(conv, (group.order // len(h),), actions(group, h), actions(group, k))
    assert found["dimension"] == found["rank"] == len(group.double_cosets(h, k))


def test_the_check_finds_illegal_and_missing_parameters() -> None:
    roll = lambda x: x.roll(1, -1)  # noqa: E731
    with pytest.raises(AssertionError, match="maps outside the 5 equivariant ones"):
        check_linear_layer(torch.nn.Linear(5, 5), (5,), [roll], [roll])
    narrow = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")
    with pytest.raises(AssertionError, match="spans 3 of 5 equivariant maps"):
        check_linear_layer(narrow, (1, 5), [roll], [roll])
    offset = (torch.arange(5)[:, None] - torch.arange(5) + 1) % 5
    found = check_linear_layer(narrow, (1, 5), [roll], [roll], support=offset < 3)
    assert found["dimension"] == found["rank"] == 3
    assert issubclass(ComplianceError, AssertionError)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="in_subgroup is"):
        QuotientConv("C6", 1, 1, in_subgroup=[1])
    with pytest.raises(ValueError, match="out_fields is 0"):
        QuotientConv("C6", 1, 0)
    with pytest.raises(ValueError, match="6 channels on axis 1"):
        QuotientConv("C6", 1, 1)(torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        (("1x0", "1xD4"), "D4"),
        (("1xD4/C2", "1x0"), "D4"),
        (("1xC2", "1xC2"), "C2"),
        (("1x0 + 1xC4", "1x0"), "C4"),
    ],
)
def test_group_convolutions_are_all_equivariant_maps(fields: tuple[str, str], group: str) -> None:
    """On a 3 x 3 torus a kernel reaches every pixel, so that nothing that commutes with shifts and the group may be missing."""
    into, out = (PlanarType.of(text) for text in fields)
    conv = GroupConv2d(into, out, 3, padding=1, padding_mode="circular", group=group)
    steps = [1] if group.startswith("C") else [1, 4]  # a turn, and the reflection
    moves = [[lambda x, h=h, f=kind: f.act(x, h, group) for h in steps] for kind in (into, out)]
    shifts = [lambda x, axis=axis: x.roll(1, axis) for axis in (-1, -2)]
    found = check_linear_layer(conv, (into.dim, 3, 3), [*moves[0], *shifts], [*moves[1], *shifts])
    assert found["dimension"] == found["rank"] == sum(w.numel() for w in conv.weights)

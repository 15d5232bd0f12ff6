"""Linear networks: what they compute, the largest margin, and which norm their descent makes small."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize

from spheregeo.audit import implicit_bias as bias
from spheregeo.groups import FiniteGroup


def data(group: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return bias.separable_data(group, count, torch.Generator().manual_seed(3))


def trained(group: str, depth: int, kind: str, count: int) -> tuple[bias.LinearGroupNetwork, bias.BiasReport]:
    torch.manual_seed(0)
    network = bias.LinearGroupNetwork(group, depth, kind).double()
    x, signs = data(group, count)
    bias.descend(network, x, signs)
    return network, bias.bias_report(network, x, signs)


@pytest.mark.parametrize("kind", bias.KINDS)
def test_the_direction_is_the_network(kind: str) -> None:
    network = bias.LinearGroupNetwork("D5", 3, kind).double()
    x = torch.randn(4, 10, dtype=torch.float64)
    assert (network(x) - x @ network.direction()).abs().max() < 1e-12


def test_layers_commute_with_the_group() -> None:
    group = FiniteGroup.of("Q8")
    network = bias.LinearGroupNetwork(group, 2).double()
    x = torch.randn(3, 8, dtype=torch.float64)
    layer = network.weights[0][network.index]
    for h in range(8):
        moved = group.relative[h]  # f(h⁻¹u)
        assert (x[:, moved] @ layer.T - (x @ layer.T)[:, moved]).abs().max() < 1e-12


def test_one_layer_learns_the_largest_margin() -> None:
    """Against the direction of a quadratic program, and a general optimiser as a twin of that."""
    x, signs = data("D8", 6)
    best = bias.max_margin_direction(x, signs)
    signed = (x * signs[:, None]).numpy()
    general = minimize(
        lambda b: b @ b / 2, torch.ones(16, dtype=torch.float64).numpy(), jac=lambda b: b, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda b: signed @ b - 1, "jac": lambda b: signed}, options={"ftol": 1e-14},
    )  # fmt: skip
    assert general.success
    twin = torch.from_numpy(general.x)
    assert float(best @ twin / twin.norm()) == pytest.approx(1, abs=1e-9)
    report = trained("D8", 1, "group", 6)[1]
    assert report.cosine > 0.9999 and report.margin <= float((x @ best * signs).min()) + 1e-12


@pytest.mark.parametrize("depth", [2, 3])
def test_each_network_is_lowest_in_its_own_norm(depth: int) -> None:
    reports = {kind: trained("D8", depth, kind, 6)[1] for kind in bias.KINDS}
    for norm, kind in (("group_norm", "group"), ("cyclic_norm", "cyclic")):
        assert min(reports, key=lambda k: getattr(reports[k], norm) / reports[k].margin) == kind
    assert max(reports, key=lambda k: reports[k].margin) == "dense" and reports["dense"].cosine > 0.98


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="count is 8"):
        bias.separable_data("D4", 8, torch.Generator())
    with pytest.raises(ValueError, match="kind is 'conv'"):
        bias.LinearGroupNetwork("D4", 2, "conv")
    with pytest.raises(ValueError, match="cannot be separated"):
        bias.max_margin_direction(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1.0, -1.0]))
    x, signs = data("D4", 3)
    with pytest.raises(RuntimeError, match="after 2 steps"):
        bias.descend(bias.LinearGroupNetwork("D4", 2).double(), x, signs, steps=2)

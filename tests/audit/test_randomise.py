"""Nothing learned keeps a value at which errors hide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spheregeo.audit import randomise


def test_every_parameter_and_statistic_changes_and_keeps_its_size() -> None:
    net = nn.Sequential(nn.Conv1d(3, 64, 1), nn.BatchNorm1d(64), nn.Linear(10, 10))
    nn.init.zeros_(net[0].bias)
    nn.init.zeros_(net[2].weight)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x = 5 * torch.randn(4, 3, 10) + 1
    randomise(net, torch.Generator().manual_seed(0), x)
    after = net.state_dict()
    for name in before:
        if name != "1.num_batches_tracked":
            assert not torch.isclose(before[name], after[name]).any(), name
    assert 0.5 < after["0.weight"].std() / before["0.weight"].std() < 2
    assert 0.2 < after["0.bias"].std() < 1 and 0.1 < after["2.weight"].std() < 1
    y = net[0](x)
    ratio = net[1].running_var / y.var((0, 2))
    assert 0.49 < ratio.min() < 0.9 and 1.1 < ratio.max() < 2.01
    shift = (net[1].running_mean - y.mean((0, 2))) / y.std((0, 2))
    assert 0.3 < shift.std() < 0.8
    assert net.training and net[1].momentum == 0.1


def test_the_seed_means_the_same_in_every_dtype() -> None:
    single, double = nn.Linear(4, 4), nn.Linear(4, 4).double()
    double.load_state_dict(single.state_dict())
    for net in (single, double):
        randomise(net, torch.Generator().manual_seed(3))
    torch.testing.assert_close(single.weight, double.weight.float())


def test_a_broken_checkpoint_is_named() -> None:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.bias, float("nan"))
    with pytest.raises(ValueError, match="parameter bias is not finite"):
        randomise(net)

"""Norms, pooling and dropout of planar fields: exact, equal to torch's own on fields laid out apart, and exported plainly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spheregeo.audit.randomise import randomise
from spheregeo.groups import PlanarType
from spheregeo.nn import FieldGroupNorm2d, GroupBatchNorm2d, GroupDropout, GroupPool

MIXED = "2xD4 + 1x0 + 2xD4/C2"
LAYERS = [
    (lambda: GroupBatchNorm2d(MIXED), MIXED, MIXED),
    (lambda: GroupBatchNorm2d("3xD4"), "3xD4", "3xD4"),
    (lambda: FieldGroupNorm2d(1, MIXED), MIXED, MIXED),
    (lambda: FieldGroupNorm2d(2, "4xD4"), "4xD4", "4xD4"),
    (lambda: GroupPool(MIXED), MIXED, "5x0"),
    (lambda: GroupPool("4xD4", "mean"), "4xD4", "4x0"),
    (lambda: GroupPool(MIXED, "mean"), MIXED, "5x0"),
    (lambda: GroupDropout(MIXED), MIXED, MIXED),
]


@pytest.mark.parametrize(("make", "into", "out"), LAYERS)
@torch.no_grad()
def test_every_element_and_export(make, into: str, out: str) -> None:
    layer, types = randomise(make()).double(), (PlanarType.of(into), PlanarType.of(out))
    x = (
        torch.randn(2, types[0].dim, 5, 5, dtype=torch.float64)
        * torch.arange(1, types[0].dim + 1)[:, None, None]
    )
    for training in (True, False):
        layer.train(training)
        if isinstance(layer, GroupDropout) and training:
            continue
        y = layer(x)
        for h in range(8):
            turned = layer(types[0].act(x, h, "D4"))
            torch.testing.assert_close(
                turned, types[1].act(y, h, "D4"), rtol=0, atol=1e-12 * float(y.abs().max())
            )
    plain = layer.eval().export().double()
    assert all(type(part).__module__.startswith("torch.nn") for part in plain.modules())
    torch.testing.assert_close(plain(x), layer(x), rtol=0, atol=1e-12 * float(x.abs().max()))


def test_batch_norm_is_torchs_on_fields() -> None:
    """Forward, gradients and running statistics, of a norm whose rows are all values of a field."""
    norm, torch_norm = randomise(GroupBatchNorm2d("3xC4")).double(), nn.BatchNorm1d(3).double()
    torch_norm.load_state_dict({k.removeprefix("norms.0."): v for k, v in norm.state_dict().items()})
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64, requires_grad=True)
    y = norm(x)
    expected = torch_norm(x.unflatten(1, (3, 4)).flatten(2)).view(2, 12, 5, 5)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(y)
    pairs = [
        torch.autograd.grad((out * weight).sum(), [x, *layer.parameters()])
        for out, layer in ((y, norm), (expected, torch_norm))
    ]
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm.norms[0], name), getattr(torch_norm, name))


def test_group_norm_by_loops() -> None:
    norm = randomise(FieldGroupNorm2d(2, "4xC2")).double()
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    for b in range(3):
        for g in range(2):
            block = x[b, 4 * g : 4 * g + 4]
            hat = (block - block.mean()) / (block.var(correction=0) + 1e-5).sqrt()
            for f in (0, 1):
                expected = hat[2 * f : 2 * f + 2] * norm.weight[2 * g + f] + norm.bias[2 * g + f]
                found = norm(x)[b, 4 * g + 2 * f : 4 * g + 2 * f + 2]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_dropout_takes_whole_fields() -> None:
    torch.manual_seed(0)
    y = GroupDropout("20xD4 + 10x0", 0.25)(torch.ones(50, 170, 3, 3))
    fields = y[:, :160].view(50, 20, -1)
    assert bool((fields == fields[..., :1]).all())
    torch.testing.assert_close(fields.unique(), torch.tensor([0, 4 / 3]))
    assert float((fields[..., 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_pool_of_ties_passes_gradients_to_all() -> None:
    x = torch.ones(1, 8, 1, 1, requires_grad=True)
    GroupPool("1xD4")(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 8))


def test_errors() -> None:
    with pytest.raises(ValueError, match="mode is 'sum'"):
        GroupPool("2xD4", "sum")
    with pytest.raises(ValueError, match="num_groups is 2"):
        FieldGroupNorm2d(2, MIXED)
    with pytest.raises(ValueError, match=r"expected \(batch, 25, ...\)"):
        GroupBatchNorm2d(MIXED)(torch.zeros(2, 3, 5, 5))
    with pytest.raises(ValueError, match="track_running_stats"):
        GroupBatchNorm2d(MIXED, track_running_stats=False).export()

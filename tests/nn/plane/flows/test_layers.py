"""Layers of flows: inverse, log-determinant against autograd's Jacobian, equivariance, everything learned random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.groups import PlanarType
from spheregeo.nn.plane.flows import (
    FlowLayer,
    GroupActNorm,
    GroupAutoregressive,
    GroupCoupling,
    GroupMix,
    GroupResidual,
    GroupSqueeze,
    LipschitzConv2d,
    Logit,
)

SIZE = (3, 3)
LAYERS: dict[str, Callable[[], FlowLayer]] = {
    "actnorm": lambda: GroupActNorm("2xD4"),
    "mix C4": lambda: GroupMix("3xC4"),
    "mix D4": lambda: GroupMix("2xD4"),
    "mix plain": lambda: GroupMix("3x0", "D4"),
    "logit": lambda: Logit("2x0", "D4"),
    "coupling C4": lambda: GroupCoupling("3xC4", hidden=3),
    "coupling D4": lambda: GroupCoupling("2xD4", hidden=2, swap=True),
    "coupling mixed": lambda: GroupCoupling("2x0 + 2xD4/C2 + 1xD4", hidden=2),
    "autoregressive C4": lambda: GroupAutoregressive("3xC4", hidden=2),
    "autoregressive D4": lambda: GroupAutoregressive("2xD4", hidden=2, fast="density", reverse=True),
    "residual C4": lambda: GroupResidual("2xC4", SIZE, hidden=3, logdet="dense"),
    "residual D4": lambda: GroupResidual("2x0", SIZE, hidden=3, logdet="dense", group="D4"),
    "squeeze C4": lambda: GroupSqueeze("1x0 + 1xC4"),
    "squeeze C2": lambda: GroupSqueeze("2x0", "C2"),
    "squeeze D2": lambda: GroupSqueeze("1x0", "D2"),
    "squeeze D4": lambda: GroupSqueeze("1xD4"),
}


def made(name: str) -> tuple[FlowLayer, Tensor]:
    torch.manual_seed(0)
    layer = LAYERS[name]().double().eval()
    randomise(layer, torch.Generator().manual_seed(1))
    shape = (4, 4) if name.startswith("squeeze") else SIZE
    x = torch.randn(2, layer.field_type.dim, *shape, dtype=torch.float64)
    return layer, x.sigmoid() if name == "logit" else x


@pytest.mark.parametrize("name", LAYERS)
def test_inverse_determinant_and_equivariance(name: str) -> None:
    layer, x = made(name)
    z, logdet = layer(x)
    assert z.shape[1] == layer.out_type.dim and logdet.shape == (2,)
    assert (layer.inverse(z) - x).abs().max() < 1e-10
    jacobian = torch.autograd.functional.jacobian(lambda one: layer(one[None])[0], x[0]).reshape(
        z[0].numel(), -1
    )
    assert abs(float((torch.linalg.slogdet(jacobian)[1] - logdet[0]).detach())) < 1e-8
    for h in range(layer.group.size):
        moved, same = layer(layer.field_type.act(x, h, layer.group))
        assert (moved - layer.out_type.act(z, h, layer.group)).abs().max() < 1e-10
        assert (same - logdet).abs().max() < 1e-10


@pytest.mark.parametrize("fast", ["sample", "density"])
def test_fields_see_earlier_fields_alone(fast: str) -> None:
    torch.manual_seed(0)
    layer = GroupAutoregressive("4xC4", hidden=2, fast=fast).double()
    randomise(layer, torch.Generator().manual_seed(1))
    x = torch.randn(1, 16, 3, 3, dtype=torch.float64)
    one_pass = layer.inverse if fast == "sample" else lambda v: layer(v)[0]
    jacobian = torch.autograd.functional.jacobian(one_pass, x).reshape(4, 36, 4, 36)
    seen = jacobian.abs().amax((1, 3)) > 0
    assert torch.equal(seen, torch.ones(4, 4).tril().bool())


def test_masks_give_each_number_of_fields_its_own_constants() -> None:
    """A single field has scales and shifts that are constants, equal over its orientations."""
    layer = GroupAutoregressive("1xC4", hidden=2).double()
    randomise(layer, torch.Generator().manual_seed(1))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    z, _ = layer(x)
    slope = ((z[0] - z[1]) / (x[0] - x[1])).detach()
    assert (slope - slope.mean()).abs().max() < 1e-10 and abs(float(slope.mean()) - 1) > 1e-3


def test_actnorm_starts_from_its_first_batch() -> None:
    layer = GroupActNorm("2xC4").double()
    x = 3 * torch.randn(8, 8, 5, 5, dtype=torch.float64) + torch.arange(2).repeat_interleave(4)[:, None, None]
    z, _ = layer.train()(x)
    fields = z.view(8, 2, -1).transpose(0, 1).flatten(1)
    assert fields.mean(1).abs().max() < 1e-10 and (fields.var(1, correction=0) - 1).abs().max() < 1e-10
    before = layer.log_scale.clone()
    layer(2 * x)
    assert torch.equal(before, layer.log_scale)


def test_actnorm_waits_for_a_batch_that_is_not_empty() -> None:
    layer = GroupActNorm("2xC4").double()
    assert layer(torch.zeros(0, 8, 5, 5).double())[1].shape == (0,) and not layer.ready
    z, _ = layer(7 * torch.randn(8, 8, 5, 5, dtype=torch.float64))
    assert layer.ready and abs(float(z.detach().std()) - 1) < 0.01


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "logit" and not name.startswith("mix")])
def test_autocast_and_empty_batches(name: str) -> None:
    """Under autocast both directions still undo each other in float32, and the log-determinant is the one of the map."""
    layer, x = made(name)
    layer, x = layer.float(), x.float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, logdet = layer(x)
        assert z.dtype == logdet.dtype == torch.float32
        assert (layer.inverse(z) - x).abs().max() < 1e-4
    assert layer(x[:0])[1].shape == (0,)


def test_norm_after_a_kernel_of_zeros() -> None:
    """A convolution that begins at zero still keeps its norm once it has learnt something."""
    torch.manual_seed(0)
    conv = LipschitzConv2d("2xC4", "2xC4", 3, (5, 5))
    conv.weights[0].data.zero_()
    conv(torch.randn(1, 8, 5, 5))
    with torch.no_grad():
        conv.weights[0].normal_(std=10)
    x, y = torch.randn(2, 1, 8, 5, 5)
    conv.eval()
    assert 0.01 < (conv(x) - conv(y)).detach().norm() / (x - y).norm() < 0.9001


@pytest.mark.parametrize("fields", ["2xD4", "2x0 + 1xD4/C2"])
def test_norm_of_the_convolution_as_an_operator(fields: str) -> None:
    """The norm is the largest singular value of the matrix of the padded convolution, not that of its filters."""
    torch.manual_seed(0)
    conv = LipschitzConv2d(fields, "2xD4", 3, (4, 4), coefficient=0.7).double().eval()
    with torch.no_grad():
        for weight in conv.weights:
            weight.mul_(3)
    conv.bias = None
    size = conv.in_type.dim * 16
    matrix = conv(torch.eye(size, dtype=torch.float64).view(size, -1, 4, 4)).flatten(1).T
    exact = float(torch.linalg.matrix_norm(matrix.detach(), 2))
    assert 0.7 * (1 - 1e-5) < exact < 0.7 * (1 + 1e-5)
    with torch.no_grad():
        for weight in conv.weights:
            weight.mul_(0.01)
    small = conv(torch.eye(size, dtype=torch.float64).view(size, -1, 4, 4)).flatten(1).detach()
    assert float(torch.linalg.matrix_norm(small, 2)) < 0.1


def test_series_of_traces() -> None:
    """The truncated series tends to the determinant, and the random one has it as its mean."""
    torch.manual_seed(0)
    layer = GroupResidual("1xC4", SIZE, hidden=2, logdet="dense", coefficient=0.8).double().eval()
    with torch.no_grad():
        for conv in (layer.first, layer.second):
            conv.weights[0].mul_(4)
    x = torch.randn(1, 4, *SIZE, dtype=torch.float64)
    exact = float(layer(x)[1].detach())
    layer.logdet, layer.terms = "series", 30
    assert float(layer(x)[1].detach()) == pytest.approx(exact, abs=1e-6)
    layer.logdet, layer.terms, layer.samples = "unbiased", 2, 1
    with torch.no_grad():
        drawn = layer(x.expand(2000, -1, -1, -1))[1]  # one length for each call
        drawn = torch.stack([layer(x.expand(64, -1, -1, -1))[1].mean() for _ in range(60)] + [drawn.mean()])
    assert abs(float(drawn.mean()) - exact) < 4 * float(drawn.std()) / len(drawn) ** 0.5 + 1e-3


def test_gradients_of_a_residual_layer() -> None:
    """Gradients of z and of the log-determinant are those of finite differences in the input."""
    layer = GroupResidual("1x0", SIZE, hidden=2, logdet="dense", group="C4").double().eval()
    x = torch.randn(1, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    loss = layer(x)[1].sum()
    assert all(g is not None for g in torch.autograd.grad(loss, list(layer.first.weights)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GroupMix("1x0 + 1xC4"), "regular fields alone"),
        (lambda: GroupMix("1x0"), "one group"),
        (lambda: GroupCoupling("1xC4"), "two fields or more"),
        (lambda: GroupAutoregressive("2xC4", fast="both"), "fast is 'both'"),
        (lambda: GroupSqueeze("1x0", "D4"), "whose 2 x 2 blocks are regular"),
        (lambda: GroupSqueeze("1xC8"), "group is C8"),
        (lambda: GroupSqueeze("1x0", "C4")(torch.zeros(1, 1, 3, 4)), "even height and width"),
        (lambda: GroupResidual("1xC4", SIZE, coefficient=1.0), "coefficient is 1.0"),
        (lambda: GroupResidual("1xC4", SIZE, logdet="trace"), "logdet is 'trace'"),
        (lambda: GroupResidual("1xC4", SIZE)(torch.zeros(1, 4, 5, 5)), "expected height and width"),
        (lambda: Logit("1x0", "C4", margin=0.5), "margin is 0.5"),
        (lambda: GroupActNorm("1xC4").inverse(torch.zeros(1, 3, 2, 2)), "z has shape"),
    ],
)
def test_wrong_arguments_are_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_types_are_values() -> None:
    assert GroupSqueeze("1x0", "C4").out_type == PlanarType.of("1xC4")
    assert GroupSqueeze("2xC4").out_type == PlanarType.of("8xC4")
    assert isinstance(GroupMix("1xC4"), nn.Module)

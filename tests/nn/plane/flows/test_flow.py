"""Whole flows: invariant densities, exact inverses, dequantisation, and what bfloat16 leaves of it."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.audit import randomise
from spheregeo.nn.plane.flows import (
    Flow,
    GroupActNorm,
    GroupAutoregressive,
    GroupCoupling,
    GroupMix,
    GroupResidual,
    GroupSqueeze,
    InvariantNormal,
    Logit,
    bits,
    dequantise,
)


def flow(scale: float = 1.0) -> Flow:
    """Every kind of layer, everything learned random."""
    torch.manual_seed(0)
    layers = [
        Logit("1x0", "C4"),
        GroupResidual("1x0", (4, 4), hidden=2, logdet="dense", group="C4"),
        GroupSqueeze("1x0", "C4"),
        GroupSqueeze("1xC4"),
        GroupActNorm("4xC4"),
        GroupMix("4xC4"),
        GroupCoupling("4xC4", hidden=2),
        GroupAutoregressive("4xC4", hidden=1),
    ]
    made = Flow(layers, InvariantNormal("4xC4", (1, 1))).eval()
    randomise(made, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(scale)
    made.double()
    return made


def test_density_is_invariant_and_integrates_its_change_of_volume() -> None:
    made = flow()
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    z, logdet = made(x)
    assert (made.inverse(z) - x).abs().max() < 1e-10
    log_prob = made.log_prob(x)
    for h in range(4):
        assert (made.log_prob(torch.rot90(x, h, (-2, -1))) - log_prob).abs().max() < 1e-8
    jacobian = torch.autograd.functional.jacobian(lambda one: made(one[None])[0], x[0]).reshape(16, 16)
    assert abs(float((torch.linalg.slogdet(jacobian)[1] - logdet[0]).detach())) < 1e-8
    # the group acts on the base as it does on images
    h1 = made.base.field_type.act(z, 1)
    assert (made(torch.rot90(x, 1, (-2, -1)))[0] - h1).abs().max() < 1e-10


def test_plain_reflections_by_residual_layers() -> None:
    """Flows of D4 on images of any size: residual layers need no squeeze."""
    torch.manual_seed(0)
    layers = [GroupResidual("1x0", (3, 3), hidden=2, logdet="dense", group="D4") for _ in range(2)]
    made = Flow(layers, InvariantNormal("1x0", (3, 3))).double().eval()
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    log_prob = made.log_prob(x)
    for moved in (x.flip(-1), torch.rot90(x, 1, (-2, -1)), x.transpose(-1, -2)):
        assert (made.log_prob(moved) - log_prob).abs().max() < 1e-8


def test_samples_come_from_the_density() -> None:
    """Samples of a flow have the density that the flow gives: the mean of 1/p over them is the volume of the box they fill."""
    torch.manual_seed(0)
    made = Flow([Logit("1x0", "C4"), GroupActNorm("1x0", "C4")], InvariantNormal("1x0", (1, 1))).double()
    x = made.sample(4000, generator=torch.Generator().manual_seed(0))
    inside = ((x > 0) & (x < 1)).flatten()
    share = torch.exp(-made.log_prob(x.clamp(1e-6, 1 - 1e-6))) * inside
    assert float(share.mean().detach()) == pytest.approx(1, abs=0.05)


def test_bits_per_dimension() -> None:
    image = torch.randint(0, 4, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)).double() / 3
    levels = dequantise(image, 4, torch.Generator().manual_seed(1))
    assert torch.equal((levels * 4).floor(), (image * 3).round()) and float(levels.max()) < 1
    # a density of 1 on the unit cube gives each of 4 levels a quarter
    assert torch.equal(bits(torch.zeros(5), 16, 4), torch.full((5,), 2.0))
    made = flow()
    found = made.bits_per_dim(image, 4, torch.Generator().manual_seed(1))
    expected = 2 - made.log_prob(levels) / (16 * math.log(2))
    assert (found - expected).abs().max() < 1e-12
    with pytest.raises(ValueError, match="expected \\[0, 1\\]"):
        dequantise(image + 1)


def test_half_precision_inverts_to_its_rounding() -> None:
    """In bfloat16 the inverse is off by some rounding errors of z, 2^-8 each, in float32 by 1e-5."""
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 0.2)):
        torch.manual_seed(0)
        layers = [
            GroupActNorm("4xC4"),
            GroupMix("4xC4"),
            GroupCoupling("4xC4", 2),
            GroupAutoregressive("4xC4", 1),
        ]
        made = Flow(layers, InvariantNormal("4xC4", (3, 3))).eval().to(dtype)
        x = torch.randn(4, 16, 3, 3).to(dtype)
        z, _ = made(x)
        error = (made.inverse(z) - x).abs().max()
        assert z.dtype == dtype and 0 < float(error.detach()) < bound


def test_layers_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="layer 0 gives fields '1xC4' but what follows takes '2xC4'"):
        Flow([GroupSqueeze("1x0", "C4"), GroupMix("2xC4")], InvariantNormal("2xC4", (2, 2)))
    with pytest.raises(ValueError, match="layer 0 gives fields '1xC4'"):
        Flow([GroupSqueeze("1x0", "C4")], InvariantNormal("1x0", (2, 2)))
    with pytest.raises(ValueError, match="z has shape"):
        InvariantNormal("1xC4", (2, 2)).log_prob(torch.zeros(1, 4, 3, 3))

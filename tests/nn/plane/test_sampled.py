"""Group convolutions at representative poses: beside the dense layer, whose answers the members of a cluster share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.nn import GroupConv2d, SampledGroupConv2d
from spheregeo.nn.plane.sampled import feature_cover
from spheregeo.nn.plane.sampled.conv import shared

CASES = {
    "lift": ("2x0", "4xD4", {"padding": 1}),
    "stride": ("2xC4 + 1x0", "3xC4", {"stride": 2, "padding": 1}),
    "dilation": ("1xD2", "2xD2", {"dilation": 2, "padding_mode": "circular", "padding": 2, "bias": False}),
}


def drawn(layer: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return layer.double()


def image(channels: int, size: int = 9) -> Tensor:
    """Noise, of which half is background."""
    x = torch.randn(2, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[..., : size // 2] = 0
    return x


def test_cover() -> None:
    features = torch.randn(2, 300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scale = features.square().mean((1, 2), keepdim=True).sqrt()
    counts = []
    for epsilon in (0.0, 0.1, 0.4, 1.6):
        cover = feature_cover(features, epsilon)
        assert torch.equal(cover.gather(1, cover), cover)  # representatives represent themselves
        moved = (features - features.gather(1, cover[..., None].expand_as(features))).abs()
        assert (moved <= epsilon * scale).all()
        counts.append(int((cover == torch.arange(300)).sum()))
    assert counts[0] == 600 and counts == sorted(counts, reverse=True) and counts[-1] < 200
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    cover, permuted = feature_cover(features, 1.6), feature_cover(features[:, order], 1.6)
    assert torch.equal(order[permuted], cover[:, order])
    assert torch.equal(feature_cover(torch.zeros(1, 5, 2), 0.1), torch.zeros(1, 5, dtype=torch.int64))
    for wrong in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected a finite number of at least 0"):
            feature_cover(features, wrong)
    with pytest.raises(ValueError, match=r"expected \(B, n, q\)"):
        feature_cover(features[0], 0.1)


@pytest.mark.parametrize("name", CASES)
def test_members_share_the_dense_answer_of_their_representative(name: str) -> None:
    into, out, options = CASES[name]
    layer = drawn(SampledGroupConv2d(into, out, 3, epsilon=1.2, **options))
    assert isinstance(layer, SampledGroupConv2d)
    x = image(layer.in_type.dim).requires_grad_()
    clusters, poses = layer.num_clusters(x)
    assert 1 < clusters < 0.97 * poses
    twin = shared(GroupConv2d.forward(layer, x), layer.cover(x), layer.group.size)
    y = layer(x)
    assert (y - twin).detach().abs().max() < 1e-12
    inputs = [x, *layer.parameters()]
    g = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad((y * g).sum(), inputs), torch.autograd.grad((twin * g).sum(), inputs), strict=True
    ):
        assert (a - b).abs().max() < 1e-11


@pytest.mark.parametrize("name", CASES)
def test_no_resolution_is_the_dense_layer(name: str) -> None:
    into, out, options = CASES[name]
    layer = drawn(SampledGroupConv2d(into, out, 3, epsilon=0, **options))
    dense = GroupConv2d(into, out, 3, **options).double()
    dense.load_state_dict(layer.state_dict())
    x = image(dense.in_type.dim)
    assert torch.equal(layer(x), dense(x))


@pytest.mark.parametrize("name", ["lift", "stride"])
def test_clusters_turn_with_the_image(name: str) -> None:
    into, out, options = CASES[name]
    layer = drawn(SampledGroupConv2d(into, out, 3, epsilon=0.5, **options))
    assert isinstance(layer, SampledGroupConv2d)
    x = image(layer.in_type.dim)
    y = layer(x)
    for h in range(layer.group.size):
        moved = layer(layer.in_type.act(x, h, layer.group))
        assert (moved - layer.out_type.act(y, h)).detach().abs().max() < 1e-12


def test_error_falls_with_the_resolution() -> None:
    layer = drawn(SampledGroupConv2d("1x0", "8xC4", 3, padding=1))
    assert isinstance(layer, SampledGroupConv2d)
    ramp = torch.linspace(0, 3, 17, dtype=torch.float64)
    x = (torch.sin(2 * ramp)[:, None] * torch.cos(ramp))[None, None]
    dense, errors = GroupConv2d.forward(layer, x), []
    for layer.epsilon in (1.6, 0.4, 0.1, 0.025):
        errors.append(float(((layer(x) - dense).norm() / dense.norm()).detach()))
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.1 and errors[-1] < 0.02


def test_each_image_has_clusters_of_its_own() -> None:
    layer = drawn(SampledGroupConv2d("1x0", "2xC4", 3, padding=1, epsilon=0.5))
    x = image(1)
    assert (layer(x)[:1] - layer(x[:1])).detach().abs().max() < 1e-13


def test_bad_arguments_are_named() -> None:
    for out in ("4x0", "2xD4/C2", "2xD4 + 1x0"):
        with pytest.raises(ValueError, match="expected regular fields"):
            SampledGroupConv2d("2xD4", out, 3)
    with pytest.raises(ValueError, match="epsilon is -1"):
        SampledGroupConv2d("1x0", "2xD4", 3, epsilon=-1)
    with pytest.raises(ValueError, match=r"expected \(batch, 1, H, W\)"):
        SampledGroupConv2d("1x0", "2xD4", 3)(torch.zeros(1, 2, 9, 9))
    with pytest.raises(ValueError, match="expected a kernel's extent"):
        SampledGroupConv2d("1x0", "2xD4", 3)(torch.ones(1, 1, 2, 2))


def test_blank_images_and_filters_of_one_tap() -> None:
    """One pose stands for all others: most elements of the group have none to compute."""
    layer = SampledGroupConv2d("1x0", "2xC4", 1, probes=1, epsilon=0.5)
    assert layer.get_buffer("probe_kernel").isfinite().all()
    x = torch.ones(2, 1, 5, 5)
    assert layer.num_clusters(x)[0] == 2
    assert torch.allclose(layer(x), GroupConv2d.forward(layer, x))


def test_probes_do_not_depend_on_the_seed() -> None:
    """A layer that is loaded from a file has the clusters that it had in training."""
    kernels = []
    for seed in range(2):
        torch.manual_seed(seed)
        kernels.append(SampledGroupConv2d("2x0 + 1xC4", "2xC4", 3).get_buffer("probe_kernel"))
    assert torch.equal(*kernels)

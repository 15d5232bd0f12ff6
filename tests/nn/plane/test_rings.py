"""Gaussian-mixture rings: both forms equal a sum over taps written out, quarter turns are exact, other turns nearly."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit.randomise import randomise
from spheregeo.nn import (
    GMRConv1d,
    GMRConv2d,
    GMRConv3d,
    GMRConvTranspose1d,
    GMRConvTranspose2d,
    GMRConvTranspose3d,
)
from spheregeo.nn.low_pass import gaussian_taps
from spheregeo.nn.plane import convert_to_gmr
from spheregeo.nn.plane.rings.masks import RingMasks

CONV = {1: GMRConv1d, 2: GMRConv2d, 3: GMRConv3d}
TRANSPOSE = {1: GMRConvTranspose1d, 2: GMRConvTranspose2d, 3: GMRConvTranspose3d}
NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def made(kind: Any, *arguments: Any, **options: Any) -> Any:
    return randomise(kind(*arguments, **options)).double().eval()


def twin(layer: Any, x: Tensor) -> Tensor:
    """The sum over taps at each place of the output, from the definition: rings, low-pass, symmetric windows, border."""
    rows = [np.array([1.0])] * layer.dims
    first, counts = [], []
    for a, (size, s, p, span) in enumerate(
        zip(x.shape[2:], layer.stride, layer.padding, layer.span, strict=True)
    ):
        counts.append((size + 2 * p - span) // s + 1)
        middle = (size - 1) / 2 - s * (
            counts[-1] - 1
        ) / 2  # of the first window, where they lie symmetrically
        if layer.antialias and s > 1:
            even = round(2 * (middle - (span - 1) / 2 + p)) % 2 == 1
            rows[a] = np.array(gaussian_taps(s, even))
        elif not layer.antialias:
            middle = (span - 1) / 2 - p
        first.append(middle - (span + len(rows[a]) - 2) / 2)
    kernel = torch.einsum("ocr,r...->oc...", layer.weight, layer.masks()).detach().numpy()
    full = np.zeros((*kernel.shape[:2], *(n + len(r) - 1 for n, r in zip(layer.span, rows, strict=True))))
    for u in itertools.product(range(layer.kernel_size), repeat=layer.dims):
        for v in itertools.product(*(range(len(r)) for r in rows)):
            place = tuple(d * i + j for d, i, j in zip(layer.dilation, u, v, strict=True))
            share = math.prod(r[j] for r, j in zip(rows, v, strict=True))
            full[(..., *place)] += kernel[(..., *u)] * share
    pads = [round(-f) for f in first]
    assert np.allclose(pads, [-f for f in first])
    border = [(0, 0), (0, 0), *((pad, pad) for pad in pads)]
    wide = np.pad(x.detach().numpy(), border, mode=NUMPY[layer.padding_mode])  # type: ignore[call-overload]
    y = np.zeros((len(x), layer.out_channels, *counts))
    for place in itertools.product(*(range(n) for n in counts)):
        window = wide[
            (
                ...,
                *(
                    slice(s * i, s * i + n)
                    for s, i, n in zip(layer.stride, place, full.shape[2:], strict=True)
                ),
            )
        ]
        grouped = window.reshape(len(x), layer.groups, -1)
        filters = full.reshape(layer.groups, layer.out_channels // layer.groups, -1)
        y[(..., *place)] = np.einsum("bgc,goc->bgo", grouped, filters).reshape(len(x), -1)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy().reshape(-1, *(1,) * layer.dims)
    return torch.from_numpy(y + bias)


OPTIONS: list[tuple[int, dict[str, Any], int]] = [
    (2, {"kernel_size": 5, "padding": 2}, 6),
    (2, {"kernel_size": 4, "padding": 1, "padding_mode": "circular"}, 5),
    (2, {"kernel_size": 3, "padding": 1, "stride": 2, "padding_mode": "reflect"}, 8),
    (2, {"kernel_size": 3, "padding": 1, "stride": 2, "groups": 2, "bias": False}, 7),
    (2, {"kernel_size": 4, "padding": 2, "stride": 3, "groups": 2, "padding_mode": "replicate"}, 8),
    (2, {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2}, 6),
    (2, {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2, "padding_mode": "circular"}, 7),
    (2, {"kernel_size": 1, "stride": 2}, 6),
    (2, {"kernel_size": 3, "padding": 1, "stride": 2, "antialias": False}, 7),
    (2, {"kernel_size": 5, "padding": "same", "padding_mode": "reflect", "groups": 2}, 6),
    (1, {"kernel_size": 5, "padding": 2, "stride": 2, "padding_mode": "reflect"}, 8),
    (3, {"kernel_size": 3, "padding": 1, "stride": 2, "groups": 2, "padding_mode": "circular"}, 4),
]


@pytest.mark.parametrize(("dims", "options", "size"), OPTIONS, ids=str)
def test_both_forms_equal_the_sum_over_taps(dims: int, options: dict[str, Any], size: int) -> None:
    """Output, gradients of input, weights and widths; torch's own sizes; the exported convolution."""
    direct = made(CONV[dims], 4, 6, form="direct", **options)
    rings = CONV[dims](4, 6, form="rings", **options).double().eval()
    rings.load_state_dict(direct.state_dict())
    x = torch.randn(2, 4, *(size,) * dims, dtype=torch.float64, requires_grad=True)
    y = direct(x)
    torch.testing.assert_close(y, twin(direct, x), rtol=0, atol=1e-12)
    torch.testing.assert_close(rings(x), y, rtol=0, atol=1e-12)
    probe = torch.randn_like(y)
    found = [torch.autograd.grad(layer(x), [x, *layer.parameters()], probe) for layer in (direct, rings)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)
    plain = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    own = {key: value for key, value in options.items() if key != "antialias"}
    assert plain(4, 6, **own).double()(x).shape == y.shape
    with torch.no_grad():
        torch.testing.assert_close(direct.export(size)(x), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(rings(x), y, rtol=0, atol=1e-12)
        single = copy.deepcopy(rings).float()(x.float())
        torch.testing.assert_close(single.double(), y, rtol=1e-6, atol=2e-6 * float(y.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("stride", "over"), [(1, 0), (2, 0), (2, 1)])
def test_transposes_are_adjoints(dims: int, stride: int, over: int) -> None:
    small = 3 if dims == 3 else 4
    options: dict[str, Any] = {"kernel_size": 3, "stride": stride, "padding": 1, "groups": 2, "bias": False}
    size = (small - 1) * stride + 1 + over
    conv = made(CONV[dims], 4, 6, **options)
    for form in ("direct", "rings"):
        up = TRANSPOSE[dims](6, 4, form=form, output_padding=over, **options).double().eval()
        up.load_state_dict(conv.state_dict())
        x = torch.randn(2, 4, *(size,) * dims, dtype=torch.float64)
        y = torch.randn(2, 6, *(small,) * dims, dtype=torch.float64)
        gain = stride**dims
        assert float((conv(x) * y).sum() * gain) == pytest.approx(float((x * up(y)).sum()), rel=1e-11)
        torch.testing.assert_close(up(y, output_size=size), up(y))
        torch.testing.assert_close(up.export()(y), up(y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_quarter_turns_flips_and_training(size: int, stride: int) -> None:
    """Exact for every size, the stride included, after optimiser steps as well, by either form and by the transpose."""
    net = nn.Sequential(
        GMRConv2d(2, 4, 4, stride, 2, form="rings"),
        nn.ReLU(),
        GMRConv2d(4, 4, 3, padding=1, groups=2, form="direct"),
        nn.ReLU(),
        GMRConvTranspose2d(4, 2, 3, stride, 1, output_padding=stride - 1),
    )
    net = randomise(net).double()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x) ** 2).mean().backward()
        optimizer.step()
    assert all(bool(net[k].masks.spread.abs().max() > 0.05) for k in (0, 2, 4))
    with torch.no_grad():
        y = net(x)
        for turns, flip in itertools.product(range(4), (False, True)):
            a, b = (torch.rot90(f.flip(-1) if flip else f, turns, (-2, -1)) for f in (x, y))
            torch.testing.assert_close(net(a), b, rtol=0, atol=1e-12 * float(y.abs().max()))
        if stride == 2 and size == 8:  # torch's windows lie to one side
            one_sided = made(GMRConv2d, 2, 2, 3, 2, 1, antialias=False)
            turned = one_sided(x.rot90(1, (-2, -1))) - one_sided(x).rot90(1, (-2, -1))
            assert turned.abs().max() > 1e-2


def waves(channels: int) -> tuple[Tensor, Tensor]:
    """Random images smoothed with σ = 2: wave vectors and complex amplitudes."""
    q = torch.randn(192, 2, dtype=torch.float64) / (2 * math.sqrt(2))
    return q, torch.complex(*torch.randn(2, channels, 192, dtype=torch.float64))


@pytest.mark.parametrize(("size", "bound"), [(3, 3e-4), (5, 6e-5), (7, 6e-4), (9, 1.5e-3), (15, 5e-3)])
def test_error_of_a_turn_by_30_degrees(size: int, bound: float) -> None:
    """Without interpolation: windows of an image and of the turned image about the same points. The published rings: 2.6e-3,
    1.6e-3, 1.9e-2, 2.3e-2, 6.2e-2."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps, points = torch.cartesian_prod(axis, axis), 200 * torch.rand(100, 1, 2, dtype=torch.float64)
    turn = torch.tensor([[math.sqrt(3), -1], [1, math.sqrt(3)]], dtype=torch.float64) / 2
    layer, (q, amplitudes) = made(GMRConv2d, 4, 8, size, bias=False), waves(4)

    def windows(taps: Tensor) -> Tensor:
        phases = torch.exp(1j * ((points + taps) @ q.T))
        return torch.einsum("cw,puw->pcu", amplitudes, phases).real.unflatten(2, (size, size))

    with torch.no_grad():
        y, turned = layer(windows(taps)), layer(windows(taps @ turn.T))
    assert 0 < float((turned - y).norm() / y.norm()) < bound


@pytest.mark.parametrize(
    ("dims", "size", "moments"), [(1, 5, 0), (2, 3, 1), (2, 4, 0), (2, 7, 2), (2, 6, 2), (3, 5, 3)]
)
def test_masks_are_the_nearest_without_moments(dims: int, size: int, moments: int) -> None:
    masks = randomise(RingMasks(size, dims)).double()
    rim = (size - 1) / 2
    found, widths = masks().detach().flatten(1), masks.widths().detach()
    places = torch.tensor(
        list(itertools.product(range(size), repeat=dims)), dtype=torch.float64
    ).view(-1, dims) - rim  # fmt: skip
    d = places.square().sum(1).sqrt()
    taper = torch.where(d <= rim + 0.5, 1 - (d - rim + 0.5).clamp(min=0) ** 2, 0.0)
    assert masks.corrected == moments and len(widths) == (size + 1) // 2
    rows = torch.stack([
        sum(places[:, a] ** 4 for a in range(dims)) - 3 / (dims + 2) * d**4, d**2 * sum(places[:, a] ** 4 for a in range(dims))
        - 3 / (dims + 2) * d**6,
    ])  # fmt: skip
    for j in range(len(widths)):
        plain = taper * torch.exp(-((d - (rim - len(widths) + 1 + j)) ** 2) / (2 * widths[j] ** 2))
        plain = plain * masks.get_buffer("scale")[j]
        assert float((rows[: min(moments, 2)] @ found[j]).abs().max() if moments else 0.0) < 1e-9
        inside = taper > 0
        change = ((found[j] - plain)[inside] / taper[inside]).abs()
        assert found[j][~inside].abs().max() < 1e-14 if bool((~inside).any()) else True
        assert float(change.max()) > 1e-4 if moments else float(change.max()) < 1e-12
        if moments and dims == 2:  # the change is the taper times the moments' polynomials
            basis = rows[:moments, inside].T
            residual = ((found[j] - plain)[inside] / taper[inside])[:, None]
            fit = basis @ torch.linalg.lstsq(basis, residual).solution
            torch.testing.assert_close(fit, residual, rtol=0, atol=1e-10)
    start = RingMasks(size, dims).double()()
    torch.testing.assert_close(start.flatten(1).norm(dim=1), torch.ones(len(start)).double())


def test_kernel_kept_in_evaluation_follows_its_weights() -> None:
    for form, kind in itertools.product(("direct", "rings"), (GMRConv2d, GMRConvTranspose2d)):
        layer, x = made(kind, 2, 2, 3, form=form), torch.randn(1, 2, 6, 6, dtype=torch.float64)
        with torch.no_grad():
            before = layer(x)
            assert torch.equal(layer(x), before)
            for weight in (layer.weight, layer.masks.spread):
                weight.add_(0.3)
                after, fresh = layer(x), kind(2, 2, 3, form=form).double()
                fresh.load_state_dict(layer.state_dict())
                torch.testing.assert_close(after, fresh(x), rtol=0, atol=1e-13)
                assert float((after - before).abs().max()) > 1e-3
                before = after


def test_widths_stay_above_half_a_pixel_and_forms_go_by_cost() -> None:
    layer = GMRConv2d(2, 2, 5)
    with torch.no_grad():
        layer.masks.spread.fill_(-50.0)
    assert float(layer.widths.detach().min()) == 0.5 and bool(layer(torch.randn(1, 2, 5, 5)).isfinite().all())
    assert GMRConv2d(64, 64, 9).chosen_form() == "rings" and GMRConv2d(8, 8, 3).chosen_form() == "direct"
    assert GMRConv2d(64, 64, 9, groups=64).chosen_form() == "direct"


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((2, 2, (3, 5)), {}, "kernel_size"),
        ((2, 2, 0), {}, "kernel_size"),
        ((2, 3, 3), {"groups": 2}, "out_channels"),
        ((2, 2, 3), {"padding": "some"}, "padding"),
        ((2, 2, 4), {"padding": "same"}, "padding"),
        ((2, 2, 3), {"padding": "same", "stride": 2}, "padding"),
        ((2, 2, 3), {"padding_mode": "none"}, "padding_mode"),
        ((2, 2, 3), {"width": 0.5}, "width"),
        ((2, 2, 3), {"form": "fast"}, "form"),
        ((2, 2, 3), {"stride": (1, 2, 3)}, "stride"),
    ],
)
def test_what_is_refused(arguments: tuple[Any, ...], options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GMRConv2d(*arguments, **options)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="axis 0"):
        GMRConv2d(1, 1, 5)(torch.randn(1, 1, 4, 8))
    with pytest.raises(ValueError, match="padding_mode"):
        GMRConv2d(1, 1, 9, padding=4, padding_mode="reflect")(torch.randn(1, 1, 4, 9))
    with pytest.raises(ValueError, match="output_padding"):
        GMRConvTranspose2d(1, 1, 3, output_padding=1)
    with pytest.raises(ValueError, match="output_size"):
        GMRConvTranspose2d(1, 1, 3, 2, 1)(torch.randn(1, 1, 4, 4), output_size=9)
    with pytest.raises(ValueError, match="size is None"):
        GMRConv2d(1, 1, 3, stride=2).export()


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.downsample = nn.Conv2d(into, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()  # type: ignore[no-any-return]


class _ResNet(nn.Module):
    """A small network on the plan of torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1, self.layer2 = _Block(4, 4, 1), _Block(4, 8, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_converted_resnet() -> None:
    """Same sizes and names, invariant on a size on which the original is not, its isotropic part kept, the original untouched."""
    model = randomise(_ResNet()).double().eval()
    kept = copy.deepcopy(model.state_dict())
    converted = convert_to_gmr(model)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    kinds = {
        name: type(m) for name, m in converted.named_modules() if name.endswith(("conv1", "conv2", "stem.0"))
    }
    assert set(kinds.values()) == {GMRConv2d} and len(kinds) == 5
    assert isinstance(converted.layer2.downsample, GMRConv2d)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        y = converted(x)
        assert y.shape == (2, 5)
        for move in (x.rot90(1, (-2, -1)), x.flip(-1)):
            torch.testing.assert_close(converted(move), y, rtol=0, atol=1e-12 * float(y.abs().max()))
            assert (model(move) - model(x)).abs().max() > 1e-3
        # what is isotropic already comes back: a converted convolution, exported and converted
        layer = converted.layer1.conv1
        again = convert_to_gmr(layer.export())
        torch.testing.assert_close(again.kernel(), layer.kernel(), rtol=0, atol=1e-9)
    converted(x).sum().backward()
    assert all(p.grad is not None for p in converted.parameters())


def test_conversion_of_what_has_no_form() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 7)), nn.Conv2d(2, 2, 3), nn.ConvTranspose2d(2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"0: kernel_size.*skip"):
        convert_to_gmr(model)
    with pytest.raises(ValueError, match="no such module"):
        convert_to_gmr(model, skip=["stem"])
    converted = convert_to_gmr(model, skip=["0"], inplace=True)
    assert converted is model and type(model[0]) is nn.Conv2d
    assert isinstance(model[1], GMRConv2d) and isinstance(model[2], GMRConvTranspose2d)
    shared = nn.Conv2d(2, 2, 3, padding=1)
    twice: Any = convert_to_gmr(nn.Sequential(shared, nn.ReLU(), shared))
    assert twice[0] is twice[2] and isinstance(convert_to_gmr(shared), GMRConv2d)

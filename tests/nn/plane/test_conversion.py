"""``convert`` and ``to_plain``: a ResNet and a U-Net in torchvision's style, their twins, and the twins' plain forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo import models
from spheregeo.audit.randomise import randomise
from spheregeo.nn.plane import GroupConv2d, convert, to_plain


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.norm, self.drop = nn.GroupNorm(4, 32), nn.Dropout2d(0.1)
        self.up, self.out = nn.Conv2d(48, 16, 3, padding=1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.down1(x))
        b = self.drop(F.gelu(self.norm(self.down2(F.max_pool2d(a, 2)))))
        b = F.interpolate(b, scale_factor=2, mode="bilinear")
        return self.out(torch.relu(self.up(torch.cat([a, b], 1))))


def decoder() -> nn.Module:
    """A halving, and two doublings: one with an output padding, which the twin's kernel takes in."""
    up = nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 2, 2)
    return nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), *up)


@pytest.mark.parametrize("match", ["parameters", "cost"])
@pytest.mark.parametrize(
    ("make", "shape"), [(lambda: ResNet(), (2, 3, 17, 17)), (UNet, (2, 1, 8, 8)), (decoder, (2, 1, 9, 9))]
)
def test_twins_are_exact_and_as_large(make, shape: tuple[int, ...], match: str) -> None:
    torch.manual_seed(0)
    model = make()
    twin = convert(model, "D4", match=match)
    assert type(twin) is type(model) and not any(isinstance(m, nn.Conv2d) for m in twin.modules())
    if match == "parameters":
        few, many = (sum(p.numel() for p in m.parameters()) for m in (twin, model))
        assert few / many == pytest.approx(1, abs=0.15)  # whole fields, and few of them
    else:  # expanded kernels as large as the ordinary ones, but for the layers that give no fields
        sizes = [
            [m.weight.shape for m in net.modules() if isinstance(m, nn.Conv2d)]
            for net in (to_plain(twin), model)
        ]
        assert sizes[0] == sizes[1]
    twin, x = randomise(twin).double().eval(), torch.randn(shape, dtype=torch.float64)
    plain = to_plain(twin)
    assert not any("spheregeo.nn" in type(part).__module__ for part in plain.modules())
    with torch.no_grad():
        y = twin(x)
        assert y.shape == model.double().eval()(x).shape
        torch.testing.assert_close(plain(x), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(to_plain(twin.float())(x.float()), twin(x.float()), rtol=0, atol=1e-5)
        twin.double()
        for move in (lambda t: torch.rot90(t, 1, (-2, -1)), lambda t: t.flip(-1)):
            expected = y if y.ndim == 2 else move(y)
            torch.testing.assert_close(twin(move(x)), expected, rtol=0, atol=1e-12 * float(y.abs().max()))


def test_options() -> None:
    conv = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))  # fmt: skip
    twin = convert(conv, "C8", match="cost", kernel_size=5, mode="mean")
    first, second = twin[0], twin[2]
    assert isinstance(first, GroupConv2d) and first.kernel_size == (5, 5) and first.padding == (2, 2)
    assert second.groups == second.in_type.num_fields and second.padding == (4, 4)
    assert twin(torch.randn(2, 2, 9, 9)).shape == (2, 4)
    single = convert(nn.Conv2d(2, 3, 3), "C4")
    assert isinstance(single, GroupConv2d) and str(single.out_type) == "3x0"


@torch.no_grad()
def test_networks_of_ours_in_plain_layers() -> None:
    for name in ("group-cnn", "group-resnet", "group-unet"):
        model = randomise(models.create(name, 1, 2, None, width=1)).double().eval()
        plain, x = to_plain(model), torch.randn(2, 1, 12, 12, dtype=torch.float64)
        assert not any("spheregeo.nn" in type(part).__module__ for part in plain.modules())
        torch.testing.assert_close(plain(x), model(x), rtol=0, atol=1e-12 * float(model(x).abs().max()))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 2)),
            "2 takes 36 numbers of 4 channels",
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2)), "1 is a PixelShuffle"),
        (nn.ConvTranspose2d(2, 4, 3, 3, output_padding=1, dilation=2), "0 has output_padding"),
        (nn.Sequential(nn.Conv2d(1, 4, (3, 5)), nn.ReLU()), "0: kernel_size"),
        (Branching(), "cannot trace"),
        (Functional(), "function with weights of its own"),
    ],
)
def test_what_is_refused(model: nn.Module, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        convert(model, "D4")
    with pytest.raises(ValueError, match="match is 'time'"):
        convert(model, "D4", match="time")

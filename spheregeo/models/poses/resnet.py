"""Residual networks of images in the layout that torchvision gave them, so that weights trained elsewhere may be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.plane.checks import check_images
from spheregeo.nn import BatchNorm

LAYOUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}


class _Basic(nn.Module):
    """Two convolutions of 3 × 3, added to the input."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        result: Tensor = (y + (x if self.downsample is None else self.downsample(x))).relu()
        return result


class _Bottleneck(nn.Module):
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1, added to the input."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = BatchNorm(4 * width)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y))
        result: Tensor = (y + (x if self.downsample is None else self.downsample(x))).relu()
        return result


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm(out_channels))


class ResNetFeatures(nn.Module):
    """Feature maps of a residual network, without its pooling and its last layer.

    Parameters have torchvision's names and shapes. The small form, of a few stages, halves an image once before them and once
    at each stage but the first; torchvision's has four stages and a max-pooling before them, and halves an image five times.

    Args:
        in_channels: channels of the images.
        width: channels of the first stage; twice as many on each further stage.
        blocks: blocks of each stage.
        kind: of the blocks, "basic" or "bottleneck".
        pool: whether there is a max-pooling before the stages.
        symmetric: whether to take the mean over the four quarter turns of the image, turned back: a turned image then has turned
            maps, at four times the cost.

    Shape: (B, in_channels, H, W) -> (B, out_channels, h, w).
    Equivariance: none, or quarter turns of square images, exact, where ``symmetric`` is set.
    Raises: ValueError for images of another shape, and for numbers that are too small.
    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385.

    Example:
        >>> import torch
        >>> ResNetFeatures(1, width=4, blocks=(1, 1))(torch.randn(2, 1, 24, 24)).shape
        torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = 16,
        blocks: Sequence[int] = (1, 1, 1),
        kind: str = "basic",
        pool: bool = False,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        kinds: dict[str, type[_Basic] | type[_Bottleneck]] = {"basic": _Basic, "bottleneck": _Bottleneck}
        if kind not in kinds:
            raise ValueError(f"kind is {kind!r}; expected basic or bottleneck")
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), stages=(len(blocks), 1), blocks=(min(blocks), 1)
        )
        self.in_channels, self.symmetric, self.stages = in_channels, symmetric, len(blocks)
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        before = width
        for k, count in enumerate(blocks):
            stage: list[nn.Module] = []
            for i in range(count):
                stage.append(kinds[kind](before, width * 2**k, 2 if k and not i else 1))
                before = width * 2**k * kinds[kind].expansion
            self.add_module(f"layer{k + 1}", nn.Sequential(*stage))
        self.out_channels = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @classmethod
    def named(cls, name: str, in_channels: int = 3, *, symmetric: bool = False) -> ResNetFeatures:
        """Return the features of a network by torchvision's name.

        Args:
            name: resnet18, resnet34, resnet50 or resnet101.
            in_channels: channels of the images.
            symmetric: whether to take the mean over quarter turns.

        Raises: ValueError for another name.
        """
        if name not in LAYOUTS:
            raise ValueError(f"backbone is {name!r}; expected small, {', '.join(LAYOUTS)}")
        kind, blocks = LAYOUTS[name]
        return cls(in_channels, width=64, blocks=blocks, kind=kind, pool=True, symmetric=symmetric)

    def load(self, weights: Mapping[str, Tensor] | str | Path) -> None:
        """Take weights of torchvision's layout; its last layer ``fc`` is left out.

        Args:
            weights: the weights by name, or the file in which torch has saved them.

        Raises: FileNotFoundError; ValueError for names that are missing, names that are unknown, or other shapes.
        """
        what = "weights"
        if not isinstance(weights, Mapping):
            what, weights = str(weights), read_weights(weights)
        given = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        own = self.state_dict()
        missing = sorted(set(own) - set(given) - {n for n in own if n.endswith("num_batches_tracked")})
        unknown = sorted(set(given) - set(own))
        if missing or unknown:
            raise ValueError(
                f"{what} lacks {', '.join(missing[:3]) or 'nothing'} and has {', '.join(unknown[:3]) or 'nothing'} beyond; "
                f"expected the names of torchvision's layout, {', '.join(list(own)[:2])} ..."
            )
        for name, value in given.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{what} has {name} of shape {tuple(value.shape)}; expected {tuple(own[name].shape)}"
                )
        self.load_state_dict(given, strict=False)

    def _maps(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for k in range(self.stages):
            x = getattr(self, f"layer{k + 1}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, 2)
        if not self.symmetric:
            return self._maps(x)
        if x.shape[2] != x.shape[3]:
            raise ValueError(
                f"x has {x.shape[2]} x {x.shape[3]} pixels; expected a square, which quarter turns keep"
            )
        turned = self._maps(torch.cat([x.rot90(k, (2, 3)) for k in range(4)]))
        back = [part.rot90(-k, (2, 3)) for k, part in enumerate(turned.split(len(x)))] if len(x) else [turned]
        return torch.stack(back).mean(0)


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Return the weights by name in a file that torch has saved; nothing but tensors is unpickled.

    Args:
        path: the file.

    Raises: FileNotFoundError; ValueError for a file that holds no weights by name.
    """
    from spheregeo.files import reading

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights {path} does not exist; expected a state dict of torchvision's layout"
        )
    with reading(path, "a state dict"):
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
            raise ValueError("it holds something else; expected tensors by name")
        return found


def make_backbone(
    name: str, in_channels: int, width: int, depth: int, symmetric: bool, weights: str | None
) -> ResNetFeatures:
    """Return the feature maps that a network of poses begins with.

    Args:
        name: "small", or torchvision's name of a residual network.
        in_channels: channels of the images.
        width: channels of the first stage of the small one.
        depth: stages of the small one.
        symmetric: whether to take the mean over quarter turns.
        weights: file of weights of torchvision's layout; random ones if None.

    Raises: ValueError for an unknown name or weights that do not fit.
    """
    if name == "small":
        features = ResNetFeatures(in_channels, width=width, blocks=[1] * depth, symmetric=symmetric)
    else:
        features = ResNetFeatures.named(name, in_channels, symmetric=symmetric)
    if weights is not None:
        features.load(weights)
    return features

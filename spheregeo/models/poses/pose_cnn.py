"""An ordinary network that regresses a rotation by six numbers, beside which the equivariant ones are judged."""

from __future__ import annotations

from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.groups import rotation_from_6d
from spheregeo.models.poses.resnet import make_backbone
from spheregeo.models.registry import register
from spheregeo.nn import MixtureDensity, RotationDensity

NUMBERS = 7  # two vectors and a concentration


@register("pose-cnn", output="pose", domain="poses")
class PoseCNN(nn.Module):
    """A residual network and two linear layers to one rotation, with how sure it is: a baseline that learns rotations from
    data alone.

    Args:
        in_channels: channels of the images.
        out_channels: rotations for each image, such as one for each class of things.
        grid: None.
        width: channels of the first stage of the small backbone.
        depth: stages of the small backbone.
        backbone: "small", or "resnet18", "resnet34", "resnet50", "resnet101" in torchvision's layout.
        weights: file of weights of torchvision's layout for the backbone; random ones if None.
        hidden: numbers between the two linear layers.
        cells: rows and columns to which the feature map is averaged before them.

    Shape: (B, in_channels, H, W) -> (B, 7 · out_channels); :meth:`density` makes the densities.
    Equivariance: none.
    Raises: ValueError for images of another shape, and for numbers that are too small.
    Reference: Zhou, Barnes, Lu, Yang & Li 2019, arXiv:1812.07035 (six numbers).

    Example:
        >>> import torch
        >>> from spheregeo.models import PoseCNN
        >>> model = PoseCNN(1, 1, width=4, depth=2)
        >>> model.density(model(torch.randn(2, 1, 24, 24))).mode().shape
        torch.Size([2, 3, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        backbone: str = "small", weights: str | None = None, hidden: int = 256, cells: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1),
            out_channels=(out_channels, 1),
            depth=(depth, 1),
            hidden=(hidden, 1),
            cells=(cells, 1),
        )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.backbone = make_backbone(backbone, in_channels, width, depth, False, weights)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(cells), nn.Flatten(), nn.Linear(self.backbone.out_channels * cells**2, hidden), nn.ReLU(),
            nn.Linear(hidden, NUMBERS * out_channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(x))
        return result

    def density(self, output: Tensor) -> RotationDensity:
        """Return the densities of what :meth:`forward` gave.

        Args:
            output: the seven numbers.

        Shape: (B, 7 · out_channels) -> B · out_channels densities, those of an image one after another.
        """
        numbers = output.float().reshape(-1, 1, NUMBERS)
        return MixtureDensity(rotation_from_6d(numbers[..., :6]), numbers[..., 0] * 0, numbers[..., 6])

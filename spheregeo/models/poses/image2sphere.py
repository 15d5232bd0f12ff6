"""Image2Sphere: features of an image on a half sphere, lifted to SO(3), to a distribution of rotations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.grids import HEALPix
from spheregeo.models.poses.resnet import make_backbone
from spheregeo.models.registry import register
from spheregeo.nn import (
    BatchNorm,
    FourierDensity,
    NearIdentity,
    RotationDensity,
    SO3Correlation,
    SO3Lift,
    SO3Rectifier,
    SphereCoefficients,
    SphereProjection,
)


@register("image2sphere", output="pose", domain="poses")
class Image2Sphere(nn.Module):
    """A planar network whose feature map is seen as that of a half sphere, and layers on SO(3) that end in a density.

    The map is read at the visible points of HEALPix; a correlation with global filters takes the coefficients there to
    functions on SO(3), and, after ReLU, one with localised filters makes the logarithm of the density.

    Args:
        in_channels: channels of the images.
        out_channels: densities for each image, such as one for each class of things.
        grid: None.
        width: channels of the first stage of the small backbone.
        depth: stages of the small backbone.
        backbone: "small", or "resnet18", "resnet34", "resnet50", "resnet101" in torchvision's layout.
        weights: file of weights of torchvision's layout for the backbone; random ones if None.
        symmetric: whether the feature map is the mean over the image's quarter turns, turned back; the whole network then
            turns with the image, at four times the backbone's cost.
        features: channels on the sphere.
        fields: functions on SO(3).
        lmax: largest degree.
        nside: of HEALPix.
        oversampling: of the grid on which ReLU is taken, see :class:`~spheregeo.nn.SO3Rectifier`.

    Shape: (B, in_channels, H, W) -> (B, out_channels · Σ (2l + 1)²), coefficients; :meth:`density` makes the densities.
    Equivariance: a turned feature map turns the density about the view axis, by quarter turns exactly; with ``symmetric`` so
        does a turned square image (1e-6 measured in float32).
    Raises: ValueError for images of another shape, and for numbers that are too small.
    Reference: Klee, Biza, Platt & Walters 2023, arXiv:2302.13926. Its numbers: resnet50, features=512, fields=8, lmax=6.

    Example:
        >>> import torch
        >>> from spheregeo.models import Image2Sphere
        >>> model = Image2Sphere(1, 1, width=4, depth=2, features=8, lmax=3)
        >>> model.density(model(torch.randn(2, 1, 24, 24))).mode().shape
        torch.Size([2, 3, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        backbone: str = "small", weights: str | None = None, symmetric: bool = False, features: int = 64, fields: int = 8,
        lmax: int = 6, nside: int = 4, oversampling: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), out_channels=(out_channels, 1), depth=(depth, 1), features=(features, 1),
            fields=(fields, 1), lmax=(lmax, 1), nside=(nside, 1),
        )  # fmt: skip
        self.in_channels, self.out_channels, self.lmax = in_channels, out_channels, lmax
        self.backbone = make_backbone(backbone, in_channels, width, depth, symmetric, weights)
        points = HEALPix(nside)
        self.mix = nn.Conv2d(self.backbone.out_channels, features, 1, bias=False)
        self.norm = BatchNorm(features)
        self.projection = SphereProjection(points)
        self.analysis = SphereCoefficients(points, lmax)
        self.lift = SO3Lift(features, fields, lmax)
        self.activation = SO3Rectifier(fields, lmax, oversampling=oversampling)
        self.head = SO3Correlation(fields, out_channels, lmax, kernel=NearIdentity())
        self.sizes = [(2 * degree + 1) ** 2 for degree in range(lmax + 1)]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.norm(self.mix(self.backbone(x)))
        on_sphere = self.projection(maps).relu()
        h = self.head(self.activation(self.lift(self.analysis(on_sphere))))
        # functions of equal strength in all degrees, of about unit size at first
        scale = 1 / math.sqrt(sum(math.sqrt(size) for size in self.sizes))
        parts = [
            part * (scale * size**0.25) for size, part in zip(self.sizes, h.split(self.sizes, 2), strict=True)
        ]
        return torch.cat(parts, 2).flatten(1)

    def density(self, output: Tensor) -> RotationDensity:
        """Return the densities of what :meth:`forward` gave.

        Args:
            output: the coefficients.

        Shape: (B, out_channels · Σ (2l + 1)²) -> B · out_channels densities, those of an image one after another.
        """
        return FourierDensity(output.reshape(-1, sum(self.sizes)).float())

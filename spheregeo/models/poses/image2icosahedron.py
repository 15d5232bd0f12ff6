"""Icosahedral networks of poses: features at the corners and faces of an icosahedron, lifted to its group of 60 rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.groups import FiniteGroup, icosahedral, rotation_from_6d
from spheregeo.models.poses.resnet import make_backbone
from spheregeo.models.registry import register
from spheregeo.nn import BatchNorm, MixtureDensity, QuotientConv, RotationDensity, SphereProjection

NUMBERS = 8  # of each rotation of the group: weight, two vectors, concentration
SITES = {"vertices": (5,), "faces": (3,), "both": (5, 3)}  # order of the rotations that keep a site


def icosahedral_sites(order: int) -> tuple[Tensor, Tensor]:
    """Return the subgroup of the 60 rotations that keeps a corner (order 5) or the middle of a face (order 3) of the icosahedron,
    and where the others take it, in the order of the cosets.

    Args:
        order: of the subgroup.

    Shape: -> (order,) int64, (60 / order, 3) float64.
    """
    group, elements = FiniteGroup.of("I"), icosahedral()
    subgroup = next(found for found in group.subgroups if len(found) == order)
    turn = elements[int(subgroup[1])]
    axis = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    axis = axis / axis.norm()
    return subgroup, torch.stack([elements[int(coset[0])] @ axis for coset in group.cosets(subgroup)])


class _Block(nn.Module):
    """A convolution over the group, batch norm of its functions, ReLU."""

    def __init__(self, conv: QuotientConv) -> None:
        super().__init__()
        self.conv, self.norm = conv, BatchNorm(conv.out_fields)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y.unflatten(1, (self.conv.out_fields, -1))).relu().flatten(1)


@register("image2icosahedron", output="pose", domain="poses")
class Image2Icosahedron(nn.Module):
    """A planar network whose feature map is read at an icosahedron's corners and faces, and convolutions over its 60 rotations.

    Each rotation g of the group has a weight and a residual rotation r_g: the pose is one of the 60 rotations g r_g.

    Args:
        in_channels: channels of the images.
        out_channels: densities for each image, such as one for each class of things.
        grid: None.
        width: channels of the first stage of the small backbone.
        depth: stages of the small backbone.
        backbone: "small", or "resnet18", "resnet34", "resnet50", "resnet101" in torchvision's layout.
        weights: file of weights of torchvision's layout for the backbone; random ones if None.
        features: channels at corners and faces.
        fields: functions on the group.
        layers: convolutions from the group to the group before the last one.
        sites: "vertices", "faces" or "both".

    Shape: (B, in_channels, H, W) -> (B, out_channels · 8 · 60); :meth:`density` makes the densities.
    Equivariance: features that the 60 rotations permute turn the density by these, exact (1e-15 measured in float64). An image
        shows about half of them, and other rotations of it are learned.
    Raises: ValueError for images of another shape, and for numbers that are too small.
    Reference: Klee, Biza, Platt & Walters 2022, arXiv:2207.08925.

    Example:
        >>> import torch
        >>> from spheregeo.models import Image2Icosahedron
        >>> model = Image2Icosahedron(1, 1, width=4, depth=2, features=8, fields=2)
        >>> model.density(model(torch.randn(2, 1, 24, 24))).mode().shape
        torch.Size([2, 3, 3])
    """

    rotations: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        backbone: str = "small", weights: str | None = None, features: int = 64, fields: int = 16, layers: int = 1,
        sites: str = "both",
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), out_channels=(out_channels, 1), depth=(depth, 1), features=(features, 1),
            fields=(fields, 1), layers=(layers, 0),
        )  # fmt: skip
        if sites not in SITES:
            raise ValueError(f"sites is {sites!r}; expected one of {', '.join(SITES)}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.backbone = make_backbone(backbone, in_channels, width, depth, False, weights)
        self.mix = nn.Conv2d(self.backbone.out_channels, features, 1, bias=False)
        self.norm = BatchNorm(features)
        group = FiniteGroup.of("I")
        self.projections, self.lifts = nn.ModuleList(), nn.ModuleList()
        for order in SITES[sites]:
            subgroup, places = icosahedral_sites(order)
            self.projections.append(SphereProjection(places, width=0.3))
            self.lifts.append(QuotientConv(group, features, fields, in_subgroup=subgroup, bias=False))
        self.lift_norm = BatchNorm(fields)
        self.blocks = nn.Sequential(
            *(_Block(QuotientConv(group, fields, fields, bias=False)) for _ in range(layers))
        )
        self.head = QuotientConv(group, fields, NUMBERS * out_channels)
        self.register_buffer("rotations", icosahedral().float(), persistent=False)

    def on_group(self, maps: list[Tensor]) -> Tensor:
        """Return the eight numbers of each rotation from features at corners and faces.

        Args:
            maps: features at the sites of each kind, in the order of the cosets.

        Shape: (B, features, 12 or 20) each -> (B, 8 · out_channels, 60).
        """
        lifted = sum(lift(x.flatten(1)) for lift, x in zip(self.lifts, maps, strict=True))
        assert isinstance(lifted, Tensor)
        y = self.lift_norm(lifted.unflatten(1, (-1, 60))).relu().flatten(1)
        result: Tensor = self.head(self.blocks(y)).unflatten(1, (-1, 60))
        return result

    def forward(self, x: Tensor) -> Tensor:
        maps = self.norm(self.mix(self.backbone(x)))
        return self.on_group([projection(maps).relu() for projection in self.projections]).flatten(1)

    def density(self, output: Tensor) -> RotationDensity:
        """Return the densities of what :meth:`forward` gave.

        Args:
            output: the numbers of each rotation.

        Shape: (B, out_channels · 8 · 60) -> B · out_channels densities, those of an image one after another.
        """
        numbers = output.float().reshape(-1, NUMBERS, 60)
        six = numbers[:, 1:7].mT + numbers.new_tensor([1.0, 0, 0, 0, 1, 0])  # the identity at first
        rotations = self.rotations.to(numbers)
        return MixtureDensity(rotations @ rotation_from_6d(six), numbers[:, 0], numbers[:, 7] + 2, rotations)

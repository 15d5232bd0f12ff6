"""A flow: invertible layers between images and a density that the group leaves as it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.groups import PlanarType
from spheregeo.nn.plane.flows.layer import FlowLayer
from spheregeo.nn.plane.group.conv import pair


class InvariantNormal(nn.Module):
    """The standard normal density of fields on images, which permutations of channels and pixels leave as it is.

    Args:
        field_type: fields, such as ``"16xC4"``.
        size: height and width.

    Shape: samples (count, dim, *size), log densities (B,).
    Equivariance: invariant under the group of the fields, exact.

    Example:
        >>> base = InvariantNormal("4xC4", (2, 2))
        >>> base.log_prob(base.sample(3)).shape
        torch.Size([3])
    """

    unit: Tensor

    def __init__(self, field_type: str | PlanarType, size: Sequence[int]) -> None:
        super().__init__()
        self.field_type, self.size = PlanarType.of(field_type), pair("size", tuple(size))
        self.register_buffer("unit", torch.ones(()), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the logarithm of the density. Shape: (B, dim, *size) -> (B,).

        Args:
            z: points of the base.

        Raises: ValueError for another shape.
        """
        expected = (self.field_type.dim, *self.size)
        if tuple(z.shape[1:]) != expected:
            raise ValueError(
                f"z has shape {tuple(z.shape)}; expected (batch, {', '.join(map(str, expected))})"
            )
        return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw points. Shape: -> (count, dim, *size).

        Args:
            count: number of points.
            generator: source of random numbers.
        """
        shape = (count, self.field_type.dim, *self.size)
        return torch.randn(shape, generator=generator, dtype=self.unit.dtype, device=self.unit.device)

    def forward(self, z: Tensor) -> Tensor:
        return self.log_prob(z)


class Flow(nn.Module):
    """An invertible map from images to a base density, and with it a density of images that the group leaves as it is.

    Args:
        layers: invertible layers, from the data to the base.
        base: density of what the last layer gives.

    Shape: (B, C, H, W) -> z (B, C', H', W') and log|det ∂z/∂x| (B,).
    Equivariance: layers commute with the group and the base is invariant, so ``log_prob`` is invariant, exact.
    Raises: ValueError where the fields of neighbouring layers differ.
    Reference: Köhler, Klein & Noé 2020, arXiv 2006.02425; Bose, Brubaker & Kobyzev 2021, arXiv 2110.08649.

    Example:
        >>> from spheregeo.nn.plane.flows import GroupMix, GroupSqueeze
        >>> flow = Flow([GroupSqueeze("1x0", "C4"), GroupMix("1xC4")], InvariantNormal("1xC4", (2, 2)))
        >>> flow.log_prob(flow.sample(5)).shape
        torch.Size([5])
    """

    def __init__(self, layers: Iterable[FlowLayer], base: InvariantNormal) -> None:
        super().__init__()
        self.layers, self.base = nn.ModuleList(layers), base
        types = [(str(layer.field_type), str(layer.out_type)) for layer in self._layers()]
        for k, (out, into) in enumerate(
            zip([out for _, out in types], [*[i for i, _ in types[1:]], str(base.field_type)], strict=True)
        ):
            if out != into:
                raise ValueError(f"layers: layer {k} gives fields '{out}' but what follows takes '{into}'")

    def _layers(self) -> list[FlowLayer]:
        return [layer for layer in self.layers if isinstance(layer, FlowLayer)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(len(x))
        for layer in self._layers():
            x, found = layer(x)
            logdet = logdet + found
        return x, logdet

    def inverse(self, z: Tensor) -> Tensor:
        """Return the images of which ``forward`` makes z. Shape: (B, C', H', W') -> (B, C, H, W).

        Args:
            z: points of the base.
        """
        for layer in reversed(self._layers()):
            z = layer.inverse(z)
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the logarithm of the density of images. Shape: (B, C, H, W) -> (B,).

        Args:
            x: images.
        """
        z, logdet = self(x)
        return self.base.log_prob(z) + logdet

    @torch.no_grad()
    def sample(
        self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw images. Shape: -> (count, C, H, W).

        Args:
            count: number of images.
            temperature: factor of the base's deviations; below 1 for images of higher density.
            generator: source of random numbers.
        """
        return self.inverse(temperature * self.base.sample(check_count("count", count), generator))

    def bits_per_dim(
        self, image: Tensor, levels: int = 256, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return an upper bound of the bits that a pixel's value takes, for images of whole grey levels.

        Uniform noise fills each level, and the density of (level + noise)/levels is taken.

        Args:
            image: grey values k/(levels − 1), k a whole number.
            levels: number of grey levels.
            generator: source of random numbers.

        Shape: (B, C, H, W) -> (B,).
        """
        return bits(self.log_prob(dequantise(image, levels, generator)), math.prod(image.shape[1:]), levels)


def dequantise(image: Tensor, levels: int = 256, generator: torch.Generator | None = None) -> Tensor:
    """Return (k + noise)/levels in [0, 1) for grey values k/(levels − 1), noise uniform in [0, 1).

    Args:
        image: grey values in [0, 1].
        levels: number of grey levels.
        generator: source of random numbers.

    Raises: ValueError for values outside [0, 1] and fewer than two levels.
    """
    check_count("levels", levels, 2)
    if image.numel() and not (float(image.min()) >= 0 and float(image.max()) <= 1):
        raise ValueError(
            f"image has values from {float(image.min()):.3g} to {float(image.max()):.3g}; expected [0, 1]"
        )
    noise = torch.rand(image.shape, generator=generator, dtype=image.dtype, device=image.device)
    return ((image * (levels - 1)).round() + noise) / levels


def bits(log_prob: Tensor, dimensions: int, levels: int) -> Tensor:
    """Return bits per dimension of the logarithm of a density on [0, 1)^dimensions. Shape: (B,) -> (B,).

    Args:
        log_prob: logarithms of the density.
        dimensions: numbers in an image.
        levels: number of grey levels.
    """
    return math.log2(levels) - log_prob / (dimensions * math.log(2))

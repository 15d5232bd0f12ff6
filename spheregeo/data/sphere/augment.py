"""Random changes of an item that leave its truth true: turns, mirrors, colours.

A transform takes (item, generator) and draws from that generator only. Turns about the vertical by whole columns and
mirrors move pixels without resampling; a turn by any rotation of SO(3) reads colours bilinearly, labels and depths from the
nearest pixel (a mean of two classes, or of a near and a far surface, exists nowhere).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spheregeo.data.common import Item
from spheregeo.sampling import random_rotations, rotate_image

__all__ = ["AzimuthalShift", "ColourJitter", "FieldJitter", "Normalize", "RandomRotation"]


@dataclass(frozen=True)
class AzimuthalShift:
    """Random turn about the vertical by whole columns, with a mirror image half of the time.

    Args:
        mirror: whether east and west are swapped half of the time.

    Equivariance: the group O(2) of the grid's columns, exactly.

    Example:
        >>> from spheregeo.data import AzimuthalShift, Augmented, Rooms
        >>> Augmented(Rooms(1, (16, 32)), [AzimuthalShift(mirror=False)])[0]["label"].shape
        torch.Size([16, 32])
    """

    mirror: bool = True

    def __call__(self, item: Item, draw: torch.Generator) -> Item:
        width = item["image"].shape[-1]
        shift = int(torch.randint(width, (), generator=draw))
        flip = self.mirror and bool(torch.rand((), generator=draw) < 0.5)
        turned = {key: value.roll(shift, -1) for key, value in item.items()}
        return {key: value.flip(-1) for key, value in turned.items()} if flip else turned


def _turn_map(value: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    return rotate_image(value[None, None], rotation, "nearest")[0, 0]  # (H, W)


@dataclass(frozen=True)
class RandomRotation:
    """Random rotation, drawn evenly from SO(3).

    Args:
        mirror: whether the item is mirrored half of the time.

    Equivariance: labels and depth turn with the image, up to interpolation.

    Example:
        >>> from spheregeo.data import Augmented, RandomRotation, Rooms
        >>> Augmented(Rooms(1, (16, 32)), [RandomRotation()])[0]["depth"].shape
        torch.Size([16, 32])
    """

    mirror: bool = False

    def __call__(self, item: Item, draw: torch.Generator) -> Item:
        rotation = random_rotations(1, draw)
        if self.mirror and bool(torch.rand((), generator=draw) < 0.5):
            item = {key: value.flip(-1) for key, value in item.items()}
        return {
            key: rotate_image(value[None], rotation, "bilinear")[0]
            if key == "image"
            else _turn_map(value, rotation)
            for key, value in item.items()
        }


@dataclass(frozen=True)
class ColourJitter:
    """Random change of brightness, contrast and saturation of the first three channels, kept in [0, 1].

    Args:
        brightness: x for a factor in [1 - x, 1 + x].
        contrast: likewise.
        saturation: likewise.

    Example:
        >>> from spheregeo.data import Augmented, ColourJitter, Rooms
        >>> float(Augmented(Rooms(1, (16, 32)), [ColourJitter(0.5)])[0]["image"].max()) <= 1
        True
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, item: Item, draw: torch.Generator) -> Item:
        spread = torch.tensor([self.brightness, self.contrast, self.saturation])
        b, c, s = (1 + (2 * torch.rand(3, generator=draw) - 1) * spread).tolist()
        colour = item["image"][:3]
        colour = colour * b
        colour = (colour - colour.mean()) * c + colour.mean()
        grey = colour.mean(0, keepdim=True)
        colour = ((colour - grey) * s + grey).clamp(0, 1)
        return item | {"image": torch.cat([colour, item["image"][3:]])}


@dataclass(frozen=True)
class FieldJitter:
    """Random scale and offset of channels that are no colours, such as elevation.

    Args:
        first: the first channel that changes; all after it change too.
        scale: x for a factor in [1 - x, 1 + x].
        offset: largest offset, in the channel's standard deviations.

    Example:
        >>> from spheregeo.data import Augmented, FieldJitter, Rooms
        >>> Augmented(Rooms(1, (16, 32)), [FieldJitter(first=2)])[0]["image"].shape
        torch.Size([3, 16, 32])
    """

    first: int = 0
    scale: float = 0.1
    offset: float = 0.1

    def __call__(self, item: Item, draw: torch.Generator) -> Item:
        image = item["image"]
        count = image.shape[0] - self.first
        if count <= 0:
            return item
        gain, bias = 2 * torch.rand(2, count, 1, 1, generator=draw) - 1
        field = image[self.first :]
        spread = field.std((-2, -1), keepdim=True)
        return item | {
            "image": torch.cat(
                [image[: self.first], field * (1 + self.scale * gain) + self.offset * bias * spread]
            )
        }


@dataclass(frozen=True)
class Normalize:
    """Normalisation of each channel: (image - mean) / std.

    Args:
        mean: one number per channel.
        std: one number per channel.

    Example:
        >>> import torch
        >>> from spheregeo.data import Normalize
        >>> item = Normalize((0.5,), (0.25,))({"image": torch.ones(1, 2, 4)}, torch.Generator())
        >>> float(item["image"].mean())
        2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, item: Item, draw: torch.Generator | None = None) -> Item:
        image = item["image"]
        if len(self.mean) != image.shape[0]:
            raise ValueError(f"mean has {len(self.mean)} numbers but the image has {image.shape[0]} channels")
        mean, std = (torch.tensor(v, dtype=image.dtype)[:, None, None] for v in (self.mean, self.std))
        return item | {"image": (image - mean) / std}

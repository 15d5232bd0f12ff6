"""What all layers of a flow share: their two directions, and the fields that they are made for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.plane.group.conv import common_group


class FlowLayer(nn.Module, ABC):
    """Base of the invertible layers: ``forward`` goes from data to the base density, ``inverse`` back.

    Args:
        field_type: fields that come in, such as ``"4xC4"``.
        group: the group, where all fields are trivial.

    Shape: (B, field_type.dim, H, W) -> (B, out_type.dim, H', W') and log|det| (B,).
    Raises: ValueError for types without a group, and for input of another type.

    Example:
        >>> from spheregeo.nn.plane.flows import GroupActNorm
        >>> isinstance(GroupActNorm("4xC4"), FlowLayer)
        True
    """

    def __init__(self, field_type: str | PlanarType, group: str | PlanarGroup | None = None) -> None:
        super().__init__()
        self.field_type = PlanarType.of(field_type)
        self.group = common_group(self.field_type, self.field_type, group)
        self.out_type = self.field_type

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log|det ∂z/∂x| of each sample. Shape: (B, C, H, W) -> (B, C', H', W') and (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Return the x of which ``forward`` makes z. Shape: (B, C', H', W') -> (B, C, H, W)."""

    def checked(self, x: Tensor, name: str = "x") -> Tensor:
        """Return features of this layer. Raises: ValueError for another number of channels or axes.

        Args:
            x: features that come in, or z that go back.
            name: name of the argument in messages.
        """
        check_tensor(x, name)
        expected = self.field_type if name == "x" else self.out_type
        if x.ndim != 4 or x.shape[1] != expected.dim:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (batch, {expected.dim}, H, W), fields of type '{expected}'"
            )
        return x


def part(field_type: PlanarType, kept: list[bool]) -> tuple[PlanarType, Tensor]:
    """Return the type of some of the fields, and their channels. Shape: channels (part.dim,) int64.

    Args:
        field_type: the whole type.
        kept: whether each field is taken.
    """
    terms, channels, start, number = [], [], 0, 0
    for count, sub in field_type.terms:
        width = field_type.width(sub)
        mine = [k for k in range(count) if kept[number + k]]
        if mine:
            terms.append((len(mine), sub))
        channels += [torch.arange(start + k * width, start + (k + 1) * width) for k in mine]
        start, number = start + count * width, number + count
    return PlanarType(tuple(terms), field_type.group), torch.cat(channels)


def field_of_channel(field_type: PlanarType) -> Tensor:
    """Return the number of the field of each channel. Shape: -> (dim,) int64."""
    widths = torch.tensor(field_type.widths)
    return torch.arange(len(widths)).repeat_interleave(widths)


def doubled(field_type: PlanarType) -> PlanarType:
    """Return a type with every field twice, side by side: a log-scale and a shift for each."""
    return PlanarType(tuple((2 * count, sub) for count, sub in field_type.terms), field_type.group)


def halves(field_type: PlanarType) -> tuple[Tensor, Tensor]:
    """Return the channels of the log-scales and of the shifts in :func:`doubled`. Shape: -> (dim,) each, int64."""
    twice = doubled(field_type)
    kept = [k % 2 == 0 for k in range(twice.num_fields)]
    return part(twice, kept)[1], part(twice, [not k for k in kept])[1]

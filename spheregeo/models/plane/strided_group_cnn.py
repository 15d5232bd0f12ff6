"""The classifier of group convolutions with plain stride, exact or, by one pixel, approximate."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from spheregeo.checks import check_least
from spheregeo.models.plane.checks import check_images
from spheregeo.models.plane.group_cnn import GroupCNN
from spheregeo.models.registry import register
from spheregeo.nn.plane import fit_size


@register("strided-group-cnn", output="label", domain="images")
class StridedGroupCNN(GroupCNN):
    """``group-cnn`` that keeps every second pixel between its stages, where that network takes means that suit every size.

    Images are first brought to the next larger size n with (n - 1) mod 2^(depth - 1) = 0, symmetrically about their centre: there
    every second pixel is its own mirror image. ``extra`` rows and columns of zeros at the top and the left spoil that.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        extra: rows and columns that are added at the top and the left: 0 for an exact network, 1 for an approximate one.
        group, width, depth, kernel_size, dropout: as for :class:`spheregeo.models.GroupCNN`.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: with ``extra=0`` invariant, exactly under the turns that map pixels onto pixels, and reflections for D_n; else
        roughly.
    Raises: ValueError as :class:`spheregeo.models.GroupCNN`, and for a negative ``extra``.
    Reference: Edixhoven, Lengyel & van Gemert 2023.

    Example:
        >>> import torch
        >>> StridedGroupCNN(1, 10, width=2, extra=1)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, extra: int = 0, group: str = "D4", width: int = 4,
        depth: int = 3, kernel_size: int | None = None, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, grid, group=group, width=width, depth=depth, kernel_size=kernel_size, dropout=dropout
        )  # fmt: skip
        check_least(extra=(extra, 0))
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        step = 2 ** (len(self.stages) - 1)
        height, width = (side + -(side - 1) % step for side in x.shape[-2:])
        x = fit_size(x, (height, width))
        if self.extra:
            x = F.pad(x, (self.extra, 0, self.extra, 0))
        for level, stage in enumerate(self.stages):
            x = stage(x[..., ::2, ::2] if level else x)
        result: Tensor = self.head(x.mean((2, 3)))
        return result

r"""``SampledGroupConv2d``: a group convolution that is evaluated at representative poses alone.

A pose is a pixel and an element of the group; what a filter answers there depends on the patch of the image in the pose's frame.
Poses whose patches are alike get one answer, that of a representative.
Reference: after the idea of Franzen, Filling & Wand 2026, arXiv:2605.15368; descriptors and cells are this library's choice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.autograd import is_watched
from spheregeo.checks import check_count, check_tensor
from spheregeo.groups import PlanarType
from spheregeo.nn.feature_cover import check_epsilon, feature_cover
from spheregeo.nn.plane.group import GroupConv2d


class SampledGroupConv2d(GroupConv2d):
    """Group convolution whose output is computed once for each cluster of poses with similar surroundings.

    Poses are compared by the answers of ``probes`` fixed random filters: a random projection of the patch in the pose's frame,
    which the group only permutes. Poses of one cell of side ``epsilon`` share the output of one of them; gradients flow through
    the representatives. Each image has clusters of its own.

    Args:
        in_type, out_type, kernel_size: as for :class:`~spheregeo.nn.GroupConv2d`; the output has regular fields alone.
        epsilon: side of a cell, relative to the root mean square of the probes' answers to the image; 0 is the dense layer.
        probes: number of random filters. More of them tell more poses apart.
        options: further arguments of :class:`~spheregeo.nn.GroupConv2d`, except ``groups``.

    Shape: (B, in_type.dim, H, W) -> (B, out_type.dim, H', W').
    Equivariance: that of the dense layer, up to poses with equal descriptors: exact (1e-15 in float64) for C_n and D_n with n in
        1, 2, 4 on square images.
    Raises: ValueError for outputs other than regular fields, blocks of fields, a negative epsilon.
    Reference: Franzen, Filling & Wand 2026, arXiv:2605.15368 (idea).

    Example:
        >>> conv = SampledGroupConv2d("1x0", "8xD4", 3, padding=1, epsilon=0.2)
        >>> conv(torch.randn(1, 1, 9, 9)).shape
        torch.Size([1, 64, 9, 9])
    """

    def __init__(
        self,
        in_type: str | PlanarType,
        out_type: str | PlanarType,
        kernel_size: int,
        *,
        epsilon: float = 0.1,
        probes: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, **options)
        if self.groups != 1 or self.out_type.terms != ((self.out_type.num_fields, "C1"),):
            raise ValueError(
                f"out_type is '{self.out_type}' and groups {self.groups}; expected regular fields such as '8xD4', and no groups"
            )
        self.epsilon = check_epsilon(epsilon)
        check_count("probes", probes)
        options.pop("bias", None)
        with torch.device("cpu"):  # the same filters on every machine, device and reload
            drawn = GroupConv2d(
                self.in_type, f"{probes}x{self.group}", kernel_size, bias=False, **options
            ).double()
            drawn.reset_parameters(torch.Generator().manual_seed(0))
            self.keep("probe_kernel", drawn.kernel().detach())

    def cover(self, x: Tensor) -> Tensor:
        """Return for each pose of each image the pose that represents it.

        Args:
            x: the layer's input.

        Shape: (B, in_type.dim, H, W) -> (B, |G| H' W') int64; poses are counted by element, then row, then column.
        """
        return self._cover(self._surrounded(x))

    def _cover(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            kernel = self.get_buffer("probe_kernel")
            # half precision would move poses to other cells
            wide = torch.float64 if x.dtype == torch.float64 else torch.float32
            answers = F.conv2d(x.detach().to(wide), kernel.to(wide), None, self.stride, 0, self.dilation)
            answers = answers.unflatten(1, (-1, self.group.size)).flatten(2)  # (B, probes, poses)
            return feature_cover(answers.transpose(1, 2), self.epsilon)

    def num_clusters(self, x: Tensor) -> tuple[int, int]:
        """Return the number of clusters of an input, and that of poses.

        Args:
            x: the layer's input.
        """
        found = self.cover(x)
        return int((found == torch.arange(found.shape[1], device=found.device)).sum()), found.numel()

    def _surrounded(self, x: Tensor) -> Tensor:
        down, right = self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, (right, right, down, down), mode) if down or right else x

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if self.epsilon == 0 or x.numel() == 0 or x.ndim != 4 or x.shape[1] != self.sizes[0]:
            return super().forward(x)
        surrounded = self._surrounded(x)
        height, width = self._size(surrounded)
        cover = self._cover(surrounded)
        # compilers know shapes, not the number of clusters, for which other devices would have to wait
        if is_watched() or x.device.type != "cpu":
            y = super().forward(x)
            return shared(y, cover, self.group.size)
        kept, which = torch.unique(
            cover + cover.shape[1] * torch.arange(len(x), device=x.device)[:, None], return_inverse=True
        )
        image, pose = kept // cover.shape[1], kept % cover.shape[1]
        element, pixel = pose // (height * width), pose % (height * width)
        answers = self._answers(surrounded, image, element, (pixel // width, pixel % width))
        y = answers.index_select(0, which.flatten()).view(len(x), self.group.size, height, width, -1)
        return y.permute(0, 4, 1, 2, 3).flatten(1, 2)

    def _size(self, x: Tensor) -> tuple[int, int]:
        found = [
            (size - dilation * (taps - 1) - 1) // stride + 1
            for size, dilation, taps, stride in zip(
                x.shape[2:], self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        if min(found) < 1:
            raise ValueError(
                f"x has {tuple(x.shape[2:])} pixels with its padding; expected a kernel's extent at least"
            )
        return found[0], found[1]

    def _answers(self, x: Tensor, image: Tensor, element: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
        """Outputs of all filters at some poses. Shape: poses (m,) -> (m, fields)."""
        rows, columns = (
            (stride * index)[:, None] + dilation * torch.arange(taps, device=x.device)
            for index, stride, dilation, taps in zip(
                at, self.stride, self.dilation, self.kernel_size, strict=True
            )
        )
        height, width = x.shape[2:]
        place = (image[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
        points = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        # (fields, |G|, channels, taps) -> (|G|, taps · channels, fields)
        kernel = self._current().to(x.dtype).unflatten(0, (-1, self.group.size)).flatten(3)
        kernel = kernel.permute(1, 3, 2, 0).flatten(1, 2)
        order = element.argsort(dim=0, stable=True)
        parts, begin = [], 0
        for h, count in enumerate(torch.bincount(element, minlength=self.group.size).tolist()):
            chosen = order[begin : begin + count]
            begin += count
            patch = points.index_select(0, place[chosen].flatten()).view(count, kernel.shape[1])
            parts.append(patch @ kernel[h])
        found = torch.cat(parts)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        found = found.index_select(0, back)
        return found if self.bias is None else found + self.bias.to(found.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, epsilon={self.epsilon}"


def shared(y: Tensor, cover: Tensor, size: int) -> Tensor:
    """Return the output of a dense layer in which every pose takes what its representative has.

    Args:
        y: output of the dense layer.
        cover: representative of each pose.
        size: number of elements of the group.

    Shape: y (B, fields · size, H, W), cover (B, size · H · W) -> as y.
    """
    fields = y.unflatten(1, (-1, size)).flatten(2)
    return (
        fields.gather(2, cover[:, None].expand_as(fields))
        .unflatten(2, (size, math.prod(y.shape[2:])))
        .flatten(1, 2)
        .unflatten(2, y.shape[2:])
    )

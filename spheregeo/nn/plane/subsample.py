"""Subsampling that commutes exactly with quarter turns, reflections and cyclic shifts, at every size of image.

An image has several subsets of every s-th pixel; which of them ordinary stride takes depends on where the image begins. Here the
subset with the largest norm is taken, and which one that was goes along with the features.
Reference: Xu, Kim, Rainforth & Teh 2021, arXiv 2106.05886 (who draw the subset at random).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor

__all__ = ["CosetSubsample2d", "CosetUnsample2d", "PixelPose", "coset_pixels", "fit_size"]


def fit_size(x: Tensor, size: tuple[int, int], *, mode: str = "constant") -> Tensor:
    """Return images padded or cropped about their centre, so that quarter turns and reflections commute with it exactly.

    Args:
        x: images.
        size: rows and columns wanted.
        mode: of padding, as in ``torch.nn.functional.pad``.

    Both ends get or lose equal numbers of pixels. Where an axis changes by an odd number, its centre moves by half a
    pixel, and every pixel is replaced by the mean of two neighbours first (at the borders of a larger image by one alone).

    Shape: (..., H, W) -> (..., *size).
    Equivariance: exact.
    Raises: ValueError for sizes below 1, or images without rows and columns.

    Example:
        >>> x = torch.rand(1, 1, 28, 28)
        >>> y, turned = fit_size(x, (29, 29)), fit_size(torch.rot90(x, 1, (2, 3)), (29, 29))
        >>> torch.allclose(turned, torch.rot90(y, 1, (2, 3)))
        True
    """
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected images (..., H, W)")
    if min(size) < 1:
        raise ValueError(f"size is {tuple(size)}, expected at least 1 pixel")
    rows, columns = (new - old for new, old in zip(size, x.shape[-2:], strict=True))
    if not rows and not columns:
        return x
    flat = x.reshape(-1, 1, *x.shape[-2:])
    if rows % 2 or columns % 2:
        kernel = (1 + rows % 2, 1 + columns % 2)
        pads = (int(rows % 2 and rows > 0), int(columns % 2 and columns > 0))
        flat = F.avg_pool2d(flat, kernel, 1, pads, count_include_pad=False)
    rows, columns = (new - old for new, old in zip(size, flat.shape[-2:], strict=True))
    if rows or columns:
        flat = F.pad(flat, (columns // 2, columns // 2, rows // 2, rows // 2), mode)
    return flat.reshape(*x.shape[:-2], *size)


def coset_pixels(size: int, stride: int, circular: bool, device: torch.device | None = None) -> Tensor:
    """Return the subsets of pixels that subsampling chooses from along one axis, one in each row.

    Args:
        size: pixels of the axis.
        stride: pixels from one to the next.
        circular: whether the axis is closed, so that cyclic shifts are symmetries.
        device: of the result.

    Subset a mirrored is subset ``A - 1 - a`` of the A subsets, its pixels in the reversed order, always:

    - on a closed axis that the stride divides, every ``stride``-th pixel, from any of the first ``stride``;
    - on a closed axis that the stride does not divide, pixels at multiples of the stride about any pixel, as many
      on both sides, 2⌊(size - 1)/(2 stride)⌋ + 1 in all: no set of every ``stride``-th pixel closes round the axis;
    - on an open axis, the ⌈size/stride⌉ pixels from any of the first ``size mod stride`` (or ``stride``, where that is 0): all
      sets that have so many.

    Shape: (subsets, pixels) integers.
    """
    if circular and size % stride:
        half = (size - 1) // (2 * stride)
        around = torch.arange(-half, half + 1, device=device) * stride
        return (torch.arange(size, device=device)[:, None] + around) % size
    first = torch.arange(size % stride or stride, device=device)
    return first[:, None] + torch.arange(-(-size // stride), device=device) * stride


class PixelPose(NamedTuple):
    """Which pixels of an image subsampled features come from: their pose.

    Args:
        rows, columns: row, and column, of the image that each row, and column, of the features comes from.
        size: rows and columns of the image.

    Shape: rows (B, H'), columns (B, W').

    Example:
        >>> PixelPose(torch.tensor([[1, 3]]), torch.tensor([[0, 2]]), (4, 4)).first
        tensor([[1, 0]])
    """

    rows: Tensor
    columns: Tensor
    size: tuple[int, int]

    @property
    def first(self) -> Tensor:
        """Row and column of the image that the first pixel of the features comes from, (B, 2)."""
        return torch.stack([self.rows[:, 0], self.columns[:, 0]], 1)


class CosetSubsample2d(nn.Module):
    """Keep every s-th pixel of an image along both axes: of all subsets, the one whose features have the largest norm.

    Args:
        stride: s, of rows and columns; one number for both.
        circular: whether images are periodic: cyclic shifts are symmetries then.
        return_pose: whether the pixels that were chosen are returned as well.

    :func:`coset_pixels` lists the subsets. The norm is taken over all channels, in float64, so any orthogonal action on the
    channels leaves the choice alone: of scalars, of fields of :class:`spheregeo.groups.PlanarType`, of irreps. Of subsets with
    equal norms the first is taken: an image that is itself symmetric has such, and no rule could do better, for its features
    would have to be as symmetric as the image.

    Shape: (B, C, H, W) -> (B, C, H', W') and :class:`PixelPose`. H' is ⌈H/s⌉, but the odd number next to H/s on periodic axes
    that the stride does not divide.
    Equivariance: exact at all sizes. Turned and reflected images give turned and reflected features and pixels; with
    ``circular``, images shifted cyclically by t give the same features, rolled, and pixels shifted by t.
    Raises: ValueError for strides below 1, for inputs of other shapes, and for pixels that do not fit the input.
    Reference: Xu, Kim, Rainforth & Teh 2021, arXiv 2106.05886.

    Example:
        >>> x = torch.zeros(1, 1, 4, 4)
        >>> x[0, 0, 1, 2] = 5.0
        >>> y, pose = CosetSubsample2d(2)(x)
        >>> y.flatten().tolist(), pose.first.tolist()
        ([0.0, 5.0, 0.0, 0.0], [[1, 0]])
    """

    exact_subsampling = True  # as spheregeo.audit.subsampling reads it

    def __init__(
        self, stride: int | tuple[int, int] = 2, *, circular: bool = True, return_pose: bool = True
    ) -> None:
        super().__init__()
        self.stride = (stride, stride) if isinstance(stride, int) else (stride[0], stride[1])
        if min(self.stride) < 1:
            raise ValueError(f"stride is {stride}, expected at least 1")
        self.circular = circular
        self.return_pose = return_pose

    def forward(self, x: Tensor, pose: PixelPose | None = None) -> Tensor | tuple[Tensor, PixelPose]:
        """Subsample features.

        Args:
            x: features.
            pose: what an earlier layer returned with ``x``: the pixels returned are those of the image that it began with.
        """
        check_tensor(x)
        if x.ndim != 4 or not x.shape[2] or not x.shape[3]:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected images (B, C, H, W)")
        size = (x.shape[2], x.shape[3])
        if pose is not None and (pose.rows.shape[1], pose.columns.shape[1]) != size:
            raise ValueError(
                f"pose has {pose.rows.shape[1]} × {pose.columns.shape[1]} pixels, expected {size[0]} × {size[1]}"
            )
        rows, columns = (
            coset_pixels(n, s, self.circular, x.device) for n, s in zip(size, self.stride, strict=True)
        )
        chosen = self._choose(x.detach(), rows, columns)
        r, c = rows[chosen // columns.shape[0]], columns[chosen % columns.shape[0]]  # (B, H'), (B, W')
        at = (r[:, :, None] * size[1] + c[:, None, :]).flatten(1)
        out = x.flatten(2).gather(2, at[:, None].expand(-1, x.shape[1], -1))
        out = out.unflatten(2, (r.shape[1], c.shape[1]))
        if not self.return_pose:
            return out
        if pose is None:
            return out, PixelPose(r, c, size)
        return out, PixelPose(pose.rows.gather(1, r), pose.columns.gather(1, c), pose.size)

    def _choose(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The flat index of the pair of subsets with the largest norm, (B,)."""
        energy = x.double().square().sum(1)
        first, second = (
            (subsets[..., None] == torch.arange(n, device=x.device)).any(1).double()
            for subsets, n in zip((rows, columns), energy.shape[1:], strict=True)
        )
        return (first @ energy @ second.T).flatten(1).argmax(1)

    def extra_repr(self) -> str:
        """Stride and whether images are periodic."""
        return f"stride={self.stride}, circular={self.circular}"


class CosetUnsample2d(nn.Module):
    """Put subsampled features back on the pixels that they come from, zeros elsewhere: the adjoint of :class:`CosetSubsample2d`.

    Subsampled again, the features come back as they were, on the pixels they were on. One call undoes a stack of
    :class:`CosetSubsample2d` through which the pixels were handed.

    Shape: (B, C, H', W') -> (B, C, *pose.size).
    Equivariance: exact.
    Raises: ValueError for features that the pixels do not fit.

    Example:
        >>> y, pose = CosetSubsample2d(2)(torch.rand(1, 1, 5, 6))
        >>> torch.equal(CosetSubsample2d(2)(CosetUnsample2d()(y, pose))[0], y)
        True
    """

    exact_subsampling = True

    def forward(self, y: Tensor, pose: PixelPose) -> Tensor:
        """Return features on the image's pixels.

        Args:
            y: features.
            pose: pixels that they come from.
        """
        check_tensor(y, "y")
        shape = (pose.rows.shape[0], pose.rows.shape[1], pose.columns.shape[1])
        if y.ndim != 4 or (y.shape[0], *y.shape[2:]) != shape:
            raise ValueError(
                f"y has shape {tuple(y.shape)}, expected ({shape[0]}, C, {shape[1]}, {shape[2]}) as of the pose"
            )
        rows, columns = pose.size
        at = (pose.rows[:, :, None] * columns + pose.columns[:, None, :]).flatten(1)
        out = y.new_zeros(*y.shape[:2], rows * columns)
        return out.scatter(2, at[:, None].expand(-1, y.shape[1], -1), y.flatten(2)).unflatten(
            2, (rows, columns)
        )

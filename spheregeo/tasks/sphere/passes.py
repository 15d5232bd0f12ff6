"""Several passes over one photo: tiles for an answer finer than the model's grid, turns about the vertical for a steadier one.

A network of the whole sphere cannot be given a part of a photo. Tiles are shifts instead: the photo is averaged onto the model's
grid anew for each of n x n positions of the grid's pixels within one of its pixels, and the answers are interleaved into a field
n times as fine, in the memory of one pass. Shifts east are turns of the sphere; shifts south move the rows by less than a pixel,
which the network is not told.

Reference: shift-and-stitch, Long, Shelhamer & Darrell 2015, arXiv 1411.4038, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.tasks.sphere.base import SphereTask
from spheregeo.tasks.sphere.photos import infer, working_grid


def centred_means(image: Tensor, size: int) -> Tensor:
    """Return the mean over ``size`` x ``size`` pixels around each pixel; across a pole the image goes on half a turn further.

    Args:
        image: an equirectangular image.
        size: pixels along an edge; the outermost count half where the size is even.

    Shape: (C, H, W) -> (C, H, W).
    """
    half = size // 2
    weight = torch.ones(2 * half + 1, dtype=image.dtype, device=image.device)
    if size % 2 == 0:
        weight[0] = weight[-1] = 0.5
    weight = weight / weight.sum()
    height, width = image.shape[-2:]
    beyond = [part.flip(-2).roll(width // 2, -1) for part in (image[:, :half], image[:, height - half :])]
    tall = torch.cat([beyond[0], image, beyond[1]], dim=-2)
    rows = sum(w * tall[:, k : k + height] for k, w in enumerate(weight))
    return sum(w * rows.roll(half - k, -1) for k, w in enumerate(weight))  # type: ignore[return-value]


def shrink_photo(task: SphereTask, photo: Tensor, tiles: int) -> Tensor:
    """Return a photo on a grid ``tiles`` times as fine as the task's working grid: (C, H, W) -> (C, tiles * h, tiles * w)."""
    from spheregeo.data import resize_image

    height, width = working_grid(task).shape
    return torch.from_numpy(resize_image(photo.numpy(), (tiles * height, tiles * width)))


def infer_passes(
    task: SphereTask,
    photo: Tensor,
    tiles: int = 1,
    turns: int = 1,
    once: Callable[[SphereTask, Tensor], Tensor] = infer,
) -> Tensor:
    """Return the mean output of a task's network over turns of a photo, on a grid ``tiles`` times as fine as the working grid.

    ``predict`` calls this function in place of :func:`~spheregeo.tasks.sphere.photos.infer` and enlarges what it returns in the
    same way. With one tile and one turn both are the same.

    Args:
        task: the task, in evaluation mode.
        photo: values in [0, 1].
        tiles: positions of the grid along each axis; tiles x tiles x turns passes are made.
        turns: turns about the vertical, evenly spaced, by whole columns of the working grid.
        once: function of the task and a photo that returns the output of one pass on the working grid.

    Shape: (C, H, W) -> (out_channels, tiles * h, tiles * w), where (h, w) is the working grid.
    Equivariance: the mean over all columns is exactly equivariant to turns by them.
    Raises: ValueError for tiles or turns below 1, more turns than columns, and as ``infer``.
    """
    _, width = working_grid(task).shape
    check_least(tiles=(tiles, 1), turns=(turns, 1))
    if turns > width:
        raise ValueError(f"turns is {turns}; expected at most {width}, the columns of the working grid")
    if tiles == 1:
        return _mean_over_turns(task, photo, turns, width, once)
    smooth = centred_means(shrink_photo(task, photo, tiles), tiles)
    found: list[list[Tensor]] = [
        [_mean_over_turns(task, smooth[:, i::tiles, j::tiles], turns, width, once) for j in range(tiles)]
        for i in range(tiles)
    ]
    rows = [torch.stack(row, dim=-1).flatten(-2) for row in found]  # (K, h, tiles * w)
    return torch.stack(rows, dim=-2).flatten(1, 2)


def _mean_over_turns(
    task: SphereTask, photo: Tensor, turns: int, width: int, once: Callable[[SphereTask, Tensor], Tensor]
) -> Tensor:
    if turns == 1:
        return once(task, photo)
    image = shrink_photo(task, photo, 1)
    total = torch.zeros(())
    for turn in range(turns):
        shift = round(turn * width / turns)
        total = total + once(task, image.roll(shift, -1)).roll(-shift, -1)
    return total / turns

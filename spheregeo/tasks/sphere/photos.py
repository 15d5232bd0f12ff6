"""Photos of any size on a task's grid and back: cell averages going down, strips of bilinear rows going up.

Going up is separable on equirectangular images, whose pixels are cell-centred. Beyond a pole the image goes on at the
opposite longitude, and columns wrap around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spheregeo.tasks.checks import check_field
from spheregeo.tasks.sphere.base import SphereTask

if TYPE_CHECKING:
    from spheregeo.grids import Equiangular

STRIP = 64  # rows enlarged at a time: 14 classes of an 8192-wide photo then take 30 MB


def _between(source: int, target: int) -> tuple[Tensor, Tensor]:
    """Index of the lower neighbour (from -1 on) and weight of the upper one for each target cell centre."""
    place = (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    below = place.floor()
    return below.long(), (place - below).float()


def enlarge_strips(field: Tensor, height: int, width: int, rows: int = STRIP) -> Iterator[Tensor]:
    """Bilinear enlargement of an equirectangular field, from north to south in strips.

    Shape: (C, h, w) -> strips (C, <= rows, width), together (C, height, width).
    """
    half = field.shape[-1] // 2
    across = [field[:, :1].roll(half, -1), field, field[:, -1:].roll(half, -1)]
    padded = torch.cat(across, dim=1)  # (C, h + 2, w): beyond each pole, the opposite meridian
    row, row_weight = _between(field.shape[1], height)
    column, column_weight = _between(field.shape[2], width)
    left, right = column % field.shape[2], (column + 1) % field.shape[2]
    for top in range(0, height, rows):
        at, w = row[top : top + rows] + 1, row_weight[top : top + rows, None]
        strip = padded[:, at] * (1 - w) + padded[:, at + 1] * w  # (C, rows, w)
        yield strip[..., left] * (1 - column_weight) + strip[..., right] * column_weight  # (C, rows, width)


def working_grid(task: SphereTask) -> Equiangular:
    """The equirectangular grid on which photos meet the task: its own, or one about as fine."""
    from spheregeo.grids import Equiangular

    if (
        isinstance(task.grid, Equiangular)
        and not task.grid.poles
        and task.grid.shape[1] == 2 * task.grid.shape[0]
    ):
        return task.grid
    height = max(2, round(math.pi / task.grid.spacing))
    return Equiangular(height, 2 * height)


def _output(task: SphereTask, photo: Tensor) -> Tensor:
    """The network's output for one photo with values in [0, 1], brought to the task's grid: (C, H, W) -> (out_channels, *)."""
    from spheregeo.data import resize_image
    from spheregeo.sampling import resample

    if task.in_channels == 1 and photo.shape[0] == 3:
        photo = photo.mean(0, keepdim=True)  # a network of grey pictures
    if photo.shape[0] != task.in_channels:
        raise ValueError(
            f"the photo has {photo.shape[0]} channels but the model was trained on {task.in_channels}; "
            "use a model trained on colour images, or `spheregeo test` with the model's own kind of data"
        )
    work = working_grid(task)
    image = torch.from_numpy(resize_image(photo.numpy(), (work.shape[0], work.shape[1])))  # (C, h, w)
    image = task.normalize(image)
    if work != task.grid:
        image = resample(image, work, task.grid)  # (C, *grid.shape)
    image = check_field(image[None].to(task.device), task.grid, task.in_channels)
    return task(image)[0].float().cpu()


@torch.inference_mode()
def infer(task: SphereTask, photo: Tensor) -> Tensor:
    """Output of the task's network for one photo with values in [0, 1], on the working grid.

    Shape: (C, H, W) -> (out_channels, *working_grid(task).shape).
    Raises: ValueError when the photo has another number of channels than the task was trained for.
    """
    from spheregeo.sampling import resample

    output, work = _output(task, photo), working_grid(task)
    return output if work == task.grid else resample(output, task.grid, work)


@torch.inference_mode()
def classify_photo(task: SphereTask, photo: Tensor) -> Tensor:
    """Probability of each class for one photo as a whole, values in [0, 1]; for tasks that give labels.

    Shape: (C, H, W) -> (num_classes,).
    Raises: ValueError as :func:`infer`.
    """
    return _output(task, photo).softmax(0)


def label_photo(task: SphereTask, photo: Tensor) -> Tensor:
    """The task's decision at every pixel of a photo: classes (uint8) or depths (float32).

    Shape: (C, H, W) -> (H, W). Memory: one strip of the enlarged output at a time.
    """
    output = infer(task, photo)
    strips = enlarge_strips(output, photo.shape[1], photo.shape[2])
    decided = [task.decide(strip[None])[0] for strip in strips]
    return torch.cat([d.to(torch.uint8) if not d.is_floating_point() else d for d in decided])

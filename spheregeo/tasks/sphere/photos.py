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

from spheregeo.tasks.checks import check_field, check_output
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


def prepare_photo(task: SphereTask, photo: Tensor) -> Tensor:
    """Return a photo with values in [0, 1] as the network takes it: averaged, normalised, on the task's grid.

    Args:
        task: the task that will decide.
        photo: the photo.

    Shape: (C, H, W) -> (in_channels, *grid.shape).
    Raises: ValueError when the photo has another number of channels than the task was trained for.
    """
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
    return image if work == task.grid else resample(image, work, task.grid)


@torch.inference_mode()
def outputs_of(task: SphereTask, images: Tensor) -> Tensor:
    """Return the network's output for photos that :func:`prepare_photo` has prepared, on the CPU in float32.

    Args:
        task: the task that decides.
        images: the photos.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape) or (B, out_channels).
    Raises: ValueError for photos that do not fit, and for output that is not finite.
    """
    images = check_field(images.to(task.device), task.grid, task.in_channels)
    return check_output(task(images)).float().cpu()


@torch.inference_mode()
def infer(task: SphereTask, photo: Tensor) -> Tensor:
    """Output of the task's network for one photo with values in [0, 1], on the working grid.

    Shape: (C, H, W) -> (out_channels, *working_grid(task).shape).
    Raises: ValueError when the photo has another number of channels than the task was trained for.
    """
    return on_working_grid(task, outputs_of(task, prepare_photo(task, photo)[None])[0])


def on_working_grid(task: SphereTask, output: Tensor) -> Tensor:
    """Return an output on the task's grid, (C, *grid.shape), on the grid where photos meet the task, (C, h, w)."""
    from spheregeo.sampling import resample

    work = working_grid(task)
    return output if work == task.grid else resample(output, task.grid, work)


@torch.inference_mode()
def classify_photo(task: SphereTask, photo: Tensor) -> Tensor:
    """Probability of each class for one photo as a whole, values in [0, 1]; for tasks that give labels.

    Shape: (C, H, W) -> (num_classes,).
    Raises: ValueError as :func:`infer`.
    """
    return outputs_of(task, prepare_photo(task, photo)[None])[0].softmax(0)


def label_photo(task: SphereTask, photo: Tensor) -> Tensor:
    """The task's decision at every pixel of a photo: classes (uint8) or depths (float32).

    Shape: (C, H, W) -> (H, W). Memory: one strip of the enlarged output at a time.
    """
    return enlarge_decision(task, infer(task, photo), photo.shape[1], photo.shape[2])[0]


def enlarge_decision(
    task: SphereTask, output: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor | None]:
    """Return a task's decision at every pixel of a photo, and the probability of the class where there are classes.

    Args:
        task: the task that decides.
        output: the network's output on the working grid, (C, h, w).
        height: rows of the photo.
        width: columns of the photo.

    Shape: -> (H, W) uint8 classes or float32 depths; (H, W) uint8, 255 for certainty, or None.
    """
    decided, sure = [], []
    for strip in enlarge_strips(output, height, width):
        found = task.decide(strip[None])[0]
        decided.append(found if found.is_floating_point() else found.to(torch.uint8))
        if not found.is_floating_point():
            sure.append((255 * strip.softmax(0).amax(0)).round_().to(torch.uint8))
    return torch.cat(decided), torch.cat(sure) if sure else None

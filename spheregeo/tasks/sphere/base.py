"""What the tasks on fields over one grid share: a network built from plain arguments, checks of the input, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.tasks.base import Batch, Task
from spheregeo.tasks.pictures.fields import as_rgb, sheet_picture, world_picture
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.plain import parse_grid, parse_kernel

if TYPE_CHECKING:
    from spheregeo.grids import Grid

Example = tuple[Tensor, Tensor, Tensor]  # image, truth, prediction


def _network_options(width: int | None, depth: int | None, options: dict[str, Any]) -> dict[str, Any]:
    chosen = dict(options)
    chosen.update({k: v for k, v in (("width", width), ("depth", depth)) if v is not None})
    if isinstance(chosen.get("native"), str):
        chosen["native"] = parse_grid(chosen["native"])
    if isinstance(chosen.get("kernel"), str):
        chosen["kernel"] = parse_kernel(chosen["kernel"])
    if chosen.get("levels") is not None:
        chosen["levels"] = [parse_grid(g) if isinstance(g, str) else g for g in chosen["levels"]]
    return chosen


class SphereTask(Task):
    """Base of the tasks on fields over one grid: network, input checks, pictures of fields.

    Shape: ``forward`` maps images (B, in_channels, *grid.shape) to the network's output: fields (B, out_channels,
        *grid.shape), or (B, out_channels) where ``output`` is "label".
    Raises: ValueError for images of another shape, or with values that are not finite.
    """

    output: ClassVar[str] = "field"
    areas: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, out_channels: int, *, in_channels: int, grid: Any, network: str, width: int | None, depth: int | None,
        options: dict[str, Any] | None, mean: Sequence[float] | None, std: Sequence[float] | None,
        lr: float, weight_decay: float, warmup: float, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        grid = parse_grid(grid) if isinstance(grid, str) else grid
        numbers = {
            name: [default] * in_channels if given is None else [float(v) for v in given]
            for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0))
        }
        name = models.resolve(network, self.output)
        own = models.options_of(name, options)
        super().__init__(
            lr=lr, weight_decay=weight_decay, warmup=warmup,
            settings={
                "in_channels": in_channels, "grid": grid, "network": name, "width": width, "depth": depth,
                "options": own or None, **numbers, **settings,
            },
        )  # fmt: skip
        self.grid: Grid = grid
        self.in_channels = in_channels
        self.network = models.create(
            name, in_channels, out_channels, grid, **_network_options(width, depth, own)
        )
        for statistic, values in numbers.items():
            if len(values) != in_channels:
                raise ValueError(f"{statistic} has {len(values)} numbers but in_channels is {in_channels}")
            self.register_buffer(f"image_{statistic}", torch.tensor(values), persistent=False)
        self.register_buffer("areas", self.grid.areas.float().reshape(self.grid.shape), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.network(image)
        return result

    def decide(self, output: Tensor) -> Tensor:
        """What the network's output (B, out_channels, *) says: classes or depths (B, *)."""
        return output.argmax(1)

    def normalize(self, image: Tensor) -> Tensor:
        """An image in its own units, (..., C, H, W), as the data module would feed it: (image - mean) / std."""
        return (image - self.image_mean.to(image)[:, None, None]) / self.image_std.to(image)[:, None, None]

    def check_image(self, image: Tensor) -> Tensor:
        """The image itself, once its shape and values are found sound."""
        expected = (self.in_channels, *self.grid.shape)
        if image.dim() != len(expected) + 1 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"image has shape {tuple(image.shape)}; this task expects (B, {', '.join(map(str, expected))}), "
                f"{self.in_channels} channels; was the model built for other data?"
            )
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image has shape {tuple(image.shape[2:])} but the grid is {self.grid!r} with shape "
                f"{tuple(self.grid.shape)}; resample the images to the model's grid "
                f"(data.size in a recipe, --data.size '{list(self.grid.shape)}' on the command line)"
            )
        if not bool(torch.isfinite(image).all()):
            bad = int((~torch.isfinite(image)).flatten(1).any(1).nonzero()[0])
            raise ValueError(
                f"image {bad} of the batch holds NaN or infinite values; clean the data or mask them"
            )
        return image

    # ---- pictures

    def examples(self, outputs: Batch) -> Iterable[Example]:
        return zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True)

    def picture_of(self, image: Tensor) -> np.ndarray[Any, Any]:
        """An image (C, *grid.shape) as an RGB panorama (H, W, 3)."""
        return as_rgb(np.stack([to_panorama(channel, self.grid) for channel in image]))

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        """Two decided fields as RGB panoramas, coloured alike."""
        raise NotImplementedError(f"{type(self).__name__} decides no fields")

    def _draw_fields(
        self, folder: Path, examples: Sequence[Example], class_names: list[str] | None = None
    ) -> None:
        if not examples:
            return
        rows = [(self.picture_of(image), *self.colours_of(*decided)) for image, *decided in examples]
        sheet_picture(folder / "predictions.png", rows, class_names)
        world_picture(folder / "world.png", rows[0][2], "prediction (Mollweide)", class_names)

"""What the tasks on fields over one grid share: a network built from plain arguments, pictures of fields, the audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.grids import parse_grid
from spheregeo.tasks.checks import Batch
from spheregeo.tasks.pictures.fields import as_rgb, sheet_picture, world_picture
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.scored import ScoredSamples

if TYPE_CHECKING:
    from spheregeo.grids import Grid

Example = tuple[Tensor, Tensor, Tensor]  # image, truth, prediction


def _network_options(width: int | None, depth: int | None, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}


class SphereTask(ScoredSamples):
    """Base of the tasks on fields over one grid: network, pictures of fields.

    Shape: ``forward`` maps images (B, in_channels, *grid.shape) to the network's output: fields (B, out_channels,
        *grid.shape), or (B, out_channels) where ``output`` is "label".
    Raises: ValueError for an unknown network or grid, or statistics that are not one number per channel.

    Args:
        out_channels: channels of the network's output.
        in_channels: channels of the images.
        grid: grid of the images, or its repr.
        network: name of a model, see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"kernel": "Rings(5)", "checkpoint": true}, also filed under
            networks' names.
        mean: mean of each channel that the data module subtracts; kept for photos.
        std: standard deviation of each channel that the data module divides by; kept for photos.
        common: arguments of :class:`~spheregeo.tasks.Task`.
    """

    output: ClassVar[str] = "field"
    linked_from_data: ClassVar[tuple[str, ...]] = ("in_channels", "grid", "mean", "std")
    areas: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, out_channels: int, *, in_channels: int, grid: Any, network: str = "sphere-unet-small",
        width: int | None = None, depth: int | None = None, options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **common: Any,
    ) -> None:  # fmt: skip
        grid = parse_grid(grid) if isinstance(grid, str) else grid
        numbers = {
            name: [default] * in_channels if given is None else [float(v) for v in given]
            for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0))
        }
        name = models.resolve(network, self.output)
        own = models.options_of(name, options)
        super().__init__(
            in_channels=in_channels, grid=grid, network=name, width=width, depth=depth, options=own or None,
            mean=numbers["mean"], std=numbers["std"], **common,
        )  # fmt: skip
        self.grid: Grid = grid
        self.in_channels = in_channels
        self.network = models.create(
            name, in_channels, out_channels, self.network_grid(name), **_network_options(width, depth, own)
        )
        for statistic, values in numbers.items():
            if len(values) != in_channels:
                raise ValueError(f"{statistic} has {len(values)} numbers but in_channels is {in_channels}")
            self.register_buffer(f"image_{statistic}", torch.tensor(values), persistent=False)
        self.register_buffer("areas", self.grid.areas.float().reshape(self.grid.shape), persistent=False)

    def network_grid(self, name: str) -> Grid:
        """Return the grid that the network is built for: that of the images.

        Args:
            name: registered name of the network.
        """
        return self.grid

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def decide(self, output: Tensor) -> Tensor:
        """Return what the network's output (B, out_channels, *) stands for: classes or depths (B, *)."""
        return output.argmax(1)

    def normalize(self, image: Tensor) -> Tensor:
        """Return an image in its own units, (..., C, H, W), as the data module would feed it: (image - mean) / std."""
        return (image - self.image_mean.to(image)[:, None, None]) / self.image_std.to(image)[:, None, None]

    def audit(self) -> dict[str, Any]:
        result = audit.report(self.network.eval(), self.grid)
        audit.print_table(result)
        return result

    # ---- pictures

    def examples(self, outputs: Batch) -> Iterable[Example]:
        return zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True)

    def picture_of(self, image: Tensor) -> np.ndarray[Any, Any]:
        """Return an image (C, *grid.shape) as an RGB panorama (H, W, 3)."""
        return as_rgb(np.stack([to_panorama(channel, self.grid) for channel in image]))

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        """Return two decided fields as RGB panoramas, coloured alike."""
        raise NotImplementedError(f"{type(self).__name__} decides no fields")

    def _plot_fields(
        self, folder: Path, examples: Sequence[Example], class_names: list[str] | None = None
    ) -> None:
        self.write_scores(folder)
        if not examples:
            return
        rows = [(self.picture_of(image), *self.colours_of(*decided)) for image, *decided in examples]
        errors = [self.example_error(example) for example in examples]
        titles = [f"error {error:.3f}" if error is not None else "" for error in errors]
        known = [error for error in errors if error is not None]
        if len(known) == len(errors) > 2 and known == sorted(known, reverse=True):
            titles[0], titles[-1] = f"worst: {titles[0]}", f"best: {titles[-1]}"
        present = None
        if class_names is not None:
            seen = torch.cat([part.flatten() for _, *decided in examples for part in decided]).unique()
            present = [c for c in seen.tolist() if 0 <= c < len(class_names)]
        sheet_picture(folder / "predictions.png", rows, class_names, titles, present)
        world_picture(folder / "world.png", rows[0][2], "prediction (Mollweide)", class_names, present)

"""What the tasks on images share: a network built from plain arguments, the normalisation of files, the audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.data.images.files import read_picture
from spheregeo.tasks.base import Task

MOST = 128  # pixels along each side of an audited image


class ImageTask(Task):
    """Base of the tasks on images of the plane.

    Args:
        out_channels: channels of the network's output.
        in_channels: channels of the images.
        size: rows and columns of the training images; any if None.
        network: name of a model of images; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, also filed under networks' names.
        mean: mean of each channel that the data module subtracts; kept for files.
        std: standard deviation of each channel that the data module divides by; kept for files.
        common: arguments of the other bases.

    Raises: ValueError for an unknown network, or statistics that are not one number per channel.
    """

    output: ClassVar[str] = "field"
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, out_channels: int, *, in_channels: int = 1, size: Sequence[int] | None = None, network: str = "image-unet",
        width: int | None = None, depth: int | None = None, options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **common: Any,
    ) -> None:  # fmt: skip
        name = models.resolve(network, self.output, "images")
        own = models.options_of(name, options)
        numbers: dict[str, Any] = {
            statistic: [default] * in_channels if given is None else [float(v) for v in given]
            for statistic, given, default in (("mean", mean, 0.0), ("std", std, 1.0))
        }
        for statistic, values in numbers.items():
            if len(values) != in_channels:
                raise ValueError(f"{statistic} has {len(values)} numbers but in_channels is {in_channels}")
        self_size = None if size is None else [int(n) for n in size]
        super().__init__(
            in_channels=in_channels, size=self_size, network=name, width=width, depth=depth, options=own or None,
            **numbers, **common,
        )  # fmt: skip
        self.size, self.in_channels = self_size, in_channels
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = models.create(name, in_channels, out_channels, None, **chosen)
        for statistic, values in numbers.items():
            self.register_buffer(f"image_{statistic}", torch.tensor(values), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's output. Shape: (B, in_channels, H, W) -> (B, out_channels, ...)."""
        if not bool(torch.isfinite(image).all()):
            raise ValueError("image holds NaN or infinite pixels; replace them")
        result: Tensor = self.network(image)
        return result

    def read(self, path: Path) -> np.ndarray[Any, Any]:
        """Return a file's image with the channels of the training images, (in_channels, H, W) float32.

        Args:
            path: the file.

        Raises: FileNotFoundError, ValueError, as :func:`~spheregeo.data.read_picture`.
        """
        return read_picture(path, self.in_channels)

    def normalize(self, image: Tensor) -> Tensor:
        """Return an image in its own units, (..., C, H, W), as the data module would feed it: (image - mean) / std."""
        return (image - self.image_mean.to(image)[:, None, None]) / self.image_std.to(image)[:, None, None]

    def audit(self) -> dict[str, Any]:
        """Measure the network on images of the size that it was trained with; prints a table."""
        height, width = (min(n, MOST) for n in (self.size or (33, 33)))
        result = audit.report_images(self.network.eval(), (height, width), channels=self.in_channels)
        audit.print_images(result)
        return result

"""A density of images that a group of turns leaves as it is, learnt by a flow: bits per dimension, and samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from spheregeo.checks import check_count
from spheregeo.nn.plane.flows import bits, dequantise, group_flow
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.pictures.images import images_picture

SHOWN = 12


class ImageDensity(Task):
    """Train and score a normalising flow of images: the bits that a pixel's grey level takes.

    Images are scaled to [0, 1] between ``low`` and ``high``, brought to whole grey levels, and filled with uniform noise. The
    flow runs in float32 under mixed precision, too, so that its inverse stays exact.

    Shape: batches hold image (B, in_channels, *size), normalised, and optionally index (B,).
    Equivariance: densities are invariant under the group's turns, exact (1e-5 bits measured in float32).
    Raises: ValueError for sizes that the squeezes do not divide, groups without squeezes, and images of another size.

    Args:
        in_channels: channels of the images.
        size: rows and columns.
        mean: mean of each channel that the data module subtracts.
        std: standard deviation of each channel that the data module divides by.
        group: "C1", "C2", "C4", "D1" or "D2", whose turns and reflections the density does not see.
        width: regular fields between the convolutions of a coupling.
        depth: steps of norm, mix and coupling.
        squeezes: how often 2 x 2 pixels become fields.
        levels: number of grey levels.
        low: value that is black.
        high: value that is white; values outside are cut off.
        common: arguments of the optimiser, as :class:`~spheregeo.tasks.Task` has them.

    Example:
        >>> task = ImageDensity(1, (8, 8), width=2, depth=1)
        >>> task(torch.randn(2, 1, 8, 8)).shape
        torch.Size([2])
    """

    monitor = "val/bits_per_dim"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = ("samples.png",)
    linked_from_data: ClassVar[tuple[str, ...]] = ("in_channels", "size", "mean", "std")
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self, in_channels: int = 1, size: Sequence[int] = (16, 16), mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, group: str = "C4", width: int = 12, depth: int = 6, squeezes: int = 2,
        levels: int = 32, low: float = 0.0, high: float = 1.0, **common: Any,
    ) -> None:  # fmt: skip
        if not low < high:
            raise ValueError(f"low is {low} and high {high}; expected low < high")
        numbers: dict[str, Any] = {
            name: [default] * in_channels if given is None else [float(v) for v in given]
            for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0))
        }
        super().__init__(
            in_channels=in_channels, size=[int(n) for n in size], group=group, width=width, depth=depth, squeezes=squeezes,
            levels=check_count("levels", levels, 2), low=low, high=high, **numbers, **common,
        )  # fmt: skip
        self.in_channels, self.size = in_channels, tuple(int(n) for n in size)
        self.levels, self.low, self.high = levels, low, high
        self.network: Any = group_flow(in_channels, size, group, width=width, depth=depth, squeezes=squeezes)
        for name, values in numbers.items():
            self.register_buffer(f"image_{name}", torch.tensor(values), persistent=False)
        self.bits, self.turned = MeanMetric(), MeanMetric()
        self._results: dict[str, float] = {}

    def grey(self, image: Tensor) -> Tensor:
        """Return normalised images as whole grey levels in [0, 1]. Shape: (B, in_channels, *size) -> the same."""
        expected = (self.in_channels, *self.size)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected (batch, {', '.join(map(str, expected))})"
            )
        if not bool(torch.isfinite(image).all()):
            raise ValueError("image holds NaN or infinite pixels; replace them")
        own = image.float() * self.image_std[:, None, None] + self.image_mean[:, None, None]
        share = ((own - self.low) / (self.high - self.low)).clamp(0, 1)
        return (share * (self.levels - 1)).round() / (self.levels - 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return bits per dimension of each image. Shape: (B, in_channels, *size) -> (B,)."""
        return self._measure(self._filled(self.grey(image)))

    def _filled(self, grey: Tensor) -> Tensor:
        """Grey levels with noise, which in evaluation is one and the same at each call."""
        if self.training:
            return dequantise(grey, self.levels)
        return dequantise(grey.cpu(), self.levels, torch.Generator().manual_seed(0)).to(grey.device)

    def _measure(self, filled: Tensor) -> Tensor:
        with torch.autocast(filled.device.type, enabled=False):
            return bits(self.network.log_prob(filled.float()), filled[0].numel(), self.levels)

    def forward_batch(self, batch: Batch) -> Batch:
        grey = self.grey(take(self, batch, "image"))
        filled = self._filled(grey)
        found = self._measure(filled)
        outputs = {"truth": grey, "bits": found, "loss": found.mean()}
        if not self.training:
            moved = (
                torch.rot90(filled, 1, (-2, -1)) if self.size[0] == self.size[1] else filled.flip((-2, -1))
            )
            outputs["turned"] = self._measure(moved)
        return outputs

    def update_metrics(self, outputs: Batch) -> Batch:
        self.bits.update(outputs["bits"])
        self.turned.update(outputs["turned"])
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        self._results = {
            "bits_per_dim": float(self.bits.compute()), "bits_per_dim_turned": float(self.turned.compute()),
        }  # fmt: skip
        self.bits.reset()
        self.turned.reset()
        return dict(self._results)

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation as plain types for a JSON file."""
        return {**self._results, "levels": self.levels}

    def summary(self) -> str:
        """Return the scores of the last evaluation as text for the screen."""
        upright, turned = (self._results[name] for name in ("bits_per_dim", "bits_per_dim_turned"))
        return f"{upright:.4f} bits per dimension of {self.levels} grey levels, {turned:.4f} with all images turned"

    def unit_of(self, score: str) -> str:
        """Return bits for bits per dimension."""
        return "bits" if score.startswith("bits") else ""

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(outputs["truth"], outputs["bits"], strict=True)

    def example_error(self, example: Any) -> float:
        """Return the bits per dimension of an example."""
        return float(example[1].detach())

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn = self.network.sample(SHOWN, temperature=0.9).clamp(0, 1).cpu()
        images = [*(image.numpy() for image, _ in examples), *(image.numpy() for image in drawn)]
        titles = [*(f"{float(found):.2f} bits" for _, found in examples), *["sample"] * SHOWN]
        images_picture(folder / "samples.png", images, titles)

"""Compression of omnidirectional images: bits against error, both by area, traded off by one number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from spheregeo import models
from spheregeo.grids import Equiangular, Fibonacci, parse_grid
from spheregeo.sampling import resample
from spheregeo.tasks.checks import Batch, check_field, take
from spheregeo.tasks.losses import area_mean
from spheregeo.tasks.pictures.compression import compression_picture
from spheregeo.tasks.sphere.base import SphereTask
from spheregeo.tasks.sphere.fidelity import psnr, ws_weights

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.models import Rated

FINER = 1.4  # so many times as fine as the target, a source is averaged over the target's cells, else interpolated
SCORES = ("bpp", "bits_per_steradian", "psnr", "ws_psnr", "s_psnr")

CodecExample = tuple[Tensor, Tensor, Tensor, float]  # original, decoded, bits by latent, bits


def carried(x: Tensor, source: Grid, target: Grid) -> Tensor:
    """Return fields on another grid, averaged over the target's cells where the target is coarser, else interpolated.

    Args:
        x: fields (..., *source.shape).
        source: their grid.
        target: grid wanted.
    """
    if source == target:
        return x
    coarser = target.spacing > FINER * source.spacing
    return resample(x, source, target, method="average" if coarser else "linear")


class Compression(SphereTask):
    """Train and score a network that compresses omnidirectional images.

    The loss is the rate in bits per pixel plus lmbda · 255² · the mean squared error of values in [0, 1], both on the grid of the
    network, to which images are brought before. Scores: bits per pixel of that grid, bits per steradian, and the error in dB on
    that grid (``psnr``), on the image (``ws_psnr``) and over points spread evenly (``s_psnr``), all of images in 8 bits.

    Shape: batches hold image (B, in_channels, *grid.shape), normalised.
    Units: bits; dB. Errors are weighted by area.
    Equivariance: that of the network.
    Raises: ValueError for another network than one of compression, images that do not fit, and lmbda that is not positive.

    Args:
        in_channels: channels of the images.
        grid: grid of the images, or its repr.
        network: name of a model, see ``spheregeo list models``: "oslo" or "oslo-planar".
        lmbda: weight of the error: larger for better images in more bits.
        coding_grid: grid on which the network works, or its repr; the network's own, nearest in the number of points, if None.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.SphereTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Reference: Mahmoudian Bidgoli et al. 2021, arXiv 2107.09179.

    Example:
        >>> from spheregeo.grids import Equiangular
        >>> task = Compression(3, Equiangular(16, 32), width=4, depth=1)
        >>> task.forward_batch({"image": torch.randn(2, 3, 16, 32)})["bits"].shape
        torch.Size([2])
    """

    output: ClassVar[str] = "codec"
    coding_areas: Tensor
    monitor = "val/loss"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = ("predictions.csv", "predictions.png")
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("ws_psnr", False)

    def __init__(
        self,
        in_channels: int,
        grid: Any,
        network: str = "oslo",
        *,
        lmbda: float = 0.01,
        coding_grid: Any = None,
        **common: Any,
    ) -> None:
        if not lmbda > 0:
            raise ValueError(f"lmbda is {lmbda}; expected a positive number such as 0.01")
        self._asked = parse_grid(coding_grid) if isinstance(coding_grid, str) else coding_grid
        super().__init__(
            in_channels, in_channels=in_channels, grid=grid, network=network, lmbda=lmbda, coding_grid=coding_grid, **common
        )  # fmt: skip
        self.lmbda = lmbda
        self.coding_grid: Grid = self.network_grid(self.hparams["network"])
        self.register_buffer(
            "coding_areas", self.coding_grid.areas.float().reshape(self.coding_grid.shape), persistent=False
        )
        self.spread = Fibonacci(self.grid.num_points)
        for name in SCORES:
            setattr(self, f"mean_{name}", MeanMetric())
        self._results: dict[str, float] = {}

    def network_grid(self, name: str) -> Grid:
        grid: Grid = models.native_grid(name, self.grid if self._asked is None else self._asked)
        if self._asked is not None and grid != self._asked:
            raise ValueError(f"coding_grid is {self._asked!r} but {name} works on grids such as {grid!r}")
        return grid

    def shown(self, field: Tensor) -> Tensor:
        """Return normalised fields (B, C, *) as values in [0, 1] of 8 bits."""
        shape = (-1, *(1 for _ in field.shape[2:]))
        own = field.float() * self.image_std.reshape(shape) + self.image_mean.reshape(shape)
        return (own.clamp(0, 1) * 255).round() / 255

    def forward(self, image: Tensor) -> Tensor:
        """Return images as they are after coding. Shape: (B, in_channels, *grid.shape) -> the same."""
        field = carried(image, self.grid, self.coding_grid)
        return carried(self.network(field), self.coding_grid, self.grid)

    def forward_batch(self, batch: Batch) -> Batch:
        image = check_field(take(self, batch, "image"), self.grid, self.in_channels)
        field = carried(image.float(), self.grid, self.coding_grid)
        network: Any = self.network
        rated: Rated = network.rate(field)
        std = self.image_std.reshape(-1, *(1 for _ in field.shape[2:]))
        error = ((rated.reconstruction.float() - field) * std).square().mean(1)  # (B, *coding_grid.shape)
        areas = self.coding_areas.expand_as(error)
        bpp = rated.bits / self.coding_grid.num_points
        loss = area_mean(bpp, torch.ones_like(bpp)) + self.lmbda * 255**2 * area_mean(error, areas)
        outputs = {"truth": image, "bits": rated.bits, "loss": loss}
        if not self.training:
            outputs |= {
                "field": field,
                "decoded": rated.reconstruction,
                "latent_bits": rated.latent_bits.sum(1),
            }
        return outputs

    # ---- scores

    def update_metrics(self, outputs: Batch) -> Batch:
        field, decoded = (self.shown(outputs[name]) for name in ("field", "decoded"))
        image = self.shown(outputs["truth"])
        back = carried(outputs["decoded"].float(), self.coding_grid, self.grid)
        found = self.shown(back)
        at_points = [resample(x, self.grid, self.spread) for x in (found, image)]
        bits = outputs["bits"]
        scores = {
            "bpp": bits / self.coding_grid.num_points,
            "bits_per_steradian": bits / (4 * math.pi),
            "psnr": psnr(decoded, field, self.coding_areas),
            "ws_psnr": psnr(found, image, self._image_weights()),
            "s_psnr": psnr(at_points[0], at_points[1]),
        }
        for name, values in scores.items():
            getattr(self, f"mean_{name}").update(values.float())
        return {
            "image": image,
            "found": found,
            "latent_bits": outputs["latent_bits"],
            "bits": bits,
            "ws_psnr": scores["ws_psnr"],
        }

    def _image_weights(self) -> Tensor:
        if isinstance(self.grid, Equiangular) and not self.grid.poles:
            return ws_weights(*self.grid.shape)
        return self.areas

    def compute_metrics(self) -> dict[str, float]:
        self._results = {name: float(getattr(self, f"mean_{name}").compute()) for name in SCORES}
        for name in SCORES:
            getattr(self, f"mean_{name}").reset()
        return dict(self._results)

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation as plain types for a JSON file."""
        return {**self._results, "lmbda": self.lmbda, "coding_grid": repr(self.coding_grid)}

    def summary(self) -> str:
        """Return the scores of the last evaluation as text for the screen."""
        r = self._results
        return (
            f"{r['bpp']:.3f} bits per pixel of {self.coding_grid!r}, {r['bits_per_steradian']:.0f} per steradian; "
            f"{r['psnr']:.2f} dB there, WS-PSNR {r['ws_psnr']:.2f} dB and S-PSNR {r['s_psnr']:.2f} dB on {self.grid!r}"
        )

    def unit_of(self, score: str) -> str:
        """Return bits per pixel, bits per steradian or dB."""
        return {"bpp": "bits/pixel", "bits_per_steradian": "bits/sr"}.get(
            score, "dB" if score.endswith("psnr") else ""
        )

    # ---- pictures

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(
            outputs["image"], outputs["found"], outputs["latent_bits"], outputs["bits"].tolist(), strict=True
        )

    def example_error(self, example: CodecExample) -> float:
        """Return WS-PSNR of an example in dB."""
        image, found = (part.detach()[None] for part in example[:2])
        return float(psnr(found, image, self._image_weights()))

    def plot(self, folder: Path, examples: Sequence[CodecExample]) -> None:
        self.write_scores(folder)
        if examples:
            network: Any = self.network
            compression_picture(
                folder / "predictions.png", examples, self.grid, network.latent_grid,
                [self.example_error(example) for example in examples],
            )  # fmt: skip

"""One class for each volume: shapes, scanned organs, anything in cubes of voxels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.voxels import volumes_picture
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import check_probability
from spheregeo.tasks.voxels.predict import predict_volumes

MOST = 64  # voxels along each axis of an audited volume


class VoxelClassification(LabelTask):
    """Train and score a network that gives a volume one class.

    Shape: batches hold volume (B, in_channels, D, H, W), label (B,) and optionally index (B,).
    Equivariance: that of the network; ``steerable-voxels`` is invariant under the rotations and reflections of the cube, exact.
    Raises: ValueError for volumes of another shape, NaN, labels out of range, an unknown network.

    Args:
        num_classes: number of classes.
        in_channels: channels of the volumes.
        size: voxels along each axis, for files that are predicted; any if None.
        class_names: one name per class; numbers if None.
        network: name of a model of voxels; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"lmax": 1}, also filed under networks' names.
        common: arguments of the labels and the optimiser, as :class:`~spheregeo.tasks.LabelTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = VoxelClassification(4, network="steerable-voxels", width=4, depth=2)
        >>> task(torch.randn(2, 1, 8, 8, 8)).shape
        torch.Size([2, 4])
    """

    output: ClassVar[str] = "label"
    linked_from_data: ClassVar[tuple[str, ...]] = ("num_classes", "in_channels", "size", "class_names")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        size: Sequence[int] | None = None,
        class_names: list[str] | None = None,
        network: str = "steerable-voxels",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        name = models.resolve(network, self.output, "voxels")
        own = models.options_of(name, options)
        self.size = None if size is None else tuple(int(n) for n in size)
        super().__init__(
            num_classes, class_names=class_names, in_channels=in_channels, size=None if size is None else list(self.size or ()),
            network=name, width=width, depth=depth, options=own or None, **common,
        )  # fmt: skip
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.in_channels = in_channels
        self.network: Any = models.create(name, in_channels, num_classes, None, **chosen)

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits of each volume. Shape: (B, in_channels, D, H, W) -> (B, num_classes)."""
        if not bool(torch.isfinite(volume).all()):
            raise ValueError("volume holds NaN or infinite voxels; replace them")
        return self.network(volume)

    def logits(self, batch: Batch) -> Tensor:
        return self(take(self, batch, "volume"))

    def classify_all(self, volumes: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Return the probability of each class of several volumes of one shape.

        Args:
            volumes: the volumes.
            names: what the volumes are called in messages.

        Shape: (in_channels, D, H, W) each -> (len(volumes), num_classes).
        Raises: ValueError for another shape than in training, and where the network's output is not finite.
        """
        expected = (self.in_channels, *self.size) if self.size is not None else None
        for volume, name in zip(volumes, names, strict=True):
            if expected is not None and tuple(volume.shape) != expected:
                raise ValueError(
                    f"{name} has the shape {tuple(volume.shape)}; the network was trained on {expected}"
                )
        return check_probability(self(torch.stack(list(volumes)).to(self.device)))

    # ---- pictures, files and the audit

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(outputs["volume"], outputs["truth"], outputs["prediction"], strict=True)

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        super().plot(folder, examples)
        if examples:
            volumes = [volume.numpy() for volume, *_ in examples]
            volumes_picture(folder / "predictions.png", volumes, self.titles(examples))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Classify a volume or a folder of volumes: predictions.csv and predictions.png."""
        predict_volumes(self.classify_all, source, output, self.class_names, options)

    def audit(self) -> dict[str, Any]:
        """Measure the network on volumes of noise of the size that it was trained with; prints a table."""
        size = min(min(self.size or (24,)), MOST)
        result = audit.report_voxels(self.network.eval(), (size, size, size), channels=self.in_channels)
        audit.print_voxels(result)
        return result

"""The rotation in which an image shows a thing: a distribution on SO(3), learnt by likelihood."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.data.images.files import read_picture
from spheregeo.groups import rotation_angle
from spheregeo.nn import RotationDensity
from spheregeo.spectral import SO3HEALPix
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch, check_classes, check_output, class_list, take
from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.metrics import number
from spheregeo.tasks.pictures.poses import poses_picture
from spheregeo.tasks.poses.predict import predict_poses
from spheregeo.tasks.poses.scores import PoseScores, by_class, pose_scores, pose_table
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import sample_names

DRAWN = SO3HEALPix(8)  # rotations at which pictures show densities
MOST = 96  # pixels along each side of an audited image


class PoseEstimation(Task):
    """Train and score a network that gives an image a distribution of the shown thing's rotation.

    The loss of a density by Fourier coefficients is the cross-entropy over 36,864 cells of SO(3) with the cell nearest to the
    truth; that of a mixture the cross-entropy of its components, the squared chord of the regressed rotation, and its
    concentration.

    Shape: batches hold image (B, in_channels, H, W), rotation (B, 3, 3), label (B,) and optionally index (B,).
    Equivariance: that of the network; ``spheregeo audit`` measures what turns of the image change.
    Raises: ValueError for images of another shape, NaN, what is no rotation, labels out of range, an unknown network.

    Args:
        num_classes: number of classes of things.
        in_channels: channels of the images.
        size: rows and columns of the training images, to which files are resized that are predicted; as they are if None.
        class_names: one name per class; numbers if None.
        symmetric: names of the classes whose things some rotation takes to themselves: they count for likelihood, not for errors.
        network: name of a model of poses; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, also filed under networks' names.
        mean: mean of each channel that the data module subtracts; kept for files.
        std: standard deviation of each channel that the data module divides by; kept for files.
        common: arguments of the optimiser, as :class:`~spheregeo.tasks.Task` has them.

    Example:
        >>> task = PoseEstimation(2, network="pose-cnn", width=4, depth=2)
        >>> task.density(torch.randn(2, 1, 16, 16)).mode().shape
        torch.Size([2, 3, 3])
    """

    monitor = "val/log_likelihood"
    mode = "max"
    output: ClassVar[str] = "pose"
    artifacts: ClassVar[tuple[str, ...]] = ("predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = (
        "num_classes", "in_channels", "size", "class_names", "symmetric", "mean", "std",
    )  # fmt: skip
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 1,
        size: Sequence[int] | None = None,
        class_names: list[str] | None = None,
        symmetric: list[str] | None = None,
        network: str = "image2sphere",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **common: Any,
    ) -> None:
        name = models.resolve(network, self.output, "poses")
        own = models.options_of(name, options)
        names = class_list(class_names, num_classes)
        numbers: dict[str, Any] = {
            statistic: [default] * in_channels if given is None else [float(v) for v in given]
            for statistic, given, default in (("mean", mean, 0.0), ("std", std, 1.0))
        }
        for statistic, values in numbers.items():
            if len(values) != in_channels:
                raise ValueError(f"{statistic} has {len(values)} numbers but in_channels is {in_channels}")
        even = [str(name) for name in symmetric or ()]
        if unknown := sorted(set(even) - set(names)):
            raise ValueError(
                f"symmetric names {unknown[0]!r}, which is no class; the classes are {', '.join(names)}"
            )
        own_size = None if size is None else [int(n) for n in size]
        kept = {key: value for key, value in own.items() if key != "weights"}  # a checkpoint holds them
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, size=own_size, class_names=names, symmetric=even,
            network=name, width=width, depth=depth, options=kept or None, **numbers, **common,
        )  # fmt: skip
        self.num_classes, self.class_names, self.symmetric = num_classes, names, even
        self.in_channels, self.size = in_channels, own_size
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = models.create(name, in_channels, 1, None, **chosen)
        for statistic, values in numbers.items():
            self.register_buffer(f"image_{statistic}", torch.tensor(values), persistent=False)
        self.scores = PoseScores()
        self._classes: dict[str, dict[str, float]] = {}
        self._total: dict[str, float] = {}

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's output. Shape: (B, in_channels, H, W) -> (B, D)."""
        if not bool(torch.isfinite(image).all()):
            raise ValueError("image holds NaN or infinite pixels; replace them")
        result: Tensor = self.network(image)
        return result

    def density(self, image: Tensor) -> RotationDensity:
        """Return the distributions of rotations of normalised images. Shape: (B, in_channels, H, W) -> B densities."""
        found: RotationDensity = self.network.density(check_output(self(image)))
        return found

    def normalize(self, image: Tensor) -> Tensor:
        """Return an image in its own units, (..., C, H, W), as the data module would feed it: (image - mean) / std."""
        return (image - self.image_mean.to(image)[:, None, None]) / self.image_std.to(image)[:, None, None]

    def forward_batch(self, batch: Batch) -> Batch:
        image, rotation = take(self, batch, "image"), take(self, batch, "rotation")
        if tuple(rotation.shape) != (len(image), 3, 3):
            raise ValueError(f"rotation has shape {tuple(rotation.shape)}; expected ({len(image)}, 3, 3)")
        label = check_classes(take(self, batch, "label"), len(image), self.num_classes)
        output = self(image)
        with torch.autocast(image.device.type, enabled=False):
            density = self.network.density(output)
            loss = density.loss(rotation).mean()
        return {**batch, "truth": rotation, "label": label, "density": density, "loss": loss}

    def update_metrics(self, outputs: Batch) -> Batch:
        density, truth = outputs["density"], outputs["truth"]
        said = density.mode()
        error = torch.rad2deg(rotation_angle(said, truth.to(said)))
        likelihood = density.log_prob(truth)
        self.scores.update(error, likelihood, outputs["label"], outputs.get("index"))
        return {**outputs, "said": said, "error": error, "likelihood": likelihood}

    def test_step(self, batch: Batch, index: int) -> Batch:
        found = super().test_step(batch, index)
        rows = zip(found["said"].cpu().tolist(), found["label"].tolist(), strict=True)
        numbers = (
            found["index"].tolist()
            if "index" in found
            else range(len(self._said), len(self._said) + len(found["said"]))
        )
        self._said |= dict(zip(numbers, rows, strict=True))
        return found

    def on_test_epoch_start(self) -> None:
        self._said: dict[int, Any] = {}

    def compute_metrics(self) -> dict[str, float]:
        self._index, error, likelihood, label = self.scores.compute()
        self.scores.reset()
        self._error, self._likelihood = error, likelihood
        counted = torch.tensor([self.class_names[k] not in self.symmetric for k in label.tolist()])
        self._total = pose_scores(error, likelihood, counted)
        self._classes = by_class(error, likelihood, label, self.class_names, self.symmetric)
        return dict(self._total)

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, per class too, as plain types for a JSON file."""
        classes = {
            name: {key: int(v) if key == "count" else number(v) for key, v in row.items()}
            for name, row in self._classes.items()
        }
        total = {key: number(value) for key, value in self._total.items()}
        return {**total, "uniform_log_likelihood": -2 * math.log(math.pi), "classes": classes}

    def summary(self) -> str:
        """Return the scores by class as text for the screen."""
        return pose_table(self._classes, self._total)

    def unit_of(self, score: str) -> str:
        """Return degrees for errors."""
        return "degrees" if score.endswith("error") else ""

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[Any]:
        logs = outputs["density"].log_prob_on(DRAWN)
        parts = (outputs[key] for key in ("image", "truth", "label", "error", "likelihood"))
        return zip(*parts, logs, strict=True)

    def example_error(self, example: Any) -> float:
        """Return minus the log-likelihood of an example."""
        return -float(example[4])

    def example_class(self, example: Any) -> int:
        """Return the class of an example."""
        return int(example[2])

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        names = sample_names(self._trainer, self._index.tolist()) or {} if self._trainer is not None else {}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["sample", "class", "error", "log_likelihood", *(f"r{i}{j}" for i in range(3) for j in range(3))]
        )
        for k, error, likelihood in zip(
            self._index.tolist(), self._error.tolist(), self._likelihood.tolist(), strict=True
        ):
            if k in self._said:  # of several processes, each knows its own
                rotation, label = self._said[k]
                matrix = [f"{v:.7f}" for row in rotation for v in row]
                writer.writerow(
                    [names.get(k, k), self.class_names[label], f"{error:.3f}", f"{likelihood:.4f}", *matrix]
                )
        write_bytes(folder / "predictions.csv", text.getvalue().encode())
        if examples:
            titles = [
                self.class_names[int(label)]
                + ("" if self.class_names[int(label)] in self.symmetric else f": {float(error):.0f}° off")
                for _, _, label, error, *_ in examples
            ]
            poses_picture(
                folder / "predictions.png", [e[0].numpy() for e in examples], titles, DRAWN.rotations.numpy(),
                [e[5].float().numpy() for e in examples], [e[1].double().numpy() for e in examples],
            )  # fmt: skip

    def read(self, path: Path) -> np.ndarray[Any, Any]:
        """Return a file's image with the channels of the training images, (in_channels, H, W) float32.

        Args:
            path: the file.

        Raises: FileNotFoundError, ValueError, as :func:`~spheregeo.data.read_picture`.
        """
        return read_picture(path, self.in_channels)

    def estimate(self, images: Sequence[Tensor], names: Sequence[str]) -> list[tuple[Tensor, float, Tensor]]:
        """Return the likeliest rotation, the logarithm of its density, and that of the rotations of ``SO3HEALPix(8)``, of images.

        Args:
            images: images of one shape, in their own units.
            names: what the images are called in messages.

        Shape: (in_channels, H, W) each -> (3, 3), a number and (36864,) each.
        Raises: ValueError where the network's output is not finite.
        """
        density = self.density(self.normalize(torch.stack(list(images)).to(self.device)))
        said = density.mode()
        parts = said.cpu(), density.log_prob(said).tolist(), density.log_prob_on(DRAWN).cpu().float()
        return list(zip(*parts, strict=True))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Estimate the pose in an image or a folder of images: predictions.csv, rotations.npz and predictions.png."""
        predict_poses(self.estimate, self.read, self.size, DRAWN.rotations.numpy(), source, output, options)

    def audit(self) -> dict[str, Any]:
        """Measure what quarter turns of images change in the network's distributions; prints a table."""
        size = min(MOST, *(self.size or (48, 48)))
        result = audit.report_poses(self.network.eval(), size, channels=self.in_channels)
        audit.print_poses(result)
        return result

"""One class for each mesh: people's poses, kinds of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.meshes.base import MeshTask
from spheregeo.tasks.meshes.predict import predict_classes
from spheregeo.tasks.pictures.meshes import meshes_picture
from spheregeo.tasks.predict import PredictOptions


class MeshClassification(LabelTask, MeshTask):
    """Train and score a network that gives a whole mesh one class.

    Shape: batches hold mesh, a list of B meshes, label (B,) and optionally index (B,), the meshes' numbers.
    Equivariance: invariant to motions of the mesh unless "xyz" is among the features, and to the choice of frames, to the
        error of the network's nonlinearities.
    Raises: ValueError for labels out of range, an unknown feature or network.

    Args:
        num_classes: number of classes.
        class_names: one name per class; numbers if None.
        network: gem-classifier or gem-classifier-base.
        common: arguments of the network, the labels and the optimiser, as :class:`~spheregeo.tasks.MeshTask`,
            :class:`~spheregeo.tasks.LabelTask` and :class:`~spheregeo.tasks.Task` have them.
    """

    monitor = "val/loss"  # of few validation meshes the accuracy is soon the same in every epoch
    mode = "min"
    output: ClassVar[str] = "label"
    linked_from_data: ClassVar[tuple[str, ...]] = ("num_classes", "class_names")

    def __init__(
        self,
        num_classes: int,
        class_names: list[str] | None = None,
        network: str = "gem-classifier",
        **common: Any,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, out_channels=num_classes, network=network, **common
        )

    def logits(self, batch: Batch) -> Tensor:
        return self(take(self, batch, "mesh"))

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(outputs["mesh"], outputs["truth"], outputs["prediction"], strict=True)

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        super().plot(folder, examples)
        if examples:
            rows: Any = [[(mesh, None)] for mesh, *_ in examples]
            meshes_picture(folder / "predictions.png", rows, self.titles(examples))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Classify a mesh or a folder of meshes: predictions.csv and predictions.png."""
        predict_classes(self, source, output, self.class_names, options)

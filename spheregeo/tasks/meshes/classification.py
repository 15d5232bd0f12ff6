"""One class for each mesh: people's poses, kinds of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from spheregeo.tasks.base import Batch
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.meshes.base import DEFAULT_FEATURES, MeshTask
from spheregeo.tasks.pictures.meshes import meshes_picture


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
        features: inputs of the network, some of matrix, whole, position, heat, xyz.
        feature_radius: radius of "matrix", in units of the square root of the mesh's area.
        width: width of the network; its own default if None.
        depth: levels of the network; its own default if None.
        options: further options of the network, such as {"radius": 0.05, "max_order": 2}.
        label_smoothing: share of the target spread over all classes.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    monitor = "val/loss"  # of few validation meshes the accuracy is soon the same in every epoch
    mode = "min"
    output: ClassVar[str] = "label"

    def __init__(
        self,
        num_classes: int,
        class_names: list[str] | None = None,
        network: str = "gem-classifier",
        features: Sequence[str] = DEFAULT_FEATURES,
        feature_radius: float = 0.05,
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        lr: float = 5e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.05,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, label_smoothing=label_smoothing, out_channels=num_classes,
            network=network, features=features, feature_radius=feature_radius, width=width, depth=depth,
            options=options, lr=lr, weight_decay=weight_decay, warmup=warmup,
        )  # fmt: skip

    def logits(self, batch: Batch) -> Tensor:
        result: Tensor = self(self.take(batch, "mesh"))
        return result

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(outputs["mesh"], outputs["truth"], outputs["prediction"], strict=True)

    def draw(self, folder: Path, examples: Sequence[Any]) -> None:
        super().draw(folder, examples)
        if not examples:
            return
        titles = [
            f"{self.class_names[int(truth)]}: taken for {self.class_names[int(said)]}"
            for _, truth, said in examples
        ]
        meshes_picture(folder / "predictions.png", [[(mesh, None)] for mesh, *_ in examples], titles)

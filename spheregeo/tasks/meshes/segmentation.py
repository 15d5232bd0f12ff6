"""A class for each vertex, or each face, of a mesh: parts of bodies and things; losses and scores by area."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.mesh import TriangleMesh
from spheregeo.tasks.checks import Batch, check_output, take
from spheregeo.tasks.losses import cross_entropy
from spheregeo.tasks.meshes.base import MeshTask, check_meshes
from spheregeo.tasks.meshes.predict import predict_parts
from spheregeo.tasks.pictures.fields import confusion_picture, palette
from spheregeo.tasks.pictures.meshes import meshes_picture
from spheregeo.tasks.point_labels import PointLabels
from spheregeo.tasks.predict import PredictOptions

ELEMENTS = ("vertices", "faces")
RIGHT, WRONG, UNKNOWN = np.array([0.8, 0.85, 0.8]), np.array([0.75, 0.1, 0.1]), np.array([0.3, 0.3, 0.3])
MeshExample = tuple[TriangleMesh, Tensor, Tensor]  # mesh, truth, prediction


class MeshSegmentation(PointLabels, MeshTask):
    """Train and score a network that labels every vertex, or every face, of a mesh.

    Shape: batches hold mesh, a list of B meshes, and part (V_1 + ... + V_B,) or (F_1 + ... + F_B,), classes of vertices or faces.
    Units: elements are weighted by their share of their own mesh's area in loss and scores, so that neither the resolution of a
        mesh nor its size counts.
    Equivariance: as :class:`~spheregeo.tasks.MeshTask`. Reflected meshes are told apart.
    Raises: ValueError for classes that do not fit, an unknown feature or network.

    Args:
        num_classes: number of classes.
        class_names: one name per class; numbers if None.
        elements: what is labelled, "vertices" or "faces", whose scores are the means of their corners'.
        ignore_index: class of elements that neither train nor count.
        network: gem-unet, gem-cnn, diffusion-net or delta-net.
        class_weights: one number per class, "balanced" (from the training labels), or None.
        loss: "cross_entropy", or "focal", which counts what is already right for less.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.MeshTask` and
            :class:`~spheregeo.tasks.Task` have them.
    """

    output: ClassVar[str] = "field"
    truth_key: ClassVar[str] = "part"
    artifacts: ClassVar[tuple[str, ...]] = ("confusion.png", "predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = ("num_classes", "class_names", "elements", "ignore_index")

    def __init__(
        self,
        num_classes: int,
        class_names: list[str] | None = None,
        elements: str = "vertices",
        ignore_index: int = 255,
        network: str = "gem-unet",
        *,
        class_weights: list[float] | str | None = None,
        loss: str = "cross_entropy",
        focal_gamma: float = 2.0,
        **common: Any,
    ) -> None:
        if elements not in ELEMENTS:
            raise ValueError(f"elements is {elements!r}; expected 'vertices' or 'faces'")
        super().__init__(
            num_classes, class_names=class_names, elements=elements, ignore_index=ignore_index, network=network,
            class_weights=class_weights, loss=loss, focal_gamma=focal_gamma, **common,
        )  # fmt: skip
        self.elements = elements

    # ---- meshes and labels in

    def sizes(self, meshes: Sequence[TriangleMesh]) -> list[int]:
        """Return the number of labelled elements of each mesh."""
        return [mesh.num_points if self.elements == "vertices" else mesh.num_faces for mesh in meshes]

    def element_areas(self, mesh: TriangleMesh) -> Tensor:
        """Return each element's share of a mesh's area, float64."""
        areas = mesh.areas if self.elements == "vertices" else mesh.face_areas
        return areas / areas.sum()

    def areas_of(self, batch: Batch) -> Tensor:
        return torch.cat([self.element_areas(mesh) for mesh in take(self, batch, "mesh")])

    def image_of(self, batch: Batch) -> Tensor:
        raise NotImplementedError("meshes are no images; see prepare")

    def truth_of(self, batch: Batch) -> Tensor:
        part: Tensor = take(self, batch, "part")
        count = sum(self.sizes(check_meshes(take(self, batch, "mesh"))))
        if part.is_floating_point() or tuple(part.shape) != (count,):
            raise ValueError(
                f"part has shape {tuple(part.shape)}, {part.dtype}; expected ({count},) whole numbers, one for each of the "
                f"batch's {self.elements}"
            )
        part = part.long()
        wrong = (part != self.ignore_index) & ((part < 0) | (part >= self.num_classes))
        if bool(wrong.any()):
            raise ValueError(
                f"part holds {int(part[wrong][0])}; expected 0 ... {self.num_classes - 1}, or {self.ignore_index} for "
                f"{self.elements} that do not count"
            )
        return part

    def logits(self, meshes: Sequence[TriangleMesh]) -> Tensor:
        """Return the scores of the classes at each element of several meshes, end to end. Shape: (1, num_classes, elements)."""
        y: Tensor = self(meshes)
        if self.elements == "vertices":
            return y
        first = np.cumsum([0, *(mesh.num_points for mesh in meshes)])
        faces = torch.cat([mesh.faces + int(k) for mesh, k in zip(meshes, first)]).to(y.device)
        return y[..., faces.flatten()].unflatten(2, (-1, 3)).mean(3)

    def on_fit_start(self) -> None:
        """Fit mean and scale of the inputs, and balance the classes where asked for."""
        MeshTask.on_fit_start(self)
        PointLabels.on_fit_start(self)

    # ---- the loop

    def forward_batch(self, batch: Batch) -> Batch:
        meshes, truth = check_meshes(take(self, batch, "mesh")), self.truth_of(batch)
        logits = self.logits(meshes)
        areas = self.areas_of(batch).to(logits.device, torch.float32)
        loss = cross_entropy(
            logits, truth[None], areas, self.ignore_index, self.class_weight, gamma=self._gamma
        )
        return {**batch, "truth": truth, "output": logits, "loss": loss, "areas": areas}

    def update_metrics(self, outputs: Batch) -> Batch:
        prediction = self.decide(outputs["output"])[0]
        self.confusion.update(prediction, outputs["truth"], outputs["areas"])
        return {**outputs, "prediction": prediction}

    def examples(self, outputs: Batch) -> Iterable[MeshExample]:
        sizes = self.sizes(outputs["mesh"])
        parts = (outputs[name].split(sizes) for name in ("truth", "prediction"))
        return zip(outputs["mesh"], *parts, strict=True)

    def example_error(self, example: Any) -> float:
        """Return the share of the labelled area that an example labels wrongly."""
        mesh, truth, prediction = example
        weights = self.element_areas(mesh).to(truth.device) * (truth != self.ignore_index)
        return float((weights * (truth != prediction)).sum() / weights.sum().clamp_min(1e-12))

    # ---- pictures and files

    def colours_of(self, part: Tensor) -> np.ndarray[Any, Any]:
        """Return the colour of each element by its class, (n, 3) in [0, 1]; dark where there is none."""
        numbers = part.cpu().numpy()
        colours = palette(self.num_classes)[np.where(numbers == self.ignore_index, 255, numbers)] / 255
        colours[numbers == self.ignore_index] = UNKNOWN
        return np.asarray(colours)

    def plot(self, folder: Path, examples: Sequence[MeshExample]) -> None:
        confusion_picture(folder / "confusion.png", np.asarray(self.matrix), self.class_names)
        self.write_scores(folder)
        if not examples:
            return
        rows, titles = [], []
        for mesh, truth, said in examples:
            right = (truth == said) | (truth == self.ignore_index)
            marks = np.where(right.cpu().numpy()[:, None], RIGHT, WRONG)
            rows.append([(mesh, self.colours_of(truth)), (mesh, self.colours_of(said)), (mesh, marks)])
            titles.append(
                f"{mesh.num_points} vertices, {self.example_error((mesh, truth, said)):.1%} of the area wrong"
            )
        heads = ("truth", "prediction", "wrong places")
        legend = [(name, self.colours_of(torch.tensor([k]))[0]) for k, name in enumerate(self.class_names)]
        meshes_picture(folder / "predictions.png", rows, titles, heads, legend)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Label the vertices or faces of a mesh, or of a folder of meshes: NAME.npz, NAME.ply, NAME.png and a table.

        The table gives each mesh's mean confidence and the share of its area that each class covers.
        """

        def label(mesh: TriangleMesh) -> tuple[Tensor, Tensor]:
            sure, part = check_output(self.logits([mesh]))[0].float().softmax(0).max(0)
            return part, sure

        predict_parts(
            label,
            source,
            output,
            self.class_names,
            self.elements,
            self.colours_of,
            self.element_areas,
            options,
        )

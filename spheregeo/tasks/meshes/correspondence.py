"""Dense correspondence: for every vertex of a mesh, the point of a template that it is the same as.

The network gives every vertex a vector, a linear layer turns it into a score for each of the template's points, and the
points' cross-entropy trains both. Errors are geodesic distances on the template between the point found and the true one,
over √area of the template (Kim, Lipman & Funkhouser 2011).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.files import write_bytes
from spheregeo.mesh import TriangleMesh
from spheregeo.mesh.geodesics import geodesic_log_map
from spheregeo.tasks.checks import Batch, check_output, take
from spheregeo.tasks.losses import cross_entropy
from spheregeo.tasks.meshes.base import MeshTask, check_meshes
from spheregeo.tasks.meshes.predict import predict_points
from spheregeo.tasks.pictures.meshes import error_colours, meshes_picture, position_colours
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import sample_names

NO_TARGET = -1
WITHIN = (0.01, 0.05, 0.1, 0.25)  # shares of vertices whose error is below these are reported
REACH = 100.0  # farther than any geodesic on a surface of area 1 that people model


class GeodesicErrors(Metric):
    """Mean of errors, and shares of them below some bounds, every vertex counting alike.

    Shape: ``update`` takes errors (n,) and whether the very point was found (n,).
    """

    full_state_update = False
    higher_is_better = None
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2 + len(WITHIN), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, errors: Tensor, exact: Tensor) -> None:
        below = torch.stack([(errors <= bound).sum() for bound in WITHIN]).to(self.sums)
        self.sums += torch.cat(
            [errors.double().sum()[None].to(self.sums), exact.sum()[None].to(self.sums), below]
        )
        self.counts += torch.tensor([len(errors), len(exact)]).to(self.counts)

    def compute(self) -> dict[str, float]:
        if float(self.counts.min()) == 0:
            raise ValueError("no vertex with a known correspondence was seen; check the data")
        error, exact, *below = (self.sums / self.counts[[0, 1, *[0] * len(WITHIN)]]).tolist()
        shares = {f"within_{bound:g}": share for bound, share in zip(WITHIN, below, strict=True)}
        return {"geodesic_error": error, "exact": exact, **shares}


def check_target(target: Tensor, vertices: int, num_points: int) -> Tensor:
    """Return the template's point of each vertex, as int64, once the targets' shape and range are found sound.

    Args:
        target: points of the template, (vertices,), -1 where unknown.
        vertices: vertices of all meshes of the batch.
        num_points: points of the template.

    Raises: ValueError for another shape, or targets out of range.
    """
    if tuple(target.shape) != (vertices,):
        raise ValueError(
            f"target has shape {tuple(target.shape)}; expected ({vertices},), one a vertex of the batch"
        )
    wrong = (target < NO_TARGET) | (target >= num_points)
    if bool(wrong.any()):
        raise ValueError(
            f"target {int(target[wrong][0])} is out of range: the template has {num_points} points, and -1 is unknown"
        )
    return target.long()


class MeshCorrespondence(MeshTask):
    """Train and score a network that finds every vertex's place on a template.

    Shape: batches hold mesh, a list of B meshes, and target (V_1 + V_2 + ...,), points of the template or -1 where unknown.
    Units: geodesic_error in units of √area of the template; "exact" is the share of vertices whose very point was found.
    Equivariance: as :class:`~spheregeo.tasks.meshes.base.MeshTask`. Reflected meshes are told apart: left is not right.
    Raises: ValueError for targets that do not fit, data without a template, an unknown feature or network.
    Reference: de Haan et al. 2021, arXiv:2003.05425, section 6.2 (the task); Kim, Lipman & Funkhouser 2011 (the error).

    Args:
        num_points: points of the template.
        network: gem-unet or gem-cnn.
        embedding: length of the vector of each vertex.
        samples: vertices of each training batch that are scored, at random; 0 for all.
        judged: points of the template, evenly spread in its list, from which distances are measured.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.MeshTask` and
            :class:`~spheregeo.tasks.Task` have them.
    """

    monitor = "val/geodesic_error"
    mode = "min"
    output: ClassVar[str] = "field"
    artifacts: ClassVar[tuple[str, ...]] = ("predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = ("num_points",)
    template_points: Tensor

    def __init__(
        self,
        num_points: int,
        network: str = "gem-unet",
        *,
        embedding: int = 64,
        samples: int = 2000,
        judged: int = 500,
        **common: Any,
    ) -> None:
        if num_points < 2:
            raise ValueError(f"num_points is {num_points}; the data have no template to correspond to")
        if samples < 0 or judged < 1 or embedding < 1:
            raise ValueError(
                f"samples is {samples}, judged {judged}, embedding {embedding}; expected 0, 1, 1 or more"
            )
        super().__init__(
            embedding, network=network, num_points=num_points, embedding=embedding, samples=samples, judged=judged,
            **common,
        )  # fmt: skip
        self.num_points, self.samples, self.judged = num_points, samples, judged
        self.points = torch.nn.Linear(embedding, num_points)
        # kept in checkpoints, so that answers can be coloured without the data
        self.register_buffer("template_points", torch.zeros(num_points, 3))
        self.scores = GeodesicErrors()
        self._template: Any = None
        self._distances: Tensor | None = None
        self._found: list[tuple[int, Tensor, Tensor]] = []

    # ---- the template

    def setup(self, stage: str) -> None:
        """Take the template from the data. Raises: ValueError where there is none."""
        template = getattr(self.trainer.datamodule, "template", None)  # type: ignore[attr-defined]
        if template is None or template.num_points != self.num_points:
            raise ValueError(
                f"the data have {'no template' if template is None else f'a template of {template.num_points} points'}; "
                f"this task wants one of {self.num_points}"
            )
        self._template, self._distances = template, None
        self.template_points.copy_(template.mesh.points[template.points])

    def distances(self) -> tuple[Tensor, Tensor]:
        """Return the row of each judged point (N,), -1 for others, and their distances to all points (judged, N), over √area."""
        template = self._template
        chosen = torch.from_numpy(
            np.unique(np.linspace(0, self.num_points - 1, min(self.judged, self.num_points)).astype(np.int64))
        )
        row = torch.full((self.num_points,), -1)
        row[chosen] = torch.arange(len(chosen))
        if self._distances is None:
            mesh: TriangleMesh = template.mesh
            size = float(mesh.area) ** 0.5
            sources, of_chosen = torch.unique(template.points[chosen], return_inverse=True)
            found = geodesic_log_map(mesh.points, mesh.faces, mesh.frames, REACH * size, sources)
            table = np.full((len(sources), mesh.num_points), np.nan, np.float32)
            table[np.repeat(np.arange(len(sources)), np.diff(found.indptr)), found.indices] = found.distance
            # parts that no path joins count as far as the farthest
            table[np.isnan(table)] = np.nanmax(table)
            self._distances = torch.from_numpy(table / size)[of_chosen][:, template.points]
        return row, self._distances

    # ---- the loop

    def forward_batch(self, batch: Batch) -> Batch:
        meshes = check_meshes(take(self, batch, "mesh"))
        vertices = sum(mesh.num_points for mesh in meshes)
        target = check_target(take(self, batch, "target"), vertices, self.num_points)
        vectors = self(meshes)[0].T  # (V, embedding)
        known = (target >= 0).nonzero()[:, 0]
        if self.training and 0 < self.samples < len(known):
            known = known[torch.randperm(len(known), device=known.device)[: self.samples]]
        truth = target[known]
        loss = cross_entropy(self.points(vectors[known]), truth, ignore_index=NO_TARGET)
        return {**batch, "truth": truth, "loss": loss, "vectors": vectors, "known": known}

    def place(self, vectors: Tensor) -> Tensor:
        """Return the template's point of each vector, some thousand at a time. Shape: (V, embedding) -> (V,)."""
        return torch.cat([self.points(part).argmax(1) for part in vectors.split(4096)])

    def place_surely(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the template's point of each vector and its probability. Shape: (V, embedding) -> (V,), (V,).

        Raises: ValueError where the network's output is not finite.
        """
        found = [check_output(self.points(part)).float().softmax(1).max(1) for part in vectors.split(4096)]
        return torch.cat([best.indices for best in found]), torch.cat([best.values for best in found])

    def update_metrics(self, outputs: Batch) -> Batch:
        prediction = self.place(outputs["vectors"])
        known, truth = outputs["known"], outputs["truth"]
        row, table = (t.to(truth.device) for t in self.distances())
        judged = row[truth] >= 0
        said = prediction[known]
        errors = table[row[truth[judged]], said[judged]]
        self.scores.update(errors, said == truth)
        error = torch.full((len(prediction),), torch.nan, device=truth.device)
        error[known[judged]] = errors
        return {**outputs, "prediction": prediction, "error": error}

    def test_step(self, batch: Batch, index: int) -> Batch:
        outputs = super().test_step(batch, index)
        counts = [mesh.num_points for mesh in outputs["mesh"]]
        numbers = (
            outputs["index"].tolist()
            if "index" in outputs
            else range(len(self._found), len(self._found) + len(counts))
        )
        parts = zip(
            outputs["prediction"].cpu().split(counts), outputs["error"].cpu().split(counts), strict=True
        )
        self._found += [(n, *part) for n, part in zip(numbers, parts, strict=True)]
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        self._last: dict[str, float] = self.scores.compute()
        self.scores.reset()
        return self._last

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, as plain types for a JSON file."""
        return dict(self._last)

    # ---- pictures and files

    def colours_of(self, points: Tensor) -> np.ndarray[Any, Any]:
        """Return the colour of each point of the template, by its place there; grey where unknown. Shape: (V,) -> (V, 3)."""
        colours = position_colours(self.template_points.cpu().numpy().astype(float))
        found = colours[points.cpu().numpy()]
        found[points.cpu().numpy() < 0] = 0.75
        return np.asarray(found)

    def examples(self, outputs: Batch) -> Iterable[Any]:
        counts = [mesh.num_points for mesh in outputs["mesh"]]
        parts = (outputs[name].split(counts) for name in ("target", "prediction", "error"))
        return zip(outputs["mesh"], *parts, strict=True)

    def example_error(self, example: Any) -> float:
        """Return the mean geodesic error of an example, over √area of the template."""
        return float(example[-1].nanmean())

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        """Write ``predictions.png``, some meshes, and ``predictions.csv``, every vertex of the test."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["mesh", "vertex", "point", "geodesic_error"])
        found = sorted(self._found, key=lambda found: found[0])
        names = sample_names(self._trainer, [number for number, *_ in found]) or {}
        for number, said, errors in found:
            for k, (point, error) in enumerate(zip(said.tolist(), errors.tolist(), strict=True)):
                writer.writerow(
                    [names.get(number, number), k, point, f"{error:.5f}" if error == error else ""]
                )
        write_bytes(folder / "predictions.csv", text.getvalue().encode())
        self._found = []
        if not examples:
            return
        rows = [
            [
                (mesh, self.colours_of(truth.long())),
                (mesh, self.colours_of(said.long())),
                (mesh, error_colours(error.numpy().astype(float), 0.25)),
            ]
            for mesh, truth, said, error in examples
        ]
        titles = [
            f"{mesh.num_points} vertices, mean error {float(e.nanmean()):.3f}" for mesh, *_, e in examples
        ]
        heads = ("truth", "prediction", "geodesic error 0 ... 0.25")
        meshes_picture(folder / "predictions.png", rows, titles, heads)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Find the point of the template for each vertex of a mesh, or of a folder of meshes: NAME.csv, NAME.ply, NAME.png."""

        def place(mesh: TriangleMesh) -> tuple[Tensor, Tensor]:
            return self.place_surely(self([mesh])[0].T)

        predict_points(place, source, output, self.colours_of, options)

"""Registration: features of points that no motion changes, matched between two clouds of one surface, and their motion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from spheregeo import audit, models
from spheregeo.checks import check_least
from spheregeo.data.points.dataset import Cloud
from spheregeo.data.points.pairs import CloudPairs, CreatureClouds, collate_pairs
from spheregeo.sampling import (
    RigidMotion,
    estimate_normals,
    match_features,
    ransac_motion,
    ransac_motions,
    refine_motion,
    surface_agreement,
)
from spheregeo.tasks.answers import GrowingTable
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.pictures.points import pairs_picture
from spheregeo.tasks.points.align import align_files, in_units_of_files, radius_of, thinned
from spheregeo.tasks.points.base import check_cloud
from spheregeo.tasks.predict import PredictOptions

COLUMNS = ("pair", "cloud", "rotation error", "translation error", "matches", "right matches", "inliers")
ANGLES = (5.0, 10.0)  # degrees up to which a motion counts as found


def rotation_error(found: Tensor, true: Tensor) -> Tensor:
    """Angle in degrees between rotations, from their chord: exact for small angles too. Shape: (..., 3, 3) twice -> (...)."""
    chord = (found.double() - true.double()).flatten(-2).norm(dim=-1)
    return torch.rad2deg(2 * torch.asin((chord / 8**0.5).clamp(max=1)))


def pair_loss(
    source: Tensor, target: Tensor, gap: Tensor, radius: float, temperature: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of the points of two clouds: each point's nearest in the other cloud against all that are far from it.

    Points between ``radius`` and twice as far, and near ones other than the nearest, are neither right nor wrong.

    Args:
        source: features of unit length.
        target: features of unit length.
        gap: distances of the points, once the clouds are brought together.
        radius: up to which a nearest point is the right one.
        temperature: divisor of the cosines.

    Shape: (N, C), (M, C), (N, M) -> two (): sum over the points that have a right one, in both clouds, and their number.
    """
    cosine = source @ target.T / temperature
    total, number = cosine.new_zeros(()), cosine.new_zeros(())
    for score, distance in ((cosine, gap), (cosine.T, gap.T)):
        nearest, right = distance.min(1)
        known = nearest <= radius
        ignored = (distance < 2 * radius).scatter(1, right[:, None], False)
        logits = score.masked_fill(ignored, -torch.inf)[known]
        total = total + functional.cross_entropy(logits.float(), right[known], reduction="sum")
        number = number + known.sum()
    return total, number


def best_motion(
    source: Tensor, target: Tensor, motions: RigidMotion, threshold: float, steps: int
) -> RigidMotion:
    """Of several motions, each fitted to all points, the one that brings most of two surfaces together; the identity if none.

    Args:
        source: points of the cloud that moves.
        target: points of the other cloud.
        motions: where to begin, H of them.
        threshold: distance up to which points lie together; fits look twice as far.
        steps: of each fit.

    Shape: (N, 3), (M, 3) -> rotation (3, 3), translation (3,), in the dtype of the source.
    """
    normals = [estimate_normals(cloud.detach().double(), 8, outward=False) for cloud in (source, target)]
    best, most = RigidMotion(torch.eye(3).to(source), source.new_zeros(3)), -1.0
    for rotation, translation in zip(motions.rotation, motions.translation, strict=True):
        begin = RigidMotion(rotation.to(source), translation.to(source))
        found = refine_motion(source, target, begin, 2 * threshold, steps=steps, normals=normals[1])
        score = float(surface_agreement(source, target, found, threshold, (normals[0], normals[1])))
        if score > most:
            best, most = found, score
    return best


class PointMatching(Task):
    """Train and score a network whose features of points are alike where two clouds show the same place.

    The motion of a pair comes from matched features (mutual nearest neighbours) by RANSAC and Kabsch. Its recall is the share
    of pairs whose rotation is found to within 5 (10) degrees.

    Shape: batches hold positions (P, 3), batch (P,) with the cloud of each point, pair b being clouds 2b and 2b + 1, rotation
        (B, 3, 3) and translation (B, 3) from the first cloud to the second, and optionally features (P, in_channels).
    Units: the whole surface has radius 1; errors of rotations in degrees, of translations in radii.
    Equivariance: features are as invariant as the network; the motion found turns with either cloud.
    Raises: ValueError for clouds without points, NaN, numbers out of range, an unknown network.
    Reference: contrastive loss: van den Oord et al. 2018, arXiv:1807.03748; registration by it: Choy et al. 2019, ICCV.

    Args:
        in_channels: channels of the features; 0 where positions are all there is.
        feature_irreps: what the features are in e3nn's notation, such as 1x1o for normals; scalars if empty.
        num_points: points to which clouds are thinned when files are matched.
        descriptor: numbers that describe a point.
        network: name of a model of point clouds that gives numbers for each point.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"k": 20}, also filed under networks' names.
        radius: distance up to which the nearest point of the other cloud is the same place.
        temperature: divisor of the cosines in the loss.
        ratio: keep a match only if its feature is nearer than ``ratio`` times the second nearest; 1 keeps all.
        threshold: distance up to which a match agrees with a motion.
        trials: triples of matches that RANSAC tries.
        refine: steps in which the motion found is fitted to all points, not only to matches; 0 for none.
        candidates: motions with many matches of which the one is taken that brings most of the two surfaces together, each
            fitted to all points in ``refine`` steps before; 1 takes the one with most matches.
        common: arguments of the optimiser, as :class:`~spheregeo.tasks.Task` has them.

    Example:
        >>> task = PointMatching(network="vnn-dgcnn", width=4, descriptor=8)
        >>> task(torch.randn(40, 3), torch.arange(2).repeat_interleave(20)).shape
        torch.Size([40, 8])
    """

    output: ClassVar[str] = "field"
    monitor = "val/recall_5"
    mode = "max"
    artifacts: ClassVar[tuple[str, ...]] = ("predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = ("in_channels", "feature_irreps", "num_points")

    def __init__(
        self,
        in_channels: int = 0,
        feature_irreps: str = "",
        num_points: int = 512,
        descriptor: int = 32,
        network: str = "risurconv",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        *,
        radius: float = 0.1,
        temperature: float = 0.1,
        ratio: float = 1.0,
        threshold: float = 0.1,
        trials: int = 4000,
        refine: int = 20,
        candidates: int = 20,
        **common: Any,
    ) -> None:
        if min(radius, temperature, threshold) <= 0 or not 0 < ratio <= 1:
            raise ValueError(
                f"radius is {radius}, temperature {temperature}, threshold {threshold} and ratio {ratio}; expected positive "
                "numbers, ratio at most 1"
            )
        check_least(
            descriptor=(descriptor, 1),
            trials=(trials, 1),
            num_points=(num_points, 4),
            refine=(refine, 0),
            candidates=(candidates, 1),
        )
        name = models.resolve(network, self.output, "points")
        own = models.options_of(name, options)
        super().__init__(
            in_channels=in_channels, feature_irreps=feature_irreps, num_points=num_points, descriptor=descriptor,
            network=name, width=width, depth=depth, options=own or None, radius=radius, temperature=temperature,
            ratio=ratio, threshold=threshold, trials=trials, refine=refine, candidates=candidates, **common,
        )  # fmt: skip
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        if feature_irreps:
            chosen["feature_irreps"] = feature_irreps
        self.in_channels, self.feature_irreps, self.num_points = in_channels, feature_irreps, num_points
        self.radius, self.temperature, self.ratio = radius, temperature, ratio
        self.threshold, self.trials, self.refine, self.candidates = threshold, trials, refine, candidates
        self.network: Any = models.create(name, in_channels, descriptor, None, output="field", **chosen)
        self._rows: list[list[float]] = []

    def forward(
        self, positions: Tensor, batch: Tensor, features: Tensor | None = None, count: int | None = None
    ) -> Tensor:
        """Return features of unit length of each point. Shape: (P, 3), (P,), (P, in_channels) or None -> (P, descriptor)."""
        if count is None:
            count = int(batch.max()) + 1 if len(batch) else 0
        check_cloud(positions, batch, features, count, self.in_channels)
        graph = self.network.neighbors(positions, batch)
        return functional.normalize(self.network(positions, features, batch, graph, count), dim=1)

    def forward_batch(self, batch: Batch) -> Batch:
        rotation, translation = take(self, batch, "rotation"), take(self, batch, "translation")
        if rotation.ndim != 3 or rotation.shape[1:] != (3, 3) or translation.shape != rotation.shape[:2]:
            raise ValueError(
                f"rotation has shape {tuple(rotation.shape)} and translation {tuple(translation.shape)}; "
                "expected (B, 3, 3) and (B, 3)"
            )
        positions, cloud = take(self, batch, "positions"), take(self, batch, "batch")
        found = self(positions, cloud, batch.get("features"), 2 * len(rotation))
        sizes = torch.bincount(cloud, minlength=2 * len(rotation)).tolist()
        places, marks = positions.split(sizes), found.split(sizes)
        total, number = found.new_zeros(()), found.new_zeros(())
        for k in range(len(rotation)):
            moved = places[2 * k] @ rotation[k].T + translation[k]
            gap = torch.cdist(moved, places[2 * k + 1])
            part, points = pair_loss(marks[2 * k], marks[2 * k + 1], gap, self.radius, self.temperature)
            total, number = total + part, number + points
        return {**batch, "truth": rotation, "output": found, "loss": total / number.clamp_min(1)}

    def motion_between(
        self, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]
    ) -> tuple[RigidMotion, Tensor, Tensor]:
        """Return the motion that brings a cloud to another, and the matches that it was found from.

        Args:
            source: positions and features of the points of the cloud that moves.
            target: those of the other.

        Shape: positions (P, 3), features (P, C); matches (M,) rows of the source, (M,) rows of the target.
        """
        rows, partners = match_features(source[1].float(), target[1].float(), ratio=self.ratio)
        a, b = source[0][rows], target[0][partners]
        motions = ransac_motions(a, b, self.threshold, count=self.candidates, trials=self.trials)
        if self.candidates > 1 and self.refine and len(motions.rotation):
            motion = best_motion(source[0], target[0], motions, self.threshold, self.refine)
            inliers = (motion.apply(a) - b).norm(dim=1) <= self.threshold
            return motion._replace(inliers=inliers), rows, partners
        motion = ransac_motion(a, b, self.threshold, trials=self.trials)
        if self.refine and motion.inliers is not None and bool(motion.inliers.any()):
            motion = refine_motion(source[0], target[0], motion, 2 * self.threshold, steps=self.refine)
        return motion, rows, partners

    def update_metrics(self, outputs: Batch) -> Batch:
        rotation, translation = outputs["rotation"], outputs["translation"]
        sizes = torch.bincount(outputs["batch"], minlength=2 * len(rotation)).tolist()
        places, marks = outputs["positions"].split(sizes), outputs["output"].split(sizes)
        indices = outputs.get("index", torch.arange(len(rotation))).tolist()
        pairs = []
        for k in range(len(rotation)):
            first, second = places[2 * k], places[2 * k + 1]
            motion, rows, partners = self.motion_between((first, marks[2 * k]), (second, marks[2 * k + 1]))
            true = first[rows] @ rotation[k].T + translation[k]
            right = int(((true - second[partners]).norm(dim=1) <= self.threshold).sum())
            inliers = motion.inliers if motion.inliers is not None else rows[:0].bool()
            turn = float(rotation_error(motion.rotation, rotation[k]))
            away = float((motion.translation - translation[k]).norm())
            self._rows.append([float(indices[k]), turn, away, len(rows), right, int(inliers.sum())])
            pairs.append((first, second, motion.apply(first), turn, rows[inliers], partners[inliers]))
        return {**outputs, "pairs": pairs}

    def compute_metrics(self) -> dict[str, float]:
        self._table = torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 6)
        self._rows = []
        return self._scores()

    def _scores(self) -> dict[str, float]:
        _, turn, away, matches, right, _ = self._table.unbind(1)
        if not len(turn):
            return {}
        recall = {f"recall_{angle:g}": float((turn <= angle).double().mean()) for angle in ANGLES}
        return {
            **recall,
            "rotation_error": float(turn.median()),
            "translation_error": float(away.median()),
            "right_matches": float(right.sum() / matches.sum().clamp_min(1)),
        }

    def unit_of(self, score: str) -> str:
        return {"rotation_error": "degrees", "translation_error": "radii"}.get(score, "")

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, by stored cloud too, as plain types for a JSON file."""
        names = self._names()
        clouds = {}
        if len(set(names)) <= 20:
            for name in dict.fromkeys(names):
                own = torch.tensor([other == name for other in names])
                turn = self._table[own, 1]
                clouds[name] = {
                    "pairs": int(own.sum()),
                    "recall_5": float((turn <= ANGLES[0]).double().mean()),
                    "rotation_error": float(turn.median()),
                }
        return {**self._scores(), "clouds": clouds}

    def _names(self) -> list[str]:
        """What the stored cloud of each row of the table is called."""
        numbers = [int(k) for k in self._table[:, 0]]
        data = getattr(self._trainer, "datamodule", None)
        pairs = data.items("test") if data is not None else None
        return [pairs.name(k) if isinstance(pairs, CloudPairs) else str(k) for k in numbers]

    def summary(self) -> str:
        """Return the scores of the last evaluation, and recall by stored cloud where there are few, as text."""
        found = self.report()
        lines = [
            f"{name}: recall at 5 degrees {row['recall_5']:.2f} of {row['pairs']}, median {row['rotation_error']:.2f} degrees"
            for name, row in found["clouds"].items()
        ]
        lines.append(
            f"recall at 5 degrees {found['recall_5']:.3f}, at 10 degrees {found['recall_10']:.3f}; median errors "
            f"{found['rotation_error']:.2f} degrees, {found['translation_error']:.4f} radii; "
            f"{100 * found['right_matches']:.0f} % of the matches are right"
        )
        return "\n".join(lines)

    # ---- pictures, files and the audit

    def examples(self, outputs: Batch) -> Iterable[Any]:
        yield from outputs["pairs"]

    def example_error(self, example: Any) -> float:
        """Return the error of an example's rotation in degrees."""
        return float(example[3])

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        if examples:
            titles = [f"{turn:.1f}° off, {len(rows)} matches" for _, _, _, turn, rows, _ in examples]
            pairs_picture(folder / "predictions.png", examples, titles)
        table = [
            [int(row[0]), name, *(f"{v:.6g}" for v in row[1:])]
            for row, name in zip(self._table.tolist(), self._names(), strict=True)
        ]
        written = GrowingTable(folder / "predictions.csv", COLUMNS)
        written.add(table)
        written.close()

    @torch.inference_mode()
    def align(
        self, cloud: Cloud, reference: Cloud, names: Sequence[str] = ("the cloud", "the reference")
    ) -> RigidMotion:
        """Return the motion that brings a cloud to another, both thinned to as many points as in training.

        Args:
            cloud: the cloud that moves.
            reference: the other cloud, in one unit of length with it.
            names: what the two are called in messages.

        Raises: ValueError where the network's output is not finite.
        """
        radius = radius_of(reference)
        parts = [thinned(part, radius, self.num_points, self.in_channels > 0) for part in (cloud, reference)]
        positions = torch.cat([part[0] for part in parts]).to(self.device)
        normals = [part[1] for part in parts if part[1] is not None]
        sizes = [len(part[0]) for part in parts]
        index = torch.arange(2).repeat_interleave(torch.tensor(sizes)).to(self.device)
        marks = self(positions, index, torch.cat(normals).to(self.device) if normals else None, 2)
        if not bool(torch.isfinite(marks).all()):
            raise ValueError(
                f"the features of {names[0]} or {names[1]} are not finite; are the weights broken?"
            )
        places, marks = positions.split(sizes), marks.split(sizes)
        motion, _, _ = self.motion_between((places[0], marks[0]), (places[1], marks[1]))
        return in_units_of_files(motion, radius, parts[0][2], parts[1][2])

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Bring the clouds of a folder to the first: NAME.json with the 4 x 4 matrix, NAME_aligned.ply, predictions.png."""
        align_files(self.align, source, output, self.num_points, options)

    def audit(self) -> dict[str, Any]:
        """Measure the network on generated clouds of the size that it was trained with; prints a table."""
        pairs = CloudPairs(
            CreatureClouds(2, 4 * self.num_points), self.num_points, normals=self.in_channels > 0
        )
        batch = collate_pairs([pairs[k] for k in range(2)])
        result = audit.report_points(
            self.network.eval(), batch["positions"], batch.get("features"), batch["batch"],
            feature_irreps=self.feature_irreps or None,
        )  # fmt: skip
        audit.print_points(result)
        return result

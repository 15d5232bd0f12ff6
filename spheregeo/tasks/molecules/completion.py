"""Completion of molecules: which atom is missing, and where, as a density on R³ and the elements."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from spheregeo.checks import check_least
from spheregeo.data.molecules.built_in import packed
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules, symbol
from spheregeo.sampling import random_rotations
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.losses import plain_mean
from spheregeo.tasks.molecules.atoms import Atoms, prepare_atoms, without_inference_mode
from spheregeo.tasks.molecules.base import MoleculeTask
from spheregeo.tasks.molecules.complete_files import complete_files, write_completions
from spheregeo.tasks.molecules.modes import Answers, Density, cross_entropy, draw, likeliest
from spheregeo.tasks.molecules.symmetry import symmetric_distance
from spheregeo.tasks.pictures.completion import Completed, completions_picture, grid_of
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import Predictions

SUCCESS = 0.5  # Å
SHOWN = 8
ROW = 11  # numbers that are kept of a molecule: element, distance, symmetries, two places, probability, share


class MoleculeCompletion(MoleculeTask):
    """Train and score a network that gives the density p(x, Z) of the atom that a molecule lacks.

    The density is trained by its cross-entropy with a narrow normal distribution about the missing atom; its constant is
    estimated from places drawn about that atom and about those that are left. The answer is the top of the density, found by
    climbing in float64 from shells about the atoms, and the likeliest element there.

    Scores: ``element_accuracy``, the share of right elements; ``position_mae`` and ``position_median``, the distance from the
    missing atom in Å; ``success``, the share of distances below 0.5 Å; ``completed``, of those with the right element, too.
    Places that a symmetry of the remaining atoms takes into one another count as one: such completions are the same molecule or
    mirror images, and nothing that is left could tell them apart. ``position_mae_unique`` is over the molecules whose rest has
    no symmetry. ``element_at_place`` is the share of right elements at the true place. Between the epochs of a training, it and
    the loss alone are scored, which is cheap.

    Shape: batches hold numbers, positions, batch, removed (B,) and place (B, 3); see :mod:`spheregeo.data.molecules.completion`.
    Units: Å.
    Equivariance: the density turns and reflects with the molecule as exactly as the network; scores do not change, to
        rounding of float64 (1e-9 Å measured), but the loss, an estimate from places drawn at random, does.
    Raises: ValueError for unknown elements, molecules without atoms, NaN positions.

    Args:
        network: name of a model of fields about molecules, see ``spheregeo list models``.
        target_width: standard deviation of the target about the missing atom, Å.
        queries: places of a molecule at which the field is evaluated in a training step.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.MoleculeTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = MoleculeCompletion(width=8, depth=1)
        >>> pair = {"numbers": torch.tensor([6, 1]), "batch": torch.zeros(2).long(),
        ...     "positions": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])}
        >>> task(pair).positions.shape
        torch.Size([1, 3])
    """

    monitor = "val/loss"
    mode = "min"
    output: ClassVar[str] = "completion"
    artifacts: ClassVar[tuple[str, ...]] = ("completions.png", "predictions.csv")

    def __init__(
        self,
        network: str = "molecule-field",
        *,
        target_width: float = 0.15,
        queries: int = 96,
        lr: float = 2e-3,
        weight_decay: float = 1e-3,
        **common: Any,
    ) -> None:
        check_least(queries=(queries, 8))
        if not 0.01 <= target_width <= 1.0:
            raise ValueError(f"target_width is {target_width}; expected 0.01 to 1 Å")
        super().__init__(
            MAX_NUMBER + 1, network=network, target_width=target_width, queries=queries, lr=lr,
            weight_decay=weight_decay, **common,
        )  # fmt: skip
        self.target_width, self.queries = target_width, queries
        self.predictions, self.at_place = Predictions(), MeanMetric()
        self._results: dict[str, float] = {}
        self._elements: dict[str, dict[str, float]] = {}

    def fit_scales(self, molecules: Molecules) -> None:
        """Nothing is scaled: places are in Å, elements are classes."""

    @property
    def kinds(self) -> Tensor:
        """Atomic numbers that the missing atom may have: those of the training, (C,); all where that is unknown."""
        if bool(self.elements.any()):
            return self.elements.nonzero()[:, 0]
        return torch.arange(1, MAX_NUMBER + 1, device=self.elements.device)

    # ---- densities

    def density(self, atoms: Atoms, network: Any = None) -> Density:
        """Return the density of molecules, up to its constant.

        Args:
            atoms: the molecules.
            network: the network, where it is another than the task's, such as a copy in float64.
        """
        network = self.network if network is None else network
        positions = atoms.positions.to(next(network.parameters()))
        counts = torch.bincount(atoms.index, minlength=atoms.count)
        sent = network.sent(positions, atoms.numbers, atoms.graph)
        return Density(network, sent, positions, counts, self.kinds)

    def exact_density(self, batch: Batch) -> tuple[Density, Tensor]:
        """Return the density of molecules in float64, and the molecules' centres, which its places are counted from, (B, 3).

        Args:
            batch: the molecules.
        """
        with torch.no_grad():
            network = copy.deepcopy(self.network).double().eval()
            atoms = prepare_atoms(self, batch, network, self.elements, None)
            return self.density(atoms, network), _centres(batch, atoms.count)

    def answers(self, batch: Batch) -> Answers:
        """Return place and element of the atom that each molecule lacks; works in inference mode, too.

        Args:
            batch: the molecules.
        """
        plain = torch.autocast(self.elements.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), plain:
            batch = {k: without_inference_mode(v) if isinstance(v, Tensor) else v for k, v in batch.items()}
            density, centres = self.exact_density(batch)
            found = likeliest(density)
            return Answers(found.positions + centres, found.probability, found.share)

    def forward(self, batch: Batch) -> Answers:
        """Return place and element of the atom that each molecule lacks."""
        return self.answers(batch)

    def forward_batch(self, batch: Batch) -> Batch:
        removed, place = take(self, batch, "removed"), take(self, batch, "place")
        atoms = prepare_atoms(self, batch, self.network, self.elements, None)
        if removed.shape != (atoms.count,) or place.shape != (atoms.count, 3):
            raise ValueError(
                f"removed has shape {tuple(removed.shape)} and place {tuple(place.shape)}; expected ({atoms.count},) and "
                f"({atoms.count}, 3), one missing atom of each molecule"
            )
        kinds = self.kinds
        column = (kinds == removed[:, None]).long().argmax(1)
        known = (kinds == removed[:, None]).any(1)
        if not bool(known.all()):
            raise ValueError(
                f"{symbol(int(removed[~known][0]))} is missing somewhere, but the training had no such atom; choose other "
                "molecules or another split"
            )
        truth = (place - _centres(batch, atoms.count)).to(atoms.positions)
        # the same places in every evaluation, so that losses can be compared
        generator = None if self.training else torch.Generator().manual_seed(0)
        density = self.density(atoms)
        draws = draw(density.positions, density.counts, truth, self.target_width, self.queries, generator)
        loss = plain_mean(cross_entropy(density, draws, column))
        found = {**batch, "truth": removed, "loss": loss}
        if not self.training:
            at_place = density.log(truth, torch.arange(atoms.count, device=truth.device)).argmax(1)
            found["at_place"] = (at_place == column).double()
        return found

    # ---- scores

    @property
    def searches(self) -> bool:
        """Whether an evaluation looks for tops of the density: a test, but no validation between epochs of a training."""
        trainer = self._trainer
        return trainer is None or trainer.state.fn != "fit"

    def update_metrics(self, outputs: Batch) -> Batch:
        self.at_place.update(outputs["at_place"])
        return self._found(outputs) if self.searches else outputs

    def _found(self, outputs: Batch) -> Batch:
        """Answers to a batch, beside what is known of it, once their rows are kept for the scores."""
        found = self.answers(outputs)
        place, removed = outputs["place"].double().cpu(), outputs["removed"]
        said = self.kinds[found.probability.argmax(1)]
        counts = torch.bincount(outputs["batch"], minlength=len(removed)).tolist()
        parts = zip(outputs["numbers"].cpu().split(counts), outputs["positions"].cpu().double().split(counts))
        measured = [
            symmetric_distance(z.numpy(), p.numpy(), a.numpy(), b.numpy())
            for (z, p), a, b in zip(parts, found.positions.cpu(), place)
        ]
        columns = torch.tensor(measured, dtype=torch.float64).reshape(-1, 2).to(removed.device)
        confidence = found.probability.max(1).values
        rows = torch.cat(
            [said[:, None].double(), columns, found.positions.to(removed.device), place.to(removed.device),
             confidence[:, None], found.share[:, None]], 1,
        )  # fmt: skip
        self.predictions.update(removed, rows, outputs.get("index", None))
        return {**outputs, "answers": found, "errors": columns[:, 0]}

    def compute_metrics(self) -> dict[str, float]:
        at_place = {"element_at_place": float(self.at_place.compute())}
        self.at_place.reset()
        if not self.searches:
            return at_place
        index, removed, rows = self.predictions.compute()
        self.predictions.reset()
        # of a single sample torchmetrics gives bare numbers
        index, removed, rows = index.reshape(-1), removed.reshape(-1), rows.reshape(-1, ROW)
        self._table = index, removed, rows
        said, error, group = rows[:, 0].long(), rows[:, 1], rows[:, 2]
        right, near = said == removed, error < SUCCESS
        self._results = {
            "element_accuracy": float(right.double().mean()),
            "position_mae": float(error.mean()),
            "position_median": float(error.median()),
            "success": float(near.double().mean()),
            "completed": float((right & near).double().mean()),
            **at_place,
        }
        if bool((group == 1).any()):
            self._results["position_mae_unique"] = float(error[group == 1].mean())
        self._elements = {
            symbol(z): {
                "count": int((removed == z).sum()),
                "accuracy": float(right[removed == z].double().mean()),
                "position_mae": float(error[removed == z].mean()),
                "success": float(near[removed == z].double().mean()),
            }
            for z in removed.unique().tolist()
        }
        return self._results

    def unit_of(self, score: str) -> str:
        """Return Å for distances."""
        return "Å" if score.startswith("position_") else ""

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, by missing element, too, as plain types for a JSON file.

        ``commonest`` is the accuracy of always naming the element that is missing most often.
        """
        _, removed, rows = self._table
        commonest = float(torch.bincount(removed).max() / len(removed))
        unique = int((rows[:, 2] == 1).sum())
        counts = {"samples": len(removed), "samples_without_symmetry": unique, "commonest": commonest}
        return {**self._results, **counts, "units": {"position": "Å"}, "elements": self._elements}

    def summary(self) -> str:
        """Return the scores by missing element, as text."""
        lines = ["missing  count  right   within 0.5 Å  mean distance"]
        for name, row in self._elements.items():
            lines.append(
                f"{name:>7}  {row['count']:>5}  {row['accuracy']:>5.0%}  {row['success']:>12.0%}  "
                f"{row['position_mae']:>11.3f} Å"
            )
        return "\n".join(lines)

    # ---- the audit

    def audit(self) -> dict[str, Any]:
        """Measure the field on packed clusters as other networks are measured, and how far answers move when clusters turn."""
        result = super().audit()
        elements = self.kinds.tolist()
        rng = np.random.default_rng(1)
        positions = [packed(6, 1.5, rng) + 0.1 * rng.normal(size=(6, 3)) for _ in range(4)]
        molecules = Molecules.of([rng.choice(elements, 6) for _ in range(4)], positions)
        batch = molecules.batch(range(4))
        turn = random_rotations(1, torch.Generator().manual_seed(0))[0]
        turned = {**batch, "positions": batch["positions"] @ turn.T}
        batch, turned = ({k: v.to(self.device) for k, v in b.items()} for b in (batch, turned))
        home, away = self.answers(batch), self.answers(turned)
        place = float((away.positions - home.positions @ turn.T.to(home.positions)).norm(dim=1).max())
        probability = float((away.probability - home.probability).abs().max())
        result["completion"] = {"turned_place": place, "turned_probability": probability}
        print(
            f"answers of turned clusters: places differ by {place:.1e} Å, probabilities by {probability:.1e}"
        )
        return result

    # ---- examples and pictures

    def examples(self, outputs: Batch) -> list[Any]:
        """Split a batch into its molecules: numbers, positions, answer, truth, and the density on a grid for the picture."""
        found, removed = outputs["answers"], outputs["removed"]
        counts = torch.bincount(outputs["batch"], minlength=len(removed)).tolist()
        numbers, positions = outputs["numbers"].cpu().split(counts), outputs["positions"].cpu().split(counts)
        kinds = self.kinds.cpu()
        return [
            Completed(
                numbers[k].numpy(), positions[k].double().numpy(), found.positions[k].cpu().numpy(),
                int(kinds[found.probability[k].argmax().cpu()]), float(found.probability[k].max()),
                outputs["place"][k].cpu().double().numpy(), int(removed[k]), float(outputs["errors"][k]),
            )
            for k in range(len(counts))
        ]  # fmt: skip

    def example_error(self, example: Any) -> float:
        return float(example.error)

    def example_class(self, example: Any) -> int:
        return int(example.removed)

    def density_on(self, numbers: Any, positions: Any, places: Any) -> np.ndarray[Any, Any]:
        """Return log Σ_Z p(x, Z) of a molecule at places, up to a constant: (P,), (P, 3), (Q, 3) -> (Q,)."""
        device = self.elements.device
        with torch.inference_mode(False), torch.no_grad():
            batch = {
                "numbers": torch.as_tensor(numbers, device=device),
                "positions": torch.as_tensor(positions, dtype=torch.float64, device=device),
                "batch": torch.zeros(len(numbers), dtype=torch.int64, device=device),
            }
            atoms = prepare_atoms(self, batch, self.network, self.elements, None)
            density = self.density(atoms)
            queries = torch.as_tensor(places, dtype=torch.float64, device=device) - _centres(batch, 1)
            parts = queries.to(density.positions).split(16384)
            found = [density.of_place(part, torch.zeros_like(part[:, 0]).long()) for part in parts]
            return np.asarray(torch.cat(found).double().cpu())

    def with_density(self, example: Completed) -> Completed:
        """Return an example with the density on a grid, for its picture."""
        return example.with_density(self.density_on(example.numbers, example.positions, grid_of(example)))

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        if examples:
            shown = [self.with_density(example) for example in examples[:SHOWN]]
            completions_picture(folder / "completions.png", shown)
        index, removed, rows = self._table
        names = self._names_of(index.tolist())
        write_completions(folder / "predictions.csv", names, rows, removed)

    def _names_of(self, numbers: list[int]) -> list[str]:
        from spheregeo.tasks.predictions import sample_names

        names = sample_names(self._trainer, numbers) or {}
        return [str(names.get(k, k)) for k in numbers]

    # ---- files

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Give the molecules of a file or a folder the atom that they lack: NAME_completed.xyz, predictions.csv and a picture."""
        complete_files(self, source, output, options)


def _centres(batch: Batch, count: int) -> Tensor:
    """Means of the atoms' places of each molecule, (count, 3), as :func:`prepare_atoms` takes them away."""
    positions, index = batch["positions"].double(), batch["batch"]
    atoms = torch.bincount(index, minlength=count)[:, None]
    return positions.new_zeros(count, 3).index_add(0, index, positions) / atoms

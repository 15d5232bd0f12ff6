"""Properties of whole molecules: several targets at once, each with its unit, scored by MAE and RMSE in that unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules, fit_references
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.molecules.atoms import prepare_atoms
from spheregeo.tasks.molecules.base import MoleculeTask, check_loss_options, penalty
from spheregeo.tasks.molecules.predict import Answer, predict_molecules
from spheregeo.tasks.pictures.parity import parity_picture, write_values
from spheregeo.tasks.predictions import Predictions

REFERENCES = ("auto", "fit", "given", "mean", "none")


def regression_scores(truth: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return MAE (T,), RMSE (T,) and number of known values (T,) of truth and prediction (n, T); unknown values are NaN."""
    known = torch.isfinite(truth)
    count = known.sum(0)
    error = torch.where(known, prediction - truth, 0.0).double()
    return error.abs().sum(0) / count, (error.square().sum(0) / count).sqrt(), count


def over_atoms(table: Tensor, molecules: Molecules) -> Tensor:
    """Return the sum (N,) of the elements' values (119,) over each molecule's atoms."""
    owner = torch.repeat_interleave(torch.arange(len(molecules)), molecules.counts)
    return table.new_zeros(len(molecules)).index_add(0, owner, table[molecules.numbers])


class MoleculeRegression(MoleculeTask):
    """Train and score a network that gives every molecule one or more numbers.

    A target is y = Σ_i r(Z_i) + c + s · network, with references r of the elements, a constant c and a scale s that come from the
    training molecules; what the network learns is of order 1.

    Shape: batches hold numbers, positions, batch and target (B, T), NaN where unknown; see
        :mod:`spheregeo.data.molecules.molecules`.
    Units: those of the targets, by name; positions in Å.
    Equivariance: that of the network; those of the package are invariant to motions and reflections.
    Raises: ValueError for unknown elements, targets of another shape, references that are not given.

    Args:
        targets: names of the targets.
        units: their units.
        network: name of a model for molecules, see ``spheregeo list models``.
        references: for all targets or each: "fit" takes the elements' values by least squares from the training molecules,
            "given" those of free atoms that the data know and the mean energy that binds an atom, "mean" a constant alone, "none"
            nothing; "auto" fits where the data say that the target adds up over atoms and takes the mean otherwise.
        loss: "l1", "l2" or "huber", of the standardised targets.
        huber_delta: where the Huber loss turns linear, in standard deviations.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.MoleculeTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = MoleculeRegression(["energy"], ["eV"], width=8, depth=1)
        >>> pair = {"numbers": torch.tensor([6, 8]), "batch": torch.zeros(2).long(),
        ...     "positions": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])}
        >>> task(pair).shape
        torch.Size([1, 1])
    """

    monitor = "val/relative_mae"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = ("parity.png", "predictions.csv")
    linked_from_data: ClassVar[tuple[str, ...]] = ("targets", "units")
    atom_values: Tensor
    constant: Tensor
    scale: Tensor

    def __init__(
        self,
        targets: list[str] = ["target"],  # noqa: B006
        units: list[str] | None = None,
        network: str = "schnet",
        *,
        references: str | list[str] = "auto",
        loss: str = "l1",
        huber_delta: float = 1.0,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        **common: Any,
    ) -> None:
        targets = list(targets)
        units = ["1"] * len(targets) if units is None else list(units)
        if not targets or len(set(targets)) != len(targets) or len(units) != len(targets):
            raise ValueError(
                f"targets are {targets} with units {units}; expected different names, and a unit for each"
            )
        chosen = [references] * len(targets) if isinstance(references, str) else list(references)
        if len(chosen) != len(targets) or any(r not in REFERENCES for r in chosen):
            raise ValueError(
                f"references are {references!r}; expected one of {', '.join(REFERENCES)}, or one for each of {targets}"
            )
        check_loss_options(loss, huber_delta)
        super().__init__(
            len(targets), network=network, targets=targets, units=units, references=references, loss=loss,
            huber_delta=huber_delta, lr=lr, weight_decay=weight_decay, **common,
        )  # fmt: skip
        self.targets, self.units, self.references = targets, units, chosen
        self.loss, self.huber_delta = loss, huber_delta
        count = len(targets)
        f64 = torch.float64
        self.keep("atom_values", torch.zeros(MAX_NUMBER + 1, count, dtype=f64), persistent=True)
        self.keep("constant", torch.zeros(count, dtype=f64), persistent=True)
        self.keep("scale", torch.ones(count, dtype=f64), persistent=True)
        self.predictions = Predictions()
        self._names: list[str] | None = None

    # ---- references and scales

    def fit_scales(self, molecules: Molecules) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for t, name in enumerate(self.targets):
            values = molecules.targets[name].double()
            if not bool(torch.isfinite(values).any()):
                raise ValueError(f"no training molecule has a value of {name!r}")
            table, constant = self._reference(t, molecules, values, data)
            rest = values - over_atoms(table, molecules)
            if constant:
                self.constant[t] = rest.nanmean()
                rest = rest - rest.nanmean()
            spread = float(rest[torch.isfinite(rest)].square().mean().sqrt())
            self.atom_values[:, t] = table
            self.scale[t] = spread if spread > 1e-12 else 1.0  # all alike: there is nothing to learn

    def _reference(self, t: int, molecules: Molecules, values: Tensor, data: Any) -> tuple[Tensor, bool]:
        """Return the values of the elements, and whether a constant is to be added."""
        kind, name = self.references[t], self.targets[t]
        if kind == "auto":
            kind = "fit" if name in getattr(data, "additive", ()) else "mean"
        nothing = torch.zeros(MAX_NUMBER + 1, dtype=torch.float64)
        if kind == "fit":
            return fit_references(molecules, values), False
        if kind == "given":
            given = data.atom_references(name)
            if given is None:
                raise ValueError(
                    f"references of {name!r} are to be given, but the data know none; choose fit, mean or none"
                )
            # Bound atoms are all below free ones: what binds an atom on average is no deviation.
            rest = values - over_atoms(given, molecules)
            known = torch.isfinite(rest)
            return given + float(rest[known].sum() / molecules.counts[known].sum()), False
        return nothing, kind == "mean"

    # ---- batches

    def forward(self, batch: Batch) -> Tensor:
        """Return the targets (B, T) of the molecules, float64, in their units."""
        return self.values(batch)[1]

    def values(self, batch: Batch, keep: bool = False) -> tuple[Tensor, Tensor]:
        """Return standardised outputs (B, T), and the targets (B, T) that they stand for.

        Args:
            batch: the molecules.
            keep: whether to keep the graphs of these molecules, because they come again.
        """
        kept = self._graphs if keep else None
        atoms = prepare_atoms(self, batch, self.network, self.elements, kept)
        output = self.network(atoms.positions, atoms.numbers, atoms.index, atoms.graph, atoms.count)
        zeros = self.atom_values.new_zeros(atoms.count, len(self.targets))
        base = zeros.index_add(0, atoms.index, self.atom_values[atoms.numbers]) + self.constant
        return output, base + self.scale * output.double()

    def forward_batch(self, batch: Batch) -> Batch:
        truth = take(self, batch, "target").double()
        output, prediction = self.values(batch, keep=True)
        if truth.shape != prediction.shape:
            raise ValueError(
                f"target has shape {tuple(truth.shape)}; expected {tuple(prediction.shape)}, a number for each of "
                f"{', '.join(self.targets)}"
            )
        base = prediction.detach() - self.scale * output.detach().double()
        wanted = ((truth - base) / self.scale).to(output)
        known = torch.isfinite(wanted)
        error = torch.where(known, output - wanted.nan_to_num(), 0.0)
        terms = penalty(error, self.loss, self.huber_delta)
        loss = terms.sum() / known.sum().clamp_min(1)
        return {**batch, "truth": truth, "prediction": prediction, "base": base, "loss": loss}

    # ---- scores

    def update_metrics(self, outputs: Batch) -> Batch:
        both = torch.cat([outputs["prediction"].detach(), outputs["base"]], 1)
        self.predictions.update(outputs["truth"], both, outputs.get("index", None))
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        index, truth, both = self.predictions.compute()
        self.predictions.reset()
        prediction, base = both.chunk(2, 1)
        self._table = index, truth, prediction
        mae, rmse, count = regression_scores(truth, prediction)
        plain, *_ = regression_scores(truth, base)
        columns = zip(self.targets, self.units, mae.tolist(), rmse.tolist(), count.tolist(), plain.tolist())
        self._scores = {
            name: {"unit": unit, "mae": a, "rmse": b, "count": n, "references_mae": c}
            for name, unit, a, b, n, c in columns
        }
        relative = (mae / self.scale.cpu())[count > 0]
        found = {"relative_mae": float(relative.mean()) if len(relative) else math.nan}
        for name, row in self._scores.items():
            if row["count"]:
                found |= {f"mae_{name}": row["mae"], f"rmse_{name}": row["rmse"]}
        return found

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        source = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        molecules = None if source is None else source("test")
        if molecules is not None and molecules.names is not None:
            names = dict(zip(molecules.index.tolist(), molecules.names))
            self._names = [names[int(k)] for k in self._table[0]]

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation by target, each with its unit, as plain types for a JSON file.

        ``references_mae`` is the MAE of the references alone: what the elements of a molecule, or the mean, say.
        """
        return {"targets": self._scores, "molecules": len(self._table[0])}

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        index, truth, prediction = self._table
        parity_picture(folder / "parity.png", truth, prediction, self.targets, self.units)
        names = self._names or [str(int(k)) for k in index]
        write_values(folder / "predictions.csv", names, self.targets, self.units, prediction, truth)

    # ---- files

    def predict(self, source: Path, output: Path) -> None:
        """Give the molecules of a file or a folder their properties: NAME_predicted.xyz and predictions.csv."""

        def ask(batch: dict[str, Tensor], counts: list[int]) -> list[Answer]:
            values = self(batch).detach().double().cpu().tolist()
            return [dict(zip(self.targets, row)) for row in values]

        predict_molecules(ask, source, output, dict(zip(self.targets, self.units)), self.device)

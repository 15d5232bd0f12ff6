"""Properties of molecules and atoms: several targets at once, each with its unit, scored by MAE and RMSE in that unit."""

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
from spheregeo.tasks.molecules.kinds import (
    AXES,
    KEYS,
    KINDS,
    MAX_ATOMS,
    atom_rows,
    atom_values,
    by_element,
    check_kinds,
    loss_over,
    parity_of,
    vector_scale,
    write_atoms,
)
from spheregeo.tasks.molecules.predict import Answer, predict_molecules
from spheregeo.tasks.pictures.parity import write_values
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import Predictions, Table

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
    """Train and score a network that gives every molecule numbers or vectors, or every atom numbers.

    A number of a molecule is y = Σ_i r(Z_i) + c + s · network, with references r of the elements, a constant c and a scale s that
    come from the training molecules; what the network learns is of order 1. A vector is a scale times what the network gives; a
    number of an atom is its element's mean over the training atoms and a scale times the network.

    Shape: batches hold numbers, positions, batch and, for the kinds of targets that there are, target (B, T), vectors (B, V, 3)
        and atomic (P, A), NaN where unknown; see :mod:`spheregeo.data.molecules.molecules`.
    Units: those of the targets, by name; positions in Å.
    Equivariance: that of the network; numbers of those of the package are invariant to motions and reflections, vectors turn and
        reflect with the molecule and do not see translations.
    Raises: ValueError for unknown elements, targets of another shape, references that are not given, a network without the heads
        that the targets need.

    Args:
        targets: names of the targets.
        units: their units.
        kinds: what each target is: "molecule" for a number, "vector" for a vector of the molecule, "atom" for a number of each
            atom; all numbers of molecules if None.
        network: name of a model for molecules, see ``spheregeo list models``.
        references: for all targets that are numbers of molecules, or each: "fit" takes the elements' values by least squares
            from the training molecules, "given" those of free atoms that the data know and the mean energy that binds an atom,
            "mean" a constant alone, "none" nothing; "auto" fits where the data say that the target adds up over atoms and takes
            the mean otherwise.
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
    artifacts: ClassVar[tuple[str, ...]] = ("parity.png", "predictions.csv", "predictions_atoms.csv")
    linked_from_data: ClassVar[tuple[str, ...]] = ("targets", "units", "kinds")
    atom_values: Tensor
    constant: Tensor
    scale: Tensor
    vector_scale: Tensor
    atomic_values: Tensor
    atomic_scale: Tensor

    def __init__(
        self,
        targets: list[str] = ["target"],  # noqa: B006
        units: list[str] | None = None,
        network: str = "schnet",
        *,
        kinds: list[str] | None = None,
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
        kinds = check_kinds(kinds, targets)
        numbers = [name for name, kind in zip(targets, kinds) if kind == "molecule"]
        chosen = [references] * len(numbers) if isinstance(references, str) else list(references)
        if len(chosen) != len(numbers) or any(
            r not in REFERENCES for r in [references, *chosen] if isinstance(r, str)
        ):
            raise ValueError(
                f"references are {references!r}; expected one of {', '.join(REFERENCES)}, or one for each of {numbers}"
            )
        check_loss_options(loss, huber_delta)
        count, vectors, atomic = (kinds.count(kind) for kind in KINDS)
        super().__init__(
            count, network=network, targets=targets, units=units,
            kinds=kinds, references=references, loss=loss, huber_delta=huber_delta, lr=lr, weight_decay=weight_decay, **common,
        )  # fmt: skip
        self.targets, self.units, self.kinds, self.references = targets, units, kinds, chosen
        self.loss, self.huber_delta = loss, huber_delta
        f64 = torch.float64
        self.keep("atom_values", torch.zeros(MAX_NUMBER + 1, count, dtype=f64), persistent=True)
        self.keep("constant", torch.zeros(count, dtype=f64), persistent=True)
        self.keep("scale", torch.ones(count, dtype=f64), persistent=True)
        if vectors:
            self.keep("vector_scale", torch.ones(vectors, dtype=f64), persistent=True)
        if atomic:
            self.keep("atomic_values", torch.zeros(MAX_NUMBER + 1, atomic, dtype=f64), persistent=True)
            self.keep("atomic_scale", torch.ones(atomic, dtype=f64), persistent=True)
        self.predictions, self.vector_predictions, self.atomic_predictions = (
            Predictions(),
            Predictions(),
            Predictions(),
        )
        self._names: dict[int, str] | None = None

    def heads_for(self, settings: dict[str, Any]) -> dict[str, int]:
        kinds = settings["kinds"]
        return {"out_vectors": kinds.count("vector"), "out_atoms": kinds.count("atom")}

    def named(self, kind: str) -> list[str]:
        """Names of the targets of a kind, in the order of their columns."""
        return [name for name, other in zip(self.targets, self.kinds) if other == kind]

    def unit(self, name: str) -> str:
        """Unit of a target."""
        return self.units[self.targets.index(name)]

    # ---- references and scales

    def fit_scales(self, molecules: Molecules) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for t, name in enumerate(self.named("molecule")):
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
        for t, name in enumerate(self.named("vector")):
            self.vector_scale[t] = vector_scale(molecules.vectors[name])
        for t, name in enumerate(self.named("atom")):
            self.atomic_values[:, t], self.atomic_scale[t] = atom_values(molecules, molecules.atomic[name])

    def _reference(self, t: int, molecules: Molecules, values: Tensor, data: Any) -> tuple[Tensor, bool]:
        """Return the values of the elements, and whether a constant is to be added."""
        kind, name = self.references[t], self.named("molecule")[t]
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
        """Return the targets that are numbers of molecules (B, T), float64, in their units."""
        return self.values(batch)[1]

    def values(self, batch: Batch, keep: bool = False) -> tuple[Tensor, Tensor]:
        """Return standardised outputs (B, T), and the targets (B, T) that they stand for, of the numbers of molecules.

        Args:
            batch: the molecules.
            keep: whether to keep the graphs of these molecules, because they come again.
        """
        output, _, prediction = self.by_kind(batch, keep)["molecule"]
        return output, prediction

    def answers(self, batch: Batch) -> dict[str, Tensor]:
        """Return all targets by name, float64, in their units: (B,) numbers, (B, 3) vectors, (P,) numbers of atoms."""
        found = self.by_kind(batch)
        return {
            name: found[kind][2][:, t]
            for kind in KINDS
            for t, name in enumerate(self.named(kind))
        }  # fmt: skip

    def by_kind(self, batch: Batch, keep: bool = False) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return, for each kind of target that there is, standardised outputs, references, and the targets that they stand for.

        Args:
            batch: the molecules.
            keep: whether to keep the graphs of these molecules, because they come again.

        Shape: (B, T) each for numbers of molecules, (B, V, 3) for vectors, (P, A) for numbers of atoms.
        """
        kept = self._graphs if keep else None
        atoms = prepare_atoms(self, batch, self.network, self.elements, kept)
        arguments = (atoms.positions, atoms.numbers, atoms.index, atoms.graph, atoms.count)
        found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if set(self.kinds) == {"molecule"}:
            output = self.network(*arguments)
        else:
            output, vectors, atomic = self.network.outputs(*arguments)
        if "molecule" in self.kinds:
            zeros = self.atom_values.new_zeros(atoms.count, output.shape[1])
            base = zeros.index_add(0, atoms.index, self.atom_values[atoms.numbers]) + self.constant
            found["molecule"] = output, base, base + self.scale * output.double()
        if "vector" in self.kinds:
            zeros = torch.zeros_like(vectors, dtype=torch.float64)
            found["vector"] = vectors, zeros, self.vector_scale[:, None] * vectors.double()
        if "atom" in self.kinds:
            base = self.atomic_values[atoms.numbers]
            found["atom"] = atomic, base, base + self.atomic_scale * atomic.double()
        return found

    def scale_of(self, kind: str) -> Tensor:
        """What the standardised outputs of a kind are multiplied by; broadcasts to their shape."""
        if kind == "vector":
            return self.vector_scale[:, None]
        return self.scale if kind == "molecule" else self.atomic_scale

    def forward_batch(self, batch: Batch) -> Batch:
        needed = {kind: take(self, batch, KEYS[kind]).double() for kind in KINDS if kind in self.kinds}
        found = self.by_kind(batch, keep=True)
        parts, held = {}, {}
        for kind, truth in needed.items():
            output, base, prediction = found[kind]
            if truth.shape != prediction.shape:
                raise ValueError(
                    f"{KEYS[kind]} has shape {tuple(truth.shape)}; expected {tuple(prediction.shape)}, for "
                    f"{', '.join(self.named(kind))}"
                )
            wanted = ((truth - base.detach()) / self.scale_of(kind)).to(output)
            known = torch.isfinite(wanted)
            error = torch.where(known, output - wanted.nan_to_num(), 0.0)
            parts[kind] = penalty(error, self.loss, self.huber_delta), known
            held[kind] = truth, prediction, base.detach()
        loss = loss_over(parts)
        first = next(iter(held.values()))
        more = {"truth": first[0], "prediction": first[1], "base": first[2]}
        return {**batch, **more, "held": held, "loss": loss}

    # ---- scores

    def update_metrics(self, outputs: Batch) -> Batch:
        index, held = outputs.get("index", None), outputs["held"]
        for kind, metric in zip(KINDS, (self.predictions, self.vector_predictions, self.atomic_predictions)):
            if kind not in held:
                continue
            truth, prediction, base = (part.detach() for part in held[kind])
            rows, more = index, [prediction.flatten(1), base.flatten(1)]
            if kind == "atom":
                more.append(outputs["numbers"][:, None].double())
                rows = atom_rows(take(self, outputs, "index"), outputs["batch"])
            metric.update(truth.flatten(1), torch.cat(more, 1), rows)
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        self._tables: dict[str, Table] = {}
        self._scores: dict[str, dict[str, Any]] = {}
        relative: list[Tensor] = []
        for kind, metric in zip(KINDS, (self.predictions, self.vector_predictions, self.atomic_predictions)):
            if kind not in self.kinds:
                continue
            index, truth, rest = metric.compute()
            metric.reset()
            width = truth.shape[1]
            prediction, base, numbers = rest[:, :width], rest[:, width : 2 * width], rest[:, 2 * width :]
            self._tables[kind] = index, truth, prediction
            self._atoms = numbers[:, 0] if kind == "atom" else numbers.flatten()
            relative.append(self._score(kind, truth, prediction, base, numbers))
        known = torch.cat(relative)
        found = {"relative_mae": float(known.mean()) if len(known) else math.nan}
        for name, row in self._scores.items():
            if row["count"]:
                found |= {f"mae_{name}": row["mae"], f"rmse_{name}": row["rmse"]}
        return found

    def _score(self, kind: str, truth: Tensor, prediction: Tensor, base: Tensor, numbers: Tensor) -> Tensor:
        """Fill in the scores of the targets of a kind; returns MAE over scale of those that are known."""
        names = self.named(kind)
        parts = 3 if kind == "vector" else 1
        columns = [
            part.reshape(len(truth), len(names), parts).transpose(0, 1) for part in (truth, prediction, base)
        ]
        relative = []
        for t, (name, true, said, plain) in enumerate(zip(names, *columns)):
            mae, rmse, count = regression_scores(true.reshape(-1, 1), said.reshape(-1, 1))
            references, *_ = regression_scores(true.reshape(-1, 1), plain.reshape(-1, 1))
            row = {
                "unit": self.unit(name),
                "mae": float(mae),
                "rmse": float(rmse),
                "count": int(count) // parts,
            }
            row["references_mae"] = float(references)
            if kind != "molecule":
                row["kind"] = kind
            if kind == "atom":
                row["elements"] = by_element(true[:, 0], said[:, 0], numbers[:, 0])
            self._scores[name] = row
            if count > 0:
                relative.append(mae / self.scale_of(kind).flatten()[t].cpu())
        return torch.cat(relative) if relative else truth.new_zeros(0)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        source = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        molecules = None if source is None else source("test")
        if molecules is not None and molecules.names is not None:
            self._names = dict(zip(molecules.index.tolist(), molecules.names))

    def unit_of(self, score: str) -> str:
        """Return the unit of the target that a score belongs to."""
        kind, _, target = score.partition("_")
        known = kind in ("mae", "rmse") and target in self.targets and self.unit(target) != "1"
        return self.unit(target) if known else ""

    def name_of(self, number: int) -> str:
        """What a molecule of the test is called in tables: its name in the data, or its number."""
        return str(number) if self._names is None else self._names[number]

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation by target, each with its unit, as plain types for a JSON file.

        ``references_mae`` is the MAE of the references alone: what the elements of a molecule, or the mean, say. Scores of
        vectors are over their components; those of atoms are given for each element, too.
        """
        kind, (index, *_) = next(iter(self._tables.items()))
        molecules = len((index // MAX_ATOMS).unique()) if kind == "atom" else len(index)
        return {"targets": self._scores, "molecules": molecules}

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        shown = [
            (name, self.unit(name), kind, t)
            for kind in self._tables
            for t, name in enumerate(self.named(kind))
        ]
        parity_of(folder / "parity.png", shown, self._tables)
        whole = [kind for kind in ("molecule", "vector") if kind in self._tables]
        if whole:
            names = [part for kind in whole for name in self.named(kind) for part in self.parts(name)]
            units = [self.unit(name) for kind in whole for name in self.named(kind) for _ in self.parts(name)]
            truth, prediction = (torch.cat([self._tables[kind][k] for kind in whole], 1) for k in (1, 2))
            samples = [self.name_of(int(k)) for k in self._tables[whole[0]][0]]
            write_values(folder / "predictions.csv", samples, names, units, prediction, truth)
        if "atom" in self._tables:
            index, truth, prediction = self._tables["atom"]
            columns = [f"{name} [{self.unit(name)}]" for name in self.named("atom")]
            rows = [divmod(k, MAX_ATOMS) for k in index.tolist()]
            write_atoms(
                folder / "predictions_atoms.csv", [self.name_of(k) for k, _ in rows], [atom for _, atom in rows],
                self._atoms.long().tolist(), columns, prediction, truth,
            )  # fmt: skip

    # ---- files

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Give the molecules of a file or a folder their properties: NAME_predicted.xyz and predictions.csv."""

        def ask(batch: dict[str, Tensor], counts: list[int]) -> list[Answer]:
            found = {name: values.detach().cpu() for name, values in self.answers(batch).items()}
            answers: list[Answer] = [{} for _ in counts]
            for name, kind in zip(self.targets, self.kinds):
                if kind == "atom":
                    for answer, part in zip(answers, found[name].split(counts)):
                        answer[name] = part.numpy()
                else:
                    for answer, value in zip(answers, found[name].tolist()):
                        answer |= dict(zip(self.parts(name), value if kind == "vector" else [value]))
            return answers

        units = {
            part: unit
            for name, unit, kind in zip(self.targets, self.units, self.kinds)
            if kind != "atom"
            for part in self.parts(name)
        }
        predict_molecules(ask, source, output, units, self.device, options)

    def parts(self, name: str) -> list[str]:
        """Names of a target's components in tables: the name itself, or three of a vector."""
        vector = self.kinds[self.targets.index(name)] == "vector"
        return [f"{name}_{axis}" for axis in AXES] if vector else [name]

"""Energies and forces: a network gives the energy, its negative gradient the forces, and both are learnt.

E = Σ_i E0(Z_i) + s Σ_i [e_i - e(Z_i alone)], F = -∂E/∂x: conservative, and exactly E0 for atoms that are alone. The stress of a
periodic system is (1/V) ∂E/∂ε, where ε strains atoms and cell together: x -> x + x ε. Its sign is ASE's, negative under
pressure, and V is the volume of the whole cell: for a slab, periodic along two vectors of three, the vacuum counts, as in ASE.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo import audit
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.molecules.atoms import Atoms, prepare_atoms, without_inference_mode
from spheregeo.tasks.molecules.base import check_loss_options
from spheregeo.tasks.molecules.forces.fine_tuning import Origin
from spheregeo.tasks.molecules.forces.loss import force_loss
from spheregeo.tasks.molecules.forces.parts import strongest, turned_forces, volumes
from spheregeo.tasks.molecules.forces.references import REFERENCES, fit_references_and_scale
from spheregeo.tasks.molecules.forces.scores import UNITS, ForceScores, error_table, write_errors
from spheregeo.tasks.molecules.predict import Answer, predict_molecules
from spheregeo.tasks.molecules.schedules import ScheduledTask
from spheregeo.tasks.pictures.forces import forces_picture
from spheregeo.tasks.pictures.parity import parity_picture, write_values
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import Predictions


class Forces(ScheduledTask):
    """Train and score a network whose gradient gives the forces on all atoms.

    L = λ_E ((E - Ê) / n)² + λ_F Σ |F - F̂|² / 3n + λ_S Σ (V (σ - σ̂) / n)² / 9, all in units of the forces' root mean square, a
    mean over molecules. Molecules whose forces or stress is not known count in the other terms alone; where no forces are
    known, the unit is the spread of the energies. Where the data weigh molecules, each term of a molecule has its weight.

    Shape: batches hold numbers, positions, batch, energy (B,), forces (P, 3) with NaN for molecules whose forces are not known,
        and cell, pbc where periodic; perhaps stress (B, 3, 3), likewise, and fixed (P,).
    Units: eV, Å, eV/Å, eV/Å³; scores in meV/atom, meV/Å and meV/Å³.
    Equivariance: energies are as invariant as the network, forces turn with the molecule; no net force and, without a
        cell, no net torque, to rounding.
    Raises: ValueError for unknown elements, energies without references, energies in another unit.

    Args:
        network: name of a model for molecules, see ``spheregeo list models``; its readout must be the sum.
        references: the energies E0 of free atoms: "isolated" takes those that the data give, "fit" fits them to the training
            energies, "none" sets them to 0, "checkpoint" keeps those of the checkpoint that the training starts from
            (--init). In such a training "fit" fits what the checkpoint's network leaves of the energies.
        free_atoms: energies in eV by symbol, such as {"H": -13.6}; instead of those of the data.
        energy_weight: λ_E.
        force_weight: λ_F.
        stress_weight: λ_S; 0 scores the stresses that the data know and does not train them.
        free_only: leave the forces on atoms that are held in place out of loss and scores; 3n then counts the others.
        direct: take forces from a head of their own in place of the energy's gradient, of a network that has one (``scn``): about
            twice as fast, **not conservative**; energy is then not conserved in dynamics, and there is no stress.
        relax: how many of the data's test relaxations are done again with the network, where the data know how they end.
        loss: "l2" as above, "l1" or "huber" of the same errors.
        huber_delta: where the Huber loss turns linear, in units of the forces' root mean square.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        common: arguments of the schedule, the network and the optimiser, as
            :class:`~spheregeo.tasks.molecules.schedules.ScheduledTask`, :class:`~spheregeo.tasks.MoleculeTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = Forces(width=8, depth=1)
        >>> water = {"numbers": torch.tensor([8, 1, 1]), "batch": torch.zeros(3).long(),
        ...     "positions": torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])}
        >>> answer = task(water)
        >>> answer["energy"].shape, answer["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))
    """

    monitor = "val/force_mae"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = (
        "atoms.png", "forces.png", "parity.png", "predictions.csv", "errors.csv",
    )  # fmt: skip
    atom_energy: Tensor
    scale: Tensor

    def __init__(
        self,
        network: str = "schnet",
        *,
        references: str = "isolated",
        free_atoms: dict[str, float] | None = None,
        energy_weight: float = 1.0,
        force_weight: float = 100.0,
        stress_weight: float = 0.0,
        free_only: bool = False,
        direct: bool = False,
        relax: int = 0,
        loss: str = "l2",
        huber_delta: float = 0.1,
        lr: float = 2e-3,
        weight_decay: float = 1e-5,
        **common: Any,
    ) -> None:
        if references not in REFERENCES:
            raise ValueError(f"references is {references!r}; expected one of {', '.join(REFERENCES)}")
        check_loss_options(loss, huber_delta)
        for name, weight in (
            ("energy_weight", energy_weight), ("force_weight", force_weight), ("stress_weight", stress_weight),
            ("relax", relax),
        ):  # fmt: skip
            if not weight >= 0:
                raise ValueError(f"{name} is {weight}; expected 0 or more")
        super().__init__(
            1, network=network, references=references, free_atoms=free_atoms, energy_weight=energy_weight,
            force_weight=force_weight, stress_weight=stress_weight, free_only=free_only, direct=direct, relax=relax,
            loss=loss, huber_delta=huber_delta, lr=lr, weight_decay=weight_decay, **common,
        )  # fmt: skip
        if getattr(self.network, "readout", "sum") != "sum":
            raise ValueError(
                f"the network's readout is {self.network.readout!r}; energies are sums: set it to 'sum'"
            )
        if direct and not getattr(self.network, "direct", False):
            raise ValueError(
                f"direct is set, but the network {network!r} has no head for forces; choose scn with "
                "--model.options '{direct: true}'"
            )
        stressed = stress_weight or self.swa_weights.get("stress")
        if direct and stressed:
            raise ValueError(
                f"stress_weight is {stressed} with direct forces, which have no stress; expected 0"
            )
        self.references, self.free_atoms = references, free_atoms
        self.energy_weight, self.force_weight, self.stress_weight = energy_weight, force_weight, stress_weight
        self.phases = {"energy": energy_weight, "forces": force_weight, "stress": stress_weight}
        self.free_only, self.direct, self.relax = free_only, direct, relax
        self.loss, self.huber_delta = loss, huber_delta
        self.keep("atom_energy", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64), persistent=True)
        self.keep("scale", torch.ones((), dtype=torch.float64), persistent=True)
        self.scores, self.predictions = ForceScores(), Predictions()
        self._shown: list[tuple[Tensor, Tensor]] = []
        self._pictured: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._elements: dict[str, dict[str, float]] = {}
        self._types: dict[int, dict[str, float]] = {}
        self._type_names: tuple[str, ...] = ()
        self._relaxed: dict[str, float] = {}
        self._origin: Origin | None = None
        self._shift: Tensor | None = (
            None  # of energies of free atoms (119,), where the training goes on from a checkpoint
        )

    # ---- references and scale

    def begin_from(self, stored: dict[str, Tensor]) -> None:
        self._origin = Origin.of(stored)
        if self._origin is not None:
            self.scale.fill_(self._origin.scale)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._shift is not None:
            checkpoint["shift"] = self._shift.clone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._shift = checkpoint.get("shift")

    def fit_scales(self, molecules: Molecules) -> None:
        if molecules.replayed is not None:
            molecules = molecules.select((~molecules.replayed).nonzero()[:, 0])
        if self._shift is not None and self._origin is None:
            return  # a resumed run that began from a checkpoint: scale and energies of free atoms are restored
        self._shift = fit_references_and_scale(self, molecules, self._origin)

    def setup(self, stage: str) -> None:
        """Let the best checkpoint be that of the energies where no validation molecule has forces; before states are restored."""
        if stage != "fit":
            return
        source = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        forces = None if source is None else source("val").forces
        if forces is None or bool(torch.isfinite(forces).any()):
            return
        for callback in getattr(self.trainer, "callbacks", []):
            if getattr(callback, "monitor", None) == self.monitor:
                callback.monitor = "val/energy_mae"  # type: ignore[attr-defined]

    # ---- energy and its derivatives

    def energy(self, atoms: Atoms, positions: Tensor, graph: Any) -> Tensor:
        """Return the energy (B,) above that of free atoms, in the weights' type; differentiable in the positions.

        Args: as :meth:`energy_and_forces`.
        """
        return self.energy_and_forces(atoms, positions, graph)[0]

    def energy_and_forces(self, atoms: Atoms, positions: Tensor, graph: Any) -> tuple[Tensor, Tensor | None]:
        """Return the energy (B,) above that of free atoms, in the weights' type, and forces (P, 3) of the network's own head.

        Forces are None unless the task is ``direct``.

        Args:
            atoms: the molecules.
            positions: their positions, (P, 3), which may be strained.
            graph: their neighbours, likewise.
        """
        count, index = atoms.count, atoms.index
        kinds, which = atoms.numbers.unique(return_inverse=True)
        # One free atom of each element stands beside the molecules.
        alone = torch.arange(count, count + len(kinds), device=index.device)
        everywhere = torch.cat([positions, positions.new_zeros(len(kinds), 3)])
        numbers, owner = torch.cat([atoms.numbers, kinds]), torch.cat([index, alone])
        if not isinstance(graph, MoleculeGraph):
            # which may count atoms; edges alone do not mind further ones
            graph = self.network.neighbors(everywhere.detach(), owner)
        forces = None
        if self.direct:
            output, forces = self.network.energy_and_forces(
                everywhere, numbers, owner, graph, count + len(kinds)
            )
            forces = forces[: len(positions)] * self.scale.to(forces)
        else:
            output = self.network(everywhere, numbers, owner, graph, count + len(kinds))
        output = output[:, 0]
        free = output.new_zeros(count).index_add(0, index, output[count:][which])
        return (output[:count] - free) * self.scale.to(output), forces

    def derive(
        self, batch: Batch, create_graph: bool = False, stress: bool = False, keep: bool = False
    ) -> dict[str, Tensor]:
        """Return energies and their derivatives; works in inference mode too.

        Args:
            batch: the molecules.
            create_graph: whether forces can be differentiated, as a loss of forces needs.
            stress: whether virials are wanted, of periodic systems.
            keep: whether to keep the graphs of these molecules, because they come again.

        Returns ``energy`` (B,) float64, ``forces`` (P, 3), and with ``stress`` also ``virials`` (B, 3, 3), dE/dε of each
        system, symmetric, and their sum ``virial`` (3, 3); of the energy, ``bound`` (B,) in the weights' type is the network's
        part and ``free`` (B,) that of free atoms.

        Units: eV, eV/Å.
        """
        with torch.inference_mode(False), torch.enable_grad():
            atoms = prepare_atoms(self, batch, self.network, self.elements, self._graphs if keep else None)
            graph = atoms.graph
            positions = atoms.positions.detach().requires_grad_(not self.direct)
            inputs, moved = [positions], positions
            if stress:
                if self.direct:
                    raise ValueError(
                        "stress needs an energy whose gradient gives the forces; direct forces have none"
                    )
                if not isinstance(graph, MoleculeGraph):
                    raise ValueError("stress needs a network whose graph is a MoleculeGraph")
                strain = positions.new_zeros(atoms.count, 3, 3, requires_grad=True)
                symmetric = (strain + strain.mT) / 2
                own = symmetric.index_select(0, atoms.index)
                moved = positions + (positions[:, None] @ own)[:, 0]
                graph = graph.deformed(symmetric, atoms.index)
                inputs.append(strain)
            bound, direct = self.energy_and_forces(atoms, moved, graph)
            gradients: Sequence[Tensor | None]
            if bound.requires_grad and direct is None:
                gradients = torch.autograd.grad(
                    bound.sum(), inputs, create_graph=create_graph, allow_unused=True
                )
            else:  # free atoms alone, of a network whose weights are frozen
                gradients = [None] * len(inputs)
            first, *more = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients)]
            table = self.atom_energy
            free = table.new_zeros(atoms.count).index_add(0, atoms.index, table[atoms.numbers])
            found = {"energy": free + bound.double(), "forces": -first, "bound": bound, "free": free}
            if direct is not None:
                found["forces"] = direct if create_graph else direct.detach()
            if stress:
                found |= {"virials": more[0], "virial": more[0].sum(0)}
            return found

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``energy`` (B,) and ``forces`` (P, 3) of the molecules, which cannot be differentiated."""
        found = self.derive(batch)
        return {"energy": found["energy"].detach(), "forces": found["forces"].detach()}

    def forward_batch(self, batch: Batch) -> Batch:
        energy, forces = take(self, batch, "energy").double(), take(self, batch, "forces")
        # Statistics of norms are estimated under no_grad with the module in training: nothing is derived twice there.
        training = self.training and torch.is_grad_enabled()
        strained = "stress" in batch and not self.direct and bool(torch.isfinite(batch["stress"]).any())
        found = self.derive(batch, create_graph=training, keep=True, stress=strained)
        with torch.inference_mode(False), torch.set_grad_enabled(training):
            given = {k: without_inference_mode(v) if isinstance(v, Tensor) else v for k, v in batch.items()}
            given["energy"], given["forces"] = without_inference_mode(energy), without_inference_mode(forces)
            if (
                "replayed" in given and self._shift is not None
            ):  # energies that count from the checkpoint's free atoms
                on_atoms = self._shift.to(energy)[given["numbers"]]
                shift = torch.zeros_like(energy).index_add(0, given["batch"], on_atoms)
                given["energy"] = given["energy"] + shift * given["replayed"]
            known = self._counted(given, given["forces"])
            weights = self.weights_of_loss()
            loss = force_loss(found, given, known, self.scale, weights, self.loss, self.huber_delta)
        more = {}
        if strained:
            more["predicted_stress"] = (
                found["virials"].detach().double() / volumes(given["cell"])[:, None, None]
            )
        atoms = torch.bincount(given["batch"], minlength=len(energy))
        return {
            **batch, "truth": given["energy"], "atoms": atoms, "prediction": found["energy"].detach(),
            "predicted_forces": found["forces"].detach(), "loss": loss if training else loss.detach(), **more,
        }  # fmt: skip

    def _counted(self, batch: Batch, forces: Tensor) -> Tensor:
        """Whether the forces on each atom (P,) count: they are known, and the atom is free where the task asks for free ones."""
        known = torch.isfinite(forces).all(1)
        if self.free_only and "fixed" in batch:
            known = known & ~without_inference_mode(batch["fixed"])
        return known

    # ---- the audit

    def audit(self) -> dict[str, Any]:
        """Measure the network as :meth:`MoleculeTask.audit`, its forces under rotations, and a strict twin where there is one."""
        result = super().audit()
        result["forces_under_rotations"] = turned_forces(self)
        kind = "a head of their own, not conservative" if self.direct else "the energy's gradient"
        print(
            f"forces ({kind}): change by rotations {result['forces_under_rotations']:.2e} of their largest (float64)",
            flush=True,
        )
        if hasattr(self.network, "strict"):
            twin = self.network.strict()
            print(
                f"\nbeside it {type(twin).__name__}, strict, of its sizes, with weights as they are drawn:",
                flush=True,
            )
            result["strict"] = audit.report_points(twin.eval(), *self.clusters())
            audit.print_points(result["strict"])
        return result

    # ---- scores

    def update_metrics(self, outputs: Batch) -> Batch:
        energy = (outputs["prediction"] - outputs["truth"]) / outputs["atoms"]
        forces = outputs["predicted_forces"] - outputs["forces"]
        forces = torch.where(self._counted(outputs, outputs["forces"])[:, None], forces, torch.nan)
        stress = outputs["predicted_stress"] - outputs["stress"] if "predicted_stress" in outputs else None
        self.scores.update(energy, forces, outputs["numbers"], stress, outputs.get("type"), outputs["batch"])
        return outputs

    def test_step(self, batch: Batch, index: int) -> Batch:
        outputs = super().test_step(batch, index)
        truth, prediction = outputs["truth"][:, None], outputs["prediction"][:, None]
        self.predictions.update(truth, prediction, outputs.get("index", None))
        known = self._counted(outputs, outputs["forces"])
        if index == 0:
            self._pictured = strongest(outputs, known)
        if sum(len(truth) for truth, _ in self._shown) < 5000 and bool(known.any()):
            self._shown.append((outputs["forces"][known].cpu(), outputs["predicted_forces"][known].cpu()))
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        self._results = self.scores.compute()
        self._elements, self._types = self.scores.of_elements, self.scores.of_types
        self.scores.reset()
        return self._results

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._table = self.predictions.compute()
        self.predictions.reset()
        source = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        molecules = None if source is None else source("test")
        if molecules is not None and molecules.names is not None:
            self._names = dict(zip(molecules.index.tolist(), molecules.names))
        self._type_names = () if molecules is None else molecules.type_names
        relaxations = getattr(self.trainer.datamodule, "relaxations", None)  # type: ignore[attr-defined]
        if self.relax and molecules is not None and relaxations is not None and self.trainer.is_global_zero:
            from spheregeo.tasks.molecules.dynamics.relaxation import relax_again

            pairs = relaxations("test")[: self.relax]
            self._relaxed = relax_again(self, molecules, pairs) if pairs else {}
            if pairs:
                self.tell(
                    f"{len(pairs)} test relaxations end {self._relaxed['relaxed_distance']:.3f} Å from the data's on average, "
                    f"{self._relaxed['relaxed_worst']:.3f} Å at worst"
                )

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation as plain types for a JSON file: in the units beside them."""
        return {
            **self._results,
            **self._relaxed,
            "units": {
                name: self.unit_of(name) for name in (*self._results, *self._relaxed) if self.unit_of(name)
            },
            **({"elements": self._elements} if self._elements else {}),
            **({"config_types": named} if (named := self._by_type()) else {}),
        }

    def _by_type(self) -> dict[str, dict[str, float]]:
        """Scores of each configuration type by its name; nothing where there is one type only."""
        if len(self._types) < 2:
            return {}
        return {self._type_names[k]: scores for k, scores in self._types.items() if k < len(self._type_names)}

    def summary(self) -> str:
        """Return tables of errors by element, and by configuration type where there are several."""
        return error_table(self._elements, self._by_type())

    def unit_of(self, score: str) -> str:
        """Return meV/atom for scores of energies, meV/Å for those of forces, meV/Å³ for those of stresses."""
        return (
            "Å" if score in ("relaxed_distance", "relaxed_worst") else UNITS.get(score.partition("_")[0], "")
        )

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        index, truth, prediction = self._table
        parity_picture(folder / "parity.png", truth, prediction, ["energy"], ["eV"])
        if self._shown:
            true, said = (torch.cat(parts).reshape(-1, 1) for parts in zip(*self._shown))
            parity_picture(folder / "forces.png", true, said, ["forces"], ["eV/Å"])
            self._shown = []
        if self._pictured:
            one = self._pictured
            number = int(one["index"])
            name = self._names.get(number, str(number))
            forces_picture(
                folder / "atoms.png",
                one["numbers"],
                one["positions"],
                one["forces"],
                one["predicted_forces"],
                name,
            )
            self._pictured = {}
        write_errors(folder / "errors.csv", self._elements, self._by_type())
        names = [self._names.get(k, str(k)) for k in index.tolist()]
        write_values(folder / "predictions.csv", names, ["energy"], ["eV"], prediction, truth)

    # ---- files

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Give the molecules of a file or a folder energies and forces: NAME_predicted.xyz and predictions.csv."""

        def ask(batch: dict[str, Tensor], counts: list[int]) -> list[Answer]:
            found = self(batch)
            forces = found["forces"].double().cpu().split(counts)
            return [
                {"energy": float(e), "forces": f.numpy()} for e, f in zip(found["energy"].tolist(), forces)
            ]

        predict_molecules(ask, source, output, {"energy": "eV"}, self.device, options)

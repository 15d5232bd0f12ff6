"""Energies and forces: a network gives the energy, its negative gradient the forces, and both are learnt.

E = Σ_i E0(Z_i) + s Σ_i [e_i - e(Z_i alone)], F = -∂E/∂x: conservative, and exactly E0 for atoms that are alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules, fit_references
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.tasks.base import Batch
from spheregeo.tasks.molecules.base import MoleculeTask, check_loss_options, ordinary, penalty, per_element
from spheregeo.tasks.molecules.regression import over_atoms
from spheregeo.tasks.pictures.parity import parity_picture, write_values
from spheregeo.tasks.predictions import Predictions

REFERENCES = ("isolated", "fit", "none")
BOUND = 20.0  # eV an atom; energies further from free atoms than that are no binding energies
MILLI = 1000.0


class ForceScores(Metric):
    """Errors of energies per atom and of the forces' components, summed over batches and processes.

    Shape: ``update`` takes errors of the energies per atom (B,) and of the forces (P, 3); ``compute`` gives scores by name.
    Units: eV and eV/Å in, meV/atom and meV/Å out.
    """

    full_state_update = False
    higher_is_better = None
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, energy: Tensor, forces: Tensor) -> None:
        for row, error in enumerate((energy.double().flatten(), forces.double().flatten())):
            self.sums[row] += torch.stack(
                [error.abs().sum(), error.square().sum(), error.new_tensor(len(error))]
            )

    def compute(self) -> dict[str, float]:
        found = {}
        for name, (absolute, squared, count) in zip(("energy", "force"), self.sums.tolist()):
            found[f"{name}_mae"] = MILLI * absolute / count
            found[f"{name}_rmse"] = MILLI * (squared / count) ** 0.5
        return found


class Forces(MoleculeTask):
    """Train and score a network whose gradient gives the forces on all atoms.

    L = λ_E ((E - Ê) / n)² + λ_F Σ |F - F̂|² / 3n, both in units of the forces' root mean square, a mean over molecules.

    Shape: batches hold numbers, positions, batch, energy (B,), forces (P, 3), and cell, pbc where periodic.
    Units: eV, Å, eV/Å; scores in meV/atom and meV/Å.
    Equivariance: energies are as invariant as the network, forces turn with the molecule; no net force and, without a
        cell, no net torque, to rounding.
    Raises: ValueError for unknown elements, energies without references, energies in another unit.

    Args:
        network: name of a model for molecules, see ``spheregeo list models``; its readout must be the sum.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"cutoff": 6.0}.
        references: the energies E0 of free atoms: "isolated" takes those that the data give, "fit" fits them to the training
            energies, "none" sets them to 0.
        free_atoms: energies in eV by symbol, such as {"H": -13.6}; instead of those of the data.
        energy_weight: λ_E.
        force_weight: λ_F.
        loss: "l2" as above, "l1" or "huber" of the same errors.
        huber_delta: where the Huber loss turns linear, in units of the forces' root mean square.
        keep_graphs: keep the neighbours of molecules that come again.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    monitor = "val/force_mae"
    mode = "min"
    atom_energy: Tensor
    scale: Tensor

    def __init__(
        self,
        network: str = "schnet",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        references: str = "isolated",
        free_atoms: dict[str, float] | None = None,
        energy_weight: float = 1.0,
        force_weight: float = 100.0,
        loss: str = "l2",
        huber_delta: float = 0.1,
        keep_graphs: bool = True,
        lr: float = 2e-3,
        weight_decay: float = 1e-5,
        warmup: float = 0.05,
    ) -> None:
        if references not in REFERENCES:
            raise ValueError(f"references is {references!r}; expected one of {', '.join(REFERENCES)}")
        check_loss_options(loss, huber_delta)
        for name, weight in (("energy_weight", energy_weight), ("force_weight", force_weight)):
            if not weight >= 0:
                raise ValueError(f"{name} is {weight}; expected 0 or more")
        super().__init__(
            1, network=network, width=width, depth=depth, options=options, keep_graphs=keep_graphs, lr=lr,
            weight_decay=weight_decay, warmup=warmup,
            settings={
                "references": references, "free_atoms": free_atoms, "energy_weight": energy_weight,
                "force_weight": force_weight, "loss": loss, "huber_delta": huber_delta,
            },
        )  # fmt: skip
        if getattr(self.network, "readout", "sum") != "sum":
            raise ValueError(
                f"the network's readout is {self.network.readout!r}; energies are sums: set it to 'sum'"
            )
        self.references, self.free_atoms = references, free_atoms
        self.energy_weight, self.force_weight = energy_weight, force_weight
        self.loss, self.huber_delta = loss, huber_delta
        self.register_buffer("atom_energy", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.scores, self.predictions = ForceScores(), Predictions()
        self._shown: list[tuple[Tensor, Tensor]] = []

    # ---- references and scale

    def fit_scales(self, molecules: Molecules) -> None:
        if molecules.energy is None or molecules.forces is None:
            raise ValueError("the training data hold no energies and forces; use data such as ForcesData")
        isolated = getattr(self.trainer.datamodule, "isolated", None)  # type: ignore[attr-defined]
        given = self.free_atoms if self.free_atoms is not None else isolated
        if self.references == "isolated":
            if not given:
                raise ValueError(
                    "references is 'isolated' but the data hold no free atoms; give --data.isolated FILE, "
                    "--model.free_atoms, or choose --model.references fit"
                )
            table = per_element(given, molecules.elements, "energies of free atoms")
        elif self.references == "fit":
            table = fit_references(molecules, molecules.energy)
        else:
            table = torch.zeros_like(self.atom_energy)
        bound = ((molecules.energy - over_atoms(table, molecules)) / molecules.counts).abs()
        if self.references != "none" and float(bound.median()) > BOUND:
            raise ValueError(
                f"energies are {float(bound.median()):.4g} eV an atom away from those of free atoms; expected a few eV: "
                "are energies and references in the same unit, and from the same method?"
            )
        self.atom_energy.copy_(table)
        rms = float(molecules.forces.square().mean().sqrt())
        self.scale.fill_(rms if rms > 1e-12 else 1.0)

    # ---- energy and its derivatives

    def energy(self, positions: Tensor, numbers: Tensor, index: Tensor, graph: Any, count: int) -> Tensor:
        """Energy (B,) above that of free atoms, in the weights' type; differentiable in the positions."""
        kinds, which = numbers.unique(return_inverse=True)
        alone = torch.arange(count, count + len(kinds), device=index.device)
        everywhere = torch.cat([positions, positions.new_zeros(len(kinds), 3)])
        owner = torch.cat([index, alone])
        if not isinstance(
            graph, MoleculeGraph
        ):  # which may count atoms; edges alone do not mind further ones
            graph = self.network.neighbors(everywhere.detach(), owner)
        output = self.network(everywhere, torch.cat([numbers, kinds]), owner, graph, count + len(kinds))[:, 0]
        free = output.new_zeros(count).index_add(0, index, output[count:][which])
        return (output[:count] - free) * self.scale.to(output)

    def derive(
        self, batch: Batch, create_graph: bool = False, stress: bool = False, keep: bool = False
    ) -> dict[str, Tensor]:
        """``energy`` (B,) float64, ``forces`` (P, 3), and with ``stress`` for one periodic system ``virial`` (3, 3), dE/dε.

        Works in inference mode too. Units: eV, eV/Å.
        """
        with torch.inference_mode(False), torch.enable_grad():
            positions, numbers, index, graph, count = self.prepare(batch, keep)
            positions = positions.detach().requires_grad_()
            inputs, moved = [positions], positions
            if stress:
                strain = positions.new_zeros(3, 3, requires_grad=True)
                symmetric = (strain + strain.T) / 2
                moved = positions + positions @ symmetric
                if not isinstance(graph, MoleculeGraph):
                    raise ValueError("stress needs a network whose graph is a MoleculeGraph")
                graph = graph.deformed(symmetric)
                inputs.append(strain)
            bound = self.energy(moved, numbers, index, graph, count)
            gradients: Sequence[Tensor | None]
            if bound.requires_grad:
                gradients = torch.autograd.grad(
                    bound.sum(), inputs, create_graph=create_graph, allow_unused=True
                )
            else:  # free atoms alone, of a network whose weights are frozen
                gradients = [None] * len(inputs)
            first, *more = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients)]
            free = self.atom_energy.new_zeros(count).index_add(0, index, self.atom_energy[numbers])
            found = {"energy": free + bound.double(), "forces": -first, "bound": bound, "free": free}
            if stress:
                found["virial"] = more[0]
            return found

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``energy`` (B,) and ``forces`` (P, 3) of the molecules, without a graph of their own."""
        found = self.derive(batch)
        return {"energy": found["energy"].detach(), "forces": found["forces"].detach()}

    def run(self, batch: Batch) -> Batch:
        energy, forces = self.take(batch, "energy").double(), self.take(batch, "forces")
        # The statistics of norms are settled under no_grad with the module in training: nothing is derived twice there.
        training = self.training and torch.is_grad_enabled()
        found = self.derive(batch, create_graph=training, keep=True)
        with torch.inference_mode(False), torch.set_grad_enabled(training):
            energy, forces = ordinary(energy), ordinary(forces)
            index = ordinary(batch["batch"])
            atoms = torch.bincount(index, minlength=len(energy))
            bound, derived = found["bound"], found["forces"]
            scale = self.scale.to(bound)
            per_atom = (bound - (energy - found["free"]).to(bound)) / (atoms * scale)  # (B,)
            error = (derived - forces.to(derived)) / scale  # (P, 3)
            squares = penalty(error, self.loss, self.huber_delta).sum(1) / (3 * atoms[index])
            by_molecule = squares.new_zeros(len(energy)).index_add(0, index, squares)
            loss = (
                self.energy_weight * penalty(per_atom, self.loss, self.huber_delta)
                + self.force_weight * by_molecule
            ).mean()
        if not training:
            loss = loss.detach()
        return {
            **batch, "truth": energy, "atoms": atoms, "prediction": found["energy"].detach(),
            "predicted_forces": derived.detach(), "loss": loss,
        }  # fmt: skip

    # ---- scores

    def count(self, ran: Batch) -> Batch:
        self.scores.update(
            (ran["prediction"] - ran["truth"]) / ran["atoms"], ran["predicted_forces"] - ran["forces"]
        )
        return ran

    def test_step(self, batch: Batch, index: int) -> Batch:
        ran = super().test_step(batch, index)
        self.predictions.update(ran["truth"][:, None], ran["prediction"][:, None], ran.get("index", None))
        if sum(len(truth) for truth, _ in self._shown) < 5000:
            self._shown.append((ran["forces"].cpu(), ran["predicted_forces"].cpu()))
        return ran

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return ()

    def summarise(self) -> dict[str, float]:
        self._results = self.scores.compute()
        self.scores.reset()
        return self._results

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._table = self.predictions.compute()
        self.predictions.reset()

    def results(self) -> dict[str, Any]:
        """Scores of the last evaluation as plain types for a JSON file: meV/atom for energies, meV/Å for forces."""
        units = {
            "energy_mae": "meV/atom",
            "energy_rmse": "meV/atom",
            "force_mae": "meV/Å",
            "force_rmse": "meV/Å",
        }
        return {**self._results, "units": units}

    def draw(self, folder: Path, examples: Sequence[Any]) -> None:
        index, truth, prediction = self._table
        parity_picture(folder / "parity.png", truth, prediction, ["energy"], ["eV"])
        if self._shown:
            true, said = (torch.cat(parts).reshape(-1, 1) for parts in zip(*self._shown))
            parity_picture(folder / "forces.png", true, said, ["forces"], ["eV/Å"])
            self._shown = []
        names = [str(int(k)) for k in index]
        write_values(folder / "predictions.csv", names, ["energy"], ["eV"], prediction, truth)

"""Many small systems at once: one call of the network for all, velocity Verlet and Langevin dynamics in float64.

ASE's integrators move one system; a small one leaves most of a call's time to overheads, which many systems share.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from spheregeo.data.molecules.files import from_frames
from spheregeo.models import MoleculeGraph, molecule_graph
from spheregeo.tasks.inputs import Progress
from spheregeo.tasks.molecules.atoms import Atoms as Prepared
from spheregeo.tasks.molecules.atoms import check_apart, check_atoms
from spheregeo.tasks.molecules.dynamics.ensembles import Ensemble, begin_momenta
from spheregeo.tasks.molecules.dynamics.evaluator import frozen
from spheregeo.tasks.molecules.dynamics.simulation import LEAP, Plan, SimulationError
from spheregeo.tasks.molecules.dynamics.trajectory import Recorder, read_state, read_table
from spheregeo.tasks.pictures.dynamics import dynamics_picture

ENSEMBLES = ("nve", "langevin")


class ManyEvaluator:
    """Energies and forces of many systems whose atoms move, by one call of the network.

    Neighbours are found within the cutoff and a skin, and found anew once an atom has moved by half of it; a step takes those
    within the cutoff.

    Units: Å, eV.
    Raises: ValueError for systems that the model does not take.

    Args:
        task: the trained task, :class:`~spheregeo.tasks.Forces`, in evaluation; its device and type are those of the computation.
        frames: the systems.
        skin: width of the skin in Å.

    Example:
        >>> from spheregeo.tasks import Forces
        >>> frames = [Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])]
        >>> evaluator = ManyEvaluator(Forces(network="schnet", width=8, depth=1).double().eval(), frames)
        >>> energies, forces = evaluator(np.concatenate([frame.positions for frame in frames]))
        >>> energies.shape, forces.shape
        ((2,), (4, 3))
    """

    def __init__(self, task: Any, frames: Sequence[Atoms], skin: float = 0.5) -> None:
        self.task, self.skin = task, skin
        molecules = from_frames(frames)
        self.batch = {k: v.to(task.scale.device) for k, v in molecules.batch(range(len(frames))).items()}
        self.batch.pop("index", None)
        check_atoms(task, self.batch, task.elements)
        network: Any = task.network
        self.by_pairs = bool(getattr(network, "by_pairs", False)) and not task.direct
        self._parameters = list(task.parameters())
        self._graph: MoleculeGraph | None = None
        self._places = np.zeros(0)
        self.searches = 0

    def forget(self) -> None:
        """Forget the neighbours of earlier steps."""
        self._graph = None

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return energies (B,) in eV and forces (P, 3) in eV/Å.

        Args:
            places: positions of all atoms (P, 3), system after system.
        """
        task, batch = self.task, self.batch
        batch["positions"] = torch.from_numpy(places).to(task.scale.device)
        with frozen(self._parameters):
            if not self.by_pairs:
                found = task.derive(batch)
                return _array(found["energy"]), _array(found["forces"])
            return self._by_pairs(places)

    def _by_pairs(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        task, batch = self.task, self.batch
        network: Any = task.network
        with torch.inference_mode(False), torch.no_grad():
            graph = self._neighbours(places)
            vectors = graph.vectors(batch["positions"])
            near = (vectors.square().sum(1) <= network.cutoff**2).nonzero()[:, 0]
            offset = None if graph.offset is None else graph.offset.index_select(0, near)
            graph = MoleculeGraph(graph.edge_index.index_select(1, near), offset)
            check_apart(graph, batch["positions"])
        return self._derive(graph)

    def _derive(self, graph: MoleculeGraph) -> tuple[np.ndarray, np.ndarray]:
        task, batch = self.task, self.batch
        index, numbers = batch["batch"], batch["numbers"]
        dtype = next(task.network.parameters()).dtype
        with torch.inference_mode(False), torch.enable_grad():
            positions = batch["positions"].to(dtype).requires_grad_()
            prepared = Prepared(positions, numbers, index, graph, self.count)
            bound = task.energy(prepared, positions, graph)
            (gradient,) = torch.autograd.grad(bound.sum(), positions, allow_unused=True)
        free = task.atom_energy.new_zeros(self.count).index_add(0, index, task.atom_energy[numbers])
        forces = torch.zeros_like(positions) if gradient is None else -gradient
        return _array(free + bound.detach().double()), _array(forces)

    @property
    def count(self) -> int:
        """Number of systems."""
        return int(self.batch["batch"][-1]) + 1

    def _neighbours(self, places: np.ndarray) -> MoleculeGraph:
        if self._graph is not None:
            away = float(np.square(places - self._places).sum(1).max())
            if away <= (self.skin / 2) ** 2:
                return self._graph
        batch = self.batch
        self._graph = molecule_graph(
            batch["positions"], self.task.network.cutoff + self.skin, batch["batch"], batch.get("cell"), batch.get("pbc")
        )  # fmt: skip
        self._places = places.copy()
        self.searches += 1
        return self._graph


def simulate_many(
    frames: Sequence[Atoms],
    task: Any,
    ensemble: Ensemble,
    plan: Plan,
    folder: str | Path,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = print,
) -> dict[str, float]:
    """Simulate many systems side by side; rows and frames have the number of their system.

    Args:
        frames: the systems, which end where the simulation ends. Atoms held in place by ASE's ``FixAtoms`` stay.
        task: the trained task, :class:`~spheregeo.tasks.Forces`.
        ensemble: "nve" by velocity Verlet, or "langevin" by the BAOAB splitting of Leimkuhler and Matthews (2013).
        plan: how long, and what is written.
        folder: the folder; files of an earlier simulation there are replaced.
        resume: go on from the folder's last state, if there is one.
        tell: what lines for the user go to.

    Returns numbers of systems and steps, the mean temperature, and the largest change of a total energy in meV.

    Raises: SimulationError when a system flies apart; ValueError for another ensemble, or systems that the model does not take.

    Example:
        >>> import tempfile
        >>> from spheregeo.tasks import Forces
        >>> task = Forces(network="schnet", width=8, depth=1).double().eval()
        >>> frames = [Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])]
        >>> found = simulate_many(frames, task, Ensemble("nve"), Plan(10), tempfile.mkdtemp(), tell=lambda line: None)
        >>> found["systems"], found["steps"]
        (2, 10)
    """
    if ensemble.kind not in ENSEMBLES:
        raise ValueError(f"ensemble is {ensemble.kind!r}; many systems at once know {', '.join(ENSEMBLES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    evaluator = ManyEvaluator(task, frames)
    rng = np.random.Generator(np.random.PCG64([ensemble.seed, 0]))
    state = read_state(folder) if resume else None
    motion = _Motion(frames, evaluator, ensemble, rng)
    recorder = Recorder(folder, state)
    try:
        if state is None:
            for k, frame in enumerate(frames):
                begin_momenta(frame, ensemble, k)
            motion.momenta[:] = np.concatenate([frame.get_momenta() for frame in frames])
            tell(
                f"{len(frames)} systems; velocities are those of the input, or drawn at {ensemble.temperature:g} K with the seed "
                f"{ensemble.seed}"
            )
            motion.evaluate()
            motion.record(recorder, 0)
            state = motion.capture(0)
            recorder.save(state)
        elif state["positions"].shape != motion.positions.shape:
            raise ValueError(
                f"{folder} holds a simulation of {len(state['positions'])} atoms; the input has {len(motion.positions)}"
            )
        else:
            tell(f"goes on from step {int(state['step']):,}")
        begin, clock = int(state["step"]), time.perf_counter()
        progress = Progress(plan.steps - begin, "steps")
        while (saved := int(state["step"])) < plan.steps:
            motion.restore(state)
            stretch = plan.every * plan.save_every
            for step in range(saved + 1, min((saved // stretch + 1) * stretch, plan.steps) + 1):
                motion.step()
                motion.watch(plan, step, saved)
                if step % plan.every == 0:
                    motion.record(recorder, step)
                progress(step - begin)
            state = motion.capture(step)
            recorder.save(state)
        seconds = time.perf_counter() - clock
    finally:
        recorder.close()
    for frame, places, momenta in zip(frames, motion.split(motion.positions), motion.split(motion.momenta)):
        frame.arrays["positions"][:] = places
        frame.set_array("momenta", momenta, float, (3,))
    if done := max(plan.steps - begin, 0):
        rate = done * len(frames) / seconds
        tell(
            f"{done:,} steps of {len(frames)} systems in {seconds:.1f} s: {rate:.4g} steps of a system a second"
        )
    return motion.summary(folder, int(state["step"]))


class _Motion:
    """Positions and momenta of all systems, as two arrays."""

    def __init__(
        self, frames: Sequence[Atoms], evaluator: ManyEvaluator, ensemble: Ensemble, rng: np.random.Generator
    ) -> None:
        self.frames, self.evaluator, self.ensemble, self.rng = frames, evaluator, ensemble, rng
        self.ends = np.cumsum([len(frame) for frame in frames])
        self.owner = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        self.positions = np.concatenate([frame.positions for frame in frames])
        self.momenta = np.zeros_like(self.positions)
        self.masses = np.concatenate([frame.get_masses() for frame in frames])[:, None]
        self.free = np.ones((len(self.positions), 1))
        for frame, end in zip(frames, self.ends):
            for constraint in frame.constraints:
                if type(constraint).__name__ != "FixAtoms":
                    raise ValueError(
                        f"a system has the constraint {type(constraint).__name__}; many systems at once know FixAtoms"
                    )
                self.free[end - len(frame) + constraint.index] = 0
        self.dt = ensemble.timestep * units.fs
        self.energies, self.forces = np.zeros(len(frames)), np.zeros_like(self.positions)
        self.degrees = np.array([max(3 * part.sum(), 1) for part in self.split(self.free)])

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        return np.split(values, self.ends[:-1])

    def evaluate(self) -> None:
        self.energies, forces = self.evaluator(self.positions)
        self.forces = forces * self.free

    def step(self) -> None:
        self.momenta += self.dt / 2 * self.forces
        if self.ensemble.kind == "nve":
            self.positions = self.positions + self.dt * self.momenta / self.masses
        else:
            self.positions = self.positions + self.dt / 2 * self.momenta / self.masses
            keep = np.exp(-self.dt * self.ensemble.friction / units.fs)
            noise = self.rng.standard_normal(self.momenta.shape) * self.free
            spread = np.sqrt((1 - keep**2) * units.kB * self.ensemble.temperature * self.masses)
            self.momenta = keep * self.momenta + spread * noise
            self.positions = self.positions + self.dt / 2 * self.momenta / self.masses
        self.evaluate()
        self.momenta += self.dt / 2 * self.forces

    def kinetic(self) -> np.ndarray:
        return np.bincount(self.owner, (self.momenta**2 / self.masses).sum(1) / 2, len(self.frames))

    def temperatures(self) -> np.ndarray:
        return np.asarray(2 * self.kinetic() / (self.degrees * units.kB))

    def watch(self, plan: Plan, step: int, saved: int) -> None:
        leap = np.sqrt((self.momenta**2).sum(1)) / self.masses[:, 0] * self.dt
        hot = self.temperatures()
        if not leap.max() <= LEAP or not hot.max() <= plan.max_temperature:
            worst = int(np.argmax(np.where(np.isfinite(leap), leap, np.inf)))
            system = int(self.owner[worst])
            atom = worst - (self.ends[system] - len(self.frames[system]))
            raise SimulationError(
                f"step {step}: system {system} flies apart, at {hot[system]:.3g} K; its atom {atom} "
                f"({self.frames[system].symbols[atom]}) moves {leap[worst]:.3g} Å in a step. Relax the input first, or lower the "
                f"timestep; step {saved} is saved"
            )

    def record(self, recorder: Recorder, step: int) -> None:
        kinetic, hot = self.kinetic(), self.temperatures()
        parts = zip(self.frames, *map(self.split, (self.positions, self.momenta, self.forces)))
        for k, (first, places, momenta, forces) in enumerate(parts):
            frame = first.copy()
            frame.arrays["positions"][:] = places
            frame.set_array("momenta", momenta, float, (3,))
            fs = round(step * self.ensemble.timestep, 6)
            frame.info |= {"system": k, "step": step, "time_fs": fs}
            frame.calc = SinglePointCalculator(frame, energy=float(self.energies[k]), forces=forces)
            recorder.frame(frame)
            energy = float(self.energies[k])
            recorder.row({
                "step": step, "time_fs": fs, "system": k, "temperature_K": float(hot[k]), "potential_eV": energy,
                "kinetic_eV": float(kinetic[k]), "total_eV": energy + float(kinetic[k]),
            })  # fmt: skip

    def capture(self, step: int) -> dict[str, np.ndarray]:
        return {
            "positions": self.positions.copy(), "momenta": self.momenta.copy(), "step": np.array(step),
            "cell": np.stack([frame.cell[:] for frame in self.frames]),
            "rng": np.array(json.dumps(self.rng.bit_generator.state)),
        }  # fmt: skip

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.positions, self.momenta = state["positions"].copy(), state["momenta"].copy()
        self.rng.bit_generator.state = json.loads(str(state["rng"]))
        self.evaluator.forget()
        self.evaluate()

    def summary(self, folder: Path, steps: int) -> dict[str, float]:
        table = {name: values.reshape(-1, len(self.frames)) for name, values in read_table(folder).items()}
        means = {name: values.mean(1) for name, values in table.items() if name not in ("step", "system")}
        if len(means["time_fs"]) > 1:
            dynamics_picture(folder / "energies.png", means)
        found = {"systems": len(self.frames), "steps": steps}
        late = means["temperature_K"][len(means["temperature_K"]) // 2 :]
        away = float(np.abs(table["total_eV"] - table["total_eV"][0]).max())
        return {
            **found, "mean_temperature_K": float(late.mean()),
            **({"largest_change_meV": 1000 * away} if self.ensemble.kind == "nve" else {}),
        }  # fmt: skip


def _array(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().double().cpu().numpy()
    return found

"""Molecular dynamics by ASE's integrators, which may be killed at any time and goes on bit by bit as if it had not been.

Each stretch of a simulation begins from its saved state, whether the process goes on or another one has been started: the
integrator is made anew, and the calculator forgets. A simulation that was killed and one that was not so compute alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from spheregeo.tasks.inputs import Progress
from spheregeo.tasks.molecules.dynamics.ensembles import Ensemble, begin_momenta, capture, restore
from spheregeo.tasks.molecules.dynamics.models import check_model, forget, knows_stress
from spheregeo.tasks.molecules.dynamics.trajectory import LABELS, Recorder, read_state, read_table
from spheregeo.tasks.pictures.dynamics import dynamics_picture

PICTURE = "energies.png"
LEAP = 1.0  # Å; an atom that moves further in a step has been thrown


class SimulationError(ValueError):
    """A simulation has ended itself: the message says why, where, and what to do."""


@dataclass(frozen=True)
class Plan:
    """How long a simulation runs, what it writes, and when it ends itself.

    Units: K, eV/Å.
    Raises: ValueError for values out of range, with the argument's name.

    Args:
        steps: number of steps, from the beginning.
        every: steps between two frames, and two rows of the table.
        save_every: frames between two saved states, from which a killed simulation goes on.
        max_temperature: temperature at which a simulation ends as having exploded.
        stop_deviation: largest deviation of a committee's forces at which the simulation ends; None for none.
        label_deviation: deviation from which on frames are also written to ``to_label.xyz``; None for none.

    Example:
        >>> Plan(steps=1000).every
        10
    """

    steps: int
    every: int = 10
    save_every: int = 10
    max_temperature: float = 10_000.0
    stop_deviation: float | None = None
    label_deviation: float | None = None

    def __post_init__(self) -> None:
        for name in ("every", "save_every", "max_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive number")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; expected 0 or more")
        for name in ("stop_deviation", "label_deviation"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected a positive number")


def simulate(
    atoms: Atoms,
    ensemble: Ensemble,
    plan: Plan,
    folder: str | Path,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = print,
) -> dict[str, float]:
    """Simulate a system, and write frames, table, picture and states into a folder.

    Args:
        atoms: the system, with its calculator; ends where the simulation ends.
        ensemble: what is held constant.
        plan: how long, and what is written.
        folder: the folder; files of an earlier simulation there are replaced.
        resume: go on from the folder's last state, if there is one.
        tell: what lines for the user go to.

    Returns mean temperature, drift of the conserved energy, and more, by name with units.

    Raises: SimulationError when the atoms fly apart, or a committee differs by more than is allowed; ValueError for a system
        that the model or the ensemble does not take.

    Example:
        >>> import tempfile
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> copper = bulk("Cu", cubic=True).repeat(2)
        >>> copper.calc = EMT()
        >>> found = simulate(copper, Ensemble("nve", timestep=2), Plan(20), tempfile.mkdtemp(), tell=lambda line: None)
        >>> found["steps"]
        20
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_model(atoms)
    stress = knows_stress(atoms)
    ensemble.check(atoms, stress)
    if plan.stop_deviation or plan.label_deviation:
        _need_committee(atoms)
    rng = np.random.Generator(np.random.PCG64([ensemble.seed, 0]))
    state = read_state(folder) if resume else None
    recorder = Recorder(folder, state)
    try:
        if state is None:
            tell(begin_momenta(atoms, ensemble))
            dynamics = ensemble.integrator(atoms, rng)
            _record(atoms, dynamics, recorder, ensemble, plan, stress)
            state = capture(dynamics, atoms, rng)
            recorder.save(state)
        elif state["positions"].shape != atoms.positions.shape:
            raise ValueError(
                f"{folder} holds a simulation of {len(state['positions'])} atoms; the input has {len(atoms)}"
            )
        else:
            tell(f"goes on from step {int(state['step']):,}")
        begin, clock = int(state["step"]), time.perf_counter()
        progress = Progress(plan.steps - begin, "steps")
        stretch = plan.every * plan.save_every
        while (step := int(state["step"])) < plan.steps:
            forget(atoms.calc)
            restore(state, None, atoms, rng)
            dynamics = ensemble.integrator(atoms, rng)
            restore(state, dynamics, atoms, rng)
            until = min((step // stretch + 1) * stretch, plan.steps)
            for now in _steps(dynamics, until, state):
                _watch(atoms, dynamics, plan, step, recorder, stress)
                if now % plan.every == 0:
                    _record(atoms, dynamics, recorder, ensemble, plan, stress)
                progress(now - begin)
            state = capture(dynamics, atoms, rng)
            recorder.save(state)
        seconds = time.perf_counter() - clock
        restore(state, None, atoms, rng)
    finally:
        recorder.close()
        _picture(folder)
    done = plan.steps - begin
    if done > 0:
        per_day = done * ensemble.timestep * 1e-6 / seconds * 86400
        rate = f"{done / seconds:.3g} steps a second, {per_day:.3g} ns a day"
        tell(f"{done:,} steps of {ensemble.timestep:g} fs in {seconds:.1f} s: {rate}")
    return {"steps": int(state["step"]), **summary(folder, ensemble)}


def _steps(dynamics: Any, until: int, state: dict[str, np.ndarray]) -> Iterator[int]:
    """Step by step; a fault of the calculator is told with its step."""
    try:
        if dynamics.nsteps == 0:
            dynamics.atoms.get_forces()
        steps = dynamics.irun(until - dynamics.nsteps)
        next(steps)
        for _ in steps:
            yield dynamics.nsteps
    except (ValueError, FloatingPointError, ZeroDivisionError) as error:
        if isinstance(error, SimulationError):
            raise
        raise SimulationError(
            f"step {dynamics.nsteps + 1}: the model cannot go on: {error}; step {int(state['step'])} is saved"
        ) from error


def _watch(atoms: Atoms, dynamics: Any, plan: Plan, saved: int, recorder: Recorder, stress: bool) -> None:
    """End a simulation whose atoms fly apart or whose models disagree. Raises: SimulationError."""
    calculator: Any = atoms.calc
    momenta = atoms.arrays["momenta"]
    speeds = np.sqrt((momenta**2).sum(1)) / atoms.get_masses()  # Å in ASE's unit of time
    leap = speeds * dynamics.dt
    hot = atoms.get_temperature() > plan.max_temperature
    if hot or not leap.max() <= LEAP:
        worst = int(np.argmax(np.where(np.isfinite(speeds), speeds, np.inf)))
        whither = f"{leap[worst]:.3g} Å in a step" if np.isfinite(leap[worst]) else "to no finite place"
        raise SimulationError(
            f"step {dynamics.nsteps}: the system flies apart, at {atoms.get_temperature():.3g} K; atom {worst} "
            f"({atoms.symbols[worst]}) moves {whither}. Relax the input first, or lower the timestep; step {saved} is saved"
        )
    if plan.stop_deviation is not None:
        apart = calculator.results["forces_deviation"]
        if apart.max() >= plan.stop_deviation:
            worst = int(apart.argmax())
            recorder.frame(_frame(atoms, dynamics, stress), LABELS)
            raise SimulationError(
                f"step {dynamics.nsteps}: the models differ by {apart[worst]:.3g} eV/Å on atom {worst} ({atoms.symbols[worst]}), "
                f"{plan.stop_deviation:g} are allowed; the frame is the last of {recorder.folder / LABELS}, step {saved} is saved"
            )


def _need_committee(atoms: Atoms) -> None:
    calculator: Any = atoms.calc
    if "forces_deviation" not in calculator.results:
        raise ValueError("a largest deviation needs several models, which differ; one is given")


def _frame(atoms: Atoms, dynamics: Any, stress: bool) -> Atoms:
    """A copy of the system with its results, step and time."""
    frame = atoms.copy()
    calculator: Any = atoms.calc
    results: dict[str, Any] = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if stress:
        results["stress"] = atoms.get_stress()
    frame.info |= {"step": dynamics.nsteps, "time_fs": round(dynamics.get_time() / units.fs, 6)}
    if "forces_deviation" in calculator.results:
        frame.set_array("forces_deviation", calculator.results["forces_deviation"])
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def _record(
    atoms: Atoms, dynamics: Any, recorder: Recorder, ensemble: Ensemble, plan: Plan, stress: bool
) -> None:
    """Append a frame and a row."""
    frame = _frame(atoms, dynamics, stress)
    potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
    row = {
        "step": dynamics.nsteps, "time_fs": frame.info["time_fs"], "temperature_K": float(atoms.get_temperature()),
        "potential_eV": potential, "kinetic_eV": kinetic, "total_eV": potential + kinetic,
    }  # fmt: skip
    if ensemble.kind in ("nvt", "npt"):
        row["conserved_eV"] = float(dynamics.get_conserved_energy())
    if stress:
        inner = atoms.get_stress(voigt=False, include_ideal_gas=True)
        row |= {
            "pressure_GPa": float(-np.trace(inner) / 3 / units.GPa),
            "volume_A3": float(atoms.get_volume()),
        }
    calculator: Any = atoms.calc
    apart = calculator.results.get("forces_deviation")
    if apart is not None:
        row["deviation_eV_per_A"] = float(apart.max())
        if plan.label_deviation is not None and apart.max() >= plan.label_deviation:
            recorder.frame(frame, LABELS)
    recorder.frame(frame)
    recorder.row(row)


def summary(folder: str | Path, ensemble: Ensemble) -> dict[str, float]:
    """Return what the table of a simulation says as a whole: means over its second half, and drifts over all of it.

    Args:
        folder: folder of the simulation.
        ensemble: what was held constant.
    """
    table = read_table(Path(folder))
    late = slice(len(table["step"]) // 2, None)
    found = {
        **{f"mean_{name}": float(table[name][late].mean()) for name in table if name.startswith(("temp", "pres", "vol"))},
    }  # fmt: skip
    name = {"nve": "total_eV", "langevin": ""}.get(ensemble.kind, "conserved_eV")
    if name and len(table["step"]) > 1:
        ps = table["time_fs"] / 1000
        slope = np.polyfit(ps - ps.mean(), table[name] - table[name].mean(), 1)[0]
        found |= {"drift_meV_per_ps": 1000 * float(slope), "spread_meV": 1000 * float(table[name].std())}
    return found


def _picture(folder: Path) -> None:
    """Draw the table, if there is one."""
    with _quietly():
        table = read_table(folder)
        if len(table["step"]) > 1:
            dynamics_picture(folder / PICTURE, table)


@contextmanager
def _quietly() -> Iterator[None]:
    """A picture that cannot be drawn hides no other fault."""
    try:
        yield
    except (OSError, ValueError):
        pass

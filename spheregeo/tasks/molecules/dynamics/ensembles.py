"""Integrators of ASE for each ensemble, and all that one of them knows, as numbers that bring it back."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics

ENSEMBLES = ("nve", "langevin", "nvt", "npt")
CELLS = ("isotropic", "full")


@dataclass(frozen=True)
class Ensemble:
    """What a simulation holds constant, and how.

    ``nve`` is velocity Verlet, ``langevin`` a thermostat of friction and noise, ``nvt`` a chain of three Nosé-Hoover thermostats,
    ``npt`` the barostat of Martyna, Tobias and Klein with such chains.

    Units: fs, K, GPa, 1/fs.
    Raises: ValueError for values out of range, with the argument's name.

    Args:
        kind: one of ``ENSEMBLES``.
        timestep: length of a step.
        temperature: of the thermostat.
        pressure: of the barostat.
        friction: of ``langevin``.
        thermostat_time: time scale of the chains of thermostats.
        barostat_time: time scale of the barostat.
        cell: "isotropic" scales the cell, "full" lets all its vectors change.
        seed: of the noise.

    Example:
        >>> Ensemble("langevin", temperature=300).timestep
        0.5
    """

    kind: str = "nve"
    timestep: float = 0.5
    temperature: float = 300.0
    pressure: float = 0.0
    friction: float = 0.01
    thermostat_time: float = 100.0
    barostat_time: float = 1000.0
    cell: str = "isotropic"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ENSEMBLES:
            raise ValueError(f"ensemble is {self.kind!r}; expected one of {', '.join(ENSEMBLES)}")
        if self.cell not in CELLS:
            raise ValueError(f"cell is {self.cell!r}; expected one of {', '.join(CELLS)}")
        for name, value in asdict(self).items():
            if name in ("kind", "cell"):
                continue
            if not np.isfinite(value):
                raise ValueError(f"{name} is {value}; expected a finite number")
            if (value < 0 and name != "pressure") or (
                value == 0 and name in ("timestep", "friction", "thermostat_time", "barostat_time")
            ):
                raise ValueError(f"{name} is {value}; expected a positive number")
        if self.kind in ("nvt", "npt") and self.temperature == 0:
            raise ValueError(f"temperature is 0 with the ensemble {self.kind}; expected a positive number")

    def check(self, atoms: Atoms, stress: bool) -> None:
        """Check that the ensemble fits a system.

        Args:
            atoms: the system.
            stress: whether its stress is known.

        Raises: ValueError where it does not fit.
        """
        if self.kind == "npt" and not stress:
            raise ValueError(
                "the ensemble npt needs the stress of a system that is periodic along three vectors, of a model whose forces "
                f"are the energy's gradient; this one has pbc {atoms.pbc.tolist()}"
            )
        if self.kind in ("nvt", "npt") and atoms.constraints:
            raise ValueError(
                f"some atoms are held in place, which ASE's {self.kind} integrator does not know; choose langevin or nve"
            )

    def integrator(self, atoms: Atoms, rng: np.random.Generator) -> MolecularDynamics:
        """Return ASE's integrator for a system.

        Args:
            atoms: the system, with calculator and momenta.
            rng: source of the noise, which is drawn from.

        Raises: ImportError where ASE is too old to have the integrator.
        """
        step = self.timestep * units.fs
        if self.kind == "nve":
            from ase.md.verlet import VelocityVerlet

            return VelocityVerlet(atoms, step)
        if self.kind == "langevin":
            from ase.md.langevin import Langevin

            # a fixed centre of mass, the former default, samples another ensemble; newer versions do not have it
            whole = {"fixcm": False} if "fixcm" in inspect.signature(Langevin).parameters else {}
            return Langevin(
                atoms,
                step,
                temperature_K=self.temperature,
                friction=self.friction / units.fs,
                rng=rng,
                **whole,
            )
        try:
            from ase.md import nose_hoover_chain as chains
        except ImportError as error:
            raise ImportError(f"the ensemble {self.kind} needs ase 3.26 or newer") from error
        damping = self.thermostat_time * units.fs
        if self.kind == "nvt":
            return chains.NoseHooverChainNVT(atoms, step, temperature_K=self.temperature, tdamp=damping)
        kind = chains.IsotropicMTKNPT if self.cell == "isotropic" else chains.MTKNPT
        return kind(
            atoms, step, temperature_K=self.temperature, pressure_au=self.pressure * units.GPa, tdamp=damping,
            pdamp=self.barostat_time * units.fs,
        )  # fmt: skip


def begin_momenta(atoms: Atoms, ensemble: Ensemble, number: int = 0) -> str:
    """Give a system momenta: those it has, or those of a temperature, without motion of the whole.

    Args:
        atoms: the system, which is changed.
        ensemble: temperature, and seed of the draw.
        number: which of several systems it is; each has a draw of its own.

    Returns a line on where they come from.
    """
    if atoms.has("momenta") and np.any(atoms.get_momenta()):
        atoms.set_momenta(atoms.get_momenta())  # none on atoms that are held in place
        return f"velocities are the input's, {atoms.get_temperature():.0f} K"
    rng = np.random.Generator(np.random.PCG64([ensemble.seed, 1 + number]))
    masses = atoms.get_masses()[:, None]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * ensemble.temperature)
    if not atoms.constraints and len(atoms) > 1:
        whole = masses * momenta.sum(0) / masses.sum()
        before, momenta = momenta, momenta - whole
        momenta *= np.sqrt((before**2 / masses).sum() / max((momenta**2 / masses).sum(), 1e-300))
    atoms.set_momenta(momenta)
    return (
        f"velocities are drawn at {ensemble.temperature:g} K with the seed {ensemble.seed}; this draw has "
        f"{atoms.get_temperature():.0f} K"
    )


def capture(dynamics: MolecularDynamics, atoms: Atoms, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return all that a simulation knows of its state, as arrays by name.

    Args:
        dynamics: the integrator.
        atoms: its system.
        rng: its source of noise.
    """
    found = {
        "positions": atoms.get_positions(), "momenta": atoms.get_momenta(), "cell": np.array(atoms.cell[:]),
        "rng": np.array(json.dumps(rng.bit_generator.state)), "step": np.array(dynamics.nsteps),
    }  # fmt: skip
    for holder, name, value in _inner(dynamics):
        found[f"{holder}.{name}"] = np.array(value)
    return found


def restore(
    state: dict[str, np.ndarray], dynamics: MolecularDynamics | None, atoms: Atoms, rng: np.random.Generator
) -> None:
    """Bring a system, or also its integrator, to a state of :func:`capture`.

    Args:
        state: the state.
        dynamics: the integrator, which must have been made after its system was restored; None for the system alone.
        atoms: the system.
        rng: the source of noise.
    """
    if dynamics is None:
        # in place: setters would let constraints change what they once have constrained
        atoms.arrays["positions"][:] = state["positions"]
        atoms.set_array("momenta", state["momenta"], float, (3,))
        atoms.set_cell(state["cell"])
        rng.bit_generator.state = json.loads(str(state["rng"]))
        return
    dynamics.nsteps = int(state["step"])
    for holder, name, value in _inner(dynamics):
        kept = state[f"{holder}.{name}"]
        owner = dynamics if holder == "dynamics" else getattr(dynamics, holder)
        setattr(owner, name, kept.copy() if isinstance(value, np.ndarray) else float(kept))


def _inner(dynamics: MolecularDynamics) -> list[tuple[str, str, Any]]:
    """The numbers that an integrator, its thermostat and its barostat keep beside the atoms."""
    found = []
    for holder in ("dynamics", "_thermostat", "_barostat"):
        owner = dynamics if holder == "dynamics" else getattr(dynamics, holder, None)
        for name, value in ({} if owner is None else vars(owner)).items():
            numbers = isinstance(value, (float, np.floating)) or (
                isinstance(value, np.ndarray) and value.dtype == np.float64
            )
            if name.startswith("_") and numbers:
                found.append((holder, name, value))
    return found

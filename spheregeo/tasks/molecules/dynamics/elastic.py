"""Elastic constants of a crystal by finite strains, and phonons and vibrations by ASE's finite displacements."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units

from spheregeo.tasks.molecules.dynamics.models import knows_stress

THZ = 1e12 * 2 * np.pi * units._hbar / units._e  # eV of a quantum of 1 THz
PER_CM = 1 / units.invcm  # 1/cm of an eV


class Elasticity(NamedTuple):
    """Elastic constants of a crystal, in GPa.

    Args:
        constants: C_ij = ∂σ_i/∂ε_j (6, 6) in Voigt's order xx, yy, zz, yz, xz, xy, with ε_4 = 2 ε_yz.
        bulk: bulk modulus by Hill's mean of Voigt's and Reuss's.
        shear: shear modulus, likewise.
        stable: whether all strains cost energy.
        pressure: pressure of the crystal as it was given, at which constants depend on which are meant.

    Example:
        >>> Elasticity(np.eye(6), 1.0, 1.0, True, 0.0).stable
        True
    """

    constants: np.ndarray
    bulk: float
    shear: float
    stable: bool
    pressure: float


def elastic_constants(atoms: Atoms, strain: float = 0.005, fmax: float = 1e-3) -> Elasticity:
    """Return the elastic constants of a crystal at rest, by central differences of the stress; atoms follow each strain.

    Args:
        atoms: the crystal, with its calculator; stays as it is.
        strain: of each of the six components, to both sides.
        fmax: largest force on atoms within strained cells, in eV/Å.

    Units: GPa.

    Raises: ValueError for a system without stress, or atoms that find no rest within a strained cell.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> copper = bulk("Cu", a=3.59)
        >>> copper.calc = EMT()
        >>> elastic_constants(copper).stable
        True
    """
    from ase.optimize import BFGS

    if not knows_stress(atoms):
        raise ValueError(
            f"elastic constants need a crystal whose stress is known; pbc is {atoms.pbc.tolist()}"
        )
    if not 0 < strain < 0.1:
        raise ValueError(f"strain is {strain}; expected a number between 0 and 0.1")

    def stress(k: int, size: float) -> np.ndarray:
        bent = atoms.copy()
        bent.calc = atoms.calc
        i, j = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[k]
        e = np.eye(3)
        e[i, j] += size if i == j else size / 2
        e[j, i] = e[i, j]
        bent.set_cell(bent.cell[:] @ e, scale_atoms=True)
        search = BFGS(bent, logfile=None)
        if not search.run(fmax=fmax, steps=500):
            raise ValueError(f"atoms find no rest within a cell strained by {size} in component {k + 1}")
        return np.asarray(bent.get_stress())

    c = np.stack([(stress(k, strain) - stress(k, -strain)) / (2 * strain) for k in range(6)], 1) / units.GPa
    c = (c + c.T) / 2
    stable = bool(np.linalg.eigvalsh(c)[0] > 0)
    voigt = (
        c[:3, :3].sum() / 9,
        (np.trace(c[:3, :3]) - (c[0, 1] + c[0, 2] + c[1, 2]) + 3 * np.trace(c[3:, 3:])) / 15,
    )
    bulk, shear = voigt
    if stable:
        s = np.linalg.inv(c)
        off = s[0, 1] + s[0, 2] + s[1, 2]
        bulk = (voigt[0] + 1 / s[:3, :3].sum()) / 2
        shear = (voigt[1] + 15 / (4 * np.trace(s[:3, :3]) - 4 * off + 3 * np.trace(s[3:, 3:]))) / 2
    pressure = float(-atoms.get_stress()[:3].sum() / 3 / units.GPa)
    return Elasticity(c, float(bulk), float(shear), stable, pressure)


class Bands(NamedTuple):
    """Phonons of a crystal along a path between points of high symmetry, and their density of states.

    Args:
        distance: of each point along the path (K,).
        labels: places of the named points along the path, and their names.
        frequencies: THz (K, 3 n), negative for imaginary ones.
        grid: frequencies of the density of states, THz (G,).
        density: density of states (G,).

    Example:
        >>> Bands(np.zeros(1), ([0.0], ["G"]), np.zeros((1, 3)), np.zeros(2), np.zeros(2)).frequencies.shape
        (1, 3)
    """

    distance: np.ndarray
    labels: tuple[list[float], list[str]]
    frequencies: np.ndarray
    grid: np.ndarray
    density: np.ndarray


def phonons(atoms: Atoms, supercell: int = 3, delta: float = 0.01, points: int = 120) -> Bands:
    """Return the phonons of a crystal at rest, by ASE's finite displacements in a supercell.

    Args:
        atoms: the crystal's cell, best a primitive one, with its calculator; stays as it is.
        supercell: cells along each periodic vector; long enough that an atom does not feel its own image.
        delta: displacement, Å.
        points: points of the path.

    Raises: ValueError for a system that is not periodic.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> copper = bulk("Cu", a=3.59)
        >>> copper.calc = EMT()
        >>> bool(phonons(copper, supercell=2).frequencies.max() > 5)
        True
    """
    from ase.phonons import Phonons

    if not atoms.pbc.any():
        raise ValueError("phonons need a periodic system; a molecule has vibrations")
    if supercell < 1:
        raise ValueError(f"supercell is {supercell}; expected 1 or more")
    cell = atoms.copy()
    cell.set_constraint()
    size = tuple(supercell if periodic else 1 for periodic in atoms.pbc)
    with tempfile.TemporaryDirectory() as folder:
        search = Phonons(cell, atoms.calc, supercell=size, delta=delta, name=str(Path(folder) / "phonons"))
        search.run()
        search.read(acoustic=True)
    path = cell.cell.bandpath(npoints=points, pbc=cell.pbc)
    found = search.get_band_structure(path, verbose=False).energies[0] / THZ
    distance, places, names = path.get_linear_kpoint_axis()
    mesh: Any = tuple(10 if periodic else 1 for periodic in atoms.pbc)
    states = search.get_dos(kpts=mesh, verbose=False)
    low, high = 1.1 * min(found.min(), 0.0) * THZ, 1.1 * max(found.max(), 1e-3) * THZ
    density = states.sample_grid(400, xmin=low, xmax=high, width=0.01 * high)
    met: dict[float, str] = {}  # where the path jumps, two points have one place
    for place, name in zip(map(float, places), names):
        met[place] = name if met.get(place, name) == name else f"{met[place]}|{name}"
    named = (list(met), list(met.values()))
    return Bands(distance, named, found, density.get_energies() / THZ, density.get_weights() * THZ)


def vibrations(atoms: Atoms, delta: float = 0.01) -> np.ndarray:
    """Return the frequencies in 1/cm of a molecule at rest, by ASE's finite displacements; negative ones are imaginary.

    Six of them, five of a linear molecule, are translations and rotations, and near 0.

    Args:
        atoms: the molecule, with its calculator; stays as it is. Atoms that are held in place do not vibrate.
        delta: displacement, Å.

    Example:
        >>> from ase import Atoms
        >>> from ase.calculators.emt import EMT
        >>> nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.0]], calculator=EMT())
        >>> vibrations(nitrogen).shape
        (6,)
    """
    from ase.vibrations import Vibrations

    still = atoms.copy()
    still.calc = atoms.calc
    held = {int(k) for c in atoms.constraints for k in getattr(c, "index", ())}
    free = [k for k in range(len(atoms)) if k not in held]
    with tempfile.TemporaryDirectory() as folder:
        search = Vibrations(still, indices=free, delta=delta, name=str(Path(folder) / "vibrations"))
        search.run()
        energies = search.get_vibrations().get_energies()
    return np.asarray((energies.real - np.abs(energies.imag)) * PER_CM)

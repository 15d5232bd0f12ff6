"""Molecules that need no download: the G2 set of ASE with measured energies, and metal clusters with forces.

References: Curtiss, Raghavachari, Redfern & Pople 1997, doi:10.1063/1.473182 (G2); Jacobsen, Stoltze & Nørskov 1996,
doi:10.1016/0039-6028(96)00816-3 (effective-medium theory, computed by ASE).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spheregeo.data.molecules.molecules import Molecules, symbol

# target: (unit, additive over atoms)
G2_TARGETS: dict[str, tuple[str, bool]] = {
    "atomization_energy": ("kcal/mol", True),
    "zpve": ("kcal/mol", True),
    "thermal_correction": ("kcal/mol", True),
    "ionization_energy": ("eV", False),
    "nuclear_repulsion": ("Ha", True),
}
METALS = (29, 47, 79)  # Cu, Ag, Au


def nuclear_repulsion(numbers: np.ndarray, positions: np.ndarray) -> float:
    """Coulomb energy Σ_{i<j} Z_i Z_j / r_ij of the nuclei, in hartree, positions in Å."""
    from ase.units import create_units

    bohr = create_units("2018")["Bohr"]
    i, j = np.triu_indices(len(numbers), 1)
    distance = np.linalg.norm(positions[i] - positions[j], axis=-1) / bohr
    return float((numbers[i] * numbers[j] / distance).sum())


def _atomization(data: Any, name: str, symbols: Any) -> float:
    """Energy to part a molecule into atoms, nuclei at rest: heats of formation brought to 0 K, zero-point energy taken out."""
    molecule = data[name]
    atoms = sum(data[a]["enthalpy"] - data[a]["thermal correction"] for a in symbols)
    return float(atoms - molecule["enthalpy"] + molecule["thermal correction"] + molecule["ZPE"])


def g2_molecules() -> Molecules:
    """The 148 molecules of the G2 set (free atoms left out), as ASE holds them.

    Targets: ``atomization_energy`` (electronic, from measured heats of formation), ``zpve`` and ``thermal_correction`` in
    kcal/mol, ``ionization_energy`` in eV (measured; NaN where unknown), ``nuclear_repulsion`` in hartree (computed here).
    """
    from ase.collections import g2
    from ase.data import g2 as tables

    data: dict[str, Any] = tables.data
    names = [name for name in g2.names if len(g2[name]) > 1]
    atoms = [g2[name] for name in names]
    ionization = [
        data[name].get("vertical ionization energy", data[name].get("ionization energy", np.nan))
        for name in names
    ]
    values = {
        "atomization_energy": [_atomization(data, name, a.symbols) for name, a in zip(names, atoms)],
        "zpve": [data[name]["ZPE"] for name in names],
        "thermal_correction": [data[name]["thermal correction"] for name in names],
        "ionization_energy": ionization,
        "nuclear_repulsion": [nuclear_repulsion(a.numbers, a.positions) for a in atoms],
    }
    units = {name: unit for name, (unit, _) in G2_TARGETS.items()}
    return Molecules.of(
        [a.numbers for a in atoms], [a.positions for a in atoms], values, units, names=tuple(names)
    )


def packed(count: int, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """A compact cluster: the points of an fcc lattice nearest to a random centre, turned and shaken."""
    grid = np.arange(-3, 4)
    cells = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(-1, 3)
    corner = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    points = (cells[:, None] + corner).reshape(-1, 3) * spacing * np.sqrt(2)
    centre = rng.uniform(0, 1, 3) * spacing
    chosen = points[np.argsort(((points - centre) ** 2).sum(1), kind="stable")[:count]]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return (chosen - chosen.mean(0)) @ turn


def metal_clusters(
    count: int, sizes: tuple[int, int] = (4, 13), seed: int = 0, shake: float = 0.15, spacing: float = 2.7
) -> Molecules:
    """Shaken clusters of copper, silver and gold with energies and forces of effective-medium theory, by ASE.

    Args:
        count: number of clusters.
        sizes: fewest and most atoms.
        seed: of the clusters; cluster k depends on (seed, k) alone.
        shake: standard deviation of the atoms' displacements, Å.
        spacing: distance of neighbours before shaking, Å.
    """
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1 cluster")
    if not 1 <= sizes[0] <= sizes[1] <= 200:
        raise ValueError(f"sizes are {tuple(sizes)}; expected fewest and most atoms, 1 to 200")
    from ase import Atoms
    from ase.calculators.emt import EMT

    numbers, positions, energy, forces = [], [], [], []
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        z = rng.choice(METALS, size)
        p = packed(size, spacing, rng) + shake * rng.normal(size=(size, 3))
        cluster = Atoms(z, p, calculator=EMT())
        numbers.append(z)
        positions.append(p)
        energy.append(cluster.get_potential_energy())
        forces.append(cluster.get_forces())
    return Molecules.of(numbers, positions, energy=energy, forces=forces)


def metal_references() -> dict[int, float]:
    """Energy in eV of each metal's free atom in effective-medium theory."""
    from ase import Atoms
    from ase.calculators.emt import EMT

    return {z: float(Atoms(symbol(z), calculator=EMT()).get_potential_energy()) for z in METALS}

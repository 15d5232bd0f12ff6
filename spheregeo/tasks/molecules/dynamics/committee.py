"""Several models as one ASE calculator: their mean, and how far they differ, which tells where none is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


class CommitteeCalculator(Calculator):
    """Mean energy, forces and stress of several calculators, with the spread of the members.

    ``results`` also has ``energy_deviation``, the members' standard deviation of the energy, and ``forces_deviation`` (n,), for
    each atom √(mean over members of |F_k - F|²), where F is the mean. The mean of conservative forces is conservative.

    Units: eV, eV/Å, eV/Å³, as the members.
    Equivariance: that of the members.
    Raises: ValueError for less than two members.

    Args:
        members: calculators, such as models of one recipe trained with several seeds.
        options: as ASE's Calculator.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.lj import LennardJones
        >>> committee = CommitteeCalculator([LennardJones(epsilon=e, sigma=2.3, rc=5.0) for e in (0.9, 1.1)])
        >>> atoms = bulk("Cu").repeat(2)
        >>> atoms.calc = committee
        >>> energy = atoms.get_potential_energy()
        >>> round(committee.results["energy_deviation"] / abs(energy), 6)
        0.1
    """

    def __init__(self, members: Sequence[Calculator], **options: Any) -> None:
        super().__init__(**options)
        if len(members) < 2:
            raise ValueError(f"members has {len(members)}; expected two or more")
        self.members = list(members)
        shared = [set(member.implemented_properties) for member in members]
        self.implemented_properties = sorted(
            set.intersection(*shared) & {"energy", "free_energy", "forces", "stress"}
        )

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results`` for the atoms; see ASE's Calculator."""
        wanted = list(properties or ["energy"])
        super().calculate(atoms, wanted, system_changes)
        system: Any = self.atoms
        for member in self.members:
            for name in wanted:
                member.get_property(name, system)
        asked = [name for name in ("energy", "forces", "stress") if name in {*wanted, "energy", "forces"}]
        found = {
            name: np.array([member.get_property(name, system) for member in self.members]) for name in asked
        }
        self.results = {name: values.mean(0) for name, values in found.items()}
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])
        self.results["energy_deviation"] = float(found["energy"].std())
        apart = found["forces"] - self.results["forces"]
        self.results["forces_deviation"] = np.sqrt((apart**2).sum(2).mean(0))

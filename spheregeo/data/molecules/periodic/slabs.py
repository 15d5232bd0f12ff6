"""Adsorbates on slabs of fcc metals, relaxed under effective-medium theory by ASE.

Reference: Jacobsen, Stoltze & Nørskov 1996, doi:10.1016/0039-6028(96)00816-3 (the potential; its H, C, N and O are only roughly
fitted, so that the relaxations are those of a real, smooth many-body potential, though of no quantum chemistry).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METALS = ("Cu", "Pd", "Ag")
ADSORBATES = ("H", "C", "N", "O")
FACETS = ("fcc111", "fcc100")
SURFACE, ADSORBATE = 1, 2  # tags, as the Open Catalyst sets have them; 0 lies below the surface


@dataclass(frozen=True)
class SlabRecipe:
    """What slabs are made of.

    Args:
        metals: symbols of fcc metals: Al, Ni, Cu, Pd, Ag, Pt, Au.
        adsorbates: symbols of single atoms: H, C, N, O.
        facets: "fcc111", "fcc100" or "fcc110".
        size: atoms along the two vectors of the surface, and layers; the lowest layer is held in place.
        vacuum: empty space above and below, Å.
        shake: standard deviation of the free atoms' displacements at the start, Å.
        strain: the surface's two vectors are strained by up to that share, each at random.
        fmax: a relaxation ends when no force on a free atom is larger, eV/Å.
        steps: most steps of a relaxation.
    """

    metals: tuple[str, ...] = METALS
    adsorbates: tuple[str, ...] = ADSORBATES
    facets: tuple[str, ...] = FACETS
    size: tuple[int, int, int] = (2, 2, 3)
    vacuum: float = 6.0
    shake: float = 0.1
    strain: float = 0.02
    fmax: float = 0.02
    steps: int = 100

    def __post_init__(self) -> None:
        known = {
            "metals": ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"), "adsorbates": ADSORBATES,
            "facets": ("fcc111", "fcc100", "fcc110"),
        }  # fmt: skip
        for name, allowed in known.items():
            given = getattr(self, name)
            if not given or not set(given) <= set(allowed):
                raise ValueError(f"{name} is {list(given)}; expected some of {', '.join(allowed)}")
        if len(self.size) != 3 or min(self.size) < 1 or self.size[2] < 2:
            raise ValueError(
                f"size is {self.size}; expected numbers of atoms along both vectors and at least 2 layers"
            )
        for name in ("vacuum", "fmax"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive number")
        if not (0 <= self.strain < 0.2 and 0 <= self.shake < 0.5 and self.steps >= 1):
            raise ValueError(
                f"strain is {self.strain}, shake {self.shake}, steps {self.steps}; expected 0 to 0.2, 0 to 0.5 and at least 1"
            )


def fcc_slab(recipe: SlabRecipe, rng: np.random.Generator) -> tuple[Any, str]:
    """A slab with an adsorbate at a random place above it, not relaxed, as ASE's Atoms, and what it is called.

    Args:
        recipe: what it is made of.
        rng: of metal, facet, adsorbate, place, strain and displacements.
    """
    from ase import build
    from ase.constraints import FixAtoms

    metal, adsorbate, facet = (
        str(rng.choice(options)) for options in (recipe.metals, recipe.adsorbates, recipe.facets)
    )
    slab = getattr(build, facet)(metal, recipe.size, vacuum=recipe.vacuum)
    layers, vectors = slab.get_tags(), slab.cell[:].copy()
    vectors[:2] *= 1 + recipe.strain * rng.uniform(-1, 1, (2, 1))
    slab.set_cell(vectors, scale_atoms=True)
    place = rng.uniform(0, 1, 2) @ vectors[:2, :2]
    build.add_adsorbate(slab, adsorbate, float(rng.uniform(1.4, 1.9)), position=tuple(place))
    slab.info.clear()  # places of adsorbates by name, which extended XYZ cannot keep
    lowest = np.append(layers == layers.max(), False)
    tags = np.append(np.where(layers == 1, SURFACE, 0), ADSORBATE)
    slab.set_tags(tags)
    slab.set_constraint(FixAtoms(mask=lowest))
    slab.positions[~lowest] += recipe.shake * rng.normal(size=(int((~lowest).sum()), 3))
    return slab, f"{adsorbate} on {metal}({facet[3:]})"


def relax_slab(slab: Any, fmax: float, steps: int) -> list[Any]:
    """The path of a relaxation by BFGS: copies of the slab with energy, forces on all atoms and stress, first to last.

    Args:
        slab: ASE's Atoms with a calculator.
        fmax: largest force on a free atom at the end, eV/Å.
        steps: most steps.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.optimize import BFGS

    path: list[Any] = []

    def keep() -> None:
        frame = slab.copy()
        frame.calc = SinglePointCalculator(
            frame, energy=slab.get_potential_energy(), forces=slab.get_forces(apply_constraint=False),
            stress=slab.get_stress(),
        )  # fmt: skip
        path.append(frame)

    search = BFGS(slab, logfile=None)
    search.attach(keep)
    search.run(fmax=fmax, steps=steps)
    return path


def relaxed_slabs(
    numbers: Sequence[int],
    recipe: SlabRecipe,
    frames: int,
    seed: int,
    adsorption: bool = False,
    progress: Callable[[Sequence[int]], Any] = lambda numbers: numbers,
) -> tuple[list[Any], list[str], list[int]]:
    """Frames of relaxations under effective-medium theory: ASE's Atoms, what each is called, and the system of each.

    System k depends on (seed, k) alone.

    Args:
        numbers: the systems.
        recipe: what they are made of.
        frames: frames of each relaxation from its first to its last, denser at the beginning, where forces are large.
        seed: of the systems.
        adsorption: energies are counted from the relaxed slab alone and the free adsorbate, in place of EMT's zero.
        progress: called with the numbers and iterated over, to show how far it is.
    """
    from ase import Atoms
    from ase.calculators.emt import EMT

    found: list[Any] = []
    names: list[str] = []
    systems: list[int] = []
    for k in progress(numbers):
        slab, name = fcc_slab(recipe, np.random.default_rng([seed, k]))
        zero = 0.0
        if adsorption:
            bare = slab[slab.get_tags() != ADSORBATE]
            bare.calc = EMT()
            zero = relax_slab(bare, recipe.fmax, recipe.steps)[-1].get_potential_energy()
            zero += Atoms(slab[-1].symbol, calculator=EMT()).get_potential_energy()
        slab.calc = EMT()
        path = relax_slab(slab, recipe.fmax, recipe.steps)
        for at in _chosen(len(path), frames):
            path[at].calc.results["energy"] -= zero
            found.append(path[at])
            names.append(f"{k}: {name}, step {at}")
            systems.append(k)
    return found, names, systems


def _chosen(steps: int, frames: int) -> list[int]:
    found: list[int] = np.unique(
        (np.linspace(0, 1, frames) ** 1.5 * (steps - 1)).round().astype(int)
    ).tolist()
    return found

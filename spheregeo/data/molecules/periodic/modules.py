"""Data module of generated slabs with adsorbates, and of their relaxations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.molecules.files import from_frames, read_extxyz, without_atoms
from spheregeo.data.molecules.module import MoleculeData, Split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.periodic import slabs
from spheregeo.data.molecules.periodic.slabs import ADSORBATES, FACETS, METALS, SlabRecipe, relaxed_slabs
from spheregeo.files import atomic_path

__all__ = ["SlabsData"]

ENERGIES = ("total", "adsorption")
_KEPT: dict[str, tuple[Molecules, Tensor]] = {}  # in this process, by everything they depend on


class SlabsData(MoleculeData):
    """Generated adsorbates on fcc slabs, relaxed under effective-medium theory: energies, forces, stresses, tags; no download.

    Splits are of systems: no frame of a test relaxation trains.

    Args:
        train: number of training relaxations.
        val: number of validation relaxations.
        test: number of test relaxations.
        frames: frames of each from its first to its last, denser at the beginning.
        metals: fcc metals of the slabs: Al, Ni, Cu, Pd, Ag, Pt, Au.
        adsorbates: single atoms above them: H, C, N, O.
        facets: surfaces: fcc111, fcc100, fcc110.
        size: atoms along the two vectors of a surface, and layers, the lowest of which is held in place.
        energy: "total" counts from effective-medium theory's zero, free atoms being known; "adsorption" from the relaxed slab
            alone and the free adsorbate, as the Open Catalyst sets do (with ``--model.references none``).
        strain: a surface's vectors are strained by up to that share at random.
        cache_dir: folder that keeps relaxations as files for later runs, by everything they depend on; this process alone if
            None.
        batch_size: frames in a batch.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the systems.

    Units: Å, eV, eV/Å, eV/Å³.
    Raises: ValueError for numbers that are too small, unknown metals, adsorbates, surfaces or energies.

    Example:
        >>> from spheregeo.data import SlabsData
        >>> data = SlabsData(train=1, val=1, test=1, frames=2, size=(1, 1, 2))
        >>> sorted(next(iter(data.train_dataloader())))
        ['batch', 'cell', 'energy', 'fixed', 'forces', 'index', 'numbers', 'pbc', 'positions', 'stress', 'tags']
    """

    def __init__(
        self,
        train: int = 60,
        val: int = 8,
        test: int = 20,
        frames: int = 8,
        metals: Sequence[str] = METALS,
        adsorbates: Sequence[str] = ADSORBATES,
        facets: Sequence[str] = FACETS,
        size: tuple[int, int, int] = (2, 2, 3),
        energy: str = "total",
        strain: float = 0.02,
        cache_dir: str | None = None,
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1), frames=(frames, 2))
        if energy not in ENERGIES:
            raise ValueError(f"energy is {energy!r}; expected one of {', '.join(ENERGIES)}")
        self.parts = {"test": test, "val": val, "train": train}
        self.frames, self.energy, self.cache_dir = frames, energy, cache_dir
        self.recipe = SlabRecipe(
            tuple(metals), tuple(adsorbates), tuple(facets), (size[0], size[1], size[2]), strain=strain
        )

    @property
    def systems(self) -> Tensor:
        """Number of the system of each frame, (N,)."""
        return self._made()[1]

    def read(self) -> Molecules:
        return self._made()[0]

    def _made(self) -> tuple[Molecules, Tensor]:
        count = sum(self.parts.values())
        source = hashlib.sha256(Path(slabs.__file__).read_bytes()).hexdigest()
        told = repr((count, self.frames, self.energy, self.recipe, self.seed, source))
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        if key not in _KEPT:
            path = None if self.cache_dir is None else Path(self.cache_dir) / f"slabs-{key}.xyz"
            _KEPT[key] = self._stored(path) or self._computed(count, path)
        return _KEPT[key]

    def _stored(self, path: Path | None) -> tuple[Molecules, Tensor] | None:
        if path is None or not path.is_file():
            return None
        from spheregeo.data.molecules.frames import read_frames

        frames = read_frames(path)
        return _joined(frames, [str(f.info["name"]) for f in frames], [int(f.info["system"]) for f in frames])

    def _computed(self, count: int, path: Path | None) -> tuple[Molecules, Tensor]:
        from tqdm import tqdm

        def shown(numbers: Sequence[int]) -> Any:
            return tqdm(numbers, desc="relaxing slabs", unit=" slabs", disable=None)

        adsorption = self.energy == "adsorption"
        frames, names, systems = relaxed_slabs(
            range(count), self.recipe, self.frames, self.seed, adsorption, shown
        )
        if path is not None:
            from ase.io import write

            for frame, name, system in zip(frames, names, systems, strict=True):
                frame.info |= {"name": name, "system": system}
            with atomic_path(path) as temporary:
                write(temporary, frames, format="extxyz")
        return _joined(frames, names, systems)

    def read_file(self, root: str) -> Molecules:
        """Read the systems of extended XYZ files with energies in eV, for a test of their own."""
        return without_atoms(read_extxyz(root, forces=True), root)

    def split(self, source: Molecules) -> Split:
        ends = torch.tensor(list(self.parts.values())).cumsum(0)
        of = torch.bucketize(self.systems, ends, right=True)
        return {name: (of == k).nonzero()[:, 0] for k, name in enumerate(self.parts)}

    def relaxations(self, split: str) -> list[tuple[int, int]]:
        """Return where each relaxation of a split begins and ends, as numbers within ``molecules(split)``.

        Args:
            split: "train", "val" or "test".
        """
        if split == "test" and self.test_root is not None:
            return []
        index = self.molecules(split).index
        assert index is not None
        of = self.systems[index]
        return [(int(at[0]), int(at[-1])) for k in of.unique() for at in [(of == k).nonzero()[:, 0]]]

    @property
    def isolated(self) -> dict[int, float] | None:
        if self.energy != "total":
            return None
        from ase import Atoms
        from ase.calculators.emt import EMT
        from ase.data import atomic_numbers

        known = (*self.recipe.metals, *self.recipe.adsorbates)
        return {
            int(atomic_numbers[name]): float(Atoms(name, calculator=EMT()).get_potential_energy())
            for name in known
        }


def _joined(frames: Sequence[Any], names: Sequence[str], systems: Sequence[int]) -> tuple[Molecules, Tensor]:
    return from_frames(frames, names=names, forces=True), torch.tensor(systems)

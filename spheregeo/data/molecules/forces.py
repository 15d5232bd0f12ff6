"""Data modules of energies and forces: trajectories, and generated metal clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.molecules.built_in import metal_clusters, metal_references
from spheregeo.data.molecules.files import isolated_atoms, read_extxyz, xyz_files
from spheregeo.data.molecules.module import MoleculeData, Split, random_split
from spheregeo.data.molecules.molecules import Molecules

__all__ = ["ClustersData", "ForcesData"]


class ForcesData(MoleculeData):
    """Energies and forces from extended XYZ files: trajectories, relaxations, molecules or crystals.

    Args:
        root: an extended XYZ file or a folder of them; frames of one atom are taken as free atoms, not for training.
        test_root: a file of its own for the test, where frames of one atom are left out; some of root's frames if None.
        isolated: a file with free atoms; those among root's frames if None.
        energy_key: the energies' key in the files; the usual names are tried if None.
        forces_key: the forces' key; the usual names are tried if None.
        energy_unit: unit of the energies.
        forces_unit: unit of the forces; that of the energies per Å if None.
        train: training frames; 0 for all that are left.
        val: validation frames.
        test: test frames, unless test_root is given.
        batch_size: frames in a batch.
        eval_batch_size: frames in a batch of validation and test.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: eV and eV/Å in batches, whatever the files have.
    Raises: FileNotFoundError without the files; ValueError for missing energies or forces, or frames that train and test.
    """

    def __init__(
        self,
        root: str,
        test_root: str | None = None,
        isolated: str | None = None,
        energy_key: str | None = None,
        forces_key: str | None = None,
        energy_unit: str = "eV",
        forces_unit: str | None = None,
        train: int = 0,
        val: int = 50,
        test: int = 200,
        batch_size: int = 10,
        *,
        eval_batch_size: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, **kwargs)
        check_least(train=(train, 0), val=(val, 1), test=(test, 0 if test_root else 1))
        self.root, self.test_root, self.isolated_file = root, test_root, isolated
        self.energy_key, self.energy_unit = energy_key, energy_unit
        self._options: dict[str, Any] = {
            "forces": True, "energy_key": energy_key, "forces_key": forces_key, "energy_unit": energy_unit,
            "forces_unit": forces_unit,
        }  # fmt: skip
        self.train, self.val, self.test = train, val, test
        self._free: dict[int, float] = {}

    def read(self) -> Molecules:
        if self.test_root is not None:
            files, test_files = ({p.resolve() for p in xyz_files(r)} for r in (self.root, self.test_root))
            shared = files & test_files
            if shared:
                raise ValueError(
                    f"{min(shared)} is in root and in test_root; expected frames for the test that do not train"
                )
        found = read_extxyz(self.root, **self._options)
        assert found.energy is not None
        alone = found.counts == 1
        for k in alone.nonzero()[:, 0].tolist():
            self._free[int(found.numbers[found.ptr[k]])] = float(found.energy[k])
        if bool(alone.all()):
            raise ValueError(
                f"{self.root} holds free atoms only; expected molecules with energies and forces"
            )
        found = replace(found.select((~alone).nonzero()[:, 0]), index=torch.arange(int((~alone).sum())))
        self._count = len(found)
        if self.test_root is None:
            return found
        test = read_extxyz(self.test_root, **self._options)
        bound = (test.counts > 1).nonzero()[:, 0]
        if not len(bound):
            raise ValueError(f"{self.test_root} holds free atoms only; expected molecules for the test")
        return joined(found, test.select(bound))

    def split(self, source: Molecules) -> Split:
        if self.test_root is None:
            return random_split(len(source), self.val, self.test, self.seed, self.train)
        parts = random_split(self._count, self.val, 0, self.seed, self.train)
        return {**parts, "test": torch.arange(self._count, len(source))}

    @property
    def isolated(self) -> dict[int, float] | None:
        if self.isolated_file is not None:
            return isolated_atoms(self.isolated_file, self.energy_key, self.energy_unit)
        self.source  # noqa: B018 - reads the free atoms too
        return self._free or None


def joined(first: Molecules, second: Molecules) -> Molecules:
    """Two sets with energies and forces as one, neither of which is periodic or both are."""
    if (first.pbc is None) != (second.pbc is None):
        raise ValueError("one of the files is periodic and the other is not; expected both or none")

    def both(name: str) -> Tensor | None:
        a, b = getattr(first, name), getattr(second, name)
        return None if a is None or b is None else torch.cat([a, b])

    return Molecules(
        torch.cat([first.numbers, second.numbers]),
        torch.cat([first.positions, second.positions]),
        torch.cat([first.ptr, second.ptr[1:] + first.ptr[-1]]),
        energy=both("energy"), forces=both("forces"), cell=both("cell"), pbc=both("pbc"),
    )  # fmt: skip


class ClustersData(MoleculeData):
    """Generated clusters of copper, silver and gold with forces of effective-medium theory: no download.

    Args:
        train: number of training clusters.
        val: number of validation clusters.
        test: number of test clusters.
        sizes: fewest and most atoms of a cluster.
        shake: standard deviation of the atoms' displacements, Å.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the clusters.

    Raises: ValueError for numbers that are too small.

    Example:
        >>> from spheregeo.data import ClustersData
        >>> data = ClustersData(train=2, val=1, test=1, sizes=(3, 4))
        >>> sorted(next(iter(data.train_dataloader())))
        ['batch', 'energy', 'forces', 'index', 'numbers', 'positions']
    """

    def __init__(
        self,
        train: int = 300,
        val: int = 40,
        test: int = 60,
        sizes: tuple[int, int] = (4, 13),
        shake: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.parts = {"test": test, "val": val, "train": train}
        self.sizes, self.shake = tuple(sizes), shake

    def read(self) -> Molecules:
        return metal_clusters(sum(self.parts.values()), self.sizes, self.seed, self.shake)  # type: ignore[arg-type]

    def split(self, source: Molecules) -> Split:
        parts = torch.arange(len(source)).split(list(self.parts.values()))
        return dict(zip(self.parts, parts))

    @property
    def isolated(self) -> dict[int, float] | None:
        return metal_references()

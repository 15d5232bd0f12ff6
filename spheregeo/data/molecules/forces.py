"""Data modules of energies and forces: trajectories, and generated metal clusters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from spheregeo.checks import check_least
from spheregeo.data.molecules.built_in import metal_clusters, metal_references
from spheregeo.data.molecules.files import energies_of_atoms, isolated_atoms, read_extxyz, without_atoms
from spheregeo.data.molecules.groups import grouped_split
from spheregeo.data.molecules.module import MoleculeData, Split, random_split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.periodic.databases import has_databases, read_ase_db
from spheregeo.data.molecules.replay import with_replayed

__all__ = ["ClustersData", "ForcesData"]

DEFAULT = "Default"  # name of all other types among config_weights


class ForcesData(MoleculeData):
    """Energies, forces and stresses from extended XYZ files or ASE databases: trajectories, relaxations, molecules or crystals.

    Frames without forces train and are scored by their energies alone.

    Args:
        root: an extended XYZ file, an ASE database (.db) or a folder of either; frames of one atom, alone or farther than 6 Å
            from its images, are taken as free atoms, not for training.
        test_root: a file of its own for the test, where frames of free atoms are left out; some of root's frames if None.
        isolated: a file with free atoms; those among root's frames if None.
        energy_key: the energies' key in the files; the usual names are tried if None, and have to agree.
        forces_key: the forces' key; the usual names are tried if None, and have to agree.
        energy_unit: unit of the energies.
        forces_unit: unit of the forces; that of the energies per Å if None.
        stress_key: the stresses' or virials' key; the usual names are tried if None, and have to agree. A virial is -V σ.
        stress_unit: unit of the stresses (GPa, kbar, ...); that of the energies per Å^3 if None.
        stress_sign: 1 where stresses are negative under pressure, as ASE has them; -1 for the opposite.
        split_by: what frames stay together when data are split: "auto", "frame", "block:N" for N frames in turn, or a key of the
            frames, such as config_type or source; see :func:`~spheregeo.data.molecules.groups.group_frames`.
        config_weights: weight in the loss of the frames of each ``config_type``, such as {bulk: 1, dimer: 0.1, Default: 1}, times
            the frames' own ``config_weight``.
        replay: a file with frames of an earlier training, which are mixed into this one's, as a training that starts from a
            checkpoint (--init) needs them to forget nothing; their energies count from the checkpoint's free atoms.
        replay_share: share of the frames of an epoch that are replayed ones.
        train: training frames; 0 for all that are left.
        val: validation frames.
        test: test frames, unless test_root is given.
        batch_size: frames in a batch.
        eval_batch_size: frames in a batch of validation and test.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: eV, eV/Å and eV/Å³ in batches, whatever the files have.
    Raises: FileNotFoundError without the files; ValueError for missing energies, energies or forces that two keys give
        differently, free atoms with two energies, or frames that train and test.
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
        stress_key: str | None = None,
        stress_unit: str | None = None,
        stress_sign: int = 1,
        split_by: str = "auto",
        config_weights: dict[str, float] | None = None,
        replay: str | None = None,
        replay_share: float = 0.5,
        eval_batch_size: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, test_root=test_root, **kwargs
        )
        check_least(train=(train, 0), val=(val, 1), test=(test, 0 if test_root else 1))
        self.root, self.isolated_file = root, isolated
        self.energy_key, self.energy_unit = energy_key, energy_unit
        self._options: dict[str, Any] = {
            "forces": True, "energy_key": energy_key, "forces_key": forces_key, "energy_unit": energy_unit,
            "forces_unit": forces_unit, "stress_key": stress_key, "stress_unit": stress_unit, "stress_sign": stress_sign,
        }  # fmt: skip
        if stress_sign not in (1, -1):
            raise ValueError(f"stress_sign is {stress_sign}; expected 1, as ASE has it, or -1")
        for name, weight in (config_weights or {}).items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"config_weights gives {name!r} the weight {weight}; expected 0 or more")
        self.split_by, self.config_weights = split_by, config_weights
        if not 0 < replay_share < 1:
            raise ValueError(
                f"replay_share is {replay_share}; expected a share of the frames between 0 and 1"
            )
        self.replay, self.replay_share = replay, replay_share
        self._told: dict[str, str] = {}
        self.train, self.val, self.test = train, val, test
        self._free: dict[int, float] = {}

    def read(self) -> Molecules:
        found = self._read(self.root, self._told)
        self._free = energies_of_atoms(found)
        _tell(_labels_line(self.root, self._told, self._options))
        return self._weighted(without_atoms(found, self.root))

    def _read(self, root: str, told: dict[str, str]) -> Molecules:
        read = read_ase_db if has_databases(root) else read_extxyz
        return read(root, split_by=self.split_by, told=told, **self._options)

    def _weighted(self, molecules: Molecules) -> Molecules:
        """The molecules with the weights of their types. Raises: ValueError for a type that no molecule has."""
        given = self.config_weights
        if not given:
            return molecules
        unknown = [name for name in given if name not in (*molecules.type_names, DEFAULT)]
        if unknown or molecules.types is None:
            raise ValueError(
                f"config_weights names {', '.join(unknown or given)}, but the frames have the config_type "
                f"{', '.join(molecules.type_names) or 'none'}"
            )
        table = torch.tensor(
            [given.get(n, given.get(DEFAULT, 1.0)) for n in molecules.type_names], dtype=torch.float64
        )
        own = 1.0 if molecules.weights is None else molecules.weights
        return replace(molecules, weights=(table[molecules.types][:, None] * own).expand(-1, 3).contiguous())

    def read_file(self, root: str, keep_atoms: bool = False) -> Molecules:
        """Read the molecules of a file or a folder.

        Args:
            root: an extended XYZ file, an ASE database, or a folder of either.
            keep_atoms: whether frames of one free atom are among them.
        """
        found = self._read(root, {})
        return found if keep_atoms else without_atoms(found, root)

    def split(self, source: Molecules) -> Split:
        test = self.held_out(self.test)
        alone = source.groups is None or len(source.groups.unique()) == len(source)
        if alone:
            found = random_split(len(source), self.val, test, self.seed, self.train)
        else:
            assert source.groups is not None
            found = grouped_split(source.groups, self.val, test, self.seed, self.train)
        sizes = ", ".join(f"{len(found[part])} {part}" for part in ("train", "val", "test"))
        _tell(f"split {self._told.get('split', 'by frame')}: {sizes}")
        return found

    def molecules(self, split: str) -> Molecules:
        if split != "train" or self.replay is None or split in self._parts:
            return super().molecules(split)
        own = super().molecules(split)
        self._parts[split] = with_replayed(
            own, self.read_file(self.replay), self.replay_share, self.seed, len(self.source)
        )
        more = len(self._parts[split]) - len(own)
        _tell(f"{more} frames of {self.replay} are replayed beside {len(own)}")
        return self._parts[split]

    @property
    def isolated(self) -> dict[int, float] | None:
        if self.isolated_file is not None:
            return isolated_atoms(self.isolated_file, self.energy_key, self.energy_unit)
        self.source  # noqa: B018 - reads the free atoms too
        return self._free or None


@rank_zero_only
def _tell(line: str) -> None:
    print(line, flush=True)


def _labels_line(root: str, told: dict[str, str], options: dict[str, Any]) -> str:
    """One line that says which key was read as what, in which unit, and which names that look like labels were not read."""
    energy = options["energy_unit"]
    units = {
        "energy": energy,
        "forces": options["forces_unit"] or f"{energy}/Å",
        "stress": options["stress_unit"] or f"{energy}/Å^3",
    }
    parts = []
    for what, per in units.items():
        key = told.get(what)
        if key is None:
            parts.append(f"no {what}")
            continue
        virial = what == "stress" and "virial" in key.lower()
        if virial and options["stress_unit"] is None:
            per = energy
        parts.append(f"{what} from {key!r} [{per}]{' as -V times it' if virial else ''}")
    rest = told.get("not used")
    return f"labels of {root}: {', '.join(parts)}{f'; not used: {rest}' if rest else ''}"


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

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of extended XYZ files with energies in eV, for a test of their own."""
        return without_atoms(read_extxyz(root, forces=True), root)

    def split(self, source: Molecules) -> Split:
        parts = torch.arange(len(source)).split(list(self.parts.values()))
        return dict(zip(self.parts, parts))

    @property
    def isolated(self) -> dict[int, float] | None:
        return metal_references()

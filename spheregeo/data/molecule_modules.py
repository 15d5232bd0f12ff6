"""Lightning data modules of molecules: everything in memory, a batch is one gather, shuffled by (seed, epoch) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spheregeo.data.base import EpochSampler, check_split
from spheregeo.data.built_in_molecules import G2_TARGETS, g2_molecules, metal_clusters, metal_references
from spheregeo.data.labelled import check_counts
from spheregeo.data.molecule_files import isolated_atoms, read_extxyz, read_sdf_csv
from spheregeo.data.molecules import MAX_NUMBER, Batch, Molecules
from spheregeo.data.qm7 import read_qm7
from spheregeo.data.qm9 import PROPERTIES, atom_references, check_targets, official_split, read_qm9
from spheregeo.data.units import unit

Split = dict[str, Tensor]
COMMON = 8  # molecules in which an element must occur to be held out


class MoleculeSet(Dataset[Batch]):
    """Molecules as a dataset whose items are whole batches: ``__getitems__`` gathers them in one step."""

    def __init__(self, molecules: Molecules, targets: Sequence[str]) -> None:
        self.molecules, self.targets = molecules, tuple(targets)

    def __len__(self) -> int:
        return len(self.molecules)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[Any]) -> Batch:
        plain = [k[1] if isinstance(k, tuple) else k for k in indices]  # EpochSampler says (epoch, index)
        return self.molecules.batch(plain, self.targets)


def _whole(batch: Any) -> Any:
    return batch


def random_split(count: int, val: int, test: int, seed: int, train: int = 0) -> Split:
    """A permutation of ``count`` numbers by seed, cut into test, val and train, in this order; ``train`` 0 takes the rest.

    Test and validation do not depend on the size of the training part: learning curves are comparable.

    Raises: ValueError when there are not enough.
    """
    rest = count - val - test
    if rest < max(train, 1):
        raise ValueError(
            f"{count} molecules cannot be split into {train or 'some'} for training, {val} for validation and {test} for the test"
        )
    order = torch.from_numpy(np.random.RandomState(seed).permutation(count).astype(np.int64))
    return {
        "test": order[:test],
        "val": order[test : test + val],
        "train": order[test + val : test + val + (train or rest)],
    }


class MoleculeData(LightningDataModule):
    """What all data modules of molecules share; subclasses read the source and split it.

    Args:
        batch_size: molecules in a batch.
        train_size: how many of the training molecules are used, the first of the split; 0 for all. For learning curves.
        seed: of the order, and of splits that are random.
        eval_batch_size: molecules in a batch of validation and test; as in training if 0.
    """

    def __init__(self, batch_size: int, train_size: int, seed: int, eval_batch_size: int = 0) -> None:
        super().__init__()
        check_counts(
            batch_size=(batch_size, 1), train_size=(train_size, 0), seed=(seed, 0), eval_batch_size=(eval_batch_size, 0)
        )  # fmt: skip
        self.batch_size, self.train_size, self.seed = batch_size, train_size, seed
        self.eval_batch_size = eval_batch_size or batch_size
        self._parts: dict[str, Molecules] = {}

    @abstractmethod
    def read(self) -> Molecules:
        """All molecules of the source."""

    @abstractmethod
    def split(self, source: Molecules) -> Split:
        """Numbers of the molecules that train, validate and test."""

    @cached_property
    def source(self) -> Molecules:
        """All molecules of the source, read once."""
        return self.read()

    @cached_property
    def _split(self) -> Split:
        found = self.split(self.source)
        if self.train_size > len(found["train"]):
            raise ValueError(
                f"train_size is {self.train_size} but there are {len(found['train'])} training molecules; expected at most that"
            )
        if self.train_size:
            found = {**found, "train": found["train"][: self.train_size]}
        return found

    def molecules(self, split: str) -> Molecules:
        """The molecules of a split."""
        if split not in self._parts:
            self._parts[check_split(split)] = self.source.select(self._split[split])
        return self._parts[split]

    @property
    def targets(self) -> list[str]:
        """Names of the targets, in the order of the batches' columns."""
        return list(self.source.targets)

    @property
    def units(self) -> list[str]:
        """The targets' units."""
        return [self.source.units[name] for name in self.targets]

    @property
    def additive(self) -> list[str]:
        """The targets that add up over atoms, up to a rest that is worth learning."""
        return []

    def atom_references(self, target: str) -> Tensor | None:
        """Values of free atoms (119,) in the target's unit, where the data know them."""
        return None

    @property
    def isolated(self) -> dict[int, float] | None:
        """Energies in eV of free atoms, where the data know them."""
        return None

    def _loader(self, split: str, size: int, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            MoleculeSet(self.molecules(split), self.targets), size, collate_fn=_whole, **options
        )

    def train_dataloader(self) -> DataLoader[Any]:
        data = MoleculeSet(self.molecules("train"), self.targets)
        return DataLoader(
            data, self.batch_size, collate_fn=_whole, sampler=EpochSampler(data, shuffle=True, seed=self.seed)
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test", self.eval_batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {"targets": self.targets, "units": self.units}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore. Raises: ValueError if the checkpoint knew other targets or units."""
        for name, value in self.state_dict().items():
            if value != state_dict[name]:
                raise ValueError(
                    f"the checkpoint was trained with {name} {state_dict[name]} but the data have {value}; "
                    "resume with the data it began with"
                )


def pick(molecules: Molecules, targets: Sequence[str], units: dict[str, str] | None) -> Molecules:
    """The molecules with the named targets alone, some in other units. Raises: ValueError for an unknown one."""
    from dataclasses import replace

    for name in targets:
        if name not in molecules.targets:
            raise ValueError(f"target {name!r} is none of the data's: {', '.join(molecules.targets)}")
    for name in units or {}:
        if name not in targets:
            raise ValueError(f"units name {name!r}, but the targets are {', '.join(targets)}")
    chosen = replace(molecules, targets={name: molecules.targets[name] for name in targets})
    return chosen.in_units(units or {})


class G2Data(MoleculeData):
    """The 148 molecules of the G2 set, with measured energies: built in, no download.

    Molecules with an element that few of them have (Li, Be, B, Na, Al) always train.

    Args:
        targets: some of atomization_energy, zpve, thermal_correction, ionization_energy, nuclear_repulsion.
        units: unit of a target by name, such as {atomization_energy: eV}; kcal/mol (ionization_energy in eV) otherwise.
        val: number of validation molecules.
        test: number of test molecules.
        batch_size: molecules in a batch.
        train_size: how many training molecules are used; 0 for all.
        seed: of the split and of the order.
    """

    def __init__(
        self,
        targets: list[str] = ["atomization_energy", "zpve"],  # noqa: B006
        units: dict[str, str] | None = None,
        val: int = 20,
        test: int = 28,
        batch_size: int = 10,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed)
        check_counts(val=(val, 1), test=(test, 1))
        self._targets, self._units, self.val, self.test = list(targets), units, val, test

    def read(self) -> Molecules:
        return pick(g2_molecules(), self._targets, self._units)

    def split(self, source: Molecules) -> Split:
        # Of elements in few molecules nothing could be learnt if those were held out: they train.
        owner = torch.repeat_interleave(torch.arange(len(source)), source.counts)
        has = torch.zeros(len(source), MAX_NUMBER + 1, dtype=torch.bool)
        has[owner, source.numbers] = True
        rare = (has & (has.sum(0) < COMMON)).any(1)
        common = (~rare).nonzero()[:, 0]
        parts = {k: common[v] for k, v in random_split(len(common), self.val, self.test, self.seed).items()}
        return {**parts, "train": torch.cat([parts["train"], rare.nonzero()[:, 0]])}

    @property
    def additive(self) -> list[str]:
        return [name for name in self.targets if G2_TARGETS[name][1]]


class QM7Data(MoleculeData):
    """QM7: atomisation energies of 7,165 molecules.

    Args:
        root: folder or file with QM7, see datasets/qm7/README.md.
        targets: names of the energies; energy_pbe0 is the usual one.
        units: unit of a target by name; kcal/mol otherwise.
        fold: which of the five official folds is the test, 0 to 4 (qm7.mat only); a random split by seed if None.
        train: training molecules of a random split; 0 for all that are left.
        val: validation molecules, taken from the training folds.
        test: test molecules of a random split; what train and val leave if 0.
        batch_size: molecules in a batch.
        train_size: how many training molecules are used; 0 for all.
        seed: of the split and of the order.
    """

    def __init__(
        self,
        root: str,
        targets: list[str] = ["energy_pbe0"],  # noqa: B006
        units: dict[str, str] | None = None,
        fold: int | None = None,
        train: int = 5000,
        val: int = 100,
        test: int = 0,
        batch_size: int = 32,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed, eval_batch_size=100)
        check_counts(train=(train, 0), val=(val, 1), test=(test, 0))
        if fold is not None and not 0 <= fold < 5:
            raise ValueError(f"fold is {fold}; expected 0 to 4, or none for a random split")
        self.root, self._targets, self._units, self.fold = root, list(targets), units, fold
        self.train, self.val, self.test = train, val, test
        self._folds: list[Tensor] | None = None

    def read(self) -> Molecules:
        found, self._folds = read_qm7(self.root)
        return pick(found, self._targets, self._units)

    def split(self, source: Molecules) -> Split:
        if self.fold is None:
            test = self.test or len(source) - self.train - self.val
            if test < 1:
                raise ValueError(
                    f"{len(source)} molecules leave none for the test; lower train ({self.train}) or val ({self.val})"
                )
            return random_split(len(source), self.val, test, self.seed, self.train)
        if self._folds is None:
            raise ValueError(f"fold is {self.fold} but {self.root} holds no folds; they are in qm7.mat")
        rest = torch.cat([part for k, part in enumerate(self._folds) if k != self.fold])
        rest = rest[torch.from_numpy(np.random.RandomState(self.seed).permutation(len(rest)))]
        return {"test": self._folds[self.fold], "val": rest[: self.val], "train": rest[self.val :]}

    @property
    def additive(self) -> list[str]:
        return self.targets


class QM9Data(MoleculeData):
    """QM9, or a part of it such as one stoichiometry: thirteen properties of small organic molecules.

    Args:
        root: folder or file with QM9, see datasets/qm9/README.md.
        targets: some of mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G, Cv.
        units: unit of a target by name; eV for energies otherwise, D, a0^3, a0^2, cal/mol/K.
        official: "A" (100,000 / 17,748 / 13,083) or "B" (110,000 / 10,000 / 10,831) of the whole set; a random split if None.
        train: training molecules of a random split; 0 for all that are left.
        val: validation molecules of a random split.
        test: test molecules of a random split; what train and val leave if 0 and train is given.
        batch_size: molecules in a batch.
        train_size: how many training molecules are used; 0 for all.
        seed: of a random split and of the order.
    """

    def __init__(
        self,
        root: str,
        targets: list[str] = ["U0"],  # noqa: B006
        units: dict[str, str] | None = None,
        official: str | None = "B",
        train: int = 0,
        val: int = 100,
        test: int = 0,
        batch_size: int = 32,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed, eval_batch_size=128)
        check_counts(train=(train, 0), val=(val, 1), test=(test, 0))
        if official not in (None, "A", "B"):
            raise ValueError(f"official is {official!r}; expected A, B, or none for a random split")
        if official is None and not (train or test):
            raise ValueError("train and test are 0; expected one of them, or both, for a random split")
        self.root, self._targets, self._units, self.official = (
            root,
            list(targets),
            dict(units or {}),
            official,
        )
        self.train, self.val, self.test = train, val, test
        self._whole = False

    def read(self) -> Molecules:
        found, self._whole = read_qm9(self.root, self._targets)
        wanted = check_targets(self._targets, self._units)
        return pick(found, self._targets, {**wanted, **self._units})

    def split(self, source: Molecules) -> Split:
        if self.official is not None:
            if not self._whole:
                raise ValueError(
                    f"{self.root} holds {len(source)} molecules, but split {self.official} is of the 130,831 of QM9; "
                    "set --data.official null, --data.train and --data.val for a random split"
                )
            return official_split(self.official)
        test = self.test or len(source) - self.train - self.val
        if test < 1:
            raise ValueError(f"{len(source)} molecules leave none for the test; lower train or val")
        return random_split(len(source), self.val, test, self.seed, self.train)

    @property
    def additive(self) -> list[str]:
        return [name for name in self.targets if PROPERTIES[name][3]]

    def atom_references(self, target: str) -> Tensor | None:
        return atom_references(target, self.source.units[target])


class _Shares(MoleculeData):
    """Modules whose split is by shares, or by a file for each part."""

    val_share: float
    test_share: float

    def _set_shares(self, val: float, test: float) -> None:
        if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
            raise ValueError(
                f"val_share is {val} and test_share {test}; expected shares between 0 and 1 that leave some for training"
            )
        self.val_share, self.test_share = val, test

    def split(self, source: Molecules) -> Split:
        count = len(source)
        val, test = (max(1, round(share * count)) for share in (self.val_share, self.test_share))
        return random_split(count, val, test, self.seed)


class ExtXYZData(_Shares):
    """Your own molecules or crystals as extended XYZ, with any properties of theirs as targets.

    Args:
        root: an extended XYZ file or a folder of them.
        targets: unit of each target by name, such as {gap: eV, mu: D}.
        columns: the key in the file of a target whose name differs, such as {r2: <R2>}.
        units: the unit that a target is wanted in, where it is not the file's.
        additive: names of the targets that add up over atoms.
        val_share: share of the molecules that validate.
        test_share: share of the molecules for the test.
        batch_size: molecules in a batch.
        train_size: how many training molecules are used; 0 for all.
        seed: of the split and of the order.
    """

    def __init__(
        self,
        root: str,
        targets: dict[str, str],
        columns: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        additive: list[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 16,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed)
        if not targets:
            raise ValueError("targets is empty; expected names with their units, such as {gap: eV}")
        self._set_shares(val_share, test_share)
        self.root, self._targets, self._columns = root, {k: unit(u) for k, u in targets.items()}, columns
        self._units, self._additive = units, _known(additive or [], list(targets))

    def read(self) -> Molecules:
        found = read_extxyz(self.root, targets=self._targets, columns=self._columns)
        return pick(found, list(self._targets), self._units)

    @property
    def additive(self) -> list[str]:
        return self._additive


class SDFData(_Shares):
    """Your own molecules as one SDF file (V2000) with a CSV table of their properties, row k for molecule k.

    Args:
        root: the SDF file.
        table: the CSV table, with a head line; the SDF file's name with .csv if None.
        targets: unit of each target by name.
        columns: the table's column of a target whose name differs.
        units: the unit that a target is wanted in, where it is not the table's.
        additive: names of the targets that add up over atoms.
        val_share: share of the molecules that validate.
        test_share: share of the molecules for the test.
        batch_size: molecules in a batch.
        train_size: how many training molecules are used; 0 for all.
        seed: of the split and of the order.
    """

    def __init__(
        self,
        root: str,
        targets: dict[str, str],
        table: str | None = None,
        columns: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        additive: list[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 16,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed)
        if not targets:
            raise ValueError("targets is empty; expected names with their units, such as {gap: eV}")
        self._set_shares(val_share, test_share)
        self.root, self.table = root, table or f"{root.removesuffix('.sdf')}.csv"
        self._targets, self._columns = {k: unit(u) for k, u in targets.items()}, columns
        self._units, self._additive = units, _known(additive or [], list(targets))

    def read(self) -> Molecules:
        return pick(
            read_sdf_csv(self.root, self.table, self._targets, self._columns),
            list(self._targets),
            self._units,
        )

    @property
    def additive(self) -> list[str]:
        return self._additive


def _known(names: list[str], targets: list[str]) -> list[str]:
    for name in names:
        if name not in targets:
            raise ValueError(f"additive names {name!r}, but the targets are {', '.join(targets)}")
    return names


class ForcesData(MoleculeData):
    """Energies and forces from extended XYZ files: trajectories, relaxations, molecules or crystals.

    Args:
        root: an extended XYZ file or a folder of them; frames of one atom are taken as free atoms, not for training.
        test_root: a file of its own for the test; some of root's frames if None.
        isolated: a file with free atoms; those among root's frames if None.
        energy_key: the energies' key in the files; the usual names are tried if None.
        forces_key: the forces' key; the usual names are tried if None.
        energy_unit: unit of the energies.
        forces_unit: unit of the forces; that of the energies per Å if None.
        train: training frames; 0 for all that are left.
        val: validation frames.
        test: test frames, unless test_root is given.
        batch_size: frames in a batch.
        train_size: how many training frames are used; 0 for all.
        seed: of the split and of the order.
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
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed, eval_batch_size=50)
        check_counts(train=(train, 0), val=(val, 1), test=(test, 0 if test_root else 1))
        self.root, self.test_root, self.isolated_file = root, test_root, isolated
        self.energy_key, self.energy_unit = energy_key, energy_unit
        self._options: dict[str, Any] = {
            "forces": True, "energy_key": energy_key, "forces_key": forces_key, "energy_unit": energy_unit,
            "forces_unit": forces_unit,
        }  # fmt: skip
        self.train, self.val, self.test = train, val, test
        self._free: dict[int, float] = {}

    def read(self) -> Molecules:
        from dataclasses import replace

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
        return joined(found, read_extxyz(self.test_root, **self._options))

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
        batch_size: clusters in a batch.
        train_size: how many training clusters are used; 0 for all.
        seed: of the clusters and of the order.
    """

    def __init__(
        self,
        train: int = 300,
        val: int = 40,
        test: int = 60,
        sizes: tuple[int, int] = (4, 13),
        shake: float = 0.1,
        batch_size: int = 10,
        train_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_size, seed)
        check_counts(train=(train, 1), val=(val, 1), test=(test, 1))
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

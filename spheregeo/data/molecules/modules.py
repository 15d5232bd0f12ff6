"""Data modules of published sets of molecules: G2, QM7, QM9."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.molecules.built_in import G2_TARGETS, g2_molecules
from spheregeo.data.molecules.files import read_extxyz
from spheregeo.data.molecules.module import MoleculeData, Split, check_names, pick, random_split
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules
from spheregeo.data.molecules.qm7 import read_qm7
from spheregeo.data.molecules.qm9 import PROPERTIES, atom_references, check_targets, official_split, read_qm9

__all__ = ["G2Data", "QM7Data", "QM9Data"]

COMMON = 8  # molecules in which an element must occur to be held out


class G2Data(MoleculeData):
    """The 148 molecules of the G2 set, with measured energies: built in, no download.

    Molecules with an element that few of them have (Li, Be, B, Na, Al) always train.

    Args:
        targets: some of atomization_energy, zpve, thermal_correction, ionization_energy, nuclear_repulsion.
        units: unit of a target by name, such as {atomization_energy: eV}; kcal/mol (ionization_energy in eV) otherwise. Units of
            targets that are not chosen are kept for a run that chooses them.
        val: number of validation molecules.
        test: number of test molecules.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: targets in kcal/mol (ionization_energy in eV) unless ``units`` has others; positions in Å.
    Raises: ValueError for unknown targets or units, or numbers that are too small.

    Example:
        >>> from spheregeo.data import G2Data
        >>> data = G2Data(targets=["zpve"], units={"zpve": "eV"})
        >>> data.targets, data.units, len(data.molecules("test"))
        (['zpve'], ['eV'], 28)
    """

    target_names = tuple(G2_TARGETS)

    def __init__(
        self,
        targets: list[str] = ["atomization_energy", "zpve"],  # noqa: B006
        units: dict[str, str] | None = None,
        val: int = 20,
        test: int = 28,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(val=(val, 1), test=(test, 1))
        check_names(targets, units or {}, list(G2_TARGETS))
        self._targets, self._units, self.val, self.test = list(targets), units, val, test

    def read(self) -> Molecules:
        return pick(g2_molecules(), self._targets, self._units)

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of extended XYZ files with the targets by their names, in the units of the set."""
        found = read_extxyz(root, targets={name: G2_TARGETS[name][0] for name in self._targets})
        return pick(found, self._targets, self._units)

    def split(self, source: Molecules) -> Split:
        # Of elements in few molecules nothing could be learnt if those were held out: they train.
        owner = torch.repeat_interleave(torch.arange(len(source)), source.counts)
        has = torch.zeros(len(source), MAX_NUMBER + 1, dtype=torch.bool)
        has[owner, source.numbers] = True
        rare = (has & (has.sum(0) < COMMON)).any(1)
        common = (~rare).nonzero()[:, 0]
        parts = {
            k: common[v]
            for k, v in random_split(len(common), self.val, self.held_out(self.test), self.seed).items()
        }
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
        eval_batch_size: molecules in a batch of validation and test.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: energies in kcal/mol unless ``units`` has others; positions in Å.
    Raises: ValueError for unknown targets, units or folds; FileNotFoundError without the files, when a split is first read.
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
        *,
        eval_batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, **kwargs)
        check_least(train=(train, 0), val=(val, 1), test=(test, 0))
        if fold is not None and not 0 <= fold < 5:
            raise ValueError(f"fold is {fold}; expected 0 to 4, or none for a random split")
        self.root, self._targets, self._units, self.fold = root, list(targets), units, fold
        self.train, self.val, self.test = train, val, test
        self._folds: list[Tensor] | None = None

    def read(self) -> Molecules:
        found, self._folds = read_qm7(self.root)
        return pick(found, self._targets, self._units)

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of another folder or file with QM7's layout."""
        return pick(read_qm7(root)[0], self._targets, self._units)

    def split(self, source: Molecules) -> Split:
        if self.fold is None:
            test = self.held_out(self.test or len(source) - self.train - self.val)
            if test < 1 and self.test_root is None:
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
    """QM9, or a part of it such as one stoichiometry: twelve properties of small organic molecules.

    Args:
        root: folder or file with QM9, see datasets/qm9/README.md.
        targets: some of mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G, Cv.
        units: unit of a target by name; eV for energies otherwise, D, a0^3, a0^2, cal/mol/K.
        official: "A" (100,000 / 17,748 / 13,083) or "B" (110,000 / 10,000 / 10,831) of the whole set; or "random".
        train: training molecules of a random split; 0 for all that are left.
        val: validation molecules of a random split.
        test: test molecules of a random split; what train and val leave if 0 and train is given.
        batch_size: molecules in a batch.
        eval_batch_size: molecules in a batch of validation and test.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of a random split.

    Units: eV for energies unless ``units`` has others, D, a0^3, a0^2, cal/mol/K; positions in Å.
    Raises: ValueError for unknown targets or units, or a split that the files do not hold; FileNotFoundError without the files.
    """

    target_names = tuple(PROPERTIES)

    def __init__(
        self,
        root: str,
        targets: list[str] = ["U0"],  # noqa: B006
        units: dict[str, str] | None = None,
        official: str = "B",
        train: int = 0,
        val: int = 100,
        test: int = 0,
        batch_size: int = 32,
        *,
        eval_batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, **kwargs)
        check_least(train=(train, 0), val=(val, 1), test=(test, 0))
        if official not in ("A", "B", "random"):
            raise ValueError(f"official is {official!r}; expected A, B or random")
        if official == "random" and not (train or test):
            raise ValueError("train and test are 0; expected one of them, or both, for a random split")
        check_names(targets, units or {}, list(PROPERTIES))
        self.root, self.official = root, official
        self._targets, self._units = list(targets), dict(units or {})
        self.train, self.val, self.test = train, val, test
        self._whole = False

    def read(self) -> Molecules:
        found, self._whole = read_qm9(self.root, self._targets)
        return self._picked(found)

    def _picked(self, found: Molecules) -> Molecules:
        wanted = check_targets(self._targets, self._units)
        return pick(found, self._targets, {k: self._units.get(k, unit) for k, unit in wanted.items()})

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of another folder or file with one of QM9's layouts."""
        return self._picked(read_qm9(root, self._targets)[0])

    def split(self, source: Molecules) -> Split:
        if self.official != "random":
            if not self._whole:
                raise ValueError(
                    f"{self.root} holds {len(source)} molecules, but split {self.official} is of the 130,831 of QM9; "
                    "set --data.official random, --data.train and --data.val"
                )
            return official_split(self.official)
        test = self.held_out(self.test or len(source) - self.train - self.val)
        if test < 1 and self.test_root is None:
            raise ValueError(f"{len(source)} molecules leave none for the test; lower train or val")
        return random_split(len(source), self.val, test, self.seed, self.train)

    @property
    def additive(self) -> list[str]:
        return [name for name in self.targets if PROPERTIES[name][3]]

    def atom_references(self, target: str) -> Tensor | None:
        return atom_references(target, self.source.units[target])

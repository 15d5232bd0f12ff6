"""Data modules of your own molecules with properties: extended XYZ, SDF with a table."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from spheregeo.data.molecules.files import read_extxyz
from spheregeo.data.molecules.module import MoleculeData, Split, pick, random_split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.tables import read_sdf_csv
from spheregeo.data.molecules.units import unit

__all__ = ["ExtXYZData", "SDFData"]


class _OwnData(MoleculeData):
    """Base class of the modules of a user's own files, split by shares.

    Args:
        root: the file, or a folder of files.
        targets: unit of each target by name, such as {gap: eV, mu: D}.
        columns: the file's name of a target where it differs, such as {r2: <R2>}.
        units: the unit that a target is wanted in, where it is not the file's.
        additive: names of the targets that add up over atoms.
        val_share: share of the molecules that validate.
        test_share: share of the molecules for the test.
        batch_size: molecules in a batch.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Raises: ValueError for no targets, an unknown unit or name, or shares that leave nothing to train on.
    """

    def __init__(
        self,
        root: str,
        targets: dict[str, str],
        *,
        columns: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        additive: list[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if not targets:
            raise ValueError("targets is empty; expected names with their units, such as {gap: eV}")
        for name in additive or []:
            if name not in targets:
                raise ValueError(f"additive names {name!r}, but the targets are {', '.join(targets)}")
        if not (0 < val_share < 1 and 0 < test_share < 1 and val_share + test_share < 1):
            raise ValueError(
                f"val_share is {val_share} and test_share {test_share}; expected shares between 0 and 1 that leave some for "
                "training"
            )
        self.root, self.val_share, self.test_share = root, val_share, test_share
        self._targets, self._columns = {k: unit(u) for k, u in targets.items()}, columns
        self._units, self._additive = units, additive or []

    @abstractmethod
    def read_files(self) -> Molecules:
        """Read all molecules with their targets in the units of the files."""

    def read(self) -> Molecules:
        return pick(self.read_files(), list(self._targets), self._units)

    def split(self, source: Molecules) -> Split:
        count = len(source)
        val, test = (max(1, round(share * count)) for share in (self.val_share, self.test_share))
        return random_split(count, val, test, self.seed)

    @property
    def additive(self) -> list[str]:
        return self._additive


class ExtXYZData(_OwnData):
    """Your own molecules or crystals as extended XYZ, with any of their properties as targets.

    Args:
        root: an extended XYZ file or a folder of them.
        targets: unit of each target by name, such as {gap: eV, mu: D}.
        **kwargs: ``columns``, the key in the file of a target whose name differs, such as {r2: <R2>}; ``units``, ``additive``,
            ``val_share`` and ``test_share`` as for :class:`SDFData`; and the arguments of :class:`MoleculeData`. The split
            uses ``seed`` too.

    Units: those of ``spheregeo/data/molecules/units.py``.
    Raises: ValueError for no targets, an unknown unit or name, or shares that leave nothing to train on.
    """

    def __init__(self, root: str, targets: dict[str, str], **kwargs: Any) -> None:
        super().__init__(root, targets, **kwargs)

    def read_files(self) -> Molecules:
        return read_extxyz(self.root, targets=self._targets, columns=self._columns)


class SDFData(_OwnData):
    """Your own molecules as one SDF file (V2000) with a CSV table of their properties, row k for molecule k.

    Args:
        root: the SDF file.
        targets: unit of each target by name, such as {gap: eV, mu: D}.
        table: the CSV table, with a head line; the SDF file's name with .csv if None.
        **kwargs: ``columns``, the table's column of a target whose name differs; ``units``, the unit that a target is wanted in
            where it is not the table's; ``additive``, names of the targets that add up over atoms; ``val_share`` and
            ``test_share``, shares of the molecules (0.1 each); and the arguments of :class:`MoleculeData`, of which ``seed`` is
            also that of the split.

    Units: those of ``spheregeo/data/molecules/units.py``.
    Raises: ValueError for no targets, an unknown unit or name, or shares that leave nothing to train on.
    """

    def __init__(self, root: str, targets: dict[str, str], table: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, targets, **kwargs)
        self.table = table or f"{root.removesuffix('.sdf')}.csv"

    def read_files(self) -> Molecules:
        return read_sdf_csv(self.root, self.table, self._targets, self._columns)

"""Data modules of your own molecules with properties: extended XYZ, SDF with a table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spheregeo.data.molecules.files import read_extxyz, read_frames, xyz_files
from spheregeo.data.molecules.keys import keys_of
from spheregeo.data.molecules.module import MoleculeData, Split, pick, random_split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.tables import read_sdf_csv, read_table
from spheregeo.data.molecules.units import unit, unit_in_name

__all__ = ["ExtXYZData", "SDFData"]


class _OwnData(MoleculeData):
    """Base class of the modules of a user's own files, split by shares.

    Args:
        root: the file, or a folder of files.
        targets: unit of each target by name, such as {gap: eV, mu: D}; or names alone, such as [gap], where the file's names tell
            units (gap_eV, "gap [eV]") or the numbers have none.
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
        targets: dict[str, str] | list[str],
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
        # A name alone may tell its unit; one that tells none may still be told by the file's columns.
        self._bare = (
            set() if isinstance(targets, dict) else {n for n in targets if unit_in_name(n)[1] is None}
        )
        if not isinstance(targets, dict):
            targets = {name: unit_in_name(name)[1] or "1" for name in targets}
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
    def read_files(self, root: str) -> Molecules:
        """Read all molecules of a file or folder with their targets in the units of the files."""

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of another file or folder like the root."""
        return pick(self.read_files(root), list(self._targets), self._units)

    def read(self) -> Molecules:
        return self.read_file(self.root)

    def named(self, known: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Units of the targets, and their columns, where names alone were given and the file's names tell the units.

        Args:
            known: names in the file.
        """
        units, columns = dict(self._targets), dict(self._columns or {})
        quantities = {unit_in_name(name)[0]: name for name in known}
        for name in self._bare:
            column = columns.get(name, name)
            if column not in known and column in quantities:
                columns[name] = column = quantities[column]
            units[name] = unit_in_name(column)[1] or "1"
        return units, columns

    def split(self, source: Molecules) -> Split:
        count = len(source)
        val, test = (max(1, round(share * count)) for share in (self.val_share, self.test_share))
        return random_split(count, val, self.held_out(test), self.seed)

    @property
    def additive(self) -> list[str]:
        return self._additive


class ExtXYZData(_OwnData):
    """Your own molecules or crystals as extended XYZ, with any of their properties as targets.

    Args:
        root: an extended XYZ file or a folder of them.
        targets: unit of each target by name, such as {gap: eV, mu: D}; or names alone. A target may be a number of the molecule,
            a vector (dipole) or a number of each atom (charges): the file tells.
        **kwargs: ``columns``, the key in the file of a target whose name differs, such as {r2: <R2>}; ``units``, ``additive``,
            ``val_share`` and ``test_share`` as for :class:`SDFData`; and the arguments of :class:`MoleculeData`. The split
            uses ``seed`` too.

    Units: those of ``spheregeo/data/molecules/units.py``.
    Raises: ValueError for no targets, an unknown unit or name, or shares that leave nothing to train on.
    """

    def __init__(self, root: str, targets: dict[str, str] | list[str], **kwargs: Any) -> None:
        super().__init__(root, targets, **kwargs)

    def read_files(self, root: str) -> Molecules:
        units, columns = self._targets, self._columns
        if self._bare:
            units, columns = self.named(keys_of(read_frames(xyz_files(root)[0])[0]))
        return read_extxyz(root, targets=units, columns=columns)


class SDFData(_OwnData):
    """Your own molecules as one SDF file (V2000 or V3000) with a CSV table of their properties, row k for molecule k.

    Args:
        root: the SDF file.
        targets: unit of each target by name, such as {gap: eV, mu: D}; or names alone, where the table's names tell units.
        table: the CSV table, with a head line; the SDF file's name with .csv if None.
        test_table: the CSV table of ``test_root``; that file's name with .csv if None.
        **kwargs: ``columns``, the table's column of a target whose name differs; ``units``, the unit that a target is wanted in
            where it is not the table's; ``additive``, names of the targets that add up over atoms; ``val_share`` and
            ``test_share``, shares of the molecules (0.1 each); and the arguments of :class:`MoleculeData`, of which ``seed`` is
            also that of the split.

    Units: those of ``spheregeo/data/molecules/units.py``.
    Raises: ValueError for no targets, an unknown unit or name, or shares that leave nothing to train on.
    """

    def __init__(
        self,
        root: str,
        targets: dict[str, str] | list[str],
        table: str | None = None,
        test_table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, targets, **kwargs)
        self.table, self.test_table = table, test_table

    def read_files(self, root: str) -> Molecules:
        given = self.table if root == self.root else self.test_table
        table = given or str(Path(root).with_suffix(".csv"))
        units, columns = self.named(read_table(table)) if self._bare else (self._targets, self._columns)
        return read_sdf_csv(root, table, units, columns)

"""Lightning data modules of your own molecules with properties: extended XYZ, SDF with a table."""

from __future__ import annotations

from spheregeo.data.molecules.files import read_extxyz
from spheregeo.data.molecules.module import MoleculeData, Split, pick, random_split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.tables import read_sdf_csv
from spheregeo.data.molecules.units import unit


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

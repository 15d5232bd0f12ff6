"""A folder of sky maps and the skies behind them: observed/NAME.fits, truth/NAME.fits, and optionally masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import Item, check_split
from spheregeo.data.sky.files import find_mask, read_sky_map, read_sky_mask
from spheregeo.data.sky.maps import SkyMap, is_unstated, temperature
from spheregeo.data.sky.module import SkyData
from spheregeo.data.splits import split_by_group
from spheregeo.grids import HEALPix

__all__ = ["SkyFolder", "SkyFolderData"]


class SkyFolder(Dataset[Item]):
    """Maps of a folder with the skies that a network has to find, all in µK on one HEALPix grid in ring order.

    Args:
        root: folder with observed/NAME.fits (a column for each band), truth/NAME.fits, and optionally observed/masks/NAME.fits or
            observed/masks/mask.fits.
        nside: resolution; finer maps are averaged.
        bands: columns of the observed maps that are used, the first ones.
        split: train, val or test: a tenth of the names each for val and test, drawn by a hash of the name.

    Shape: items: observed (C, N), mask (N,), truth (N,), all float32.
    Units: µK; files say theirs, and those that do not are in µK.
    Raises: FileNotFoundError, ValueError naming the file, what was expected and what to do.
    """

    def __init__(self, root: str | Path, nside: int = 64, bands: int = 1, split: str = "train") -> None:
        self.root, self.grid, self.bands, self.split = Path(root), HEALPix(nside), bands, check_split(split)
        check_least(bands=(bands, 1))
        names = sorted(p.name for p in (self.root / "observed").glob("*.fits"))
        if not names:
            raise FileNotFoundError(f"{self.root / 'observed'} holds no .fits file; expected observed maps")
        without = [name for name in names if not (self.root / "truth" / name).is_file()]
        if without:
            raise FileNotFoundError(
                f"{self.root / 'truth' / without[0]} does not exist; expected the sky behind the observed {without[0]}"
            )
        chosen = split_by_group({name: name for name in names})
        self.names = [name for name in names if chosen[name] == split]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Name of the file of a sky."""
        return self.names[index]

    def _map(self, path: Path, count: int) -> SkyMap:
        sky = read_sky_map(path)
        if len(sky.values) < count or sky.grid.nside < self.grid.nside:
            raise ValueError(
                f"{path} has {len(sky.values)} fields at nside {sky.grid.nside}; expected at least {count} at {self.grid.nside}"
            )
        sky = sky.select(range(count)).in_microkelvin()
        for name, unit in zip(sky.names, sky.units, strict=True):
            if not is_unstated(unit) and temperature(unit) is None:
                raise ValueError(f"{path} has {name} in {unit!r}; expected a temperature: K, mK or µK")
        return sky.in_order("ring")

    def load(self, index: int) -> Item:
        """Read a sky. Raises: ValueError for fields that are missing, or a truth with gaps."""
        path = self.root / "observed" / self.names[index]
        sky, behind = self._map(path, self.bands), self._map(self.root / "truth" / path.name, 1)
        if sky.frame and behind.frame and sky.frame != behind.frame:
            raise ValueError(
                f"{path} is in frame {sky.frame} and {self.root / 'truth' / path.name} in {behind.frame}; expected one frame"
            )
        truth = behind.at_nside(self.grid.nside).values[0]
        if not np.isfinite(truth).all():
            raise ValueError(
                f"{self.root / 'truth' / path.name} has missing pixels; expected the sky everywhere"
            )
        beside = find_mask(path)
        if beside is not None:  # before pixels are averaged: what is masked must not get into them
            sky = sky.masked(read_sky_mask(beside))
        observed = sky.at_nside(self.grid.nside).values
        mask = np.isfinite(observed).all(0)
        if not mask.any():
            raise ValueError(
                f"{path} has no pixel that is seen in all bands; expected values, and a mask that is 1 somewhere"
            )
        seen = torch.from_numpy(mask.astype(np.float32))
        return {
            "observed": torch.from_numpy(np.where(mask, observed, 0.0)).float(), "mask": seen,
            "truth": torch.from_numpy(truth - truth.mean()).float(),
        }  # fmt: skip

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        return self.load(index)


class SkyFolderData(SkyData):
    """Your own maps and the skies behind them, such as simulations of your instrument: observed/ and truth/ with equal names.

    Args:
        root: the folder.
        nside: resolution of the HEALPix grid, a power of two; finer maps are averaged.
        bands: columns of the observed maps that are used, the first ones.
        **kwargs: arguments of :class:`SkyData`.

    Units: µK; files say theirs.
    Raises: FileNotFoundError and ValueError, as :class:`SkyFolder`, when a split is first read.
    """

    def __init__(self, root: str, nside: int = 64, bands: int = 1, **kwargs: Any) -> None:
        super().__init__(nside=nside, **kwargs)
        self.root, self.bands = root, bands
        self._skies: dict[str, SkyFolder] = {}

    def skies(self, split: str) -> SkyFolder:
        if split not in self._skies:
            self._skies[split] = SkyFolder(self.root, self.grid.nside, self.bands, split)
        return self._skies[split]

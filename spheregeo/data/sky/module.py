"""Data modules of skies: maps of one band or several with a mask, and the sky behind them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import Item
from spheregeo.data.module import DataModule
from spheregeo.data.sky.generated import GeneratedSkies, fits
from spheregeo.data.sky.prepare import SkyPreparation
from spheregeo.grids import HEALPix
from spheregeo.lazy import cached_property

__all__ = ["GeneratedSkiesData", "PreparedSkies", "SkyData"]

FITTED = 32  # as many training skies give the filter and the sizes


class PreparedSkies(Dataset[Item]):
    """Skies as images: prepared once each, and kept where all fit into memory.

    Args:
        skies: items with observed (C, N), mask (N,) and truth (N,).
        prepare: the preparation.

    Shape: items: image (C + 2, N) float32; target (N,) float32; index () int64.

    Example:
        >>> from spheregeo.data import GeneratedSkies, PreparedSkies, SkyPreparation
        >>> skies = GeneratedSkies(2, nside=4)
        >>> prepare = SkyPreparation.fit(skies.grid, skies.lmax, [skies[0], skies[1]])
        >>> PreparedSkies(skies, prepare)[0]["image"].shape
        torch.Size([3, 192])
    """

    def __init__(self, skies: Any, prepare: SkyPreparation) -> None:
        self.skies, self.prepare = skies, prepare
        self._kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self.skies)

    def __getitem__(self, index: int) -> Item:
        if index not in self._kept:
            sky = self.skies[index]
            image = self.prepare(sky["observed"], sky["mask"])
            item = {"image": image, "target": sky["truth"].float(), "index": torch.tensor(index)}
            if not fits(item, len(self)):
                return item
            self._kept[index] = item
        return dict(self._kept[index])


class SkyData(DataModule[Dataset[Item]]):
    """Base class of the data modules of skies. A subclass implements :meth:`skies`.

    A Wiener filter and the channels' sizes are fitted to training skies when first needed, and go into every checkpoint.

    Args:
        nside: resolution of the HEALPix grid.
        batch_size: skies in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`.

    Shape: batches of image (B, C + 2, N) float32 of unit size: the bands, a Wiener filter's answer, the mask; target (B, N)
        float32; index (B,) int64.
    Units: target in µK.
    Raises: ValueError for numbers that are too small.
    """

    constants = ("mean", "std", "wiener")
    must_agree = ()

    def __init__(self, *, nside: int = 64, batch_size: int = 4, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        check_least(nside=(nside, 2))
        self.grid = HEALPix(nside)

    @abstractmethod
    def skies(self, split: str) -> Any:
        """Return the skies of a split: a dataset of observed (C, N), mask (N,) and truth (N,), all in µK."""

    @cached_property
    def preparation(self) -> SkyPreparation:
        """The preparation fitted to the first training skies."""
        skies = self.skies("train")
        lmax = 2 * self.grid.nside
        return SkyPreparation.fit(self.grid, lmax, [skies[k] for k in range(min(len(skies), FITTED))])

    @property
    def in_channels(self) -> int:
        """Bands, filter's answer, mask."""
        return len(self.std)

    @property
    def mean(self) -> tuple[float, ...]:
        """Nothing is subtracted by channel: monopoles are, map by map."""
        return (0.0,) * len(self.std)

    @property
    def std(self) -> tuple[float, ...]:
        """Size of each channel in µK; the mask's is 1."""
        return tuple(self.preparation.std.tolist())

    @property
    def wiener(self) -> list[list[float]]:
        """The filter's factor per band and degree."""
        gains: list[list[float]] = self.preparation.gains.tolist()
        return gains

    def make(self, split: str) -> PreparedSkies:
        return PreparedSkies(self.skies(split), self.preparation)


class GeneratedSkiesData(SkyData):
    """Generated microwave skies: no download, any number of them.

    Args:
        nside: resolution of the HEALPix grid, a power of two.
        train: number of training skies.
        val: number of validation skies.
        test: number of test skies.
        batch_size: skies in a batch.
        bands: brightness of the foreground in each band, relative to ``foreground``.
        noise: standard deviation of the white noise in each pixel of a band, in µK.
        foreground: typical brightness of the foreground away from the plane, in µK; 0 for none.
        patchiness: standard deviation of the foreground's logarithm.
        plane: logarithm of the factor by which the plane is brighter.
        deflection: root mean square of the lensing deflection, in arcminutes; 0 for none.
        unlensed: ask for the sky before it was lensed.
        beam: full width at half maximum of the beam of all bands, in degrees; 0 for none.
        masked: share of the sky around the plane that is not seen.
        shrink: factor by which the sky's angles are larger than those of the CMB.
        **kwargs: arguments of :class:`SkyData`; ``seed`` is also that of the skies.

    Units: µK.
    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import GeneratedSkiesData
        >>> data = GeneratedSkiesData(nside=4, train=2, val=1, test=1)
        >>> next(iter(data.val_dataloader()))["image"].shape
        torch.Size([1, 3, 192])
    """

    def __init__(
        self,
        nside: int = 64,
        train: int = 64,
        val: int = 8,
        test: int = 16,
        batch_size: int = 4,
        *,
        bands: Sequence[float] = (1.0,),
        noise: float = 25.0,
        foreground: float = 40.0,
        patchiness: float = 1.2,
        plane: float = 1.2,
        deflection: float = 2.7,
        unlensed: bool = False,
        beam: float = 0.0,
        masked: float = 0.0,
        shrink: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(nside=nside, batch_size=batch_size, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.counts = {"train": train, "val": val, "test": test}
        self.sky = {
            "nside": nside, "bands": tuple(bands), "noise": noise, "foreground": foreground, "patchiness": patchiness,
            "plane": plane, "deflection": deflection, "unlensed": unlensed, "beam": beam, "masked": masked, "shrink": shrink,
        }  # fmt: skip
        self._skies: dict[str, GeneratedSkies] = {}

    def skies(self, split: str) -> GeneratedSkies:
        if split not in self._skies:
            self._skies[split] = GeneratedSkies(self.counts[split], seed=self.seed, split=split, **self.sky)  # type: ignore[arg-type]
        return self._skies[split]

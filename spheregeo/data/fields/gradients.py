"""Generated vector fields: gradients of drawn glyphs on the sphere, to be restored from noisy measurements that saturate.

After the vector field regression of Xu et al. 2022 and of Esteves et al. 2020, which take gradients of digits. Fields are
band-limited, so that a turned copy is exact: coefficients are turned and evaluated, nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, check_split, generator
from spheregeo.data.fields.layout import FieldInfo
from spheregeo.data.fields.module import SeriesData
from spheregeo.data.fields.series import FieldSeries
from spheregeo.data.sphere.glyphs import make_glyphs
from spheregeo.data.sphere.stereographic import project
from spheregeo.grids import GaussLegendre
from spheregeo.sampling import random_rotations
from spheregeo.spectral import SHT, InverseVectorSHT, degrees, rotate_coefficients

__all__ = ["GlyphGradientData"]

FIELDS = (
    FieldInfo("measured", ("measured_u", "measured_v")),
    FieldInfo("gradient", ("gradient_u", "gradient_v")),
)


class GlyphGradientData(SeriesData):
    """Generated vector fields: gradients of glyphs drawn on the sphere, and noisy measurements of them; no download.

    A measurement is V / (1 + |V|) plus noise, where V is the gradient in units of its root mean square: directions that are
    right on average and lengths that saturate. Glyphs stand upright in the southern hemisphere, so a network that leans on
    places and directions fails on turned ones. Inputs are ``measured``, outputs ``gradient``, both vectors at the same time.

    Args:
        train: number of training fields.
        val: number of validation fields.
        test: number of test fields.
        noise: standard deviation of the noise of each component.
        lmax: largest degree of the fields.
        rotate_train: whether each training field is turned by a random rotation of its own, the same in all epochs.
        rotate_test: 0 tests upright fields; n tests n copies of each, turned by fixed random rotations.
        inputs, outputs: names of the fields of each item, "measured" and "gradient".
        lead: steps from inputs to outputs; 0, for there is one time.
        **kwargs: arguments of :class:`SeriesData`.

    Raises: ValueError for numbers out of range.
    Reference: Xu et al. 2022, arXiv:2206.08362; Esteves et al. 2020, arXiv:2006.10731.

    Example:
        >>> from spheregeo.data import GlyphGradientData
        >>> data = GlyphGradientData(train=2, val=1, test=1, lmax=5, size=(8, 16), batch_size=2)
        >>> next(iter(data.train_dataloader()))["image"].shape
        torch.Size([2, 2, 8, 16])
    """

    def __init__(
        self,
        train: int = 400,
        val: int = 40,
        test: int = 100,
        *,
        noise: float = 0.2,
        lmax: int = 14,
        rotate_train: bool = False,
        rotate_test: int = 0,
        inputs: list[str] = ["measured"],  # noqa: B006
        outputs: list[str] = ["gradient"],  # noqa: B006
        lead: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, lead=lead, **kwargs)
        check_least(
            train=(train, 1), val=(val, 1), test=(test, 1), rotate_test=(rotate_test, 0), noise=(noise, 0)
        )
        if lmax < 1 or self.size[0] <= lmax:
            raise ValueError(
                f"size is {self.size} and lmax {lmax}; expected 1 <= lmax below the number of rows"
            )
        self.counts = {"train": train, "val": val, "test": test}
        self.noise, self.lmax, self.rotate_train, self.rotate_test = noise, lmax, rotate_train, rotate_test
        self._series: dict[str, Sequence[FieldSeries]] = {}

    def coefficients(self, split: str) -> Tensor:
        """Return gradients of a split's glyphs as coefficients of vector harmonics, each of unit root mean square.

        Args:
            split: "train", "val" or "test".

        Shape: (fields, (lmax + 1)²) float64, of the gradient part; there is no curl.
        """
        pictures, _ = make_glyphs(self.counts[check_split(split)], self.seed, split)
        fine = GaussLegendre(2 * self.lmax + 8, 4 * self.lmax + 16)
        drawn = project(pictures, fine.points).double().unflatten(1, fine.shape)
        degree = degrees(self.lmax).double()
        rise = degree * (degree + 1)
        smooth = torch.exp(-2 * rise / self.lmax**2)  # the largest degrees are cut softly: no ripples
        found = SHT(fine, self.lmax)(drawn) * smooth * rise.sqrt()
        return found * ((4 * torch.pi) / found.square().sum(1, keepdim=True)).sqrt()

    def _disturbance(self, split: str, count: int) -> Tensor:
        """Noise (count, 2, H, W): coefficients alike for all degrees up to twice the fields', so alike at all places.

        Noise of each sample by itself would be averaged away where the rows of the grid crowd.
        """
        lmax = min(2 * self.lmax, self.size[0] - 1)
        place = torch.Generator().manual_seed(3 * self.seed + SPLITS.index(split))
        found = torch.randn(count, 2, (lmax + 1) ** 2, generator=place, dtype=torch.float64)
        found *= self.noise * (4 * torch.pi / ((lmax + 1) ** 2 - 1)) ** 0.5
        return InverseVectorSHT(self.grid, lmax)(found)

    def series(self, split: str) -> Sequence[FieldSeries]:
        if split not in self._series:
            states = self.coefficients(split)
            copies = self.rotate_test if split == "test" else int(self.rotate_train and split == "train")
            if copies:
                states = states.repeat_interleave(copies, 0)
                draw = generator(self.seed, *([] if split == "test" else [1]))  # other rotations in training
                states = rotate_coefficients(states, random_rotations(len(states), draw))
            vectors = InverseVectorSHT(self.grid, self.lmax)
            gradient = vectors(torch.stack([states, torch.zeros_like(states)], -2))  # (n, 2, H, W)
            measured = gradient / (1 + gradient.norm(dim=1, keepdim=True)) + self._disturbance(
                split, len(states)
            )
            values = torch.cat([measured, gradient], 1).float()
            self._series[split] = [FieldSeries(FIELDS, values, np.arange(float(len(values))))]
        return self._series[split]

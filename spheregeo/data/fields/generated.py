"""Generated weather: turbulent flows of a shallow layer on a rotating sphere, in balance at the beginning."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, check_split, generator
from spheregeo.data.fields.layout import FieldInfo
from spheregeo.data.fields.module import SeriesData
from spheregeo.data.fields.series import FieldSeries
from spheregeo.data.fields.shallow_water import EARTH_RADIUS, EARTH_ROTATION, ShallowWater
from spheregeo.data.files import read_stored
from spheregeo.files import atomic_path
from spheregeo.grids import Grid
from spheregeo.lazy import cached_property
from spheregeo.sampling import random_rotations
from spheregeo.spectral import InverseSHT, InverseVectorSHT, rotate_coefficients

__all__ = ["ShallowWaterData"]

FIELDS = (
    FieldInfo("height", units="m"),
    FieldInfo("wind", ("u", "v"), "m s-1", ("eastward_wind", "northward_wind")),
    FieldInfo("coriolis", units="s-1", standard_names=("coriolis_parameter",), static=True),
)
PEAK, WIDTH = 6.0, 2.5  # degree with most energy, and the spread about it
DAMPING = 1 / (6 * 3600.0)  # 1/s, of the largest degree
MEMBERS = 32  # trajectories that are integrated together
EVERY = 3.0  # seconds between two lines of progress


@cache
def _source_digest() -> str:
    """Digest of the solver's and the generator's source: stored trajectories are kept under it."""
    digest = hashlib.sha256()
    for name in ("shallow_water.py", "generated.py"):
        digest.update(Path(__file__).with_name(name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]


def random_vorticity(lmax: int, speed: float, rng: np.random.Generator) -> Tensor:
    """Coefficients of the vorticity of an isotropic random flow whose kinetic energy peaks at degree 6.

    Args:
        lmax: largest degree.
        speed: root mean square of the wind in m/s.
        rng: source of the random numbers.

    Shape: ((lmax + 1)²,) float64.
    Units: 1/s on a sphere of the Earth's radius.
    """
    degree = np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)
    energy = np.where(degree > 1, np.exp(-0.5 * ((degree - PEAK) / WIDTH) ** 2), 0.0)  # of each degree
    winds = rng.normal(size=degree.size) * np.sqrt(energy / (2 * degree + 1))
    winds *= speed * math.sqrt(4 * math.pi) / np.sqrt((winds**2).sum())
    return torch.from_numpy(winds * np.sqrt(degree * (degree + 1.0)) / EARTH_RADIUS)


def _integrate(flow: ShallowWater, states: Tensor, frames: int, seconds: float, told: str) -> Tensor:
    """States at successive times, (members, frames, 3, n) float32, with a line of progress where it takes long."""
    found, said = [states], time.monotonic()
    for k in range(1, frames):
        states = flow.integrate(states, seconds, flow.longest_step)
        found.append(states)
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            print(f"{told}: {k} of {frames - 1} steps", file=sys.stderr, flush=True)
    return torch.stack(found, 1).float()


class ShallowWaterData(SeriesData):
    """Generated weather on a sphere: height of a shallow layer, wind, and the Coriolis parameter; no download.

    Each trajectory begins in nonlinear balance from a random vorticity and is solved for by :class:`ShallowWater`. Fields are
    ``height`` (m, above the mean depth), the vector ``wind`` (``u``, ``v``) and the static ``coriolis``, the planet's vorticity.
    The equations know the planet's axis through that field alone, so they turn with fields and Coriolis parameter together.

    Args:
        train: number of training trajectories.
        val: number of validation trajectories.
        test: number of test trajectories.
        frames: frames of a trajectory.
        interval: hours between two frames.
        lmax: largest degree of the solver.
        depth: mean depth of the layer in metres.
        speed: root mean square of the initial wind in m/s.
        rotation: angular velocity of the planet in radians per second; 0 for a planet at rest.
        rotate_test: 0 tests upright planets; n tests n copies of each, fields and axis turned by fixed random rotations.
        cache_dir: folder that keeps trajectories as npz files for later runs; they are kept by the solver's source.
        **kwargs: arguments of :class:`SeriesData`.

    Units: metres, m/s, 1/s.
    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import ShallowWaterData
        >>> data = ShallowWaterData(train=2, val=1, test=1, frames=3, lmax=5, size=(8, 16), test_steps=2, batch_size=2)
        >>> next(iter(data.train_dataloader()))["image"].shape
        torch.Size([2, 4, 8, 16])
    """

    def __init__(
        self,
        train: int = 40,
        val: int = 4,
        test: int = 8,
        frames: int = 25,
        interval: float = 6.0,
        *,
        lmax: int = 21,
        depth: float = 1e4,
        speed: float = 15.0,
        rotation: float = EARTH_ROTATION,
        rotate_test: int = 0,
        cache_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(
            train=(train, 1), val=(val, 1), test=(test, 1), frames=(frames, 2), rotate_test=(rotate_test, 0)
        )
        if interval <= 0 or speed <= 0:
            raise ValueError(f"interval is {interval} and speed {speed}; expected both > 0")
        if self.size[0] <= lmax:
            raise ValueError(f"size is {self.size} and lmax {lmax}; expected more rows than lmax")
        self.counts = {"train": train, "val": val, "test": test}
        self.frames, self.interval, self.lmax, self.depth, self.speed = frames, interval, lmax, depth, speed
        self.rotation, self.rotate_test, self.cache_dir = rotation, rotate_test, cache_dir
        self._series: dict[str, Sequence[FieldSeries]] = {}

    @cached_property
    def solver(self) -> ShallowWater:
        """The solver of the trajectories."""
        return ShallowWater(self.lmax, depth=self.depth, rotation=self.rotation, damping=DAMPING)

    def coefficients(self, split: str) -> Tensor:
        """Return vorticity, divergence and depth of a split's trajectories as coefficients.

        Args:
            split: "train", "val" or "test".

        Shape: (trajectories, frames, 3, (lmax + 1)²) float32.
        """
        count, wanted = self.counts[check_split(split)], (self.frames, 3, (self.lmax + 1) ** 2)
        path = None
        if self.cache_dir is not None:
            said = [self.seed, split, count, *wanted, self.interval, self.depth, self.speed, self.rotation]
            key = hashlib.sha256(repr((said, _source_digest())).encode()).hexdigest()[:16]
            path = Path(self.cache_dir) / f"shallow-water-{key}.npz"
            try:
                stored = read_stored(path, "trajectories")
                if isinstance(stored, dict) and stored["states"].shape == (count, *wanted):
                    return torch.from_numpy(stored["states"])
            except (OSError, ValueError, KeyError):
                pass  # absent, or torn by an earlier crash
        begin = torch.stack(
            [
                random_vorticity(
                    self.lmax, self.speed, np.random.default_rng([self.seed, SPLITS.index(split), k])
                )
                for k in range(count)
            ]
        )
        parts = [
            _integrate(
                self.solver, self.solver.balanced(part), self.frames, 3600 * self.interval,
                f"{split}: solving for trajectories {MEMBERS * k + 1} ... {MEMBERS * k + len(part)} of {count}",
            )
            for k, part in enumerate(begin.split(MEMBERS))
        ]  # fmt: skip
        states = torch.cat(parts)
        if path is not None:
            with atomic_path(path) as temporary, open(temporary, "wb") as new:
                np.savez(new, states=states.numpy())
        return states

    @property
    def climatology(self) -> Tensor:
        """Zero: initial flows have no preferred direction."""
        return torch.zeros(self.fields.out_channels, *self.size)

    def series(self, split: str) -> Sequence[FieldSeries]:
        if split not in self._series:
            states = self.coefficients(split)
            turns = [torch.eye(3, dtype=torch.float64)] * len(states)
            if split == "test" and self.rotate_test:
                states = states.repeat_interleave(self.rotate_test, 0)
                turns = list(random_rotations(len(states), generator(self.seed)))
            hours = np.arange(self.frames) * self.interval
            self._series[split] = [
                FieldSeries(FIELDS, state_fields(state, self.solver, self.grid, turn), hours)
                for state, turn in zip(states, turns, strict=True)
            ]
        return self._series[split]


def state_fields(state: Tensor, flow: ShallowWater, grid: Grid, turn: Tensor) -> Tensor:
    """Height above the mean depth, winds along south and east, and Coriolis parameter of turned states on a grid.

    Shape: (..., 3, (lmax + 1)²) -> (..., 4, *grid.shape) float32.
    """
    scalars, vectors = _synthesis(grid, flow.lmax)
    state = state.double()
    if not torch.equal(turn, torch.eye(3, dtype=turn.dtype)):
        state = rotate_coefficients(state, turn)
    inverse = torch.where(flow._factors > 0, 1 / flow._factors, 0.0)
    height = scalars(state[..., 2, :]) - flow.depth
    winds = vectors(torch.stack([-state[..., 1, :] * inverse, state[..., 0, :] * inverse], -2))
    axis = turn[:, 2]
    coriolis = (2 * flow.rotation * grid.points @ axis).reshape(grid.shape).expand_as(height)
    return torch.cat([height[..., None, :, :], winds, coriolis[..., None, :, :]], -3).float()


@cache
def _synthesis(grid: Grid, lmax: int) -> tuple[InverseSHT, InverseVectorSHT]:
    return InverseSHT(grid, lmax), InverseVectorSHT(grid, lmax)

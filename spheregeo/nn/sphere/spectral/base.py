"""What spectral layers share: degrees that a grid resolves, checks of input, and the precision that they compute in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.grids import Equiangular, Grid
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.statistics import working_dtype
from spheregeo.spectral import SHT

ITERATIONS = 1  # of the analysis on HEALPix; each costs two more transforms


def as_grid(name: str, source: Grid | int) -> Grid:
    """A grid, or the one of 2b × 2b points, b = lmax + 1, on which s2cnn samples signals of a largest degree.

    Args:
        name: of the argument.
        source: a grid on the sphere, or a largest degree.

    Raises: TypeError for anything else.
    """
    if isinstance(source, Grid):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        return rotation_slice(check_count(name, source, 0))
    raise TypeError(f"{name} is {source!r}; expected a grid or a largest degree")


def rotation_slice(lmax: int) -> Grid:
    """The grid on the sphere of the rotations' β and α in :class:`~spheregeo.spectral.SO3Transform`.

    Args:
        lmax: of the transform.
    """
    return Equiangular(2 * (lmax + 1), 2 * (lmax + 1))


def make_analysis(grid: Grid, lmax: int, spin: int = 0) -> SHT:
    """The transform with which layers take signals to coefficients: on HEALPix with one iteration, for speed.

    Args:
        grid: any grid on the sphere.
        lmax: largest degree.
        spin: order of the fields.
    """
    return SHT(grid, lmax, spin, iterations=ITERATIONS)


def degree_between(lmax: int | None, *limits: int) -> int:
    """The largest degree that a layer keeps: the least of the limits unless a lower one is asked for.

    Args:
        lmax: what was asked for; None for the limit.
        limits: largest degrees of the layer's grids.

    Raises: ValueError for a degree that a grid does not hold.
    """
    most = min(limits)
    if lmax is None:
        return most
    check_count("lmax", lmax, 0)
    if lmax > most:
        raise ValueError(f"lmax is {lmax}; expected at most {most}, the largest degree that both grids hold")
    return lmax


class SpectralLayer(ExactBuffers):
    """A layer from samples to samples by way of coefficients, computed in float32 at least."""

    def _fits(self, x: Tensor, channels: int | None, where: Grid | int) -> None:
        """Raises: ValueError unless x lies on a grid of the sphere, or on that of SO(3) for a largest degree."""
        check_tensor(x)
        shape = where.shape if isinstance(where, Grid) else (2 * (where + 1),) * 3
        fits = x.ndim == 2 + len(shape) and tuple(x.shape[2:]) == tuple(shape)
        if not fits or (channels is not None and x.shape[1] != channels):
            width = "channels" if channels is None else str(channels)
            what = (
                f"the fields of {where!r}" if isinstance(where, Grid) else f"signals on SO(3) of lmax {where}"
            )
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {width}, {', '.join(map(str, shape))}), {what}"
            )

    def _compute(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``function`` of x in float32 at least, whatever autocast says, and back in the type of x."""
        with torch.autocast(x.device.type, enabled=False):
            return function(x.to(working_dtype(x))).to(x.dtype)


def check_channels(**channels: int) -> None:
    """Raises: ValueError for numbers of channels below 1."""
    for name, value in channels.items():
        check_count(name, value)


def draw(weight: nn.Parameter, fan_in: int) -> None:
    """Weights from a normal distribution with variance 1 / fan_in."""
    with torch.no_grad():
        weight.normal_(0.0, 1 / math.sqrt(fan_in))

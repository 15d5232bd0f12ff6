"""Images without interpolation, for tests of turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor


@cache
def _bumps(size: int, turn: float, sigma: float, count: int, seed: int = 0) -> Tensor:
    """White noise smoothed by σ, turned about the middle: sums of Gaussians, so without interpolation. (count, 1, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    reach = size / 2 + 4 * sigma
    centre = (torch.rand(count, 2, 300, generator=generator, dtype=torch.float64) * 2 - 1) * 1.5 * reach
    height = torch.randn(count, 300, generator=generator, dtype=torch.float64)
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    x, y = place.expand(size, size), -place[:, None].expand(size, size)
    x, y = math.cos(turn) * x + math.sin(turn) * y, -math.sin(turn) * x + math.cos(turn) * y
    square = (x[..., None] - centre[:, 0, None, None]) ** 2 + (y[..., None] - centre[:, 1, None, None]) ** 2
    return torch.einsum("nijc,nc->nij", torch.exp(-square / (2 * sigma**2)), height)[:, None]


@pytest.fixture
def bumps() -> Callable[..., Tensor]:
    """Smooth images by (size, turn, sigma, count), the same ones at every turn."""
    return _bumps

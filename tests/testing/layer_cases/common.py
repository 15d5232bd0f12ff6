"""Small places, inputs, and helpers that enter a layer's arguments of the compliance suite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.grids import Equiangular, HEALPix, Icosahedral
from spheregeo.groups import axis_angle

Case = Callable[[], dict[str, Any]]
CASES: dict[type, Case] = {}  # arguments of check_layer
PARTS: dict[str, str] = {}  # public classes that are no layer of their own: the test file that holds them
OWN_TWIN: dict[
    str, str
] = {}  # layers without a sparse operator, whose slow twin is written out in their own test file


def part_of(file: str, *names: str) -> None:
    """Enter classes that are no layers of their own, and the test file that holds them."""
    PARTS.update(dict.fromkeys(" ".join(names).split(), file))


def own_twin(file: str, *names: str) -> None:
    """Enter layers without a sparse operator, and the test file where their slow twin is written out."""
    OWN_TWIN.update(dict.fromkeys(" ".join(names).split(), file))


def case(kind: type) -> Callable[[Case], Case]:
    """Enter the arguments of :func:`check_layer` for a class."""

    def enter(make: Case) -> Case:
        CASES[kind] = make
        return make

    return enter


G, I, E = HEALPix(2), Icosahedral(1), Equiangular(6, 12)
FINE, COARSE = HEALPix(4), HEALPix(1)
KIND = "2x0 + 2x1 + 1x2"
IRREPS = "2x0e + 1x0o + 2x1o + 1x1e"
QUARTER = {"rotations": axis_angle((0, 0, 1), math.pi / 2), "lmax": 2}
EDGES = torch.tensor([[1, 2, 0, 3, 0, 4, 5, 6, 7, 6], [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]])
GROUP = torch.tensor([0, 0, 0, 1, 2, 2, 2, 3])


def x(channels: int, points: int = 48, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, points)


def rows(irreps: str, count: int = 8) -> Tensor:
    return torch.randn(count, Irreps(irreps).dim)


def places(count: int = 8) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(5))


def simple(kind: type, make: Case) -> None:
    CASES[kind] = make


def on_grid(kind: type, make: Callable[[Any], nn.Module], channels: int = 2, **more: Any) -> None:
    """A layer of scalar fields on a HEALPix grid, exact under the grid's rotations, that loads at another resolution."""

    def build() -> dict[str, Any]:
        arguments = {"layer": make(G), "inputs": x(channels), "where": G, "equivariance": {"grid": 1e-11}}
        arguments |= {"other": make(FINE), "other_inputs": x(channels, 192)}
        return arguments | {
            key: value() if callable(value) and key == "twin_of" else value for key, value in more.items()
        }

    CASES[kind] = build


def pointwise(
    kind: type, make: Callable[[], nn.Module], irreps: str = IRREPS, bound: float = 1e-11, **more: Any
) -> None:
    """A layer of irreps at each point."""

    def build() -> dict[str, Any]:
        layer = make()
        into = getattr(layer, "irreps_in", None) or getattr(layer, "irreps", irreps)
        arguments = {
            "layer": layer,
            "inputs": rows(str(into)),
            "where": places(),
            "equivariance": {"o3": bound},
        }
        return {**arguments, "channel_axis": -1, **more}

    CASES[kind] = build


def batch_norm(layer: Any, x: Tensor) -> Tensor:
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean[:, None]) * scale[:, None] + layer.bias[:, None]


def group_norm(layer: Any, x: Tensor) -> Tensor:
    share = layer.grid.areas / layer.grid.areas.sum()
    groups = getattr(layer, "num_groups", x.shape[1])
    parts = x.unflatten(1, (groups, -1))
    mean = (parts @ share).mean(2)[..., None, None]
    variance = (((parts - mean) ** 2) @ share).mean(2)[..., None, None]
    y = ((parts - mean) / (variance + layer.eps).sqrt()).flatten(1, 2)
    return y if layer.weight is None else y * layer.weight[:, None] + layer.bias[:, None]

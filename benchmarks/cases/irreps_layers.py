"""Layers of one point's irreps beside e3nn's: linear map, gate, batch norm, norm activation; l <= 2, equal multiplicities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cases.configuration import PointConfiguration
from measure import Work

LAYERS = ("linear", "gate", "batch norm", "norm activation")


def irreps(channels: int) -> str:
    return f"{channels}x0e+{channels}x1o+{channels}x2e"


def ours(layer: str, channels: int) -> nn.Module:
    from spheregeo.nn import IrrepsBatchNorm, IrrepsGate, IrrepsLinear, NormActivation

    if layer == "linear":
        return IrrepsLinear(irreps(channels), irreps(channels))
    if layer == "gate":
        return IrrepsGate(irreps(channels))
    return (IrrepsBatchNorm if layer == "batch norm" else NormActivation)(irreps(channels))


def theirs(layer: str, channels: int) -> nn.Module:
    from e3nn import nn as layers
    from e3nn import o3

    every = o3.Irreps(irreps(channels))
    if layer == "linear":
        return o3.Linear(every, every, biases=True)
    if layer == "gate":
        acts = [torch.nn.functional.silu], [torch.sigmoid]
        return layers.Gate(every[:1], acts[0], f"{2 * channels}x0e", acts[1], every[1:])
    if layer == "batch norm":
        return layers.BatchNorm(every)
    return layers.NormActivation(every, torch.nn.functional.silu, bias=True)


def builder(
    make: Callable[[str, int], nn.Module], layer: str, points: int, channels: int
) -> Callable[[], Work]:
    def build() -> Work:
        module = make(layer, channels)
        x = torch.randn(points, (11 if layer == "gate" else 9) * channels, requires_grad=True)
        return Work(lambda: module(x), (x, *module.parameters()))

    return build


def configuration(
    layer: str, points: int, channels: int, small: PointConfiguration | None
) -> PointConfiguration:
    builders = {
        "spheregeo": builder(ours, layer, points, channels),
        "e3nn": builder(theirs, layer, points, channels),
    }
    return PointConfiguration("irreps_layers", f"{points} points", layer, points, channels, builders, small)


def cases() -> list[PointConfiguration]:
    return [configuration(layer, 20_000, 32, configuration(layer, 200, 32, None)) for layer in LAYERS]

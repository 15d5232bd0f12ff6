"""Networks of volumes: what turns and reflections change, and what a pass costs.

Under the symmetries of the cube nothing lies between voxels, so the figures are exact. For other rotations the signals are plane
waves under a Gaussian, which are turned before they are sampled: the figures hold no error of interpolation.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.cost import (
    aligned,
    count_parameters,
    machine_of,
    measure_memory,
    measure_time,
    time_rows,
)
from spheregeo.audit.equivariance import measure_equivariance
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.sampling import random_rotations

WAVES = 24  # plane waves of a signal
SHORTEST = 6.0  # voxels of the shortest wave


def waves(size: int, channels: int, rotation: Tensor, generator: torch.Generator) -> Tensor:
    """Return a sum of random plane waves under a Gaussian, turned about the centre and sampled on voxels.

    Args:
        size: voxels along each axis.
        channels: signals.
        rotation: the rotation R of f(R⁻¹ p).
        generator: of waves and phases.

    Shape: (3, 3) -> (channels, size, size, size) float64.
    """
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    points = torch.cartesian_prod(axis, axis, axis) @ rotation  # rows R⁻¹ p
    direction = nn.functional.normalize(
        torch.randn(WAVES, 3, dtype=torch.float64, generator=generator), dim=1
    )
    number = 2 * math.pi / SHORTEST * torch.rand(WAVES, 1, dtype=torch.float64, generator=generator)
    phase = 2 * math.pi * torch.rand(WAVES, dtype=torch.float64, generator=generator)
    strength = torch.randn(channels, WAVES, dtype=torch.float64, generator=generator)
    envelope = torch.exp(-points.square().sum(1) / (2 * (size / 6) ** 2))
    values = strength @ torch.cos(points @ (direction * number).T + phase).T * envelope
    return values.view(channels, size, size, size)


@torch.no_grad()
def measure_turns(
    module: nn.Module, size: int, channels: int, *, num: int = 4, randomise: bool = True, seed: int = 0
) -> dict[str, float]:
    """Relative change of a network's output under rotations of any angle, in float64. The module itself is left as it is.

    Args:
        module: from (B, channels, size, size, size) to (B, O), an invariant of rotations; a copy is measured, in eval mode.
        size: voxels along each axis.
        channels: of the volumes, scalars.
        num: signals, each turned once.
        randomise: draw all parameters and norm statistics anew.
        seed: of signals, rotations and parameters.

    Returns: "rotations", the root of Σ |y' - y|² / Σ |y|², and "spread", the same of y less its mean over the signals: what the
        network tells them apart by, beside which the change is to be judged.

    Example:
        >>> pooled = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        >>> measure_turns(pooled, 12, 2)["rotations"] < 1e-2
        True
    """
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(module).double().eval()
    rotations = random_rotations(num, generator).double()
    keys = [int(k) for k in torch.randint(2**31, (num,), generator=generator)]
    still, turned = (
        torch.stack(
            [
                waves(size, channels, r, torch.Generator().manual_seed(k))
                for r, k in zip(which, keys, strict=True)
            ]
        )
        for which in (torch.eye(3, dtype=torch.float64).expand(num, 3, 3), rotations)
    )
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    still, turned = still.to(device), turned.to(device)
    if randomise:
        randomise_(module, generator, still)
    y, moved = module(still), module(turned)
    whole = max(float(y.norm()), 1e-300)
    return {"rotations": float((moved - y).norm()) / whole, "spread": float((y - y.mean(0)).norm()) / whole}


def report_voxels(
    module: nn.Module, shape: tuple[int, int, int], *, channels: int = 1, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Equivariance error, parameters, memory and time of a network of volumes, as plain numbers.

    Args:
        module: from (B, channels, *shape) to (B, O).
        shape: a cube (n, n, n).
        channels: of the volumes, scalars.
        repeats: passes that are timed, of which the median counts.
        seed: of signals, rotations and parameters.

    Units: seconds, bytes; per voxel, nanoseconds.
    Raises: ValueError for a shape that is no cube.
    """
    errors: dict[str, dict[str, float]] = {}
    for weights, drawn in (("as they are", False), ("randomised", True)):
        common: dict[str, Any] = {"channels": channels, "randomise": drawn, "seed": seed}
        turns = measure_turns(module, shape[0], channels, randomise=drawn, seed=seed)
        errors[weights] = {
            "rotations of the cube": measure_equivariance(module, shape, **common).error,
            "its reflections too": measure_equivariance(module, shape, group="o3", **common).error,
            "any rotations": turns["rotations"],
            "spread": turns["spread"],
        }
    network = copy.deepcopy(module).eval()
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(1))
    x = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(seed)).to(like)
    forward, both = measure_time(network, x, repeats=repeats)
    memory_forward, memory_both = measure_memory(network, x)
    return {
        "module": type(module).__name__,
        "shape": list(shape),
        "channels": channels,
        "dtype": str(x.dtype).removeprefix("torch."),
        "invariance": errors,
        "parameters": count_parameters(module),
        "seconds": {"forward": forward, "forward_backward": both},
        "nanoseconds_per_voxel": {
            "forward": 1e9 * forward / math.prod(shape), "forward_backward": 1e9 * both / math.prod(shape)
        },
        "bytes": {"forward": memory_forward, "forward_backward": memory_both},
        "machine": machine_of(x),
    }  # fmt: skip


def format_voxels(result: dict[str, Any]) -> str:
    """Return the text that :func:`print_voxels` prints."""
    rows = [(name, str(result[name])) for name in ("module", "shape", "channels", "dtype")]
    for weights, found in result["invariance"].items():
        rows += [
            (
                "difference of signals" if name == "spread" else f"change by {name}",
                f"{value:.2e}  (float64, weights {weights})",
            )
            for name, value in found.items()
        ]
    rows.append(("parameters", f"{result['parameters']:,}"))
    rows += time_rows(result, "nanoseconds_per_voxel", "per voxel")
    return aligned(rows, result["machine"])


def print_voxels(result: dict[str, Any]) -> None:
    """Print what :func:`report_voxels` returned."""
    print(format_voxels(result), flush=True)

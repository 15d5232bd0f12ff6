"""Networks of poses: what turns of the image change in their distributions of rotations, and what a pass costs.

A quarter turn of the image, counter-clockwise, is one of the thing about the view axis: a network that turns with its images has
log p(R | image) = log p(R_z(90°) R | turned image). The quarter turns permute the rotations of a grid, so that the figures
hold no error of interpolation.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.cost import count_flops, count_parameters, machine_of, measure_memory, measure_time
from spheregeo.audit.plane import plane_waves
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.groups import axis_angle, rotation_angle
from spheregeo.spectral import SO3HEALPix

GRID = SO3HEALPix(4)


@torch.no_grad()
def measure_poses(
    module: Any, size: int, channels: int = 1, *, num: int = 4, randomise: bool = True, seed: int = 0
) -> dict[str, float]:
    """Return what quarter turns of images change in the distributions of a network, and what half turns change.

    Args:
        module: from images (B, C, size, size) to what its ``density`` takes; a copy is measured in eval mode.
        size: pixels along each side.
        channels: of the images.
        num: images, smooth ones.
        randomise: draw all parameters and norm statistics anew.
        seed: of images and parameters.

    Returns: "quarter turns" and "half turns", the root mean square of log p(R_z R | turned image) − log p(R | image) over
        rotations and images, divided by that of log p less its mean; "pose", the median angle between the likeliest rotation
        of a turned image and the turned likeliest rotation.

    Units: degrees for "pose".
    """
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(module).eval()
    like = next(p for p in module.parameters() if p.is_floating_point())
    waves = [plane_waves((size, size), channels, 0.0, False, generator) for _ in range(num)]
    image = torch.stack(waves).to(like)
    if randomise:
        randomise_(module, generator, image)
    before = module.density(module(image))
    logs = before.log_prob_on(GRID).double()
    scale = float((logs - logs.mean(1, keepdim=True)).square().mean().sqrt())
    found, angles = {}, []
    for name, quarters in (("quarter turns", (1, 3)), ("half turns", (2,))):
        errors = []
        for k in quarters:
            turn = axis_angle((0, 0, 1), k * math.pi / 2)
            after = module.density(module(image.rot90(k, (2, 3))))
            where = GRID.nearest(turn @ GRID.rotations).to(logs.device)
            errors.append(float((after.log_prob_on(GRID).double()[:, where] - logs).square().mean()))
            angles.append(
                rotation_angle(after.mode().double(), turn.to(logs.device) @ before.mode().double())
            )
        found[name] = math.sqrt(sum(errors) / len(errors)) / max(scale, 1e-300)
    return {**found, "pose": math.degrees(float(torch.cat(angles).median()))}


def report_poses(
    module: nn.Module, size: int, *, channels: int = 1, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """What turns change, parameters, operations, memory and time of a network of poses, as plain numbers.

    Args:
        module: from images to what its ``density`` takes.
        size: pixels along each side.
        channels: of the images.
        repeats: passes that are timed, of which the median counts.
        seed: of images and parameters.

    Units: seconds, bytes; angles in degrees.
    """
    network = copy.deepcopy(module).eval()
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(1))
    x: Tensor = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed)).to(like)
    forward, both = measure_time(network, x, repeats=repeats)
    memory_forward, memory_both = measure_memory(network, x)
    return {
        "module": type(module).__name__,
        "shape": [size, size],
        "channels": channels,
        "dtype": str(x.dtype).removeprefix("torch."),
        "invariance": {
            "as they are": measure_poses(module, size, channels, randomise=False, seed=seed),
            "randomised": measure_poses(module, size, channels, randomise=True, seed=seed),
        },
        "parameters": count_parameters(module),
        "operations": count_flops(network, x),
        "seconds": {"forward": forward, "forward_backward": both},
        "bytes": {"forward": memory_forward, "forward_backward": memory_both},
        "machine": machine_of(x),
    }  # fmt: skip


def format_poses(result: dict[str, Any]) -> str:
    """Return the text that :func:`print_poses` prints."""
    rows = [(name, str(result[name])) for name in ("module", "shape", "channels", "dtype")]
    for weights, found in result["invariance"].items():
        for name in ("quarter turns", "half turns"):
            rows.append((f"error under {name}", f"{found[name]:.2e} of log p  (weights {weights})"))
        rows.append(
            (
                "likeliest pose, turned image",
                f"{found['pose']:.3g}° from the turned pose  (weights {weights})",
            )
        )
    rows += [
        ("parameters", f"{result['parameters']:,}"),
        ("operations", f"{result['operations']:,} an image"),
    ]
    for name, seconds in result["seconds"].items():
        rows.append((f"time, {name.replace('_', ' + ')}", f"{1e3 * seconds:.4g} ms"))
    for name, size in result["bytes"].items():
        if size is not None:
            rows.append((f"memory, {name.replace('_', ' + ')}", f"{size / 2**20:.3g} MiB"))
    at = result["machine"]
    rows.append(("measured on", f"{at['device']}, {at['threads']} threads, torch {at['torch']}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def print_poses(result: dict[str, Any]) -> None:
    """Print what :func:`report_poses` returned."""
    print(format_poses(result), flush=True)

"""Networks of images: what turns and reflections change, by angle too, and what a pass costs.

Under quarter turns and reflections nothing lies between pixels, so those figures are exact. For other angles the signals are
plane waves under a Gaussian, which are turned before they are sampled: a label's figures hold no error of interpolation. Where a
network gives a number for each pixel, its output is turned by splines of order 5 and compared within a disc.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from spheregeo.audit.cost import (
    aligned,
    count_flops,
    count_parameters,
    machine_of,
    measure_memory,
    measure_time,
    time_rows,
)
from spheregeo.audit.equivariance import measure_equivariance
from spheregeo.audit.on_plane import PlaneField, declared_plane, plane_field, turned_channels, width_of
from spheregeo.audit.randomise import randomise as randomise_

WAVES = 24  # plane waves of a signal
SHORTEST = 6.0  # pixels of the shortest wave
DISC = 0.35  # radius, in sides of the image, of the disc in which turned outputs are compared
ANGLES = tuple(range(15, 360, 15))


def plane_waves(
    shape: tuple[int, int], channels: int, angle: float, flip: bool, generator: torch.Generator, shortest: float = SHORTEST
) -> Tensor:  # fmt: skip
    """Return a sum of random plane waves under a Gaussian, reflected and turned about the centre and sampled on pixels.

    Args:
        shape: rows and columns.
        channels: signals.
        angle: of the turn, counter-clockwise, after the reflection.
        flip: whether the signals are reflected, x -> -x.
        generator: of waves and phases.
        shortest: length of the shortest wave.

    Shape: -> (channels, H, W) float64.
    Units: radians; pixels.
    """
    height, width = shape
    y = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y, x = torch.meshgrid(y, x, indexing="ij")
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = cos * x + sin * y, cos * y - sin * x  # R⁻¹ p
    points = torch.stack([-u if flip else u, v], -1).view(-1, 2)
    direction = 2 * math.pi * torch.rand(WAVES, dtype=torch.float64, generator=generator)
    number = 2 * math.pi / shortest * torch.rand(WAVES, dtype=torch.float64, generator=generator).sqrt()
    phase = 2 * math.pi * torch.rand(WAVES, dtype=torch.float64, generator=generator)
    strength = torch.randn(channels, WAVES, dtype=torch.float64, generator=generator)
    wave = number * torch.stack([direction.cos(), direction.sin()])
    envelope = torch.exp(-points.square().sum(1) / (2 * (min(shape) / 6) ** 2))
    values = strength @ torch.cos(points @ wave + phase).T * envelope
    return values.view(channels, height, width)


def _turned_output(y: Tensor, angle: float) -> Tensor:
    """Output turned by splines of order 5. Shape: (B, C, H, W) -> (B, C, H, W)."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos, sin], [-sin, cos]])
    centre = (np.array(y.shape[-2:]) - 1) / 2
    offset = centre - matrix @ centre
    parts = [
        affine_transform(part, matrix, offset, order=5, mode="reflect") for part in y.flatten(0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(parts)).view_as(y)


@torch.no_grad()
def measure_angles(
    module: nn.Module,
    shape: tuple[int, int],
    channels: int | None = None,
    *,
    angles: Sequence[float] = ANGLES,
    flip: bool = False,
    field_in: Any = None,
    field_out: Any = None,
    num: int = 4,
    randomise: bool = True,
    shortest: float = SHORTEST,
    seed: int = 0,
) -> dict[str, Any]:
    """Relative error of a network under turns of smooth images, angle by angle, in float64. The module is left as it is.

    Args:
        module: from (B, C, H, W) to (B, O), or to (B, O, H', W'); a copy is measured, in eval mode.
        shape: rows and columns.
        channels: of the images; read off the module if None.
        angles: of the turns.
        flip: whether images are reflected before they are turned.
        field_in: kind of the input, a ``PlanarType``, a ``FieldType`` or text; read off the module if None, else scalars.
        field_out: kind of the output, likewise; fields of C_n and D_n turn by their own angles alone.
        num: signals.
        randomise: draw all parameters and norm statistics anew.
        shortest: shortest wave of the signals.
        seed: of signals and parameters.

    Returns: "angles" and "errors", the root of Σ |M(T f) - T M(f)|² / Σ |M(f)|² for each; "spread", the same of M(f) less its
        mean over the signals: what the network tells them apart by, beside which the errors are to be judged.

    Units: angles in degrees, counter-clockwise; waves in pixels.
    Raises: ValueError for angles that are not in the group of the fields.

    Example:
        >>> pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> max(measure_angles(pooled, (17, 17), 2, angles=(30, 45))["errors"]) < 1e-2
        True
    """
    generator = torch.Generator().manual_seed(seed)
    kinds: list[PlaneField | None] = []
    for side, given in (("in", field_in), ("out", field_out)):
        found = declared_plane(module, side) if given is None else plane_field(given, f"field_{side}")
        kinds.append(None if isinstance(found, str) else found)
    width = int(
        width_of(kinds[0]) if kinds[0] is not None else channels or getattr(module, "in_channels", None) or 1
    )
    module = copy.deepcopy(module).double().eval()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    keys = [int(k) for k in torch.randint(2**31, (num,), generator=generator)]

    def signals(angle: float, reflected: bool) -> Tensor:
        drawn = [
            plane_waves(shape, width, angle, reflected, torch.Generator().manual_seed(k), shortest)
            for k in keys
        ]
        return turned_channels(torch.stack(drawn), kinds[0], angle, reflected)

    still = signals(0.0, False)
    if randomise:
        randomise_(module, generator, still.to(device))

    def output(x: Tensor) -> Tensor:
        y: Tensor = module(x.to(device)).cpu()
        return y

    y = output(still)
    disc = _disc(y.shape[-2:]) if y.ndim == 4 else torch.ones(())
    whole, errors = float((y * disc).square().sum()), []
    for degrees in angles:
        angle = math.radians(degrees)
        expected = turned_channels(y, kinds[1], angle, flip)
        if y.ndim == 4:
            expected = _turned_output(expected.flip(-1) if flip else expected, angle)
        off = (output(signals(angle, flip)) - expected) * disc
        errors.append(math.sqrt(float(off.square().sum()) / max(whole, 1e-300)))
    spread = float(((y - y.mean(0)) * disc).square().sum())
    return {"angles": list(angles), "errors": errors, "spread": math.sqrt(spread / max(whole, 1e-300))}


def _disc(shape: Sequence[int]) -> Tensor:
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in shape)
    return (torch.hypot(rows[:, None], columns) <= DISC * min(shape)).double()


def report_images(
    module: nn.Module, shape: tuple[int, int], *, channels: int = 1, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Equivariance error by angle, parameters, operations, memory and time of a network of images, as plain numbers.

    Args:
        module: from (B, channels, *shape) to (B, O) or (B, O, *shape).
        shape: rows and columns.
        channels: of the images, scalars.
        repeats: passes that are timed, of which the median counts.
        seed: of signals and parameters.

    Units: seconds, bytes; per pixel, nanoseconds; angles in degrees.
    """
    errors: dict[str, dict[str, float]] = {}
    by_angle: dict[str, dict[str, Any]] = {}
    for weights, drawn in (("as they are", False), ("randomised", True)):
        common: dict[str, Any] = {"channels": channels, "randomise": drawn, "seed": seed}
        found = measure_angles(module, shape, **common)
        mirrored = measure_angles(module, shape, flip=True, angles=ANGLES[::6], **common)
        errors[weights] = {
            "quarter turns": measure_equivariance(module, shape, **common).error,
            "quarter turns and flips": measure_equivariance(module, shape, group="o3", num_rotations=7, **common).error,
            "turns by any angle": _root_mean_square(found["errors"]),
            "turns and flips by any angle": _root_mean_square(mirrored["errors"]),
            "spread": found["spread"],
        }  # fmt: skip
        by_angle[weights] = found
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
        "by_angle": by_angle,
        "parameters": count_parameters(module),
        "operations": count_flops(network, x),
        "seconds": {"forward": forward, "forward_backward": both},
        "nanoseconds_per_pixel": {
            "forward": 1e9 * forward / math.prod(shape), "forward_backward": 1e9 * both / math.prod(shape)
        },
        "bytes": {"forward": memory_forward, "forward_backward": memory_both},
        "machine": machine_of(x),
    }  # fmt: skip


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


def format_images(result: dict[str, Any]) -> str:
    """Return the text that :func:`print_images` prints."""
    rows = [(name, str(result[name])) for name in ("module", "shape", "channels", "dtype")]
    for weights, found in result["invariance"].items():
        rows += [
            (
                "difference of signals" if name == "spread" else f"error under {name}",
                f"{value:.2e}  (float64, weights {weights})",
            )
            for name, value in found.items()
        ]
    curve = result["by_angle"]["as they are"]
    worst = max(zip(curve["errors"], curve["angles"], strict=True))
    rows.append(("worst angle", f"{worst[1]}°: {worst[0]:.2e}  (float64, weights as they are)"))
    rows += [
        ("parameters", f"{result['parameters']:,}"),
        ("operations", f"{result['operations']:,} an image"),
    ]
    rows += time_rows(result, "nanoseconds_per_pixel", "per pixel")
    for name, size in result["bytes"].items():
        if size is not None:
            rows.append((f"memory, {name.replace('_', ' + ')}", f"{size / 2**20:.3g} MiB"))
    return aligned(rows, result["machine"])


def print_images(result: dict[str, Any]) -> None:
    """Print what :func:`report_images` returned."""
    print(format_images(result), flush=True)


def plot_angles(
    series: Mapping[str, Mapping[str, Any]], path: str | Path | None = None, floor: float = 1e-7
) -> Any:
    """Draw errors by angle as a polar plot with a logarithmic radius; returns the matplotlib figure.

    Args:
        series: label -> what :func:`measure_angles` returned, such as ``report_images(...)["by_angle"]``.
        path: file to save to as well.
        floor: error at the centre; smaller ones are drawn there.

    Raises: ValueError for no series; ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    if not series:
        raise ValueError("series is empty; expected at least one label with angles and errors")
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes: Any = figure.add_subplot(projection="polar")
    low, top = math.log10(floor), 0.0
    for label, found in series.items():
        angles = [math.radians(a) for a in found["angles"]]
        radii = [math.log10(max(e, floor)) for e in found["errors"]]
        top = max(top, *radii)
        line = axes.plot([*angles, angles[0]], [*radii, radii[0]], marker="o", markersize=3, label=label)[0]
        if found.get("spread", 0) > 0:
            level = math.log10(max(found["spread"], floor))
            axes.plot(np.linspace(0, 2 * math.pi, 97), np.full(97, level), ":", color=line.get_color(), lw=1)
    ticks = np.arange(math.ceil(low), math.floor(top) + 1, 1 if top - low < 5 else 2)
    axes.set_rlim(low, top + 0.1)
    axes.set_rticks(ticks, [f"$10^{{{int(t)}}}$" for t in ticks], fontsize=7)
    axes.set_rlabel_position(22.5)
    axes.set_title("relative error by angle of the turn (dotted: difference of signals)", fontsize=9)
    figure.legend(loc="outside right center", fontsize="small")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure

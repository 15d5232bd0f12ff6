"""One module, one table: how equivariant it is and what it costs, on the terminal and as JSON."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.cost import (
    aligned,
    count_flops,
    count_parameters,
    machine_of,
    measure_memory,
    measure_time,
)
from spheregeo.audit.equivariance import declared_channels, declared_target, measure_equivariance
from spheregeo.audit.rotations import has_symmetries
from spheregeo.files import write_json
from spheregeo.grids import Grid


def report(
    module: nn.Module,
    grid: Grid,
    *,
    target: Grid | None = None,
    channels: int | None = None,
    batch: int = 1,
    repeats: int = 5,
    **options: Any,
) -> dict[str, Any]:
    """Equivariance error, parameters, operations, memory and time of a module on a grid, as plain numbers.

    Args:
        module: from (B, C, *grid.shape) to (B, O, *target.shape). Its copy is audited, as it is trained, in eval mode.
        grid, target, channels: as for :func:`spheregeo.audit.measure_equivariance`.
        batch: of the passes that are timed; figures per point are divided by it as well.
        repeats: passes timed, of which the median counts.
        options: further arguments of :func:`measure_equivariance`.

    Errors are given for SO(3) with the weights as they are and randomised, for turns about z and, where the grid has
    rotations that permute it, for those (randomised).

    Units: seconds, bytes; per point, nanoseconds and bytes for one of the grid's points.
    Raises: ValueError as :func:`measure_equivariance`.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}, expected at least 1")
    target = declared_target(module, grid) if target is None else target
    channels = declared_channels(module) if channels is None else channels
    common = {"target": target, "channels": channels, **options}
    runs: dict[str, dict[str, Any]] = {
        "SO(3), weights as they are": {"randomise": False},
        "SO(3)": {},
        "azimuthal": {"group": "azimuthal"},
    }
    if has_symmetries(grid, target):
        runs["permutations of the grid"] = {"group": "grid"}
    errors = {name: asdict(measure_equivariance(module, grid, **common, **how)) for name, how in runs.items()}

    module = copy.deepcopy(module).eval()
    x = _example(module, (batch, channels, *grid.shape))
    flops = count_flops(module, x)
    forward, both = measure_time(module, x, repeats=repeats)
    memory_forward, memory_both = measure_memory(module, x)
    points = batch * grid.num_points

    def per_point(total: float | None, unit: float = 1.0) -> float | None:
        return None if total is None else total / unit / points

    return {
        "module": type(module).__name__,
        "grid": str(grid),
        "target": str(target),
        "channels": channels,
        "batch": batch,
        "dtype": str(x.dtype).removeprefix("torch."),
        "equivariance": errors,
        "parameters": count_parameters(module),
        "flops_forward": flops,
        "seconds_forward": forward,
        "seconds_forward_backward": both,
        "peak_bytes_forward": memory_forward,
        "peak_bytes_forward_backward": memory_both,
        "per_point": {
            "flops_forward": per_point(flops),
            "nanoseconds_forward": per_point(forward, 1e-9),
            "nanoseconds_forward_backward": per_point(both, 1e-9),
            "bytes_forward": per_point(memory_forward),
            "bytes_forward_backward": per_point(memory_both),
        },
        "machine": machine_of(x),
    }


def _example(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device=like.device, dtype=like.dtype)


def format_table(result: dict[str, Any]) -> str:
    """The text that :func:`print_table` prints."""
    head = ("module", "grid", "target", "channels", "batch", "dtype")
    rows = [(name, str(result[name])) for name in head]
    for name, found in result["equivariance"].items():
        signals = "white noise" if found["lmax"] is None else f"l < {found['lmax']}"
        note = f"{signals}, by {found['method']}"
        if found["own"]:
            note += f", own error {found['own']:.1e} subtracted"
        rows.append((f"error, {name}", f"{found['error']:.2e}  ({note})"))
    rows.append(("parameters", f"{result['parameters']:,}"))
    each, gflop = result["per_point"], result["flops_forward"] / 1e9
    rows.append(("operations, forward", f"{gflop:.4g} GFLOP  ({each['flops_forward']:,.0f} a point)"))
    for name, key in (("forward", "forward"), ("forward + backward", "forward_backward")):
        time, size = 1e3 * result[f"seconds_{key}"], result[f"peak_bytes_{key}"]
        rows.append((f"time, {name}", f"{time:.4g} ms  ({each[f'nanoseconds_{key}']:,.0f} ns a point)"))
        memory = "not measured"
        if size is not None:
            memory = f"{size / 2**20:.4g} MiB  ({each[f'bytes_{key}']:,.0f} bytes a point)"
        rows.append((f"peak memory, {name}", memory))
    return aligned(rows, result["machine"])


def print_table(result: dict[str, Any]) -> None:
    """Print what :func:`report` returned."""
    print(format_table(result), flush=True)


def save_json(result: dict[str, Any], path: str | Path) -> Path:
    """Write a report as JSON; the file is whole or absent, and an older one stays until the new one is whole.

    Raises: TypeError for what JSON cannot hold, ValueError for numbers that are not finite, OSError from the disk.
    """
    return write_json(path, result, allow_nan=False)

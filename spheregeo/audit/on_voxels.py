r"""Equivariance on cubes of voxels under the symmetries of the cube: 24 rotations and as many reflections.

error² = Σ |y_Rf − D(R) y_f|² / Σ |y_Rf|², f being white noise. Nothing lies between voxels, so the figure is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.compare import Comparison
from spheregeo.audit.fields import FieldSpec
from spheregeo.groups import octahedral


def cube_rotations(group: str, count: int, generator: torch.Generator) -> Tensor:
    """Up to ``count`` symmetries of the cube other than the identity; in turn a reflection and a rotation for "o3"."""
    turns = octahedral().round()
    if group == "azimuthal":
        turns = turns[turns[:, 2, 2] == 1]
    still = (turns - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2)) < 0.5
    turns = turns[~still]
    turns = turns[torch.randperm(len(turns), generator=generator)[:count]]
    if group == "o3":
        turns[::2] *= -1
    return turns


def turn_volume(x: Tensor, rotation: Tensor) -> Tensor:
    """f(R⁻¹ p) on a cubic volume with axes x, y, z, for a symmetry R of the cube. Shape: (..., n, n, n) -> the same."""
    axes = [x.ndim - 3 + int(a) for a in rotation.abs().argmax(1)]
    x = x.permute(*range(x.ndim - 3), *axes)
    return x.flip([x.ndim - 3 + a for a in range(3) if rotation[a].sum() < 0])


def on_voxels(
    module: Any,
    shape: tuple[int, ...],
    turns: Tensor,
    fields: tuple[FieldSpec, FieldSpec | None],
    *,
    signals: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    prepare: Callable[[nn.Module, Tensor], Any] | None,
) -> Comparison:
    """Symmetries of the cube."""
    field_in, field_out = fields
    x = torch.randn(signals, field_in.dim, *shape, dtype=torch.float64, generator=generator)
    if prepare is not None:
        prepare(module, x.to(device, dtype))

    def output(values: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = module(values.to(device, dtype)).to("cpu", torch.float64)
        if y.ndim not in (2, 5) or (field_out is not None and y.shape[1] != field_out.dim):
            channels = "channels" if field_out is None else field_out.dim
            raise ValueError(f"the module returned shape {tuple(y.shape)}; expected (B, {channels}, n, n, n)")
        return y

    def turned(values: Tensor, field: FieldSpec | None, rotation: Tensor) -> Tensor:
        if values.ndim == 5:
            values = turn_volume(values, rotation)
        if field is None:
            return values
        return field.turn(values.flatten(2) if values.ndim == 5 else values[..., None], rotation).view_as(
            values
        )

    y, pairs = output(x), []
    for rotation in turns:
        moved = output(turned(x, field_in, rotation))
        expected = turned(y, field_out, rotation)
        pairs.append((float((moved - expected).square().sum()), float(moved.square().sum())))
    return Comparison(pairs)

r"""Equivariance on meshes: the surface is moved, the module runs on it, its output is moved back.

R turns the vertices, and every vertex gets another tangent frame at random, so the error of gauge-equivariant layers counts both.
A reflection mirrors the surface and turns its faces round. Nothing lies between vertices, so the figure is exact:
error² = Σ_i a_i |y_Rf,i − D(R) y_f,i|² / Σ_i a_i |y_Rf,i|², f being white noise.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.call import Called, gauge_extras
from spheregeo.audit.compare import Comparison, lifted, power
from spheregeo.audit.fields import FieldSpec
from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import ExactBuffers


def moved_mesh(mesh: TriangleMesh, rotation: Tensor, generator: torch.Generator) -> TriangleMesh:
    """The mesh with vertices R v, mirrored where R is a reflection, and with other tangent frames at random."""
    mirrored = torch.linalg.det(rotation) < 0
    first, second = (mesh.frames @ rotation.T).unbind(1)
    angle = 2 * math.pi * torch.rand(len(first), 1, dtype=torch.float64, generator=generator)
    cos, sin = torch.cos(angle), torch.sin(angle)
    second = -second if mirrored else second
    return TriangleMesh(
        mesh.points @ rotation.T,
        mesh.faces.flip(1) if mirrored else mesh.faces,
        normals=mesh.normals @ rotation.T,
        frames=torch.stack([cos * first + sin * second, cos * second - sin * first], 1),
    )


def on_another_grid(module: nn.Module, grid: Grid, other: Grid) -> nn.Module:
    """A copy of a module with the same weights, whose layers on ``grid`` live on ``other``.

    Raises: ValueError for a layer that is built for ``grid`` and cannot build its geometry anew.
    """
    module = copy.deepcopy(module)
    for name, layer in module.named_modules():
        kept = {key: getattr(layer, key, None) for key in ("source", "target", "grid")}
        held = [key for key, value in kept.items() if isinstance(value, Grid) and value == grid]
        for key in held:
            setattr(layer, key, other)
        if not held:
            continue
        if isinstance(layer, ExactBuffers):
            for constant in layer.rules():
                layer.rebuild(constant)
        elif layer._non_persistent_buffers_set:
            raise ValueError(
                f"layer {name or type(layer).__name__} is built for {grid!s} and cannot be moved to another; pass build=, a "
                "function that takes a mesh and returns the module on it"
            )
    return module


def on_mesh(
    module: Any,
    mesh: TriangleMesh,
    turns: Tensor,
    fields: tuple[FieldSpec, FieldSpec | None],
    *,
    signals: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    build: Callable[[Grid], nn.Module] | None,
    prepare: Callable[[nn.Module, Tensor], Any] | None,
) -> Comparison:
    """Motions of a surface. ``prepare`` is called with the module as a function of its features, and these."""
    field_in, field_out = fields
    x = torch.randn(signals, field_in.dim, mesh.num_points, dtype=torch.float64, generator=generator)
    at_home = Called(module, gauge_extras(module, mesh, dtype, device))
    if prepare is not None:
        prepare(at_home, x.to(device, dtype))
    components = field_in.lift(x, mesh.frames)

    def output(run: Callable[[Tensor], Tensor], surface: TriangleMesh, values: Tensor) -> Tensor:
        with torch.no_grad():
            y = run(values.to(device, dtype)).to("cpu", torch.float64)
        whole = y.ndim == 2
        y = y.unsqueeze(2).expand(-1, -1, surface.num_points) if whole else y.flatten(2)
        if y.shape[2] != surface.num_points:
            raise ValueError(
                f"the module returned shape {tuple(y.shape)}, expected one value for each vertex"
            )
        return y if field_out is None else lifted(y, field_out, surface, whole)

    y, pairs = output(at_home, mesh, x), []
    for rotation in turns:
        other = moved_mesh(mesh, rotation, generator)
        if build is not None:
            there: Any = build(other).to(dtype).to(device).eval()
            there.load_state_dict(module.state_dict())
        elif isinstance(module, nn.Module):
            there = on_another_grid(module, mesh, other)
        else:
            there = module
        run = Called(there, gauge_extras(module, other, dtype, device))
        moved = output(run, other, field_in.project(field_in.turn(components, rotation), other.frames))
        expected = y if field_out is None else field_out.turn(y, rotation)
        pairs.append((power(moved - expected, mesh.areas), power(moved, mesh.areas)))
    return Comparison(pairs)

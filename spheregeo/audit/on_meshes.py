r"""Equivariance on meshes: the surface is moved, the module runs on it, its output is moved back.

R turns the vertices, and every vertex gets another tangent frame at random, so the error of gauge-equivariant layers counts both.
A reflection mirrors the surface and turns its faces round. Nothing lies between vertices, so the figure is exact:
error² = Σ_i a_i |y_Rf,i − D(R) y_f,i|² / Σ_i a_i |y_Rf,i|², f being white noise.

Networks whose input is made of the shape are measured as functions of a mesh (:func:`measure_mesh_invariance`).
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.call import Called, gauge_extras
from spheregeo.audit.compare import Comparison, lifted, power
from spheregeo.audit.cost import count_parameters, machine_of
from spheregeo.audit.fields import FieldSpec
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import ExactBuffers
from spheregeo.sampling import random_rotations

Run = Callable[[nn.Module, TriangleMesh], Tensor]
KINDS = ("frames", "rotations", "reflections", "translations", "sizes", "permutations")


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


def _moved(mesh: TriangleMesh, kind: str, generator: torch.Generator) -> tuple[TriangleMesh, Tensor | None]:
    """A mesh that should look the same to a network, and, for another order of the vertices, each one's new place."""
    points, faces = mesh.points, mesh.faces
    if kind == "frames":
        return mesh.with_frames("random", seed=int(torch.randint(1 << 30, (1,), generator=generator))), None
    if kind == "rotations":
        return TriangleMesh(points @ random_rotations(1, generator=generator)[0].T, faces), None
    if kind == "reflections":
        return TriangleMesh(points * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64), faces.flip(1)), None
    if kind == "translations":
        return TriangleMesh(points + torch.randn(3, generator=generator, dtype=torch.float64), faces), None
    if kind == "sizes":
        return TriangleMesh(3.0 * points, faces), None
    order = torch.randperm(len(points), generator=generator)
    place = order.argsort()
    return TriangleMesh(points[order], place[faces]), place


@torch.no_grad()
def measure_mesh_invariance(
    module: nn.Module, run: Run, mesh: TriangleMesh, *, num: int = 2, randomise: bool = True, seed: int = 0
) -> dict[str, float]:
    """Relative change of a network's output by kind of change of a mesh, in float64. The module itself is left as it is.

    Args:
        module: a copy is measured, in eval mode.
        run: function of the module and a mesh that returns the output, (B, C) for the whole mesh or (1, C, V).
        mesh: the surface.
        num: changes of each kind, of which the worst counts.
        randomise: draw all parameters and norm statistics anew.
        seed: of changes and parameters.

    Example:
        >>> import trimesh
        >>> ball = trimesh.creation.icosphere(1)
        >>> mean = lambda module, mesh: module(mesh.areas[None])
        >>> found = measure_mesh_invariance(torch.nn.Linear(42, 2), mean, TriangleMesh(ball.vertices, ball.faces))
        >>> found["rotations"] < 1e-10 < found["sizes"]
        True
    """
    module = copy.deepcopy(module).double().eval()
    if randomise:
        module = randomise_(module, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    y = run(module, mesh)
    found = {}
    for kind in KINDS:
        errors = []
        for _ in range(num):
            other, place = _moved(mesh, kind, generator)
            z = run(module, other)
            z = z[..., place] if place is not None and z.ndim == 3 else z
            errors.append(float((z - y).norm() / y.norm().clamp_min(1e-300)))
        found[kind] = max(errors)
    return found


def report_meshes(module: nn.Module, run: Run, mesh: TriangleMesh, *, repeats: int = 3) -> dict[str, Any]:
    """Changes of the output, with the weights as they are and random, parameters, and the time of a step on one mesh.

    Args:
        module: a copy is audited.
        run: as for :func:`measure_mesh_invariance`.
        mesh: the surface.
        repeats: passes timed, of which the median counts.

    Units: seconds.
    """
    errors = {
        "weights as they are": measure_mesh_invariance(module, run, mesh, randomise=False),
        "random weights": measure_mesh_invariance(module, run, mesh),
    }
    module = copy.deepcopy(module).eval()
    times: dict[str, list[float]] = {"forward": [], "both": []}
    for k in range(repeats + 1):  # the first one builds what is kept
        begin = time.perf_counter()
        with torch.no_grad():
            run(module, mesh)
        middle = time.perf_counter()
        run(module, mesh).square().sum().backward()
        if k:
            times["forward"].append(middle - begin)
            times["both"].append(time.perf_counter() - middle)
    like = next(p for p in module.parameters())
    return {
        "module": type(module).__name__,
        "vertices": mesh.num_points,
        "invariance": errors,
        "parameters": count_parameters(module),
        "seconds_forward": statistics.median(times["forward"]),
        "seconds_forward_backward": statistics.median(times["both"]),
        "machine": machine_of(like),
    }


def print_meshes(result: dict[str, Any]) -> None:
    """Print what :func:`report_meshes` returned."""
    rows = [("module", result["module"]), ("vertices", f"{result['vertices']:,}")]
    for weights, found in result["invariance"].items():
        rows += [(f"change under {kind}, {weights}", f"{error:.2e}") for kind, error in found.items()]
    rows.append(("parameters", f"{result['parameters']:,}"))
    rows.append(("time, forward", f"{1e3 * result['seconds_forward']:.4g} ms"))
    rows.append(("time, forward + backward", f"{1e3 * result['seconds_forward_backward']:.4g} ms"))
    at = result["machine"]
    rows.append(("measured on", f"{at['device']}, {at['threads']} threads, torch {at['torch']}"))
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows), flush=True)

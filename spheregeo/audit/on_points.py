r"""Equivariance on clouds of points: x ↦ R x + t, t random and of the cloud's size.

Layers keep their edges, networks find theirs anew.
error² = Σ |y_Rf − D(R) y_f|² / Σ |y_Rf|², f being white noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.call import Called
from spheregeo.audit.compare import Comparison
from spheregeo.audit.fields import FieldSpec
from spheregeo.nn.space import EdgeGeometry, RadialBasis
from spheregeo.sampling import radius_graph

NEIGHBORS = 12  # of the edges made where none are given, about


def default_edges(positions: Tensor, radius: float | None) -> tuple[Tensor, float]:
    """Edges between points within a radius, and that radius; by default some twelve neighbours for each point."""
    if radius is None:
        distances = torch.cdist(positions.double(), positions.double()).sort(1).values
        radius = float(distances[:, min(NEIGHBORS, len(positions) - 1)].median())
    found = radius_graph(positions, radius)
    edges: Tensor = found if isinstance(found, Tensor) else found[0]
    return edges, radius


def on_points(
    module: Any,
    positions: Tensor,
    turns: Tensor,
    fields: tuple[FieldSpec, FieldSpec | None],
    *,
    dtype: torch.dtype,
    generator: torch.Generator,
    features: Tensor | None,
    batch: Tensor | None,
    edge_index: Tensor | None,
    radius: float | None,
    prepare: Callable[[nn.Module, Tensor], Any] | None,
) -> Comparison:
    """Motions of a cloud, for networks with ``neighbors(positions, batch)`` and for layers of features and edges."""
    field_in, field_out = fields
    device, count = positions.device, len(positions)
    home = positions.to("cpu", torch.float64)
    whole_numbers = features is not None and not features.is_floating_point()
    f = torch.randn(count, field_in.dim, dtype=torch.float64, generator=generator)
    if features is not None and not whole_numbers:
        f = features.to("cpu", torch.float64)
        if f.shape != (count, field_in.dim):
            raise ValueError(
                f"features has shape {tuple(f.shape)}; expected ({count}, {field_in.dim}), fields of type {field_in!s}"
            )
    is_network = callable(getattr(module, "neighbors", None))
    if edge_index is None and not is_network:
        edge_index, radius = default_edges(positions, radius)
    scale = float((home - home.mean(0)).norm(dim=1).max())

    def run_at(place: Tensor, values: Tensor, rotation: Tensor) -> tuple[nn.Module, Tensor]:
        place, values = place.to(device, dtype), values.to(device, dtype)
        given: Any = features if whole_numbers else values
        if is_network:
            run = _Network(module, place, batch, None if given.shape[1:] == (0,) else given)
            return run, place
        assert edge_index is not None
        geometry = EdgeGeometry.of(place, edge_index)
        extras: dict[str, Any] = {
            "positions": place, "edge_index": edge_index, "geometry": geometry, "batch": batch,
            "edge_features": lambda size: _distances(geometry, size, radius),
            "attributes": lambda irreps: _attributes(irreps, geometry.num_edges, rotation).to(place),
        }  # fmt: skip
        return Called(module, extras), given

    still = torch.eye(3, dtype=torch.float64)
    run, argument = run_at(home, f, still)
    if prepare is not None:
        prepare(run, argument)

    def output(run: nn.Module, argument: Tensor) -> Tensor:
        with torch.no_grad():
            y = run(argument).to("cpu", torch.float64)
        if y.ndim != 2 or (field_out is not None and y.shape[1] != field_out.dim):
            kind = "" if field_out is None else f", fields of type {field_out!s}"
            columns = "columns" if field_out is None else field_out.dim
            raise ValueError(f"the module returned shape {tuple(y.shape)}; expected (rows, {columns}){kind}")
        return y.T  # components, rows

    y, pairs = output(run, argument), []
    for rotation in turns:
        shift = scale * torch.randn(3, dtype=torch.float64, generator=generator)
        moved = output(*run_at(home @ rotation.T + shift, field_in.turn(f.T, rotation).T, rotation))
        expected = y if field_out is None else field_out.turn(y, rotation)
        pairs.append((float((moved - expected).square().sum()), float(moved.square().sum())))
    return Comparison(pairs)


class _Network(nn.Module):
    """A network of points with its search for neighbours, as a function of the positions."""

    def __init__(self, module: Any, positions: Tensor, batch: Tensor | None, features: Tensor | None) -> None:
        super().__init__()
        self.module, self.features = module, features
        self.batch = torch.zeros_like(positions[:, 0], dtype=torch.int64) if batch is None else batch

    def forward(self, positions: Tensor) -> Tensor:
        graph = self.module.neighbors(positions, self.batch)
        result: Tensor = self.module(positions, self.features, self.batch, graph)
        return result


def _distances(geometry: EdgeGeometry, size: int, radius: float | None) -> Tensor:
    reach = float(geometry.lengths.detach().max()) if radius is None else radius
    basis: Tensor = RadialBasis(reach * 1.001, size).to(geometry.lengths)(geometry.lengths)
    return basis


def _attributes(irreps: Any, edges: int, rotation: Tensor) -> Tensor:
    """White noise on each edge, turned."""
    field = FieldSpec.of(irreps)
    noise = torch.randn(field.dim, edges, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return field.turn(noise, rotation).T

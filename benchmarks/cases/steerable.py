"""`SteerableConv` beside e3nn's tensor products, everything included: harmonics, gather, product, scatter, all gradients.

Rows by the kind of weights: "shared" is `FullyConnectedTensorProduct` with one weight matrix a path; "edge" has a matrix for
every edge, made by a network of its length; "depthwise" one number for every edge, path and channel, mixed at points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.nn import SteerableConv
from spheregeo.nn.space import EdgeList

CHANNELS, DEGREE, HIDDEN = 32, 20, 8
Network = nn.Sequential


class EdgeConfiguration(PointConfiguration):
    """A configuration that counts edges."""

    def count(self) -> int:
        return DEGREE * self.points


class Problem:
    """A random graph, features of degrees 0 ... lmax, and a network from an edge's length to numbers."""

    def __init__(self, edges: int, lmax: int, channels: int = CHANNELS) -> None:
        torch.manual_seed(0)
        self.points, self.lmax = edges // DEGREE, lmax
        self.irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
        self.positions = torch.randn(self.points, 3)
        source = torch.randint(0, self.points, (edges,))
        target = torch.arange(self.points).repeat_interleave(DEGREE)
        self.edge_index = torch.stack([source, (target + (source == target)) % self.points])
        self.edge_index = self.edge_index[:, torch.argsort(self.edge_index[1], stable=True)]
        self.x = torch.randn(
            self.points, sum(channels * (2 * l + 1) for l in range(lmax + 1))
        ).requires_grad_()

    def lengths(self) -> Tensor:
        return (self.positions[self.edge_index[0]] - self.positions[self.edge_index[1]]).norm(
            dim=1, keepdim=True
        )


def network(outputs: int) -> Network:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs, bias=False))


def ours(kind: str, edges: int, lmax: int) -> Callable[[], Work]:
    def build() -> Work:
        problem = Problem(edges, lmax)
        graph = EdgeList.of(problem.edge_index, problem.points)
        options = {"edge_dim": None if kind == "shared" else HIDDEN, "depthwise": kind == "depthwise"}
        conv = SteerableConv(problem.irreps, problem.irreps, lmax=lmax, num_neighbors=DEGREE, **options)
        hidden = network(1)[:2]  # its last layer is the convolution's own weights

        def forward() -> Tensor:
            features = None if kind == "shared" else hidden(problem.lengths())
            y: Tensor = conv(problem.x, problem.positions, graph, edge_features=features)
            return y

        own = [] if kind == "shared" else list(hidden.parameters())
        return Work(forward, (problem.x, *conv.parameters(), *own))

    return build


def peer(kind: str, edges: int, lmax: int) -> Callable[[], Work]:
    def build() -> Work:
        from e3nn import o3

        problem = Problem(edges, lmax)
        irreps, harmonics = o3.Irreps(problem.irreps), o3.Irreps.spherical_harmonics(lmax)
        source, target = problem.edge_index
        mixing: o3.Linear | None = None
        if kind == "depthwise":
            products = [
                (i, j, ir)
                for i, (_, a) in enumerate(irreps)
                for j, (_, b) in enumerate(harmonics)
                for ir in a * b
                if ir in irreps
            ]
            middle = o3.Irreps([(CHANNELS, ir) for *_, ir in products])
            instructions = [(i, j, k, "uvu", True) for k, (i, j, _) in enumerate(products)]
            product = o3.TensorProduct(
                irreps, harmonics, middle, instructions, shared_weights=False, internal_weights=False
            )
            mixing = o3.Linear(middle, irreps)
        else:
            product = o3.FullyConnectedTensorProduct(
                irreps, harmonics, irreps, shared_weights=kind == "shared", internal_weights=kind == "shared"
            )
        weights = None if kind == "shared" else network(product.weight_numel)

        def forward() -> Tensor:
            vectors = problem.positions[source] - problem.positions[target]
            y = o3.spherical_harmonics(harmonics, vectors, True, "component")
            given = () if weights is None else (weights(problem.lengths()),)
            messages = product(problem.x[source], y, *given)
            out = messages.new_zeros(problem.points, messages.shape[1]).index_add(0, target, messages)
            return out if mixing is None else mixing(out)

        modules = [m for m in (product, mixing, weights) if m is not None]
        return Work(forward, (problem.x, *(p for m in modules for p in m.parameters())))

    return build


def agree(kind: str, edges: int, lmax: int, works: dict[str, Work]) -> None:
    """Raise unless a layer with e3nn's weights gives what e3nn gives; other kinds share the code and are tested elsewhere."""
    if kind != "shared":
        return
    from e3nn import o3

    problem = Problem(edges, lmax)
    conv = SteerableConv(problem.irreps, problem.irreps, lmax=lmax, num_neighbors=DEGREE)
    product, harmonics = conv.to_e3nn(), o3.Irreps.spherical_harmonics(lmax)
    with torch.no_grad():
        source, target = problem.edge_index
        vectors = problem.positions[source] - problem.positions[target]
        messages = product(problem.x[source], o3.spherical_harmonics(harmonics, vectors, True, "component"))
        expected = messages.new_zeros(problem.points, messages.shape[1]).index_add(0, target, messages)
        found = conv(problem.x, problem.positions, problem.edge_index)
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, f"the layer differs from e3nn's by {error:.1e}"


def configuration(kind: str, edges: int, lmax: int, small: PointConfiguration | None) -> PointConfiguration:
    builders = {"spheregeo": ours(kind, edges, lmax), "e3nn": peer(kind, edges, lmax)}
    points = edges // DEGREE
    return EdgeConfiguration(
        "steerable", f"{points} points, {DEGREE} neighbours", f"{kind}, l <= {lmax}", points, CHANNELS, builders, small,
        partial(agree, kind, edges, lmax),
    )  # fmt: skip


def cases() -> list[PointConfiguration]:
    every = (
        ("shared", 20_000, 2), ("shared", 20_000, 4), ("shared", 2_000, 6), ("edge", 20_000, 2), ("depthwise", 20_000, 2),
    )  # fmt: skip
    return [
        configuration(kind, edges, lmax, configuration(kind, 400, lmax, None)) for kind, edges, lmax in every
    ]

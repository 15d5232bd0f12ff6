"""Clouds full of special cases, the three engines, and neighbours found one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spheregeo.sampling.points import cells, tree


def clouds() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    lattice = torch.cartesian_prod(*[torch.arange(5.0)] * 3)
    return {
        "random": torch.rand(110, 3, generator=g),
        "clustered": torch.cat([torch.rand(60, 3, generator=g) * 1e-3, torch.rand(50, 3, generator=g)]),
        "collinear": torch.linspace(0, 1, 100)[:, None] * torch.tensor([[1.0, -2.0, 0.5]]),
        "planar": torch.rand(100, 3, generator=g) * torch.tensor([1.0, 1.0, 0.0]),
        "duplicates": torch.rand(25, 3, generator=g).repeat(4, 1),
        "one place": torch.full((60, 3), 0.3),
        "lattice": lattice,
        "sphere": torch.nn.functional.normalize(torch.randn(100, 3, generator=g), dim=1),
    }


CLOUDS = clouds()


@pytest.fixture(params=list(CLOUDS), ids=str)
def cloud(request: pytest.FixtureRequest) -> Tensor:
    return CLOUDS[request.param]


@pytest.fixture(params=["pairs", "tree", "cells"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which search runs on CPU tensors; chunks are made small."""
    monkeypatch.setattr(cells, "CANDIDATES", 3000)
    monkeypatch.setattr(tree, "ROWS", 40)
    monkeypatch.setattr(tree, "PAIRS", 2**62 if request.param == "pairs" else 0)
    if request.param == "cells":
        monkeypatch.setattr(tree, "search", cells.search)
    return str(request.param)


def in_turn(
    positions: Tensor,
    batch: Tensor | None = None,
    cutoff: float = math.inf,
    k: int | None = None,
    *,
    ties: str = "index",
    loop: bool = False,
) -> Tensor:
    """Edges by looking at every pair, one target after another, with the tie rule as the documentation states it."""
    unit = 2.0**-34 if positions.dtype == torch.float64 else 2.0**-19
    x = positions.double()
    batch = torch.zeros(len(x), dtype=torch.int64) if batch is None else batch
    edges = []
    for t in range(len(x)):
        members = (batch == batch[t]).nonzero()[:, 0]
        size = float((x[members] - x[members].mean(0)).norm(dim=1).max())
        tau = unit * 2.0 ** math.ceil(math.log2(1.2 * size)) if size > 1e-15 and ties != "exact" else 0.0
        near = sorted(zip((x[members] - x[t]).norm(dim=1).tolist(), members.tolist()))
        near = [(d, s) for d, s in near if s != t and d <= cutoff + min(tau, cutoff / 1024)]
        classes: list[list[int]] = [[t]] if loop else []
        last = -1.0
        for d, s in near:
            if d - last > min(tau, d / 1024):
                classes.append([])
            classes[-1].append(s)
            last = d
        row: list[int] = []
        for same in classes:
            if k is not None and len(row) >= k:
                break
            row += sorted(same)
        edges += [(s, t) for s in (row if ties == "all" else row[:k])]
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T


@pytest.fixture(scope="session")
def slow() -> Callable[..., Tensor]:
    """The slow search; engines that are asked the same share its answer."""
    known: dict[tuple[object, ...], Tensor] = {}

    def search(positions: Tensor, batch: Tensor | None = None, *rest: object, **options: object) -> Tensor:
        graphs = b"" if batch is None else batch.numpy().tobytes()
        key = (
            positions.double().numpy().tobytes(),
            positions.shape,
            positions.dtype,
            graphs,
            rest,
            tuple(sorted(options.items())),
        )
        if key not in known:
            known[key] = in_turn(positions, batch, *rest, **options)  # type: ignore[arg-type]
        return known[key]

    return search

"""``ImplicitConv`` beside the same kernels made into a matrix for each pair: 1250 points, 16 neighbours, 16 channels of l <= 2.

The peer multiplies matrix and neighbour block by block of irreps, the cheapest order once matrices exist; it takes the layer's
own parameters, so both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.nn import ImplicitConv

IRREPS, NEIGHBOURS = "16x0e + 16x1o + 16x2e", 16
OPTIONS = {"gate": {}, "product": {"nonlinearity": "product"}}


class OnGraph(PointConfiguration):
    """A configuration that counts edges."""

    def count(self) -> int:
        return self.points * NEIGHBOURS


def problem(points: int, kind: str) -> tuple[ImplicitConv, Tensor, Tensor, Tensor]:
    """The layer, features, positions and edges to the nearest neighbours."""
    torch.manual_seed(0)
    positions = torch.rand(points, 3) * points ** (1 / 3)
    near = torch.cdist(positions, positions).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
    edges = torch.stack([near.reshape(-1), torch.arange(points).repeat_interleave(NEIGHBOURS)])
    layer = ImplicitConv(IRREPS, IRREPS, radius=2.0, bias=False, **OPTIONS[kind])  # type: ignore[arg-type]
    return layer, torch.randn(points, layer.irreps_in.dim, requires_grad=True), positions, edges


def ours(points: int, kind: str) -> Callable[[], Work]:
    def build() -> Work:
        layer, x, positions, edges = problem(points, kind)
        return Work(lambda: layer(x, positions, edges), (x, *layer.parameters()))

    return build


def materialised(points: int, kind: str) -> Callable[[], Work]:
    def build() -> Work:
        layer, x, positions, edges = problem(points, kind)
        source, target = edges
        coupling = layer.coupling

        def forward() -> Tensor:
            hidden = layer.hidden_values(positions[source] - positions[target], None)
            sent = [part.index_select(0, source) for part in coupling.inside.split(x)]
            messages: dict[int, Tensor] = {}
            for out, into, block in coupling.blocks(hidden):
                for m in range(
                    block.shape[1]
                ):  # block (E, components in, components out, channels out, channels in)
                    y = torch.bmm(block[:, m].flatten(1, 2), sent[into][:, m, :, None])[..., 0]
                    messages[out] = messages[out] + y if out in messages else y
            parts = [messages[k].unflatten(1, (ir.dim, -1)) for k, ir in enumerate(coupling.outside.irs)]
            joined = coupling.outside.join(parts)
            return joined.new_zeros(points, joined.shape[1]).index_add(0, target, joined) / NEIGHBOURS

        return Work(forward, (x, *layer.parameters()))

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same values."""
    with torch.no_grad():
        fast, slow = (works[name].forward() for name in ("spheregeo", "materialised"))
    difference = float((fast - slow).abs().max() / slow.abs().max())
    assert difference < 1e-4, f"outputs differ by {difference}"


def configuration(points: int, kind: str, small: OnGraph | None) -> OnGraph:
    builders = {"spheregeo": ours(points, kind), "materialised": materialised(points, kind)}
    space = f"{points} points, {NEIGHBOURS} neighbours"
    return OnGraph("implicit_conv", space, f"{kind}, l <= 2", points, 16, builders, small, agree)


def cases() -> list[OnGraph]:
    return [configuration(1250, kind, configuration(40, kind, None)) for kind in OPTIONS]

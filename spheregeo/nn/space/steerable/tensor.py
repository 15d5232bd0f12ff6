"""The steerable convolution by e3nn's tensor product: messages on every edge, then a sum. The slow twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.space.steerable.paths import PathTable

if TYPE_CHECKING:
    from spheregeo.nn.space.geometry import EdgeGeometry


def tensor_convolution(
    table: PathTable, weights: Sequence[Tensor], factor: Tensor | None, x: Sequence[Tensor], geometry: EdgeGeometry,
    edge_features: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Sum over each target's edges of products with the edges' harmonics, one Clebsch-Gordan contraction per path and edge.

    Args:
        table: the products.
        weights: (H, rows, copies) of each reached output stack, scaled as they are to be used.
        factor: of depthwise products (F, channels of all paths), by which edge features are multiplied to give each channel of a
            path its weight; None for others.
        x: stacks (N_s, 2 l + 1, copies) of the sources.
        geometry: the edges.
        edge_features: (E, H), (E, F) for depthwise products, or None.

    Shape: returns the reached output stacks, (N_t, 2 l + 1, copies).
    Equivariance: O(3), exact.
    """
    source, harmonics = geometry.edges.source, geometry.harmonics(table.lmax)
    given, dtype = x[0].dtype, torch.promote_types(x[0].dtype, harmonics.dtype)
    stacks = [part.index_select(0, source).to(dtype) for part in x]
    pair, channel = edge_features, 0
    if pair is not None and factor is not None:
        pair = pair @ factor
    reached = {t: k for k, t in enumerate(table.reached)}
    # weights of depthwise products lie in the order of the paths
    out: list[Tensor | None] = [None] * len(reached)
    for path in table.paths:
        l1, l3 = table.sources[path.source].l, table.targets[path.target].l
        c = clebsch_gordan(l1, path.degree, l3).to(stacks[0]) * (2 * l3 + 1) ** 0.5
        y = harmonics[:, path.degree**2 : (path.degree + 1) ** 2].to(dtype)
        message = torch.einsum("abc,eau,eb->ecu", c, stacks[path.source], y)
        k = reached[path.target]
        weight = weights[k][:, path.row : path.row + path.copies].to(message.dtype)
        if factor is not None:
            assert pair is not None
            message = message * pair[:, None, channel : channel + path.copies]
            channel += path.copies
            mixed = message @ weight[0]
        elif pair is None:
            mixed = message @ weight[0]
        else:
            mixed = torch.einsum("ecu,eh,huw->ecw", message, pair, weight)
        before = out[k]
        out[k] = mixed if before is None else before + mixed
    sums = [geometry.scatter(part) for part in out if part is not None]
    return sums if given == dtype else [part.to(given) for part in sums]

"""Products of steerable convolutions written out, number by number: what a compiler turns into a few loops over edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.space.steerable.paths import PathTable

if TYPE_CHECKING:
    from spheregeo.nn.space.geometry import EdgeGeometry


class WrittenPath(NamedTuple):
    """One product in plain numbers, which compilers read.

    Args:
        source: place of the input stack.
        target: place among the reached output stacks.
        components: of the output.
        channel: where the copies' edge weights begin.
        copies: number of copies.
        entries: (component of the input, harmonic, component of the output, coefficient) of each product of two numbers.

    Example:
        >>> WrittenPath(0, 0, 1, 0, 4, ((0, 0, 0, 1.0),)).copies
        4
    """

    source: int
    target: int
    components: int
    channel: int
    copies: int
    entries: tuple[tuple[int, int, int, float], ...]


def written_out(table: PathTable) -> tuple[WrittenPath, ...]:
    """All products of a table in plain numbers, in the order of their edge weights."""
    reached, channel, found = {t: k for k, t in enumerate(table.reached)}, 0, []
    for path in table.paths:
        l1, l3 = table.sources[path.source].l, table.targets[path.target].l
        c = clebsch_gordan(l1, path.degree, l3) * (2 * l3 + 1) ** 0.5
        entries = tuple((a, path.degree**2 + b, k, float(c[a, b, k])) for a, b, k in c.nonzero().tolist())
        found.append(
            WrittenPath(path.source, reached[path.target], 2 * l3 + 1, channel, path.copies, entries)
        )
        channel += path.copies
    return tuple(found)


def unrolled_convolution(
    paths: Sequence[WrittenPath], weights: Sequence[Tensor], x: Sequence[Tensor], harmonics: Tensor,
    geometry: EdgeGeometry, pair: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Sum over each target's edges of products with the edges' harmonics, then mix the copies at the targets.

    Args:
        paths: the products, as :func:`written_out` gives them.
        weights: (rows, copies) of each reached output stack, scaled as they are to be used.
        x: stacks (N_s, 2 l + 1, copies) of the sources.
        harmonics: of the edges, (E, (lmax + 1)²).
        geometry: the edges.
        pair: weights of the edges, (E, channels of all paths); None for ones.

    Shape: returns the reached output stacks, (N_t, 2 l + 1, copies).
    Equivariance: O(3), exact.
    """
    stacks = [part.index_select(0, geometry.edges.source) for part in x]
    found: list[list[Tensor]] = [[] for _ in weights]
    for source, target, components, channel, copies, entries in paths:
        sums: list[Tensor | None] = [None] * components
        given = stacks[source]
        for a, b, k, coefficient in entries:
            term = given[:, a] * (coefficient * harmonics[:, b, None])
            before = sums[k]
            sums[k] = term if before is None else before + term
        own = [torch.zeros_like(given[:, 0]) if part is None else part for part in sums]
        if pair is not None:
            weight = pair[:, channel : channel + copies]
            own = [part * weight for part in own]
        found[target].append(torch.stack(own, 1))
    return [
        geometry.scatter(torch.cat(parts, 2)) @ weight for parts, weight in zip(found, weights, strict=True)
    ]

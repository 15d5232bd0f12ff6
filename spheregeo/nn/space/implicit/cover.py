r"""Covers of edges by geometry: which edges are so alike that one evaluation of a kernel network serves them all.

What tells edges apart is what the group leaves as it is: for O(3) and SO(3) the length, for a finite group the vector carried
into a fixed sector of space, r₀ = h⁻¹ r with the h for which r₀ points most along a generic axis. A function on the group that
the network gives for r is the one for r₀ with its values permuted, f(h r₀)[g] = f(r₀)[h⁻¹ g], so edges of different sectors share
it. Covers depend on positions and attributes and on no weight: one is made for a cloud.
Reference: after the idea of Franzen, Filling & Wand 2026, arXiv:2605.15368; features and cells are this library's choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from spheregeo.groups import multiplication_table
from spheregeo.harmonics import wigner_D
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.feature_cover import feature_cover

AXIS = (0.8613, 0.4571, 0.2219)  # generic: no element of a group fixes it but the identity


class EdgeCover(NamedTuple):
    """Edges that stand for all others.

    Args:
        kept: the edges at which the network is evaluated.
        which: of ``kept``, the place of the one that stands for an edge.
        element: of a finite group, that which carries an edge's vector out of the sector; None for O(3) and SO(3).

    Shape: kept (C,), which (E,), element (E,), int64.

    Example:
        >>> cover = edge_cover(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0]]), None, 0.1, radius=2.0)
        >>> cover.kept, cover.which
        (tensor([0, 2]), tensor([0, 0, 1]))
    """

    kept: Tensor
    which: Tensor
    element: Tensor | None


class Shared(NamedTuple):
    """Values of a kernel network at the edges kept, with the cover's rows of the edges in question."""

    values: Tensor
    which: Tensor
    element: Tensor | None

    def rows(self, begin: int, end: int) -> Shared:
        """Some of the edges."""
        element = None if self.element is None else self.element[begin:end]
        return Shared(self.values, self.which[begin:end], element)


class Sectors(ExactBuffers):
    """A sector of space that a finite group carries over all of it, and the way there and back.

    Args:
        group: matrices.
        attributes: irreps of what turns with the vectors; None for nothing.

    Shape: group (G, 3, 3).
    """

    def __init__(self, group: Tensor, attributes: Irreps | None) -> None:
        super().__init__()
        table = multiplication_table(group)
        identity = int((table == torch.arange(len(table))).all(1).nonzero()[0])
        inverse = (table == identity).nonzero()[:, 1]
        self.register_buffer("step", table[inverse], persistent=False)  # step[h, g] = h⁻¹ g
        self.keep("matrices", group.to(torch.float64))
        axis = torch.tensor(AXIS, dtype=torch.float64)
        self.keep("axes", group.to(torch.float64) @ axis)
        # coordinates in which vectors are compared; the first, by which members of a cell are ranked, is generic
        self.keep("basis", torch.linalg.qr(torch.stack([axis, *torch.eye(3, dtype=torch.float64)[:2]], 1)).Q)
        if attributes is not None:
            self.keep("turns", wigner_D(attributes, group))
        self.key = group.to(torch.float64).numpy().tobytes()

    def element(self, vectors: Tensor) -> Tensor:
        """The element that carries each vector out of the sector. Shape: (E, 3) -> (E,) int64."""
        return (vectors.double() @ self.exact("axes").to(vectors.device).T).argmax(1)

    def inside(
        self, vectors: Tensor, attributes: Tensor | None, element: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors and attributes carried into the sector, h⁻¹ r and ρ(h)⁻¹ a. Shape: (E, 3), (E, A) as they came."""
        turned = _turned_back(self.get_buffer("matrices"), vectors, element)
        if attributes is None:
            return turned, None
        return turned, _turned_back(self.get_buffer("turns"), attributes, element)

    def permuted(self, shared: Shared) -> Tensor:
        """Functions on the group at each edge from those at the edges kept. Shape: values (C, R, G) -> (E, R, G)."""
        assert shared.element is not None
        values = shared.values.index_select(0, shared.which)
        order = self.get_buffer("step").index_select(0, shared.element)[:, None].expand_as(values)
        return values.gather(2, order)


def _turned_back(matrices: Tensor, v: Tensor, element: Tensor) -> Tensor:
    return torch.einsum("eba,eb->ea", matrices.to(v.dtype).index_select(0, element), v)


def edge_cover(
    vectors: Tensor,
    attributes: Tensor | None,
    epsilon: float,
    *,
    radius: float,
    sectors: Sectors | None = None,
    all_kept: bool = False,
) -> EdgeCover:
    """Return which edges stand for the others.

    Args:
        vectors: of the edges.
        attributes: of the edges; scalars unless ``sectors`` turn them. Those of a cell differ by less than ``epsilon``.
        epsilon: side of a cell of lengths, or of vectors in the sector, in units of the radius.
        radius: unit of length.
        sectors: of a finite group; None for O(3) and SO(3).
        all_kept: repeats the edge that stands for others for each of them, so that shapes are known beforehand.

    Shape: vectors (E, 3), attributes (E, A).
    """
    with torch.no_grad():
        element = None
        vectors = vectors.detach().double()
        attributes = None if attributes is None else attributes.detach().double()
        if sectors is None:
            geometric = vectors.norm(dim=1, keepdim=True)
        else:
            element = sectors.element(vectors)
            geometric, attributes = sectors.inside(vectors, attributes, element)
            geometric = geometric @ sectors.exact("basis").to(vectors.device)
        features = [geometric / radius] + ([] if attributes is None else [attributes])
        found = feature_cover(torch.cat(features, 1)[None], epsilon, scale=1.0)[0]
        if all_kept:
            return EdgeCover(found, torch.arange(len(found), device=found.device), element)
        kept, which = torch.unique(found, return_inverse=True)
        return EdgeCover(kept, which, element)

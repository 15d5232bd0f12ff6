"""Edges between points as steerable layers read them: vectors, harmonics and frames, made once and shared by all layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spheregeo.harmonics import component_harmonics, unpack_wigner, wigner_to_y
from spheregeo.sparse import Pairs, Rows

MANY_POINTS = 1 << 15  # from here on features of all points leave the cache


class EdgeList(NamedTuple):
    """Edges sorted by target, with the way back: everything about a graph that does not move with its points.

    :meth:`of` makes one from an ``edge_index`` in any order.

    Args:
        pairs: the edges in the order of their targets, see :class:`~spheregeo.sparse.Pairs`.
        target: of each edge.
        shift: added to the vector of each edge, the lattice vectors of periodic systems; None for none.

    Shape: target (E,) int64; shift (E, 3).
    Units: shift in the unit of positions.

    Example:
        >>> edges = EdgeList.of(torch.tensor([[0, 1, 2], [1, 0, 1]]), num_source=3)
        >>> edges.edge_index
        tensor([[1, 0, 2],
                [0, 1, 1]])
    """

    pairs: Pairs
    target: Tensor
    shift: Tensor | None = None

    @property
    def source(self) -> Tensor:
        return self.pairs.sources

    @property
    def edge_index(self) -> Tensor:
        """(2, E) as PyG has it: sources, targets."""
        return torch.stack([self.pairs.sources, self.target])

    @classmethod
    def of(
        cls,
        edge_index: Tensor,
        num_source: int,
        num_target: int | None = None,
        shift: Tensor | None = None,
        *,
        positions: Tensor | None = None,
    ) -> EdgeList:
        """Edges in any order. ``num_target=None``: targets are the sources.

        ``positions`` (N_t, 3) of the targets let many of them be worked on in an order that keeps neighbours in cache.

        Raises: ValueError for another shape or dtype, or indices outside the points.
        """
        num_target = num_source if num_target is None else num_target
        _check_edges(edge_index, num_source, num_target, shift)
        source, target = edge_index
        if target.numel() and bool((target[1:] < target[:-1]).any()):
            order = torch.argsort(target, stable=True)
            source, target = source[order], target[order]
            shift = None if shift is None else shift[order]
        pairs = Pairs.of(source.contiguous(), target.contiguous(), num_source, num_target)
        if positions is not None and num_target >= MANY_POINTS:
            pairs = pairs._replace(order=curve_order(positions))
        return cls(pairs, target, shift)


def curve_order(positions: Tensor) -> Tensor:
    """Points (N, 3) along a Morton curve through 2^10 cells an axis: neighbours in the order are neighbours in space, mostly."""
    points = positions.detach().double()
    low = points.amin(0)
    cells = ((points - low) / (points.amax(0) - low).amax().clamp_min(1e-300) * 1023).long()
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        cells = (cells | (cells << shift)) & mask  # two zeros between any two bits
    return torch.argsort(cells[:, 0] | (cells[:, 1] << 1) | (cells[:, 2] << 2))


def _check_edges(edge_index: Tensor, num_source: int, num_target: int, shift: Tensor | None) -> None:
    if edge_index.ndim != 2 or edge_index.shape[0] != 2 or edge_index.dtype != torch.int64:
        raise ValueError(
            f"edge_index has shape {tuple(edge_index.shape)} and dtype {edge_index.dtype}; expected (2, E) int64"
        )
    if edge_index.shape[1]:
        low, high = edge_index.amin(1), edge_index.amax(1)
        if bool((low < 0).any()) or int(high[0]) >= num_source or int(high[1]) >= num_target:
            raise ValueError(
                f"edge_index runs from {int(low.min())} to {int(high[0])} (sources) and {int(high[1])} (targets); there are "
                f"{num_source} source and {num_target} target points"
            )
    if shift is not None and tuple(shift.shape) != (edge_index.shape[1], 3):
        raise ValueError(
            f"shift has shape {tuple(shift.shape)}; expected ({edge_index.shape[1]}, 3), one for each edge"
        )
    if shift is not None and not shift.is_floating_point():
        raise ValueError(
            f"shift is {shift.dtype}; expected lengths: cell counts of periodic_radius_graph times the cell's vectors"
        )


class EdgeGeometry:
    """Edge vectors r = x_source - x_target and what layers derive from them, each computed at its first use and then kept.

    Build it once in a forward pass and hand it to every layer: harmonics, lengths and frames are then shared.

    Args:
        vectors: (E, 3); gradients flow through them to the positions.
        edges: the graph they belong to.

    Equivariance: vectors turn with the points and do not see translations.

    Example:
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]]))
        >>> geometry.lengths.shape, geometry.harmonics(2).shape
        (torch.Size([3]), torch.Size([3, 9]))
    """

    def __init__(self, vectors: Tensor, edges: EdgeList) -> None:
        self.vectors, self.edges = vectors, edges
        self._harmonics: Tensor | None = None
        self._lengths: Tensor | None = None
        self._apart: bool | None = None
        self._frames: list[Tensor] | None = None
        self._rows: tuple[Rows, Rows] | None = None
        self.covers: dict[Hashable, Any] = {}  # of edges by alike ones, by what made them

    @classmethod
    def of(
        cls,
        positions: Tensor | tuple[Tensor, Tensor],
        edges: Tensor | EdgeList,
        *,
        shift: Tensor | None = None,
    ) -> EdgeGeometry:
        """The geometry of edges between points.

        Args:
            positions: (N, 3), or a pair for sources and targets that differ.
            edges: edge_index (2, E), or an :class:`EdgeList`.
            shift: (E, 3), added to the sources' positions: the lattice vectors of periodic systems. An ``EdgeList`` has its own.

        Raises: ValueError for shapes that do not fit.
        """
        source, target = positions if isinstance(positions, tuple) else (positions, positions)
        for name, p in (("positions", source), ("positions[1]", target)):
            if p.ndim != 2 or p.shape[1] != 3 or not p.is_floating_point():
                raise ValueError(
                    f"{name} has shape {tuple(p.shape)} and dtype {p.dtype}; expected (points, 3), floating"
                )
        if isinstance(edges, Tensor):
            edges = EdgeList.of(edges, len(source), len(target), shift, positions=target)
        elif shift is not None:
            raise ValueError(
                "shift is given beside an EdgeList; put it into the list: EdgeList.of(..., shift=...)"
            )
        if (edges.pairs.num_source, edges.pairs.num_target) != (source.shape[0], target.shape[0]):
            raise ValueError(
                f"positions has {source.shape[0]} sources and {target.shape[0]} targets; the edges are between "
                f"{edges.pairs.num_source} and {edges.pairs.num_target}"
            )
        vectors = source.index_select(0, edges.source) - target.index_select(0, edges.target)
        if edges.shift is not None:
            vectors = vectors + edges.shift.to(vectors)
        return cls(vectors, edges)

    @property
    def num_edges(self) -> int:
        return self.vectors.shape[0]

    @property
    def num_target(self) -> int:
        return self.edges.pairs.num_target

    @property
    def num_source(self) -> int:
        return self.edges.pairs.num_source

    @property
    def edge_index(self) -> Tensor:
        return self.edges.edge_index

    def _lacks_gradient(self, kept: Tensor) -> bool:
        """Whether it was computed where gradients were off, and they are on now."""
        return torch.is_grad_enabled() and self.vectors.requires_grad and not kept.requires_grad

    @property
    def lengths(self) -> Tensor:
        """(E,), with gradient 0 where points coincide."""
        if self._lengths is None or self._lacks_gradient(self._lengths):
            square = self.vectors.square().sum(1)
            apart = square > 0
            self._lengths = torch.where(apart, torch.where(apart, square, 1).sqrt(), 0)
        return self._lengths

    @property
    def apart(self) -> bool:
        """Whether no edge has length zero; read once, for a device has to be waited for."""
        if self._apart is None:
            self._apart = bool((self.vectors.detach() != 0).any(1).all())
        return self._apart

    def harmonics(self, lmax: int) -> Tensor:
        """(E, (lmax + 1)²) in e3nn's basis, component normalisation."""
        size = (lmax + 1) ** 2
        kept = self._harmonics
        if kept is None or kept.shape[1] < size or self._lacks_gradient(kept):
            self._harmonics = kept = component_harmonics(self.vectors, lmax)
        return kept[:, :size]

    def frames(self, lmax: int) -> list[Tensor]:
        """D^l, l = 0 ... lmax, (E, 2 l + 1, 2 l + 1) each, of rotations that take each edge to the polar axis ŷ."""
        kept = self._frames
        if kept is None or len(kept) <= lmax or self._lacks_gradient(kept[0]):
            self._frames = kept = unpack_wigner(wigner_to_y(self.vectors, lmax))
        return kept[: lmax + 1]

    @property
    def rows(self) -> tuple[Rows, Rows]:
        """Edges as rows that name their sources, and as rows that name their targets."""
        if self._rows is None:
            pairs, every = self.edges.pairs, torch.arange(self.num_edges, device=self.vectors.device)
            targets = Rows(self.edges.target, pairs.indptr, every, pairs.num_target)
            self._rows = Rows.of(pairs.sources, pairs.num_source), targets
        return self._rows

    def scatter(self, messages: Tensor) -> Tensor:
        """Sum messages (E, ...) over the edges of each target, (N_t, ...)."""
        out = messages.new_zeros(self.num_target, *messages.shape[1:])
        return out.index_add(0, self.edges.target, messages)


def edge_inputs(
    positions: Tensor | tuple[Tensor, Tensor] | EdgeGeometry,
    edge_index: Tensor | EdgeList | None,
    features: Tensor | None,
    check: Callable[[Tensor | None, int], None],
) -> tuple[EdgeGeometry, Tensor | None]:
    """The geometry of a convolution's call, and features of edges in the order of its edges.

    Calls are ``conv(x, positions, edge_index, features)`` and ``conv(x, geometry, features)``; features may be named, too.

    Args:
        positions: of the points, or the geometry.
        edge_index: (2, E) source -> target in any order, or a list of edges; with a geometry, the features or None.
        features: (E, F) in the order of ``edge_index``, or of the geometry's edges; None where there are none.
        check: called with features and number of edges before features are put in order; raises where they do not fit.

    Raises: TypeError for edges beside a geometry, or positions alone; ValueError for shapes that do not fit.
    """
    if isinstance(positions, EdgeGeometry):
        if isinstance(edge_index, EdgeList) or (edge_index is not None and features is not None):
            raise TypeError(
                "edge_index is given beside a geometry, which has its own edges; expected conv(x, geometry, features)"
            )
        features = edge_index if features is None else features
        check(features, positions.num_edges)
        return positions, features
    if edge_index is None:
        raise TypeError("edge_index is missing; expected conv(x, positions, edge_index) or conv(x, geometry)")
    if (
        isinstance(edge_index, Tensor)
        and edge_index.ndim == 2
        and len(edge_index) == 2
        and features is not None
    ):
        check(features, edge_index.shape[1])
        if bool((edge_index[1].diff() < 0).any()):
            order = torch.argsort(edge_index[1], stable=True)
            edge_index, features = edge_index[:, order], features.index_select(0, order)
    geometry = EdgeGeometry.of(positions, edge_index)
    check(features, geometry.num_edges)
    return geometry, features

"""The graph of a batch of molecules: who is near whom, and through which periodic image. Found once where positions stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo import sampling


class MoleculeGraph(NamedTuple):
    """Edges of a batch of molecules. A pytree of tensors, without gradients.

    Attributes:
        edge_index: (2, E) int64, rows source j and target i, sorted by target.
        offset: (E, 3) added to x_j - x_i where atom j is met in another cell; None where nothing is periodic.

    Units: Å.

    Example:
        >>> graph = molecule_graph(torch.tensor([[0.0, 0, 0], [1.1, 0, 0]]), cutoff=5.0)
        >>> graph.edge_index
        tensor([[1, 0],
                [0, 1]])
    """

    edge_index: Tensor
    offset: Tensor | None = None

    def vectors(self, positions: Tensor) -> Tensor:
        """Edge vectors x_j - x_i (+ offset), (E, 3); differentiable in the positions."""
        source, target = self.edge_index
        r = positions[source] - positions[target]
        return r if self.offset is None else r + self.offset.to(r)

    def deformed(self, strain: Tensor, batch: Tensor | None = None) -> MoleculeGraph:
        """The graph when space is deformed, x -> x + x ε; for the stress.

        Args:
            strain: ε, (3, 3) for all molecules or (B, 3, 3) for each its own.
            batch: the molecule of each atom, (P,), where each has its own.
        """
        if self.offset is None:
            return self
        change, offset = torch.eye(3).to(strain) + strain, self.offset.to(strain)
        if batch is None:
            return MoleculeGraph(self.edge_index, offset @ change)
        of = change.index_select(0, batch.index_select(0, self.edge_index[1]))
        return MoleculeGraph(self.edge_index, (offset[:, None] @ of)[:, 0])


def molecule_graph(
    positions: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
) -> MoleculeGraph:
    """All pairs of atoms of a molecule within the cutoff, periodic images among them.

    Shape: positions (P, 3); batch (P,) non-decreasing; cell (B, 3, 3) or (3, 3), rows are its vectors; pbc (B, 3) or (3,).
    Raises: ValueError for a cutoff that is not positive, NaN positions, and as the searches of ``spheregeo.sampling``.
    """
    with torch.no_grad():
        points = positions.detach()
        if pbc is None or cell is None or not bool(torch.as_tensor(pbc).any()):
            return MoleculeGraph(sampling.radius_graph(points, cutoff, batch))
        index = torch.zeros_like(points[:, 0], dtype=torch.int64) if batch is None else batch
        cells = cell.reshape(-1, 3, 3)
        edge_index, shift = sampling.periodic_radius_graph(points, cutoff, cell, pbc, batch)
        of = cells[index[edge_index[1]] if len(cells) > 1 else torch.zeros_like(edge_index[1])]
        return MoleculeGraph(edge_index, (shift.to(cells)[:, None] @ of)[:, 0])


def split_graph(graph: MoleculeGraph, counts: Tensor) -> list[MoleculeGraph]:
    """A batch's graph as one graph for each molecule, atoms counted from 0, in small integers. Inverse: :func:`join_graphs`."""
    first = counts.cumsum(0) - counts
    atom_owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    owner = atom_owner[graph.edge_index[1]]
    edges = torch.bincount(owner, minlength=len(counts)).tolist()
    small = torch.int16 if int(counts.max()) < 2**15 else torch.int32
    local = (graph.edge_index - first[owner]).to(small)
    offsets = [None] * len(edges) if graph.offset is None else graph.offset.split(edges)
    # Copies: a view would keep the whole batch alive.
    return [
        MoleculeGraph(e.clone(), None if o is None else o.clone())
        for e, o in zip(local.split(edges, 1), offsets)
    ]


def join_graphs(graphs: Sequence[MoleculeGraph], counts: Tensor) -> MoleculeGraph:
    """The graph of a batch from those of its molecules, of ``counts`` (B,) atoms each."""
    first = counts.cumsum(0) - counts
    edges = torch.tensor([g.edge_index.shape[1] for g in graphs], device=counts.device)
    joined = torch.cat([g.edge_index for g in graphs], 1).long() + torch.repeat_interleave(first, edges)
    offsets = [g.offset for g in graphs]
    known = [o for o in offsets if o is not None]
    if not known:
        return MoleculeGraph(joined)
    filled = [known[0].new_zeros(int(n), 3) if o is None else o for o, n in zip(offsets, edges.tolist())]
    return MoleculeGraph(joined, torch.cat(filled))

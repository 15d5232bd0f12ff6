r"""Sums over pairs of products with structure constants: the form behind steerable convolutions.

    Phi(x, y, w, v, g) = sum over pairs (j -> i), functions f, heads, channels c of
                         g_i[f, c]  W_ij[f, c]  sum_{m1, m2} C[f, m1, m2]  y_ij[m2]  x_j[m1, c]

with W = 1, W = w, or W = w v, linear in both. Features are planar: blocks (N, d, channels) one after another in one vector,
so that channels are contiguous, the rows of a matrix product are, too, and no block has to be cut out of another. x is
(N_s * inputs,), y (E, S), w (E, H), (E, width) or (E, K), v (K, width), g (N_t * outputs * H,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns.base import Memo

X, Y, W, V, G = range(5)

# weights of pairs: none; (E, H) for all paths; each path's channels; the same as products of (E, K) and (K, channels)
NONE, SHARED, CHANNEL, FACTORED = range(4)


@dataclass(frozen=True)
class Tables(Memo):
    """Structure of a coupling as integer tables.

    Shape: blocks (B, 7): first column, components, channels, first and last function, first and last entry;
        functions (F, 6): first column of the group, columns of the group in all, component, columns of one component, column
        within it, first weight; entries (n, 3): function, component of the source, component of the pair's features; values (n,).
    """

    blocks: Tensor
    functions: Tensor
    entries: Tensor
    values: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.blocks, self.functions, self.entries, self.values]


class CouplingSizes(NamedTuple):
    """Sizes of a coupling: kind of weights, H, their channels, S, numbers of one source and (for one head) of one target."""

    kind: int
    heads: int
    width: int
    dim: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class CouplingStructure(Memo):
    """A coupling's tables and sizes with some pairs (those of target i are indptr[i], ..., indptr[i + 1] - 1)."""

    tables: Tables
    own: CouplingSizes
    indptr: Tensor
    sources: Tensor
    order: Tensor
    num_target: int
    num_source: int

    @property
    def num_pairs(self) -> int:
        return self.sources.shape[0]

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.tables.tensors, self.indptr, self.sources, self.order]

    @property
    def sizes(self) -> list[int]:
        return [*self.own, self.num_target, self.num_source]

    def targets(self) -> Tensor:
        """Target of each pair, (E,)."""
        rows = torch.arange(self.num_target, device=self.indptr.device)
        return torch.repeat_interleave(rows, self.indptr.diff(), output_size=self.num_pairs)


class Coupled(Multilinear):
    """See the head of this module."""

    name = "coupling"
    arguments = ("x", "y", "w", "v", "g")
    features = frozenset({X, G})
    contiguous = True

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> CouplingStructure:
        """The structure from its tensors and sizes."""
        indptr, sources, order = tensors[4:]
        tables, own = Tables(*tensors[:4]), CouplingSizes(*sizes[:6])
        return CouplingStructure(tables, own, indptr, sources, order, *sizes[6:])

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: CouplingStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        own = structure.own
        _, _, w, v, _ = arguments
        if slot == G:
            return (structure.num_target * own.outputs * own.heads,)
        if slot == X:
            return (structure.num_source * own.inputs,)
        if slot == Y:
            return structure.num_pairs, own.dim
        if slot == W:
            return structure.num_pairs, own.width if v is None else v.shape[0]
        assert w is not None
        return w.shape[1], own.width


COUPLING = register(Coupled())

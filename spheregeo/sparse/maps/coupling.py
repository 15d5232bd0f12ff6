"""``Coupling``: sums over pairs of products of source features with pair features, by fixed structure constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.forms.coupling import (
    CHANNEL,
    COUPLING,
    FACTORED,
    NONE,
    SHARED,
    CouplingSizes,
    CouplingStructure,
    G,
    Tables,
    V,
    W,
    X,
    Y,
)
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.maps.paths import Path, bits_of, integers, path_tables
from spheregeo.sparse.multilinear import is_traced

SLOTS = {"x": X, "y": Y, "w": W, "v": V, "g": G}
WEIGHTS = {None: NONE, "shared": SHARED, "channel": CHANNEL, "factored": FACTORED}


class Pairs(NamedTuple):
    """Pairs source -> target in the order of their targets.

    Shape: indptr (N_t + 1,) int64: target i has the pairs indptr[i], ..., indptr[i + 1] - 1; sources (E,) int64, below
        ``num_source``; order (N_t,) int64, in which targets are best worked on, neighbours after neighbours, or None.
    """

    indptr: Tensor
    sources: Tensor
    num_source: int
    order: Tensor | None = None

    @property
    def num_target(self) -> int:
        return self.indptr.shape[0] - 1

    @classmethod
    def of(cls, source: Tensor, target: Tensor, num_source: int, num_target: int) -> Pairs:
        """Pairs (E,) int64 that are sorted by target. Indices are trusted."""
        indptr = target.new_zeros(num_target + 1)
        indptr[1:] = target.new_zeros(num_target).index_add(0, target, torch.ones_like(target)).cumsum(0)
        return cls(indptr, source, num_source)


def _order(pairs: Pairs) -> Tensor:
    return pairs.sources.new_empty(0) if pairs.order is None else pairs.order


class Coupling(FixedMap):
    r"""z_i = sum over pairs j -> i of w_ij (C : x_j y_ij), channel by channel.

    Block b of the source has d_b components of m_b channels; a path multiplies a block with the S features of the pair by its
    constants and puts the m_b channels of the product beside those of the other paths of its group.

    Args:
        blocks: (components, channels) of each block of the source.
        groups: components of each group of the result.
        paths: see :class:`Path`.
        pair_dim: S.
        weights: None; "shared", (E, H) that multiply all paths and give H results; "channel", (E, sum of the paths' channels); or
            "factored", the same as a product of (E, K) and (K, sum of the paths' channels) that is never formed.
        heads: H of shared weights.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None for the first that runs.

    Shape:
        ``coupling(x, y, pairs, w, v)``: x planar (N_s * inputs,): block after block, each (N_s, d_b, m_b); y (E, S); w as above,
        and v the second factor -> planar (N_t * outputs * H,): group after group, each (N_t, d_g, H * channels of its paths).

    Equivariance: that of the constants. Linear in x, y, w and v; every derivative exists and is again a loop of this kind.

    Raises:
        ValueError: sizes that disagree.
    """

    blocks: Tensor
    functions: Tensor
    entries: Tensor
    bits: Tensor

    def __init__(
        self,
        blocks: Sequence[tuple[int, int]],
        groups: Sequence[int],
        paths: Sequence[Path],
        pair_dim: int,
        *,
        weights: str | None = None,
        heads: int = 1,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        if weights not in WEIGHTS:
            raise ValueError(f"weights is {weights!r}; expected None, 'shared', 'channel' or 'factored'")
        if heads < 1 or (heads > 1 and weights != "shared"):
            raise ValueError(f"heads is {heads} with weights={weights!r}; expected 1, or more with 'shared'")
        tables = path_tables(blocks, groups, paths, pair_dim)
        self.kind, self.heads, self.pair_dim = WEIGHTS[weights], heads, pair_dim
        self.groups, self.inputs, self.outputs = tables.groups, tables.inputs, tables.outputs
        self.width = {NONE: 0, SHARED: heads}.get(self.kind, tables.channels)
        rows, entries, values = list[tuple[int, ...]](), list[Tensor](), list[Tensor]()
        count = 0
        for row, own in zip(tables.blocks, tables.paths, strict=True):
            function, before = row[3], count
            for path in own:
                constants = path.constants.to(torch.float64)
                where = constants.nonzero()
                values.append(constants[tuple(where.unbind(1))])
                where[:, 0] += function
                entries.append(where)
                function, count = function + len(constants), count + len(where)
            rows.append((*row, before, count))
        self._keep("blocks", integers(rows, 7))
        self._keep("functions", integers(tables.functions, 6))
        self._keep("entries", torch.cat(entries) if entries else torch.zeros(0, 3, dtype=torch.int64))
        self._keep("bits", bits_of(values))

    def _tables(self) -> Tables:
        found: Tables | None = self._made.get("tables")
        if found is None or found.blocks is not self._buffers["blocks"]:
            found = Tables(self.blocks, self.functions, self.entries, self.bits.view(torch.float64))
            self._made["tables"] = found
        return found

    def forward(
        self, x: Tensor, y: Tensor, pairs: Pairs, w: Tensor | None = None, v: Tensor | None = None
    ) -> Tensor:
        num_source, num_target = pairs.num_source, pairs.num_target
        count = pairs.sources.shape[0]
        if x.shape != (num_source * self.inputs,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected ({num_source * self.inputs},): {num_source} sources"
            )
        if y.shape != (count, self.pair_dim):
            raise ValueError(f"y has shape {tuple(y.shape)}; expected ({count}, {self.pair_dim})")
        if (v is None) != (self.kind != FACTORED) or (v is not None and v.shape[1:] != (self.width,)):
            given = "none" if v is None else f"shape {tuple(v.shape)}"
            raise ValueError(
                f"v: {given}; expected {f'(K, {self.width})' if self.kind == FACTORED else 'none'}"
            )
        wide = self.width if v is None else v.shape[0]
        if (w is None) != (self.kind == NONE) or (w is not None and w.shape != (count, wide)):
            given = "no weights" if w is None else f"weights of shape {tuple(w.shape)}"
            raise ValueError(f"w: {given}; expected {'none' if self.kind == NONE else (count, wide)}")
        arguments = (x, y, w, v, None)
        if is_traced(x):
            own, order = self._sizes(), _order(pairs)
            tensors = [
                self.blocks,
                self.functions,
                self.entries,
                self.bits.view(torch.float64),
                pairs.indptr,
                pairs.sources,
                order,
            ]
            structure = (tensors, [*own, num_target, num_source])
            return COUPLING.traced(self.engine, structure, arguments, (G,))[0]
        return COUPLING.direct(self.engine, self._structure(pairs), arguments, G)

    def partials(
        self, pairs: Pairs, arguments: Sequence[Tensor | None], wanted: Sequence[str]
    ) -> list[Tensor]:
        """Partial derivatives of <g, coupling(x, y, pairs, w, v)>, for functions that write their own backward pass.

        Nothing is checked, and the result has no graph.

        Args:
            pairs: the pairs.
            arguments: x, y, w, v and the cotangent g, planar; None for those that a wanted derivative is not made of.
            wanted: names of arguments; the derivative in "g" is the coupling itself.

        Shape: each as the argument that it belongs to.
        """
        slots = [SLOTS[name] for name in wanted]
        return COUPLING.partials(self.engine, self._structure(pairs), arguments, slots)

    def _sizes(self) -> CouplingSizes:
        return CouplingSizes(self.kind, self.heads, self.width, self.pair_dim, self.inputs, self.outputs)

    def _structure(self, pairs: Pairs) -> CouplingStructure:
        return CouplingStructure(
            self._tables(), self._sizes(), pairs.indptr, pairs.sources, _order(pairs), pairs.num_target, pairs.num_source
        )  # fmt: skip

    def split(self, z: Tensor, num_target: int) -> list[Tensor]:
        """The groups of a result, each (N_t, d_g, H * columns), without a copy."""
        sizes = [num_target * d * c * self.heads for d, c in self.groups]
        parts = z.split(sizes)
        return [p.view(num_target, d, c * self.heads) for p, (d, c) in zip(parts, self.groups, strict=True)]

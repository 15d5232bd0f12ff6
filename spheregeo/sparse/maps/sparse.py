"""``SparseMap``: a linear map between point sets with K coefficients per nonzero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.linear import LINEAR, G, LinearStructure
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.multilinear import is_traced
from spheregeo.sparse.patterns import BandsPattern, BlockPattern, CSRPattern, Pattern, RingPattern
from spheregeo.sparse.patterns.bands import split
from spheregeo.sparse.registry import has_operator, is_compiled

BANDS_BYTES = (
    1 << 27
)  # of copied features that bands must save where each of their operations has to be launched


class SparseMap(FixedMap):
    """Linear map from Q source points to P target points, K coefficients per nonzero.

    ``SparseMap(indptr, indices, values, num_source)`` takes compressed rows; :meth:`from_pattern` takes structured
    ones, whose rows share coefficients. Pattern and coefficients are non-persistent buffers: they follow ``.to()``
    and stay out of checkpoints. Copies share them, so treat them as read-only; coefficients that are to be learned or
    changed are passed to the call as ``values``.

    Args:
        indptr: (P + 1,) row boundaries.
        indices: (nnz,) source point of each nonzero.
        values: (nnz,) or (K, nnz) coefficients.
        num_source: Q.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; ``None`` picks the fastest.

    Shape:
        ``map(x)``: (..., Q) -> (..., P) for K = 1, else (..., K, P).
        ``map.mix(x, weight)``: (B, C, Q) -> (B, O, P) with weight (O, C/groups, K).

    Raises:
        ValueError: sizes that disagree, or an index outside the source.
    """

    values: Tensor
    order: Tensor
    by_boxes: (
        SparseMap | None
    )  # the same map with crowded rows read through sums over boxes, for mixing without groups by "cpu"
    by_bands: SparseMap | None  # the same map with its wide rows in Fourier space, for mixing without groups

    def __init__(
        self, indptr: Tensor, indices: Tensor, values: Tensor, num_source: int, *, engine: str | None = None
    ) -> None:
        indptr, indices = torch.as_tensor(indptr).long(), torch.as_tensor(indices)
        if indptr.ndim != 1 or len(indptr) == 0 or int(indptr[0]) != 0 or bool((indptr.diff() < 0).any()):
            raise ValueError(
                f"indptr has shape {tuple(indptr.shape)}; expected (P + 1,) starting at 0 and non-decreasing"
            )
        if int(indptr[-1]) != len(indices):
            raise ValueError(f"indptr ends at {int(indptr[-1])} but indices has {len(indices)} entries")
        if len(indices) and not (0 <= int(indices.min()) and int(indices.max()) < num_source):
            raise ValueError(
                f"indices run from {int(indices.min())} to {int(indices.max())}; expected 0 to {num_source - 1}"
            )
        pattern = CSRPattern.of(indptr, indices, num_source)
        self._setup(pattern, torch.as_tensor(values), engine)

    @classmethod
    def from_pattern(
        cls, pattern: Pattern, values: Tensor, *, dtype: torch.dtype | None = None, engine: str | None = None
    ) -> SparseMap:
        """A map over a structured pattern; values is (K, pattern.num_values), kept in ``dtype`` (its own by default)."""
        self = cls.__new__(cls)
        self._setup(pattern, values, engine, dtype)
        return self

    @classmethod
    def concatenate(cls, maps: Sequence[SparseMap]) -> SparseMap:
        """The block-diagonal map of several, points one after another.

        Raises: ValueError for no maps, maps that differ in components, dtype or engine, or whose rows share coefficients.
        """
        if not maps:
            raise ValueError("maps is empty; expected at least one map")
        kinds = [(m.num_components, m.values.dtype, m.engine) for m in maps]
        patterns = [m.pattern for m in maps]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                f"maps differ in (components, dtype, engine): {sorted(set(map(str, kinds)))}; build them alike"
            )
        if not all(isinstance(p, CSRPattern) and p.num_values == p.num_nonzeros for p in patterns):
            raise ValueError("maps hold one whose rows share coefficients; expected rows that list their own")
        if len(maps) == 1:
            return maps[0].shared()
        indptr, indices = [torch.zeros(1, dtype=torch.int64, device=maps[0].values.device)], []
        entries = source = 0
        for p in patterns:
            assert isinstance(p, CSRPattern)
            indptr.append(p.indptr[1:] + entries)
            indices.append(p.indices + source)
            entries, source = entries + p.num_nonzeros, source + p.num_source
        joined = CSRPattern.of(torch.cat(indptr), torch.cat(indices), source)
        return cls.from_pattern(joined, torch.cat([m.values for m in maps], 1), engine=maps[0].engine)

    def _setup(
        self, pattern: Pattern, values: Tensor, engine: str | None, dtype: torch.dtype | None = None
    ) -> None:
        FixedMap.__init__(self, engine)
        dtype = values.dtype if dtype is None else dtype
        values = (values[None] if values.ndim == 1 else values).detach()
        if values.ndim != 2 or values.shape[1] != pattern.num_values:
            raise ValueError(
                f"values has shape {tuple(values.shape)}; expected (K, {pattern.num_values}), one column per stored nonzero"
            )
        self._keep("values", values.to(dtype))
        structure = LinearStructure(pattern, *pattern.adjoint())
        ahead, back = len(pattern.tensors), len(structure.adjoint.tensors)
        self._names = ("order", *(f"pattern{i}" for i in range(ahead)), *(f"adjoint{i}" for i in range(back)))
        for name, tensor in zip(self._names, structure.tensors, strict=True):
            self._keep(name, tensor)
        self._sizes = structure.sizes[1:]  # without the groups
        self.num_source, self.num_target, self.kind = pattern.num_source, pattern.num_target, pattern.kind
        self.by_bands, self.by_boxes, self._saved = None, None, 0
        if type(pattern) is RingPattern:
            keep, bands = split(pattern, values, dtype)
            if bands is not None:
                whole = slice(0, pattern.num_target), slice(0, pattern.num_source)
                parts: list[tuple[Pattern, slice, slice]] = [(pattern.prune(keep), *whole), (bands, *whole)]
                summed = BlockPattern.of(parts, pattern.num_source, pattern.num_target)
                self._saved = (pattern.num_values - int(keep.sum())) * pattern.columns
                self.by_bands = SparseMap.from_pattern(summed, values[:, keep], dtype=dtype, engine=engine)

    def _structure(self, groups: int = 1) -> LinearStructure:
        """Pattern and adjoint, made once for each number of groups."""
        found: LinearStructure | None = self._made.get(groups)
        if found is None or found.order is not self._buffers["order"]:
            found = LINEAR.build(self._given(self._names), [groups, *self._sizes])
            self._made[groups] = found
        return found

    @property
    def pattern(self) -> Pattern:
        return self._structure().pattern

    @property
    def bands(self) -> BandsPattern | None:
        """The rows that are done by FFT, if any are."""
        if self.by_bands is None:
            return None
        pattern = self.by_bands.pattern
        assert isinstance(pattern, BlockPattern) and isinstance(pattern.blocks[-1].pattern, BandsPattern)
        return pattern.blocks[-1].pattern

    @property
    def num_components(self) -> int:
        """K."""
        return self.values.shape[0]

    @property
    def num_nonzeros(self) -> int:
        """Nonzeros of the full map, a component; more than are stored where rows share coefficients."""
        return self.pattern.num_nonzeros

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, components={self.num_components}, "
            f"nonzeros={self.num_nonzeros}, kind={self.kind!r}, engine={self.engine!r}"
        )

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """Contract the last axis of x; ``values`` replaces the stored coefficients (and may require a gradient)."""
        source = self._check(x)
        flat = x if x.ndim == 3 else x.reshape(1, -1, source)  # (B, C, Q) keeps its strides: no copy
        y = self._contract(flat, None, self._coefficients(values), 1)
        k = self.num_components
        shape = x.shape[:-1] if k == 1 else (*x.shape[:-1], k)
        return y.reshape(*shape, self.num_target)

    def mix(self, x: Tensor, weight: Tensor, groups: int = 1, values: Tensor | None = None) -> Tensor:
        """Contract and mix channels in one go: y[b,o,p] = sum_{c,k} weight[o,c,k] sum_t values[k,t] x[b,c,q_t]."""
        self._check(x)
        if x.ndim != 3 or weight.ndim != 3 or weight.shape[2] != self.num_components:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}; expected (B, C, Q) and "
                f"(O, C/groups, {self.num_components})"
            )
        if weight.shape[1] * groups != x.shape[1] or weight.shape[0] % groups:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and groups is {groups}, but x has {x.shape[1]} channels; "
                "expected weight.shape[1] * groups channels and weight.shape[0] divisible by groups"
            )
        weight = weight.to(x.dtype)
        if values is None and groups == 1 and self.by_boxes is not None and not is_traced(x):
            boxes = self.by_boxes
            if is_compiled(self.engine, x):
                return boxes._contract(x, weight, boxes.values, 1)
        bands = self.by_bands
        if (
            bands is not None
            and values is None
            and groups == 1
            and (x.device.type == "cpu" or self._saved * x.shape[1] * x.element_size() > BANDS_BYTES)
            and has_operator(self.engine, "bands")
        ):
            return bands._contract(x, weight, bands.values, 1)
        return self._contract(x, weight, self._coefficients(values), groups)

    def _contract(self, x: Tensor, weight: Tensor | None, values: Tensor, groups: int) -> Tensor:
        arguments = (x, weight, values, None)
        if is_traced(x):
            structure = self._given(self._names), [groups, *self._sizes]
            return LINEAR.traced(self.engine, structure, arguments, (G,))[0]
        return LINEAR.direct(self.engine, self._structure(groups), arguments, G)

    def _coefficients(self, values: Tensor | None) -> Tensor:
        """The stored coefficients, or those given with the call."""
        if values is None:
            return self.values
        values = values[None] if values.ndim == 1 else values
        if values.shape != self.values.shape:
            raise ValueError(f"values has shape {tuple(values.shape)}; expected {tuple(self.values.shape)}")
        return values

    def _check(self, x: Tensor) -> int:
        if not x.is_floating_point():
            raise TypeError(f"x has dtype {x.dtype}; expected a real floating dtype, for instance x.float()")
        if x.shape[-1] != self.num_source:
            raise ValueError(
                f"x has {x.shape[-1]} points on its last axis but the map's source has {self.num_source}; "
                "did you build the map for another grid?"
            )
        return self.num_source

    def mean_square_rows(self) -> Tensor:
        """Sum over each row of squared coefficients, averaged over rows: (K,)."""
        counts = self.pattern.uses().to(self.values)
        return (self.values.square() * counts).sum(1) / self.num_target

    def transpose(self) -> SparseMap:
        """The exact adjoint for K = 1 and, for K components, each component's adjoint."""
        adjoint = self._structure().adjoint
        return SparseMap.from_pattern(adjoint, self.values[:, self.order], engine=self.engine)

    def to_dense(self) -> Tensor:
        """(K, P, Q) matrix; for tests and small maps."""
        target, source, value = self.pattern.coo()
        dense = self.values.new_zeros(self.num_components, self.num_target * self.num_source)
        dense.index_add_(1, target * self.num_source + source, self.values[:, value])
        return dense.view(self.num_components, self.num_target, self.num_source)

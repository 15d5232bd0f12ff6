"""``SparseMap``: a linear map between point sets with K coefficients per nonzero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.sparse.blocks import BlockPattern
from spheregeo.sparse.engines import check_engine
from spheregeo.sparse.form import apply_form
from spheregeo.sparse.pattern import KINDS, CSRPattern, Pattern, RingPattern
from spheregeo.sparse.spectral import split


class SparseMap(nn.Module):
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
    taps_values: Tensor
    sizes: list[int]
    adjoint_sizes: list[int]
    kind: str

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

    def _setup(
        self, pattern: Pattern, values: Tensor, engine: str | None, dtype: torch.dtype | None = None
    ) -> None:
        nn.Module.__init__(self)
        dtype = values.dtype if dtype is None else dtype
        values = (values[None] if values.ndim == 1 else values).detach()
        if values.ndim != 2 or values.shape[1] != pattern.num_values:
            raise ValueError(
                f"values has shape {tuple(values.shape)}; expected (K, {pattern.num_values}), one column per stored nonzero"
            )
        self.engine = check_engine(engine)
        self.register_buffer("values", values.to(dtype), persistent=False)
        self._register("", pattern)
        self.bands: list[int] = []
        if isinstance(pattern, RingPattern):
            keep, bands = split(pattern, values, dtype)
            if bands is not None:
                self._register("taps_", pattern.prune(keep))
                self.register_buffer("taps_values", values[:, keep].to(dtype), persistent=False)
                self.bands = bands.ints
                for i, tensor in enumerate(bands.tensors):
                    self.register_buffer(f"spectrum{i}", tensor, persistent=False)

    def _register(self, prefix: str, pattern: Pattern) -> None:
        adjoint, order = pattern.adjoint()
        self.kind = pattern.kind
        setattr(self, f"{prefix}sizes", pattern.sizes)
        setattr(self, f"{prefix}adjoint_sizes", adjoint.sizes)
        self.register_buffer(f"{prefix}order", order, persistent=False)
        for name, part in (("pattern", pattern), ("adjoint", adjoint)):
            for i, tensor in enumerate(part.tensors):
                self.register_buffer(f"{prefix}{name}{i}", tensor, persistent=False)

    def _tensors(self, name: str) -> list[Tensor]:
        return [t for key, t in self._buffers.items() if key.rstrip("0123456789") == name and t is not None]

    @property
    def pattern(self) -> Pattern:
        return KINDS[self.kind].build(self._tensors("pattern"), self.sizes)

    @property
    def num_source(self) -> int:
        return self.sizes[1]

    @property
    def num_target(self) -> int:
        return self.sizes[0]

    @property
    def num_components(self) -> int:
        """K."""
        return self.values.shape[0]

    @property
    def num_nonzeros(self) -> int:
        """Nonzeros of the full map, a component; more than are stored where rows share coefficients."""
        return _count(self.pattern)

    def memory_bytes(self) -> int:
        """Bytes held by pattern, adjoint and coefficients."""
        return sum(t.numel() * t.element_size() for t in self.buffers())

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, components={self.num_components}, "
            f"nonzeros={self.num_nonzeros}, kind={self.kind!r}, engine={self.engine!r}"
        )

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """Contract the last axis of x; ``values`` replaces the stored coefficients (and may require a gradient)."""
        source = self._check(x)
        flat = x if x.ndim == 3 else x.reshape(1, -1, source)  # (B, C, Q) keeps its strides: no copy
        y = self._form(flat, None, self._coefficients(x, values), 1)
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
        if values is None and groups == 1 and self.bands and self.engine != "reference":
            return self._form(x, weight, self.taps_values.to(self._precision(x)), 1, "taps_")
        return self._form(x, weight, self._coefficients(x, values), groups)

    def _form(
        self, x: Tensor, weight: Tensor | None, values: Tensor, groups: int, prefix: str = ""
    ) -> Tensor:
        structure = (
            groups,
            self._tensors(f"{prefix}pattern"),
            self._tensors(f"{prefix}adjoint"),
            self._buffers[f"{prefix}order"],
            getattr(self, f"{prefix}sizes"),
            getattr(self, f"{prefix}adjoint_sizes"),
            self.kind,
            self.engine,
            self._tensors("spectrum") if prefix else [],
            self.bands if prefix else [],
        )
        return apply_form(x, weight, values, structure)

    @staticmethod
    def _precision(x: Tensor) -> torch.dtype:
        return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype

    def _coefficients(self, x: Tensor, values: Tensor | None) -> Tensor:
        """The stored coefficients, or those given with the call, in the precision of the computation."""
        if values is None:
            return self.values.to(self._precision(x))
        values = values[None] if values.ndim == 1 else values
        if values.shape != self.values.shape:
            raise ValueError(f"values has shape {tuple(values.shape)}; expected {tuple(self.values.shape)}")
        return values.to(self._precision(x))

    def _check(self, x: Tensor) -> int:
        if not x.is_floating_point():
            raise TypeError(f"x has dtype {x.dtype}; expected a real floating dtype, for instance x.float()")
        if x.shape[-1] != self.num_source:
            raise ValueError(
                f"x has {x.shape[-1]} points on its last axis but the map's source has {self.num_source}; "
                "did you build the map for another grid?"
            )
        return self.num_source

    def shared(self, engine: str | None = None) -> SparseMap:
        """A map over the same tensors, not copied until one of them is moved or converted."""
        twin = SparseMap.__new__(SparseMap)
        nn.Module.__init__(twin)
        twin.engine = self.engine if engine is None else check_engine(engine)
        for name in ("kind", "sizes", "adjoint_sizes", "taps_sizes", "taps_adjoint_sizes", "bands"):
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        for name, tensor in self._buffers.items():
            twin.register_buffer(name, tensor, persistent=False)
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> SparseMap:
        return memo.setdefault(id(self), self.shared())  # type: ignore[return-value]

    def mean_square_rows(self) -> Tensor:
        """Sum over each row of squared coefficients, averaged over rows: (K,)."""
        counts = _uses(self.pattern, self.values)
        return (self.values.square() * counts).sum(1) / self.num_target

    def transpose(self) -> SparseMap:
        """The exact adjoint for K = 1 and, for K components, each component's adjoint."""
        pattern = KINDS[self.kind].build(self._tensors("adjoint"), self.adjoint_sizes)
        return SparseMap.from_pattern(pattern, self.values[:, self.order], engine=self.engine)

    def to_dense(self) -> Tensor:
        """(K, P, Q) matrix; for tests and small maps."""
        target, source, value = self.pattern.coo()
        dense = self.values.new_zeros(self.num_components, self.num_target * self.num_source)
        dense.index_add_(1, target * self.num_source + source, self.values[:, value])
        return dense.view(self.num_components, self.num_target, self.num_source)


def _count(pattern: Pattern) -> int:
    if isinstance(pattern, BlockPattern):
        return sum(_count(b.pattern) for b in pattern.blocks)
    return len(pattern.indices) if isinstance(pattern, CSRPattern) else pattern.num_values * pattern.columns  # type: ignore[attr-defined]


def _uses(pattern: Pattern, like: Tensor) -> Tensor:
    """How many nonzeros read each column of the table, (num_values,)."""
    if isinstance(pattern, BlockPattern):
        return torch.cat([_uses(b.pattern, like) for b in pattern.blocks])
    if isinstance(pattern, RingPattern):
        return like.new_full((pattern.num_values,), pattern.columns)
    assert isinstance(pattern, CSRPattern)
    return torch.bincount(pattern.coo()[2], minlength=pattern.num_values).to(like)

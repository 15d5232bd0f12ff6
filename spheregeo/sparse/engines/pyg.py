"""The torch-sparse engine, for those who have the package; and exchange of its ``SparseTensor``.

Install it with ``pip install torch-scatter torch-sparse --no-build-isolation`` (they compile against the torch that is
there). Their maintainers are winding both down, so this engine is never required and never chosen by ``"auto"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spheregeo.sparse.engines.linear import LinearEngine, mix, unmix
from spheregeo.sparse.forms.linear import LinearStructure
from spheregeo.sparse.patterns import Pattern

if TYPE_CHECKING:
    from spheregeo.sparse.maps.sparse import SparseMap


def _import() -> tuple[Any, Any]:
    try:
        import torch_scatter
        import torch_sparse
    except ImportError as error:
        raise ImportError(
            "engine 'pyg' needs torch-scatter and torch-sparse: "
            "pip install torch-scatter torch-sparse --no-build-isolation"
        ) from error
    return torch_scatter, torch_sparse


class PyGLinear(LinearEngine):
    """Contraction by ``torch_sparse.matmul``, one component at a time; coefficient gradients by ``torch_scatter``.

    Raises:
        ImportError: the packages are not installed.
    """

    def __init__(self) -> None:
        self._scatter, self._sparse = _import()

    def contract(self, pattern: Pattern, v: Tensor, x: Tensor) -> Tensor:
        """z[b,c,k,p] = sum_t v[k,t] x[b,c,q_t]."""
        target, source, value = pattern.coo()
        points_first = x.permute(2, 0, 1).reshape(x.shape[2], -1)  # (Q, B*C)
        sizes = (pattern.num_target, pattern.num_source)
        parts = []
        for row in v:
            matrix = self._sparse.SparseTensor(row=target, col=source, value=row[value], sparse_sizes=sizes)
            parts.append(self._sparse.matmul(matrix, points_first))
        z = torch.stack(parts)  # (K, P, B*C)
        return z.view(len(v), -1, *x.shape[:2]).permute(2, 3, 0, 1)

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        return mix(self.contract(pattern, v, x), w, groups)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        batch, channels, _ = x.shape
        z = self.contract(pattern, v, x).reshape(batch, groups, channels // groups, v.shape[0], -1)
        g = g.reshape(batch, groups, -1, g.shape[-1])
        return torch.einsum("bgop,bgckp->gock", g, z).flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        target, source, value = pattern.coo()
        u = unmix(g, w, groups, x.shape[1])  # (B, C, K, P)
        terms = torch.einsum("bckn,bcn->kn", u[..., target], x[..., source])
        found: Tensor = self._scatter.scatter_add(terms, value, dim=1, dim_size=pattern.num_values)
        return found


_made = cache(PyGLinear)


def linear(
    structure: LinearStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives of the linear form; the packages are imported at the first call."""
    return _made()(structure, arguments, wanted)


OPERATORS = {"linear": linear}


def to_sparse_tensor(map_: SparseMap, component: int = 0) -> Any:
    """One component of a map as a ``torch_sparse.SparseTensor`` (P, Q).

    Raises: ImportError without the package; ValueError for a component that is not there.
    """
    _, torch_sparse = _import()
    if not 0 <= component < map_.num_components:
        raise ValueError(f"component is {component}; the map has {map_.num_components}, counted from 0")
    target, source, value = map_.pattern.coo()
    coefficients = map_.values[component, value]
    sizes = (map_.num_target, map_.num_source)
    return torch_sparse.SparseTensor(row=target, col=source, value=coefficients, sparse_sizes=sizes)


def from_sparse_tensor(matrix: Any) -> SparseMap:
    """A map from a ``torch_sparse.SparseTensor``; one without values counts every entry as 1."""
    from spheregeo.sparse.maps.sparse import SparseMap

    indptr, indices, values = matrix.csr()
    if values is None:
        values = torch.ones(len(indices))
    return SparseMap(indptr, indices, values, matrix.size(1))

"""Pooling and unpooling of tangent fields: clusters of points and their coarse point, fields carried between the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType, check_field
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.sampling.fields import turn_between
from spheregeo.sparse import SparseMap


class ClusterGeometry(nn.Module):
    """Which coarse point each fine point belongs to, how frames turn between the two, and areas.

    Args:
        parents: (N,) coarse point of each fine one.
        turn: (N,) angle g that carries a field at the fine point to the coarse point's frame.
        mean: (coarse, fine) map of area-weighted means.
        areas: (coarse,) areas of the coarse points.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import ClusterGeometry
        >>> ClusterGeometry.of(HEALPix(4)).parents.shape
        torch.Size([192])
    """

    parents: Tensor
    turn: Tensor
    areas: Tensor

    def __init__(self, parents: Tensor, turn: Tensor, mean: SparseMap, areas: Tensor) -> None:
        super().__init__()
        self.mean = mean
        self.register_buffer("parents", parents, persistent=False)
        self.register_buffer("turn", turn, persistent=False)
        self.register_buffer("areas", areas, persistent=False)

    @classmethod
    def of(
        cls,
        source: Grid,
        target: Grid | None = None,
        parents: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> ClusterGeometry:
        """The clusters of a fine grid; its own next level unless ``target`` and ``parents`` (N,) say otherwise.

        Raises: ValueError for parents that do not fit, coarse points without a fine one, or opposite normals.
        """
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if (target is None) != (parents is None):
            raise ValueError("target and parents belong together; give both or neither")
        if target is None or parents is None:
            target, parents = source.coarsen(), source.parents()
        parents = parents.long()
        count = target.num_points
        if parents.shape != (source.num_points,) or int(parents.min()) < 0 or int(parents.max()) >= count:
            raise ValueError(
                f"parents has shape {tuple(parents.shape)} and values {int(parents.min())} to {int(parents.max())}; "
                f"expected ({source.num_points},) and 0 to {count - 1}"
            )
        members = torch.bincount(parents, minlength=count)
        if bool((members == 0).any()):
            raise ValueError(
                f"{int((members == 0).sum())} coarse points have no fine point; every cluster needs one"
            )
        cosine = (target.normals[parents] * source.normals).sum(1)
        if bool((1 + cosine < 1e-7).any()):
            raise ValueError("a fine point's normal is opposite to its coarse point's; take smaller clusters")
        turn = turn_between(target.frames[parents], source.frames)
        area = torch.zeros(count, dtype=torch.float64).index_add(0, parents, source.areas)
        order = torch.argsort(parents, stable=True)
        indptr = torch.cat([members.new_zeros(1), members.cumsum(0)])
        weight = (source.areas / area[parents])[order]
        mean = SparseMap(indptr, order, weight.to(dtype), source.num_points)
        return cls(parents, turn.to(dtype), mean, target.areas.to(dtype))

    @classmethod
    def concatenate(cls, clusters: Sequence[ClusterGeometry]) -> ClusterGeometry:
        """The clusters of several surfaces side by side. Raises: ValueError for none."""
        if not clusters:
            raise ValueError("clusters is empty; expected at least one")
        parents, indptr, indices, fine, coarse, pairs = [], [], [], 0, 0, 0
        for i, cluster in enumerate(clusters):
            pattern: Any = cluster.mean.pattern
            parents.append(cluster.parents + coarse)
            indptr.append(pattern.indptr[min(i, 1) :] + pairs)
            indices.append(pattern.indices.long() + fine)
            fine, coarse = fine + len(cluster.parents), coarse + cluster.mean.num_target
            pairs += len(pattern.indices)
        weight = torch.cat([c.mean.values[0] for c in clusters])
        mean = SparseMap(torch.cat(indptr), torch.cat(indices), weight, fine)
        turn, areas = (torch.cat([getattr(c, name) for c in clusters]) for name in ("turn", "areas"))
        return cls(torch.cat(parents), turn, mean, areas)


class _Clustered(ExactBuffers):
    """What pooling and unpooling share: a type, and the clusters of a grid or of each call."""

    clusters: ClusterGeometry | None

    def __init__(self, field_type: str | FieldType, grid: Grid | None = None) -> None:
        super().__init__()
        self.field_type, self.grid = FieldType.of(field_type), grid
        self.clusters = None
        self.coarse = None if grid is None else grid.coarsen()
        if grid is not None:
            self.keep("clusters")

    def _build(self, name: str, dtype: torch.dtype) -> ClusterGeometry:
        assert self.grid is not None
        return ClusterGeometry.of(self.grid, dtype=dtype)

    def _chosen(self, given: ClusterGeometry | None) -> ClusterGeometry:
        if (self.clusters is None) == (given is None):
            raise ValueError(
                "clusters must be given with the call where the layer was built without a grid, and only there"
            )
        chosen = self.clusters if given is None else given
        assert chosen is not None
        return chosen

    def extra_repr(self) -> str:
        return f"'{self.field_type}', {self.grid!r}" if self.grid is not None else f"'{self.field_type}'"


class FieldPool(_Clustered):
    """Area-weighted mean over each cluster of the fields carried to its coarse point.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        grid: the fine points, a grid or mesh with a nested coarser one; None where clusters come with each call.

    Shape: (B, dim, *fine shape) -> (B, dim, *coarse shape).
    Equivariance: SO(2) gauge, exact (1e-15 measured in float64).
    Raises: ValueError for input that does not fit.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425, appendix on pooling.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import FieldPool
        >>> FieldPool("2x0 + 1x1", HEALPix(4))(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 48])
    """

    def forward(self, x: Tensor, clusters: ClusterGeometry | None = None) -> Tensor:
        clusters = self._chosen(clusters)
        check_field(x, self.field_type)
        flat = x.flatten(2)
        if flat.shape[2] != len(clusters.parents):
            raise ValueError(f"x has {flat.shape[2]} points; the clusters have {len(clusters.parents)}")
        y: Tensor = clusters.mean(self.field_type.transport(flat, clusters.turn.to(flat.dtype)))
        return y if self.coarse is None else y.unflatten(2, self.coarse.shape)


class FieldUnpool(_Clustered):
    """Each fine point gets the fields of its cluster's coarse point, carried to its own frame.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        grid: the fine points, a grid or mesh with a nested coarser one; None where clusters come with each call.

    Shape: (B, dim, *coarse shape) -> (B, dim, *fine shape).
    Equivariance: SO(2) gauge, exact (1e-15 measured in float64).
    Raises: ValueError for input that does not fit.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import FieldUnpool
        >>> FieldUnpool("2x0 + 1x1", HEALPix(4))(torch.randn(2, 4, 48)).shape
        torch.Size([2, 4, 192])
    """

    def forward(self, x: Tensor, clusters: ClusterGeometry | None = None) -> Tensor:
        clusters = self._chosen(clusters)
        check_field(x, self.field_type)
        flat = x.flatten(2)
        if flat.shape[2] != clusters.mean.num_target:
            raise ValueError(f"x has {flat.shape[2]} points; the clusters are {clusters.mean.num_target}")
        y = self.field_type.transport(flat[:, :, clusters.parents], -clusters.turn.to(flat.dtype))
        return y if self.grid is None else y.unflatten(2, self.grid.shape)

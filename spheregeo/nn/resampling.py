"""Layers that carry fields from grid to grid without weights: pooling, unpooling, resampling.

Each holds its sparse map as a submodule, shared with all layers of equal geometry, so that it compiles, exports and
follows ``.to()``. On lat-lon grids pooling over blocks and its copy back are views of the field and need no map; nor do they on
nested HEALPix grids, where the children of a pixel come one after another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids import Grid, HEALPix
from spheregeo.grids.cache import geometry
from spheregeo.grids.latlon import LatLon
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.sampling import interpolation_map, pooling_map, unpooling_map
from spheregeo.sparse import SparseMap


class _Between(ExactBuffers, ABC):
    """A parameter-free layer between two grids; ``_map()`` is its float64 map, None where the layer needs none."""

    map: SparseMap | None

    def __init__(self, source: Grid, target: Grid) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.map = None
        if self._map() is not None:
            self.keep("map")

    @abstractmethod
    def _map(self) -> tuple[Hashable, Callable[[], SparseMap]] | None: ...

    def _build(self, name: str, dtype: torch.dtype) -> SparseMap:
        found = self._map()
        assert found is not None
        key, build = found
        return geometry.get(("layer", key, dtype), lambda: build().to(dtype)).shared()

    def _check(self, x: Tensor) -> None:
        check_tensor(x)
        shape = tuple(self.source.shape)
        if x.ndim != 2 + len(shape) or tuple(x.shape[2:]) != shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, channels, {', '.join(map(str, shape))}), "
                f"the fields of {self.source!r}"
            )

    def _through_map(self, x: Tensor) -> Tensor:
        assert self.map is not None
        return self.map(x.flatten(2)).unflatten(2, self.target.shape)

    def extra_repr(self) -> str:
        return f"{self.source!r} -> {self.target!r}"


class Pool(_Between):
    """Field on the next coarser grid: mean, area-weighted mean or maximum over each point's children.

    Args:
        grid: of the input, with a nested coarser one.
        reduce: "mean" of the children, "area" for their area-weighted mean, or "max".

    Shape: (B, C, *grid.shape) -> (B, C, *grid.coarsen().shape).
    Equivariance: exact under the rotations that permute both grids and carry parents to parents.
    Raises: ValueError for another ``reduce``, a grid without a nested coarser one, or an input of another shape.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import Pool
        >>> Pool(HEALPix(4))(torch.randn(2, 3, 192)).shape
        torch.Size([2, 3, 48])
    """

    def __init__(self, grid: Grid, reduce: str = "mean") -> None:
        if reduce not in ("mean", "area", "max"):
            raise ValueError(f"reduce is {reduce!r}; expected 'mean', 'area' or 'max'")
        self.reduce = reduce
        coarse = grid.coarsen()
        parents = grid.parents()  # raises where the grids are not nested
        self.blocks = isinstance(grid, LatLon) and len(parents) == 4 * coarse.num_points
        self.nested = isinstance(grid, HEALPix) and grid.nested
        super().__init__(grid, coarse)
        if reduce == "max" and not (self.blocks or self.nested):
            children = coarse.children()
            # Padding repeats a child, which changes no maximum.
            self.register_buffer(
                "children_index", torch.where(children < 0, children[:, :1], children), persistent=False
            )

    def _map(self) -> tuple[Hashable, Callable[[], SparseMap]] | None:
        if self.reduce == "max" or self.nested or (self.blocks and self.reduce == "mean"):
            return None
        grid, reduce = self.source, self.reduce
        return ("pool", grid, reduce), lambda: pooling_map(grid, reduce)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if self.map is not None:
            return self._through_map(x)
        if self.blocks:
            pool = nn.functional.avg_pool2d if self.reduce == "mean" else nn.functional.max_pool2d
            return pool(x, 2)
        if self.nested:
            children = x.transpose(1, 2).unflatten(1, (-1, 4))  # (B, N / 4, 4, C); their areas are equal
            return (children.amax(2) if self.reduce == "max" else children.mean(2)).transpose(1, 2)
        index: Tensor = self.children_index  # type: ignore[assignment]
        return x.index_select(2, index.reshape(-1)).unflatten(2, index.shape).amax(3)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, reduce={self.reduce!r}"


class Unpool(_Between):
    """Field on the next finer grid: each value copied to its children ("nearest"), or interpolated ("linear").

    Args:
        grid: of the input, the coarse one.
        method: "nearest" copies each value to its children, "linear" interpolates.

    Shape: (B, C, *grid.shape) -> (B, C, *grid.refine().shape).
    Equivariance: exact under the rotations that permute both grids and carry parents to parents.
    Raises: ValueError for another ``method``, a grid that no finer one is nested in, or an input of another shape.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import Unpool
        >>> Unpool(HEALPix(4), "linear")(torch.randn(2, 3, 192)).shape
        torch.Size([2, 3, 768])
    """

    def __init__(self, grid: Grid, method: str = "nearest") -> None:
        if method not in ("nearest", "linear"):
            raise ValueError(f"method is {method!r}; expected 'nearest' or 'linear'")
        self.method = method
        fine = grid.refine()
        if method == "nearest":
            fine.parents()  # raises where the grids are not nested
        self.blocks = isinstance(grid, LatLon) and method == "nearest"
        self.nested = isinstance(grid, HEALPix) and grid.nested and method == "nearest"
        super().__init__(grid, fine)

    def _map(self) -> tuple[Hashable, Callable[[], SparseMap]] | None:
        if self.blocks or self.nested:
            return None
        grid, fine = self.source, self.target
        if self.method == "linear":
            return ("resample", grid, fine, "linear"), lambda: interpolation_map(grid, fine)
        return ("unpool", grid), lambda: unpooling_map(grid)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if self.map is not None:
            return self._through_map(x)
        if self.nested:
            rows = x.transpose(1, 2)[:, :, None]  # (B, N, 1, C)
            return rows.expand(-1, -1, 4, -1).flatten(1, 2).transpose(1, 2)
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, method={self.method!r}"


class Resample(_Between):
    """Field on another grid, by :func:`spheregeo.sampling.interpolation_map`: "linear", "nearest" or "average".

    Args:
        source: grid of the input.
        target: grid of the output.
        method: "linear" between the nearest samples, "nearest", or "average" over the target's cells.

    Shape: (B, C, *source.shape) -> (B, C, *target.shape).
    Equivariance: approximate, to the order of the method; exact under rotations that permute both grids.
    Raises: ValueError for another ``method`` or an input of another shape.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular, HEALPix
        >>> from spheregeo.nn import Resample
        >>> Resample(Equiangular(8, 16), HEALPix(4))(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 192])
    """

    def __init__(self, source: Grid, target: Grid, method: str = "linear") -> None:
        self.method = method
        super().__init__(source, target)

    def _map(self) -> tuple[Hashable, Callable[[], SparseMap]]:
        source, target, method = self.source, self.target, self.method
        return ("resample", source, target, method), lambda: interpolation_map(source, target, method)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._through_map(x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, method={self.method!r}"

"""Between graphs: pooling and unpooling over cells of places, and the ways onto a graph with orientations and back."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.nn.chebyshev import apply_to_rows
from spheregeo.nn.plane.lie_graph.base import LieGraph
from spheregeo.nn.plane.lie_graph.maps import OnLieGraph, flat_to_rows, rows_to_flat
from spheregeo.sparse import SparseMap

REDUCE = ("mean", "max")


class LieGraphPool(OnLieGraph):
    """Means over cells of places, orientation by orientation, onto ``graph.coarsen()``.

    An image of even side is averaged over squares of 2 x 2 pixels; of an odd side every other pixel is kept, the first and the
    last among them, with half of each neighbor, so that cells stay symmetric about the centre. On the sphere directions are those
    of the parent's frame: a child's direction is shared between the two orientations beside it.

    Args:
        graph: the fine graph.

    Shape: (B, C n, *places) -> (B, C n, *coarser places); images (H, W) -> (⌈H/2⌉, ⌈W/2⌉).
    Equivariance: exact under the motions that permute both graphs and carry cells to cells, such as quarter turns of squares.
    Raises: ValueError for an input that does not fit, or a grid without a coarser one.

    Example:
        >>> import torch
        >>> from spheregeo.nn import LieGraphPool, SE2Graph
        >>> LieGraphPool(SE2Graph(9, 9, 8))(torch.randn(1, 16, 9, 9)).shape
        torch.Size([1, 16, 5, 5])
    """

    def _map(self, graph: LieGraph, dtype: torch.dtype) -> SparseMap:
        return graph.pooling_map(dtype)

    def on_rows(self, rows: Tensor, places: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
        """The means of features kept as rows, and the shape of the coarser places.

        Args:
            rows: (n places, B, C).
            places: shape of the image or grid.
        """
        return apply_to_rows(self.map_of(places, rows), rows), self._sized(places).coarsen().places

    def forward(self, x: Tensor) -> Tensor:
        n = self.graph.orientations
        places = self._check(x, None)
        rows, coarse = self.on_rows(flat_to_rows(x, n), places)
        return rows_to_flat(rows, n, coarse)

    def extra_repr(self) -> str:
        return f"{self.graph!r}"


class LieGraphUnpool(OnLieGraph):
    """Linear interpolation from ``graph.coarsen()``, orientation by orientation; on the sphere directions turn with their frames.

    Args:
        graph: the fine graph.

    Shape: (B, C n, *coarser places) -> (B, C n, *places). A graph without a size is told the fine places at the call.
    Equivariance: as :class:`LieGraphPool`.
    Raises: ValueError for an input that does not fit, or a grid without a coarser one.

    Example:
        >>> import torch
        >>> from spheregeo.nn import LieGraphUnpool, SE2Graph
        >>> LieGraphUnpool(SE2Graph(9, 9, 8))(torch.randn(1, 16, 5, 5)).shape
        torch.Size([1, 16, 9, 9])
    """

    def _map(self, graph: LieGraph, dtype: torch.dtype) -> SparseMap:
        return graph.unpooling_map(dtype)

    def on_rows(self, rows: Tensor, places: tuple[int, ...]) -> Tensor:
        """The interpolation of features kept as rows.

        Args:
            rows: (n coarser places, B, C).
            places: shape of the finer image or grid.
        """
        return apply_to_rows(self.map_of(places, rows), rows)

    def forward(self, x: Tensor, places: tuple[int, ...] | None = None) -> Tensor:
        if places is None and not self.graph.is_sized:
            raise ValueError(
                f"places is None and {self.graph!r} has no size; expected the fine image's (H, W)"
            )
        fine = self._sized(places or self.graph.places)
        n = fine.orientations
        self._check(x, None, fine.coarsen())
        return rows_to_flat(self.on_rows(flat_to_rows(x, n), fine.places), n, fine.places)

    def extra_repr(self) -> str:
        return f"{self.graph!r}"


def copy_to_orientations(x: Tensor, orientations: int) -> Tensor:
    """Scalar fields on all orientations alike: the lift that needs no filter.

    Args:
        x: scalar fields.
        orientations: n.

    Shape: (B, C, *places) -> (B, C n, *places). Equivariance: exact for all motions.
    """
    return x.repeat_interleave(orientations, 1)


def reduce_orientations(x: Tensor, orientations: int, reduce: str = "max") -> Tensor:
    """The largest value over the orientations, or their mean: the projection back to scalar fields.

    Args:
        x: fields on orientations.
        orientations: n.
        reduce: "max" or "mean".

    Shape: (B, C n, *places) -> (B, C, *places). Equivariance: exact for all motions that permute orientations.
    Raises: ValueError for another ``reduce``.
    """
    if reduce not in REDUCE:
        raise ValueError(f"reduce is {reduce!r}; expected one of {', '.join(map(repr, REDUCE))}")
    split = x.unflatten(1, (-1, orientations))
    return torch.amax(split, 2) if reduce == "max" else split.mean(2)

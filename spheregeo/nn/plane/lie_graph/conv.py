r"""Convolution on a Lie group's graph: a Chebyshev polynomial of its normalised Laplacian.

    y_o = b_o + sum_c sum_{k<K} W_ock T_k(L~) x_c

A filter of K terms reaches K - 1 edges far, in the shape of the metric's ball about each vertex: long along the main axis, turned
with the vertex. In training a random subgraph may stand for the graph, whose Laplacian is normalised anew.
Reference: Aguettaz, Bekkers & Defferrard 2021 (ChebLieNet), arXiv:2111.12139.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.chebyshev import filter_rows
from spheregeo.nn.plane.lie_graph.base import LieGraph
from spheregeo.nn.plane.lie_graph.maps import OnLieGraph, flat_to_rows, rows_to_flat
from spheregeo.sparse import SparseMap


def sampled_values(matrix: SparseMap, edge_drop: float, vertex_drop: float) -> Tensor:
    """Coefficients of the normalised Laplacian of a random subgraph with all vertices.

    Args:
        matrix: the Laplacian L~ of the whole graph.
        edge_drop: probability with which an edge is left out, both directions together.
        vertex_drop: probability with which a vertex loses all its edges.

    Shape: (E,), in the order of ``matrix.values``.
    """
    with torch.no_grad():
        row, column, _ = matrix.pattern.coo()
        row, column, twin = row.long(), column.long(), matrix.order.long()
        values = matrix.values[0]
        kept = torch.ones_like(values)
        if edge_drop:
            number = torch.arange(len(twin), device=twin.device)
            drawn = torch.rand(len(twin), device=values.device) >= edge_drop
            kept = kept * drawn[torch.minimum(number, twin)]
        if vertex_drop:
            stays = torch.rand(matrix.num_target, device=values.device) >= vertex_drop
            kept = kept * (stays[row] & stays[column])
        # what is left of a vertex's edges by the walk D^{-1} A, from L~ = -D^{-1/2} A D^{-1/2} and sqrt(D), its vector for -1
        root = degree_roots(matrix)
        walk = -values * kept * root[column] / root[row]
        left = torch.zeros_like(root).index_add_(0, row, walk)
        scale = torch.where(left > 0, left, 1.0).rsqrt()
        return values * kept * (scale[row] * scale[column])


def degree_roots(matrix: SparseMap) -> Tensor:
    """Square roots (V,) of the degrees, up to a factor on each connected part."""
    found: Tensor = matrix.get_buffer("degree_root")
    return found


class LieGraphConv(OnLieGraph):
    """Convolution of fields on a Lie group's graph by Chebyshev polynomials of its normalised Laplacian.

    Args:
        in_channels, out_channels: fields of input and output; each takes as many channels as the graph has orientations.
        graph: :class:`SE2Graph`, :class:`SO3Graph`, :class:`R2Graph` or :class:`S2Graph`. Graphs on images without a size take
            that of each input; the maps of eight sizes are kept. For compilers and exporters, call the layer once before.
        order: number K of polynomials, so that filters reach K - 1 edges; 1 mixes fields alone.
        bias: whether a constant is added to every field.
        edge_drop: probability with which an edge is left out in training, drawn at every call.
        vertex_drop: probability with which a vertex loses its edges in training, drawn at every call.

    Shape: (B, in_channels * n, *places) -> (B, out_channels * n, *places) with n orientations, the index of the orientation
        running fastest; places are (H, W) or the grid's shape; weight (out, in, K).
    Equivariance: exact under left translations that permute the graph: turns by 90° of square images with the roll of
        orientations by n/4, the grid's rotations on the sphere. Others to the accuracy of the sampling.
    Raises: ValueError for sizes, probabilities or an input that do not fit.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139.

    Example:
        >>> import torch
        >>> from spheregeo.nn import LieGraphConv, SE2Graph
        >>> LieGraphConv(2, 3, SE2Graph(9, 9, 8), order=3)(torch.randn(1, 16, 9, 9)).shape
        torch.Size([1, 24, 9, 9])
    """

    def __init__(
        self, in_channels: int, out_channels: int, graph: LieGraph, order: int = 3, *, bias: bool = True,
        edge_drop: float = 0.0, vertex_drop: float = 0.0,
    ) -> None:  # fmt: skip
        check_least(in_channels=(in_channels, 1), out_channels=(out_channels, 1), order=(order, 1))
        for name, drop in (("edge_drop", edge_drop), ("vertex_drop", vertex_drop)):
            if not 0 <= drop < 1:
                raise ValueError(f"{name} is {drop!r}; expected 0 (none) to below 1")
        super().__init__(graph)
        self.in_channels, self.out_channels, self.order = in_channels, out_channels, order
        self.edge_drop, self.vertex_drop = edge_drop, vertex_drop
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, order))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of variance 2 / (in K), biases 0.01."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.in_channels * self.order)))
        if self.bias is not None:
            nn.init.constant_(self.bias, 0.01)

    def _map(self, graph: LieGraph, dtype: torch.dtype) -> SparseMap:
        return graph.laplacian(dtype)

    def on_rows(self, rows: Tensor, places: tuple[int, ...]) -> Tensor:
        """The convolution of features kept as rows, as networks hand them from layer to layer.

        Args:
            rows: (n places, B, in_channels).
            places: shape of the image or grid.
        """
        matrix = self.map_of(places, rows)
        values = None
        if self.training and (self.edge_drop or self.vertex_drop):
            values = sampled_values(matrix, self.edge_drop, self.vertex_drop)
        return filter_rows(rows, matrix, self.weight, self.bias, values)

    def forward(self, x: Tensor) -> Tensor:
        places, n = self._check(x, self.in_channels), self.graph.orientations
        return rows_to_flat(self.on_rows(flat_to_rows(x, n), places), n, places)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.graph!r}, order={self.order}, bias={self.bias is not None}, "
            f"edge_drop={self.edge_drop}, vertex_drop={self.vertex_drop}"
        )

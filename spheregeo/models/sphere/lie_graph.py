"""Networks of Chebyshev convolutions on the graph of a grid's points with directions, SO(3), or without, S²."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from spheregeo.models.blocks import Head, Pointwise, check_field, hierarchy
from spheregeo.models.lie_graph_blocks import GraphNetwork
from spheregeo.models.registry import register
from spheregeo.nn import GlobalPool, S2Graph, SO3Graph
from spheregeo.nn.plane.lie_graph import LieGraph, from_rows

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def _graphs(
    grid: Grid, depth: int, directions: int, main: str, anisotropy: float, turn: float, neighbors: int
) -> list[LieGraph]:
    grids = hierarchy(grid, depth)
    if directions == 1:
        return [S2Graph(g, neighbors=neighbors) for g in grids]
    return [
        SO3Graph(
            g, directions, main=main, anisotropy=anisotropy, turn=turn, directed=False, neighbors=neighbors
        )
        for g in grids
    ]


@register("lie-graph-sphere-unet")
class LieGraphSphereUNet(nn.Module):
    """U-Net of Chebyshev convolutions on anisotropic graphs of points with directions, on any grid with nested levels.

    Args:
        in_channels: channels of the fields.
        out_channels: numbers per point.
        grid: the input's grid.
        width: fields of the first level, each with one channel a direction; twice as many on each further level, up to four
            times.
        depth: levels.
        blocks: convolutions of each level after the first, which has one.
        order: number of Chebyshev polynomials of each convolution.
        directions: directions between 0 and π over each point; 1 for the isotropic graph of the points alone.
        main: which steps are cheap: "along" the direction or "across" it.
        anisotropy: cost of a step off the main axis.
        turn: cost of a turn by one radian, in spacings of the grid.
        neighbors: nearest vertices that each vertex is joined to.
        edge_drop, vertex_drop: probabilities with which edges, and all edges of a vertex, are left out in training.
        norm: "batch", "group" or "none".

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: exact under rotations that permute every level's grid and carry frames to frames, parents to parents, up to
        opposite directions; others approximate, like the graphs.
    Raises: ValueError for a grid with fewer nested levels than ``depth``, or x of another shape.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> LieGraphSphereUNet(3, 5, HEALPix(4), width=4, depth=2)(torch.randn(1, 3, 192)).shape
        torch.Size([1, 5, 192])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: Grid, *, width: int = 12, depth: int = 3, blocks: int = 2,
        order: int = 4, directions: int = 4, main: str = "along", anisotropy: float = 3.0, turn: float = 2.0,
        neighbors: int = 12, edge_drop: float = 0.0, vertex_drop: float = 0.0, norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        graphs = _graphs(grid, depth, directions, main, anisotropy, turn, neighbors)
        self.in_channels, self.out_channels, self.grid = in_channels, out_channels, grid
        self.body = GraphNetwork(
            in_channels, graphs, width=width, blocks=blocks, norm=norm, decodes=True, order=order, edge_drop=edge_drop,
            vertex_drop=vertex_drop,
        )  # fmt: skip
        self.head = Pointwise(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        rows = self.body.project(self.body.decode(self.body.encode(x)))
        result: Tensor = self.head(from_rows(rows).unflatten(2, x.shape[2:]))
        return result


@register("lie-graph-sphere-classifier", output="label")
class LieGraphSphereClassifier(nn.Module):
    """Classifier of Chebyshev convolutions on graphs of points with directions; options as for :class:`LieGraphSphereUNet`.

    Args:
        in_channels: channels of the fields.
        out_channels: numbers per field.
        grid: the input's grid.
        width: fields of the first level; twice as many on each further level, up to four times.
        depth: levels.
        blocks: convolutions of each level after the first, which has one.
        order: number of Chebyshev polynomials of each convolution.
        directions: directions between 0 and π over each point; 1 for the isotropic graph of the points alone.
        main: which steps are cheap: "along" the direction or "across" it.
        anisotropy: cost of a step off the main axis.
        turn: cost of a turn by one radian, in spacings of the grid.
        neighbors: nearest vertices that each vertex is joined to.
        edge_drop, vertex_drop: probabilities with which edges, and all edges of a vertex, are left out in training.
        norm: "batch", "group" or "none".
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant, as exactly as :class:`LieGraphSphereUNet` is equivariant.
    Raises: ValueError for a grid with fewer nested levels than ``depth``, or x of another shape.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> LieGraphSphereClassifier(3, 10, HEALPix(4), width=4, depth=2)(torch.randn(1, 3, 192)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: Grid, *, width: int = 12, depth: int = 3, blocks: int = 2,
        order: int = 4, directions: int = 4, main: str = "along", anisotropy: float = 3.0, turn: float = 2.0,
        neighbors: int = 12, edge_drop: float = 0.0, vertex_drop: float = 0.0, norm: str = "batch", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        graphs = _graphs(grid, depth, directions, main, anisotropy, turn, neighbors)
        self.in_channels, self.out_channels, self.grid = in_channels, out_channels, grid
        self.body = GraphNetwork(
            in_channels, graphs, width=width, blocks=blocks, norm=norm, decodes=False, order=order, edge_drop=edge_drop,
            vertex_drop=vertex_drop,
        )  # fmt: skip
        assert isinstance(graphs[-1], (S2Graph, SO3Graph))
        self.pool = GlobalPool(graphs[-1].grid)
        self.head = Head(self.body.widths[-1], out_channels, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        rows, places = self.body.encode(x)[-1]
        result: Tensor = self.head(self.pool(from_rows(self.body.project(rows)).unflatten(2, places)))
        return result

"""Networks of Chebyshev convolutions on the graph of pixels with orientations, SE(2): a classifier and a U-Net of images."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spheregeo.models.blocks import Head, Pointwise
from spheregeo.models.lie_graph_blocks import GraphNetwork
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import GroupConv2d, SE2Graph
from spheregeo.nn.plane.lie_graph import from_rows

LIFTS = ("filters", "copies")


def _body(
    lift: str, in_channels: int, directions: int, *, main: str, anisotropy: float, turn: float, neighbors: int,
    width: int, depth: int, **options: Any,
) -> GraphNetwork:  # fmt: skip
    """The network between image and head; copies look alike from both ends of an orientation, which then has no direction."""
    if lift not in LIFTS:
        raise ValueError(f"lift is {lift!r}; expected one of {', '.join(map(repr, LIFTS))}")
    directed = lift == "filters"
    graph = SE2Graph(
        directions=directions,
        main=main,
        anisotropy=anisotropy,
        turn=turn,
        directed=directed,
        neighbors=neighbors,
    )
    bias = options["norm"] == "none"
    out = f"{width}xC{directions}"
    made = GroupConv2d(f"{in_channels}x0", out, 5, padding=2, bias=bias) if directed else None
    return GraphNetwork(in_channels, [graph] * depth, width=width, lift=made, **options)


@register("lie-graph-cnn", output="label", domain="images")
class LieGraphCNN(nn.Module):
    """Classifier of Chebyshev convolutions on anisotropic graphs of pixels with orientations.

    Images are filtered in all orientations, then on ever coarser graphs, with means over cells between levels; the largest value
    over the orientations, averaged over the image, goes through two layers.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: fields of the first level, each with one channel an orientation; twice as many on each further level, up to four
            times.
        depth: levels.
        blocks: convolutions of each level after the first, which has one.
        order: number of Chebyshev polynomials of each convolution.
        directions: orientations: between 0 and 2π, or, with copies, between 0 and π.
        lift: how orientations begin: "filters" turned to each of them (:class:`~spheregeo.nn.GroupConv2d`), or "copies" of the
            image, as in the paper, which make networks blind to reflections.
        main: which steps are cheap: "along" the orientation or "across" it.
        anisotropy: cost of a step off the main axis.
        turn: cost of a turn by one radian, in pixels.
        neighbors: nearest vertices that each vertex is joined to.
        edge_drop, vertex_drop: probabilities with which edges, and all edges of a vertex, are left out in training.
        norm: "batch", "group" or "none".
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels), images of any size.
    Equivariance: invariant to quarter turns of square images, exactly, where ``directions`` is a multiple of 4 (with copies of
        2, and to reflections); to other turns as far as pixels and orientations resolve them.
    Raises: ValueError for images of another shape, and options that do not fit.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139.

    Example:
        >>> import torch
        >>> LieGraphCNN(1, 10, width=4, depth=2)(torch.randn(2, 1, 9, 9)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, depth: int = 3, blocks: int = 2,
        order: int = 4, directions: int = 8, lift: str = "filters", main: str = "along", anisotropy: float = 3.0,
        turn: float = 2.0,
        neighbors: int = 12, edge_drop: float = 0.0, vertex_drop: float = 0.0, norm: str = "batch", dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.body = _body(
            lift, in_channels, directions, main=main, anisotropy=anisotropy, turn=turn, neighbors=neighbors, width=width,
            depth=depth, blocks=blocks, norm=norm, decodes=False, order=order, edge_drop=edge_drop, vertex_drop=vertex_drop,
        )  # fmt: skip
        self.head = Head(self.body.widths[-1], out_channels, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        rows, _ = self.body.encode(x)[-1]
        result: Tensor = self.head(self.body.project(rows).mean(0))
        return result


@register("lie-graph-unet", domain="images")
class LieGraphUNet(nn.Module):
    """U-Net of Chebyshev convolutions on anisotropic graphs of pixels with orientations; options as for :class:`LieGraphCNN`.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per pixel.
        grid: None.
        width: fields of the first level; twice as many on each further level, up to four times.
        depth: levels.
        blocks: convolutions of each level after the first, which has one.
        order: number of Chebyshev polynomials of each convolution.
        directions: orientations: between 0 and 2π, or, with copies, between 0 and π.
        lift: how orientations begin: "filters" turned to each of them (:class:`~spheregeo.nn.GroupConv2d`), or "copies" of the
            image, as in the paper, which make networks blind to reflections.
        main: which steps are cheap: "along" the orientation or "across" it.
        anisotropy: cost of a step off the main axis.
        turn: cost of a turn by one radian, in pixels.
        neighbors: nearest vertices that each vertex is joined to.
        edge_drop, vertex_drop: probabilities with which edges, and all edges of a vertex, are left out in training.
        norm: "batch", "group" or "none".

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W), images of any size.
    Equivariance: exact under quarter turns of square images where ``directions`` is a multiple of 4 (with copies of 2, and
        under reflections); other turns as far as pixels and orientations resolve them.
    Raises: ValueError for images of another shape, and options that do not fit.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139.

    Example:
        >>> import torch
        >>> LieGraphUNet(3, 5, width=4, depth=2)(torch.randn(1, 3, 9, 8)).shape
        torch.Size([1, 5, 9, 8])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, depth: int = 3, blocks: int = 2,
        order: int = 4, directions: int = 8, lift: str = "filters", main: str = "along", anisotropy: float = 3.0,
        turn: float = 2.0,
        neighbors: int = 12, edge_drop: float = 0.0, vertex_drop: float = 0.0, norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.body = _body(
            lift, in_channels, directions, main=main, anisotropy=anisotropy, turn=turn, neighbors=neighbors, width=width,
            depth=depth, blocks=blocks, norm=norm, decodes=True, order=order, edge_drop=edge_drop, vertex_drop=vertex_drop,
        )  # fmt: skip
        self.head = Pointwise(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        rows = self.body.project(self.body.decode(self.body.encode(x)))
        result: Tensor = self.head(from_rows(rows).unflatten(2, x.shape[2:]))
        return result

"""What networks on Lie groups' graphs share, on images and spheres: levels of Chebyshev convolutions on features kept as rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.blocks import make_norm
from spheregeo.nn import LieGraphConv, LieGraphPool, LieGraphUnpool
from spheregeo.nn.plane.lie_graph import LieGraph, flat_to_rows, from_rows, to_rows

Places = tuple[int, ...]


class RowNorm(nn.Module):
    """Norm of fields kept as rows (V, B, C): one statistic for each field, over its orientations and places.

    Args:
        kind: "batch", "group" or "none".
        channels: C.

    Shape: (V, B, C) -> the same.
    Equivariance: exact for all permutations of vertices.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.norm, self.flat = make_norm(kind, channels), kind != "group"

    def forward(self, rows: Tensor) -> Tensor:
        if self.flat:
            return self.norm(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])  # type: ignore[no-any-return]
        return to_rows(self.norm(from_rows(rows)))


class GraphStage(nn.Module):
    """Chebyshev convolutions on one graph, each with norm and rectifier.

    Args:
        in_channels, out_channels: fields before and after.
        graph: of all convolutions.
        convs: how many.
        norm: "batch", "group" or "none".
        options: further arguments of :class:`~spheregeo.nn.LieGraphConv`.

    Shape: (V, B, in_channels) -> (V, B, out_channels), with the shape of the places.
    """

    def __init__(
        self, in_channels: int, out_channels: int, graph: LieGraph, convs: int, norm: str, **options: float
    ) -> None:
        super().__init__()
        before = [in_channels] + [out_channels] * (convs - 1)
        bias = norm == "none"
        self.convs = nn.ModuleList(LieGraphConv(c, out_channels, graph, bias=bias, **options) for c in before)  # type: ignore[arg-type]
        self.norms = nn.ModuleList(RowNorm(norm, out_channels) for _ in before)

    def forward(self, rows: Tensor, places: Places) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(conv, LieGraphConv)
            rows = nn.functional.relu(norm(conv.on_rows(rows, places)))
        return rows


class GraphNetwork(nn.Module):
    """Encoder over ever coarser graphs, and the way back up where ``decodes``; the base of classifiers and U-Nets.

    Args:
        in_channels: channels of the input.
        graphs: from fine to coarse; for images of any size the same one again and again.
        width: fields of the first level, twice as many on each further one, up to four times.
        blocks: convolutions of each level.
        norm: "batch", "group" or "none".
        decodes: whether there is a decoder.
        lift: layer from scalar fields to ``width`` fields with orientations, which takes the place of copies and of the first
            convolution; None for copies.
        options: further arguments of :class:`~spheregeo.nn.LieGraphConv`.
    """

    def __init__(
        self, in_channels: int, graphs: list[LieGraph], *, width: int, blocks: int, norm: str, decodes: bool,
        lift: nn.Module | None = None, **options: float,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), depth=(len(graphs), 1), blocks=(blocks, 1)
        )
        self.orientations = graphs[0].orientations
        self.widths = [width * min(4, 2**level) for level in range(len(graphs))]
        before = [in_channels, *self.widths]
        counts = [1, *[blocks] * (len(graphs) - 1)]  # one at the finest level, where most vertices are
        self.encoder = nn.ModuleList(
            GraphStage(a, b, g, count, norm, **options)
            for a, b, g, count in zip(before, self.widths, graphs, counts)
        )
        self.lift = lift
        if lift is not None:
            self.encoder[0] = RowNorm(norm, width)
        self.pools = nn.ModuleList(LieGraphPool(g) for g in graphs[:-1])
        fine = list(zip(self.widths[1:], self.widths[:-1], graphs[:-1], counts)) if decodes else []
        self.unpools = nn.ModuleList(LieGraphUnpool(g) for _, _, g, _ in fine)
        self.decoder = nn.ModuleList(
            GraphStage(a + b, b, g, count, norm, **options) for a, b, g, count in fine
        )

    def encode(self, x: Tensor) -> list[tuple[Tensor, Places]]:
        """The features of every level, as rows, and the shapes of the levels' places.

        Args:
            x: scalar fields (B, C, *places).
        """
        places = tuple(x.shape[2:])
        if self.lift is None:
            rows = to_rows(x.flatten(2)).repeat(
                self.orientations, 1, 1
            )  # scalars look alike from all orientations
            levels = [(self.encoder[0](rows, places), places)]
        else:
            rows = flat_to_rows(self.lift(x), self.orientations)
            levels = [(nn.functional.relu(self.encoder[0](rows)), places)]
        for pool, stage in zip(self.pools, list(self.encoder)[1:], strict=True):
            assert isinstance(pool, LieGraphPool)
            rows, places = pool.on_rows(*levels[-1])
            levels.append((stage(rows, places), places))
        return levels

    def decode(self, levels: list[tuple[Tensor, Places]]) -> Tensor:
        """The features of the finest level after the way up.

        Args:
            levels: what :meth:`encode` gives.
        """
        rows = levels[-1][0]
        for level in reversed(range(len(self.decoder))):
            skip, places = levels[level]
            unpool = self.unpools[level]
            assert isinstance(unpool, LieGraphUnpool)
            rows = self.decoder[level](torch.cat([unpool.on_rows(rows, places), skip], 2), places)
        return rows

    def project(self, rows: Tensor) -> Tensor:
        """The largest value over the orientations.

        Args:
            rows: features (n places, B, C).

        Shape: -> (places, B, C).
        """
        return rows.unflatten(0, (self.orientations, -1)).amax(0)

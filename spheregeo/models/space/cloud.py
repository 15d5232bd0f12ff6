"""Clouds on their way into a network: neighbours in space and among features, and the vectors to begin with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_positions
from spheregeo.models.space.point_outputs import CloudOutputs, clouds_of
from spheregeo.nn.space import VectorMeanPool
from spheregeo.sampling import knn_graph

MOST = 1 << 22  # distances in feature space worked on at once


class CloudGraph(NamedTuple):
    """Neighbours of the points of a batch.

    Attributes:
        edge_index: (2, E) int64, rows source and target.

    Example:
        >>> CloudGraph(torch.tensor([[0, 1], [1, 0]])).edge_index.shape
        torch.Size([2, 2])
    """

    edge_index: Tensor


class InputVectors(nn.Module):
    """Positions about their cloud's mean, then one vector for each feature: vectors as they are, scalars times the position.

    Args:
        in_channels: columns of the features.
        feature_irreps: what they are, of 0e and 1o, such as "1x1o" for normals; all scalars if None.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,) -> (P, 3, num_vectors).
    Raises: ValueError for other irreps, or features that do not fit.
    """

    def __init__(self, in_channels: int, feature_irreps: str | None) -> None:
        super().__init__()
        irreps = Irreps(f"{in_channels}x0e" if feature_irreps is None else feature_irreps)
        kinds = {str(item.ir) for item in irreps}
        if irreps.dim != in_channels or not kinds <= {"0e", "1o"}:
            raise ValueError(
                f"feature_irreps is {feature_irreps!r} but in_channels {in_channels}; expected as many numbers, of 0e and 1o"
            )
        self.in_channels, self.num_vectors = in_channels, 1 + int(irreps.num_irreps)
        ends = zip(irreps, irreps.slices(), strict=True)
        self.blocks = tuple((int(s.start), int(s.stop), int(item.ir.l)) for item, s in ends)
        self.mean = VectorMeanPool()

    def forward(self, positions: Tensor, features: Tensor | None, batch: Tensor, count: int) -> Tensor:
        found = 0 if features is None else features.shape[-1]
        if found != self.in_channels:
            raise ValueError(
                f"features have {found} columns but the network was built for in_channels={self.in_channels}"
            )
        centre = self.mean(positions, batch, count)
        parts = [(positions - centre.index_select(0, batch)).unsqueeze(-1)]
        if features is not None:
            for start, stop, degree in self.blocks:
                block = features[:, start:stop]
                vectors = (
                    block.unflatten(1, (-1, 3)).transpose(1, 2) if degree else parts[0] * block.unsqueeze(1)
                )
                parts.append(vectors)
        return torch.cat(parts, -1)


def feature_graph(v: Tensor, k: int, batch: Tensor) -> Tensor:
    """Edges from the k points of the same cloud whose vectors are nearest, the point itself among them.

    Squared distances are rounded to 1e-10 (1e-5 in float32) of the cloud's largest, and equal ones are taken in the order of
    the points, so that rounding errors of a turned cloud choose alike.

    Shape: v (P, 3, C), batch (P,) -> (2, E).
    """
    step = 1e-10 if v.dtype == torch.float64 else 1e-5
    sources, own, start = [], [], 0
    for size in torch.bincount(batch).tolist():
        x = v[start : start + size].detach().flatten(1)
        unit = (step * (x - x.mean(0)).square().sum(1).amax()) if size else x.new_ones(())
        for rows in torch.arange(start, start + size, device=v.device).split(max(1, MOST // max(1, size))):
            gap = torch.cdist(x[rows - start], x, compute_mode="donot_use_mm_for_euclid_dist").square()
            steps = (gap / unit.clamp_min(torch.finfo(v.dtype).tiny)).round()
            nearest = steps.sort(dim=1, stable=True).indices[:, :k]
            sources.append(start + nearest.flatten())
            own.append(rows.repeat_interleave(nearest.shape[1]))
        start += size
    return torch.stack([torch.cat(sources or [batch]), torch.cat(own or [batch])])


class CloudNetwork(CloudOutputs):
    """Base of the networks of clouds: the neighbors and the vectors that they begin with.

    A subclass implements ``encode`` and makes ``head``, see :class:`CloudOutputs`.

    Args:
        in_channels: features of each point, 0 for none.
        k: number of neighbors of a point, the point itself among them.
        feature_irreps: irreps of the features, such as "1x1o" for normals; scalars if None.
        output: "label" for numbers of each cloud, "field" for numbers of each point.

    Raises: ValueError for k below 1, irreps that do not fit ``in_channels``, or another output.

    Example:
        >>> network = CloudNetwork(0, k=4, feature_irreps=None)
        >>> network.neighbors(torch.randn(10, 3), None).edge_index.shape
        torch.Size([2, 40])
    """

    def __init__(self, in_channels: int, k: int, feature_irreps: str | None, output: str = "label") -> None:
        super().__init__(output)
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1 neighbour")
        self.k, self.inputs = k, InputVectors(in_channels, feature_irreps)

    def neighbors(
        self, positions: Tensor, batch: Tensor | None, cell: None = None, pbc: None = None
    ) -> CloudGraph:
        """The k nearest points of each point's cloud, itself among them; fewer in a cloud with fewer.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        check_positions(positions)
        return CloudGraph(knn_graph(positions, self.k, batch, loop=True))

    def begin(
        self, positions: Tensor, features: Tensor | None, batch: Tensor | None, num_graphs: int | None
    ) -> tuple[Tensor, Tensor, int]:
        """Vectors (P, 3, C) of the points, the cloud of each, and the number of clouds."""
        batch, count = clouds_of(positions, batch, num_graphs)
        return self.inputs(positions, features, batch, count), batch, count

"""What networks of clouds give: numbers for each cloud ("label") or for each of its points ("field"), from the same features.

A network of clouds descends from :class:`CloudOutputs` and implements :meth:`~CloudOutputs.encode`: invariant features of every
point, and of every cloud as a whole. The network's ``head`` makes numbers of them: a head of its own for "label",
:class:`PointHead` for "field". Networks that go down to fewer points bring features back up before they return them,
see :func:`~spheregeo.nn.space.interpolate_points`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.nn import SampleDropout

OUTPUTS = ("label", "field")


def check_output(output: str) -> str:
    """The output. Raises: ValueError for another than "label" and "field"."""
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}; expected one of {', '.join(map(repr, OUTPUTS))}")
    return output


class Encoded(NamedTuple):
    """Features of a batch of clouds.

    Attributes:
        points: of every point; None where the network gives labels and makes none on all points.
        clouds: of every cloud.

    Shape: points (P, F), clouds (B, G).

    Example:
        >>> Encoded(torch.zeros(20, 8), torch.zeros(2, 5)).clouds.shape
        torch.Size([2, 5])
    """

    points: Tensor | None
    clouds: Tensor


class PointHead(nn.Module):
    """Numbers for each point from features of the point and of its cloud: norm, linear maps, SiLU, dropout, until the last map.

    Args:
        local: features of a point.
        whole: features of a cloud.
        out_channels: numbers for each point.
        hidden: widths between; one at least.
        dropout: before the last map, of the same channels at all points of a cloud.

    Shape: points (P, local), clouds (B, whole), batch (P,) -> (P, out_channels).
    Equivariance: invariant where the features are.

    Example:
        >>> head = PointHead(5, 7, 3, hidden=[8])
        >>> head(torch.randn(4, 5), torch.randn(2, 7), torch.tensor([0, 0, 1, 1])).shape
        torch.Size([4, 3])
    """

    def __init__(
        self, local: int, whole: int, out_channels: int, *, hidden: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        first, *others = hidden
        self.local = nn.Sequential(nn.LayerNorm(local), nn.Linear(local, first))
        self.whole = nn.Sequential(nn.LayerNorm(whole), nn.Linear(whole, first, bias=False))
        layers: list[nn.Module] = [nn.SiLU()]
        for before, after in zip(hidden, others, strict=False):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.middle, self.dropout = nn.Sequential(*layers), SampleDropout(dropout)
        self.last = nn.Linear(hidden[-1], out_channels)

    def forward(self, points: Tensor, clouds: Tensor, batch: Tensor) -> Tensor:
        x = self.middle(self.local(points) + self.whole(clouds).index_select(0, batch))
        if self.training and self.dropout.p:
            x = x * self.dropout(x.new_ones(len(clouds), x.shape[1])).index_select(0, batch)
        result: Tensor = self.last(x)
        return result


class CloudOutputs(nn.Module):
    """Base of networks of clouds, which give numbers for each cloud or for each point.

    A subclass implements :meth:`encode` and makes ``head``: a module of the clouds' features, (B, G) -> (B, out_channels), where
    ``output`` is "label", and :class:`PointHead` where it is "field".

    Args:
        output: "label" or "field".

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,) or None for one cloud, graph as ``neighbors`` gives it;
        returns (B, out_channels), or (P, out_channels).
    Raises: ValueError for another output.

    Example:
        >>> class Lengths(CloudOutputs):
        ...     def encode(self, positions, features, batch, graph, count):
        ...         length = positions.norm(dim=1, keepdim=True)
        ...         return Encoded(length, group_max(length, batch, count))
        >>> network = Lengths("field")
        >>> network.head = PointHead(1, 1, 3, hidden=[4])
        >>> network(torch.randn(10, 3), None).shape
        torch.Size([10, 3])
    """

    head: nn.Module

    def __init__(self, output: str = "label") -> None:
        super().__init__()
        self.output = check_output(output)

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: Any, count: int
    ) -> Encoded:
        """Features of points and clouds; arguments as those of ``forward``, ``count`` being the number of clouds.

        Raises: NotImplementedError in a subclass that does not define it.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines no encode(); expected one, see CloudOutputs"
        )

    def point_features(
        self,
        positions: Tensor,
        features: Tensor | None,
        batch: Tensor | None = None,
        graph: Any = None,
        num_graphs: int | None = None,
    ) -> Tensor:
        """Features of every point before the head, for instance to match points of two clouds.

        Shape: as of ``forward`` -> (P, F).
        Equivariance: as of the network.
        Raises: ValueError for a network with output "label" that makes no features on all points.
        """
        batch, count = clouds_of(positions, batch, num_graphs)
        found = self.encode(positions, features, batch, graph, count).points
        if found is None:
            raise ValueError(
                f"{type(self).__name__} with output 'label' has no features of all points; expected output 'field'"
            )
        return found

    def forward(
        self,
        positions: Tensor,
        features: Tensor | None,
        batch: Tensor | None = None,
        graph: Any = None,
        num_graphs: int | None = None,
    ) -> Tensor:
        batch, count = clouds_of(positions, batch, num_graphs)
        found = self.encode(positions, features, batch, graph, count)
        if self.output == "label":
            result: Tensor = self.head(found.clouds)
        else:
            result = self.head(found.points, found.clouds, batch)
        return result


def clouds_of(positions: Tensor, batch: Tensor | None, num_graphs: int | None) -> tuple[Tensor, int]:
    """The cloud of each point, all 0 if ``batch`` is None, and the number of clouds, counted if ``num_graphs`` is None."""
    if batch is None:
        batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    count = num_graphs if num_graphs is not None else int(batch[-1]) + 1 if len(batch) else 0
    return batch, count


def group_max(x: Tensor, group: Tensor, count: int) -> Tensor:
    """Largest value of each channel over groups; -inf where a group is empty. Shape: (N, C), (N,) -> (count, C)."""
    start = x.new_full((count, x.shape[1]), -torch.inf)
    return start.scatter_reduce(0, group[:, None].expand_as(x), x, "amax")

"""What tasks of clouds of points share: the network and the clouds that it takes."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from spheregeo import models
from spheregeo.tasks.base import Task
from spheregeo.tasks.points.classification import check_cloud


class CloudTask(Task):
    """Base of the tasks with numbers for each point of a cloud; ``output`` says what the network gives.

    Args:
        out_channels: channels of the output.
        in_channels: channels of the features; 0 where positions are all there is.
        feature_irreps: what the features are in e3nn's notation, such as 1x1o for normals; scalars if empty.
        num_points: points to which clouds are thinned when files are predicted.
        network: name of a model of point clouds; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"k": 20}, also filed under networks' names.
        common: arguments of the other bases.

    Raises: ValueError for an unknown network.
    """

    output: ClassVar[str] = "field"

    def __init__(
        self,
        out_channels: int,
        in_channels: int = 0,
        feature_irreps: str = "",
        num_points: int = 1024,
        network: str = "steerable-points",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        name = models.resolve(network, self.output, "points")
        own = models.options_of(name, options)
        super().__init__(
            in_channels=in_channels, feature_irreps=feature_irreps, num_points=num_points, network=name, width=width,
            depth=depth, options=own or None, **common,
        )  # fmt: skip
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        if feature_irreps:
            chosen["feature_irreps"] = feature_irreps
        if len(models.outputs_of(name)) > 1:
            chosen["output"] = self.output
        self.in_channels, self.feature_irreps, self.num_points = in_channels, feature_irreps, num_points
        self.network: Any = models.create(name, in_channels, out_channels, None, **chosen)

    def forward(
        self, positions: Tensor, batch: Tensor, features: Tensor | None = None, count: int | None = None
    ) -> Tensor:
        """Return the network's output for each point. Shape: (P, 3), (P,), (P, in_channels) or None -> (P, out_channels)."""
        if count is None:
            count = int(batch.max()) + 1 if len(batch) else 0
        check_cloud(positions, batch, features, count, self.in_channels)
        graph = self.network.neighbors(positions, batch)
        result: Tensor = self.network(positions, features, batch, graph, count)
        return result

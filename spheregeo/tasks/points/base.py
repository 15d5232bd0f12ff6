"""What tasks of clouds of points share: the network and the clouds that it takes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo import models
from spheregeo.tasks.base import Task


def check_cloud(
    positions: Tensor, batch: Tensor, features: Tensor | None, count: int, in_channels: int
) -> None:
    """Check that clouds are sound.

    Args:
        positions: points, (P, 3).
        batch: number of the cloud of each point, (P,).
        features: features of the points, (P, in_channels), or None.
        count: number of clouds.
        in_channels: features that the network was built for.

    Raises: ValueError for what is no batch of ``count`` clouds with finite points, each with one at least.
    """
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions have shape {tuple(positions.shape)}; expected (P, 3)")
    if batch.shape != positions.shape[:1]:
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}; expected ({len(positions)},), the cloud of each point"
        )
    if len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < count:
        raise ValueError(
            f"batch runs from {int(batch.min())} to {int(batch.max())} but there are {count} clouds"
        )
    sizes = torch.bincount(batch, minlength=count)
    if bool((sizes == 0).any()):
        raise ValueError(
            f"cloud {int((sizes == 0).nonzero()[0, 0])} of the batch has no points; expected one at least"
        )
    columns = 0 if features is None else features.shape[-1]
    if columns != in_channels:
        raise ValueError(
            f"the clouds have {columns} features a point but in_channels is {in_channels}; "
            "take data with as many (--data.normals), or leave them out"
        )
    for name, values in (("positions", positions), ("features", features)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise ValueError(f"{name} hold NaN or infinite values; remove such points")


def cloud_network(
    name: str, output: str, in_channels: int, out_channels: int, feature_irreps: str, options: dict[str, Any]
) -> Any:
    """Build a network of clouds.

    Args:
        name: registered name.
        output: what a network with several outputs is to give, "label" or "field".
        in_channels: channels of the features.
        out_channels: channels of the output.
        feature_irreps: what the features are; scalars if empty.
        options: options of the network.
    """
    chosen = dict(options)
    if feature_irreps:
        chosen["feature_irreps"] = feature_irreps
    if len(models.outputs_of(name)) > 1:
        chosen["output"] = output
    return models.create(name, in_channels, out_channels, None, **chosen)


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
        self.in_channels, self.feature_irreps, self.num_points = in_channels, feature_irreps, num_points
        sizes = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = cloud_network(name, self.output, in_channels, out_channels, feature_irreps, sizes)

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

r"""DeltaNet: a stack of DeltaConv layers, the scalars of all of which are read together.

Reference: Wiersma, Nasikun, Eisemann & Hildebrandt 2022, arXiv:2111.08799, section 6.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.blocks import PooledNorm
from spheregeo.models.meshes.base import OperatorNetwork
from spheregeo.models.registry import register
from spheregeo.nn import (
    DeltaConv,
    FieldBatchNorm,
    FieldLinear,
    OperatorSettings,
    SampleDropout,
    SurfaceOperators,
)

if TYPE_CHECKING:
    from spheregeo.grids import Grid


class DeltaNet(OperatorNetwork):
    """Network of DeltaConv layers on surfaces: values at every point, or one vector for each surface.

    Args:
        in_channels: channels of the input, ``in_type.dim``.
        out_channels: channels of the output, all scalars.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        output: "field" or "label".
        in_type: fields of the input, of which the network sees scalars and the lengths of other fields; scalars if None.
        width: scalars, and vectors, of each layer.
        depth: layers.
        hops: edges that a point's neighbours are away at most.
        hidden: channels of the hidden layers after the convolutions; twice the width if None.
        act: activation, a name or a pointwise function.
        dropout: before the last layer.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape) or (B, out_channels). Without a grid
        (1, in_channels, V_1 + V_2 + ...) and a batch's operators -> (1, out_channels, V_1 + ...) or (surfaces, out_channels).
    Equivariance: turned frames, motions and scalings change nothing, exactly, as far as the input does not change (1e-12 in
        float64).
    Raises: ValueError for types, sizes and input that do not fit.
    Reference: Wiersma, Nasikun, Eisemann & Hildebrandt 2022, arXiv:2111.08799.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.models import DeltaNet
        >>> DeltaNet(3, 2, Icosahedral(2), width=4, depth=2)(torch.randn(2, 3, 162)).shape
        torch.Size([2, 2, 162])
    """

    act: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid | None = None,
        *,
        output: str = "field",
        in_type: str | None = None,
        width: int = 32,
        depth: int = 4,
        hops: int = 2,
        hidden: int | None = None,
        act: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        hidden = 2 * width if hidden is None else hidden
        check_least(width=(width, 1), depth=(depth, 1), hops=(hops, 1), hidden=(hidden, 1))
        super().__init__(in_channels, out_channels, grid, output, in_type, OperatorSettings(hops=hops))
        types = [f"{self.in_type.num_fields}x0", *[f"{width}x0 + {width}x1"] * (depth - 1), f"{width}x0"]
        self.layers = nn.ModuleList(
            DeltaConv(before, after, hops=hops, act=act) for before, after in itertools.pairwise(types)
        )
        self.embed = FieldLinear(f"{depth * width}x0", f"{hidden}x0")
        self.embed_norm = FieldBatchNorm(f"{hidden}x0")
        self.act = self.layers[0].act
        read = 2 * hidden if output == "field" else hidden
        self.head_norm = PooledNorm(hidden) if output == "label" else nn.Identity()
        self.hidden = nn.Linear(read, hidden)
        self.dropout = SampleDropout(dropout)
        self.last = nn.Linear(hidden, out_channels)

    def features(self, x: Tensor, operators: SurfaceOperators) -> Tensor:
        """Embedding of each point. Shape: (B, num_fields, P) -> (B, hidden, P)."""
        found, v = [], None
        for layer in self.layers:
            x, v = layer.streams(x, v, operators)  # type: ignore[operator]
            found.append(x)
        result: Tensor = self.act(self.embed_norm(self.embed(torch.cat(found, 1)), operators.areas))
        return result

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        x, held = self.enter(x, operators)
        x = self.features(x, held)
        whole = held.mean(x)  # (surfaces or B, hidden)
        if self.output == "label":
            result: Tensor = self.last(self.dropout(self.act(self.hidden(self.head_norm(whole)))))
            return result
        # every point sees the whole of its surface
        counts = torch.tensor(held.counts, device=x.device)
        around = (
            whole[:, None].expand(-1, held.num_points, -1)
            if len(counts) == 1
            else torch.repeat_interleave(whole, counts, 0)[None]
        )
        y = self.act(self.hidden(torch.cat([x.mT, around], 2)))
        return self.leave(self.last(self.dropout(y)).mT)


@register("delta-net", alias="delta", options_of=DeltaNet)
def field(in_channels: int, out_channels: int, grid: Grid | None, **options: Any) -> DeltaNet:
    """DeltaConv network: scalars and tangent vectors coupled by gradient, divergence and curl; a value for every vertex."""
    return DeltaNet(in_channels, out_channels, grid, **options)


@register("delta-classifier", output="label", alias="delta", options_of=DeltaNet)
def classifier(in_channels: int, out_channels: int, grid: Grid | None, **options: Any) -> DeltaNet:
    """DeltaConv network that gives each surface one class: the mean over the surface after all layers."""
    return DeltaNet(in_channels, out_channels, grid, output="label", **options)


__all__ = ["DeltaNet"]

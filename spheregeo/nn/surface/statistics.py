"""Means and mean squares of tangent fields, and the affine map that normalises by them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType, check_field
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.statistics import ChannelSets, normalize, working_dtype
from spheregeo.nn.surface.stacks import even_scalars


class FieldNorm(ExactBuffers):
    """Sets of channels that share a variance, and which channel of each, if any, is a scalar with a mean.

    Statistics are kept for each set: ``running_mean`` is used where the set has a scalar, and is zero elsewhere.
    """

    part: Tensor
    set_of: Tensor
    has_mean: Tensor
    even: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        field_type: str | FieldType,
        sets: list[list[int]],
        divisors: list[int],
        grid: Grid | None,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        per_sample: bool,
    ) -> None:
        super().__init__()
        self.field_type = FieldType.of(field_type)
        self.grid, self.eps, self.momentum = grid, eps, momentum
        self.affine, self.track_running_stats, self.per_sample = affine, track_running_stats, per_sample
        dim = self.field_type.dim
        even = even_scalars(self.field_type)
        self.num_sets = len(sets)
        part, set_of = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.int64)
        for i, (channels, divisor) in enumerate(zip(sets, divisors, strict=True)):
            part[channels] = 1 / divisor
            set_of[channels] = i
        has_mean = torch.zeros(dim)
        has_mean[even] = 1
        self.keep("part", part)
        self.register_buffer("set_of", set_of, persistent=False)
        self.keep("has_mean", has_mean)
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.share: Tensor | None = None
        if grid is not None:
            self.keep("share")
        self.weight = nn.Parameter(torch.ones(len(sets))) if affine else None
        self.bias = nn.Parameter(torch.zeros(len(even))) if affine and even else None
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(len(sets)))
            self.register_buffer("running_var", torch.ones(len(sets)))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        else:
            self.running_mean = self.running_var = None

    def forward(self, x: Tensor, areas: Tensor | None = None) -> Tensor:
        """Areas given here stand in for the grid's; their scale is no matter. Shape: (P,) or (*points), with B before or not."""
        check_field(x, self.field_type)
        dtype = working_dtype(x)
        sets = ChannelSets(self.set_of, self.has_mean, self.part, self.num_sets, self.has_mean)
        gamma = None if self.weight is None else self.weight[self.set_of]
        beta = None
        if self.bias is not None:
            beta = self.bias.new_zeros(self.field_type.dim).index_copy(0, self.even, self.bias)
        options: dict[str, Any] = {"sets": sets, "per_sample": self.per_sample, "eps": self.eps, "norm": self}
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2).to(dtype)
            w, mass = self._weights(x, areas, dtype)
            y = normalize(flat, w, gamma, beta, mass=mass, **options)
        return y.to(x.dtype).view(x.shape)

    def _weights(self, x: Tensor, areas: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | int]:
        """Weights of the points, and the weight of the batch beside those of other processes."""
        shape = x.shape[2:]
        if areas is None:
            if self.grid is not None and tuple(shape) != tuple(self.grid.shape):
                raise ValueError(
                    f"x has points {tuple(shape)} but the layer was built for {self.grid!r}, whose are {tuple(self.grid.shape)}; "
                    "give areas, or build the layer for this grid"
                )
            if self.share is not None:
                return self.share.to(dtype), x.shape[0]
            w = x.new_full((shape.numel(),), 1 / max(shape.numel(), 1), dtype=dtype)
            return w, x.shape[0] * shape.numel()
        size, given = shape.numel(), tuple(areas.shape)
        if given in ((size,), tuple(shape)):
            w = areas.reshape(size)
        elif given in ((x.shape[0], size), (x.shape[0], *shape)):
            w = areas.reshape(x.shape[0], size)
        else:
            raise ValueError(
                f"areas have shape {given}; expected {(size,)} or {tuple(shape)}, one for each point of x, or that for each "
                f"of {x.shape[0]} samples"
            )
        w = w.to(x.device, dtype)
        total = w.sum(-1, keepdim=True)
        # Areas of a ragged batch count by their sum; where each sample has its own, samples weigh alike.
        return w / total, x.shape[0] if w.ndim == 2 else x.shape[0] * total

    def _build(self, name: str, dtype: torch.dtype) -> Tensor:
        assert self.grid is not None
        return (self.grid.areas / self.grid.areas.sum()).flatten()

    def extra_repr(self) -> str:
        grid = "" if self.grid is None else f", grid={self.grid!r}"
        return f"'{self.field_type}', eps={self.eps}, momentum={self.momentum}, affine={self.affine}{grid}"

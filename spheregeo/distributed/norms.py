"""Norms, pools and means over fields that are split over processes: each process's points count by their share of the whole.

Batch norms take their statistics over all processes by :mod:`spheregeo.nn.parallel`, in training; here they learn how much of the
sphere a process holds. Norms of single samples take theirs over the group that shares the sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.distributed.collectives import Group, stack_over_group, sum_over_group
from spheregeo.distributed.halo import Halo
from spheregeo.distributed.part import Shares
from spheregeo.nn import AreaBatchNorm, AreaGroupNorm, GlobalPool, Pool
from spheregeo.nn.statistics import ChannelSets, affine, normalize, working_dtype
from spheregeo.nn.surface.statistics import FieldNorm


def group_moments(x: Tensor, share: Tensor, sets: ChannelSets | None, group: Group) -> tuple[Tensor, Tensor]:
    """Means and variances of each sample over the points of all processes of a group.

    Shape: x (B, C, n), share (n,) with sum 1 over the group -> (B, C or sets.num_sets) twice.
    """
    mean = centre = sum_over_group(x @ share, group)
    if sets is not None:
        mean = sets.sums(mean, sets.mean)
        centre, _ = sets.at_channels(mean, mean)
    var = sum_over_group((x - centre[..., None]).square() @ share, group)
    return mean, var if sets is None else sets.sums(var, sets.variance)


def _per_sample(
    x: Tensor, share: Tensor, norm: Any, sets: ChannelSets | None, gamma: Tensor | None, beta: Tensor | None
) -> Tensor:
    """Features (B, C, *points) normalised over the group of ``norm``, in float32 at least."""
    dtype = working_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        flat, w = x.flatten(2).to(dtype), share.to(dtype)
        gamma = flat.new_ones(flat.shape[1]) if gamma is None else gamma.to(dtype)
        beta = flat.new_zeros(flat.shape[1]) if beta is None else beta.to(dtype)
        if sets is not None:
            has_mean = None if sets.has_mean is None else sets.has_mean.to(dtype)
            sets = ChannelSets(sets.of, sets.mean.to(dtype), sets.variance.to(dtype), sets.num_sets, has_mean)
        mean, var = group_moments(flat, w, sets, norm.shares.group)
        at = (mean, var) if sets is None else sets.at_channels(mean, var)
        y = affine(flat, *at, gamma, beta, norm.eps)
    return y.to(x.dtype).view(x.shape)


class PartAreaBatchNorm(AreaBatchNorm):
    """:class:`~spheregeo.nn.AreaBatchNorm` of the points of one process; made by :func:`distribute`."""

    shares: Shares

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.num_features)
        dtype = working_dtype(x)
        held = self.share.sum().to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            flat, w = x.flatten(2).to(dtype), self.share.to(dtype) / held
            options: dict[str, Any] = {"eps": self.eps, "norm": self, "mass": x.shape[0] * held}
            y = normalize(flat, w, self.weight, self.bias, **options)
        return y.to(x.dtype).view(x.shape)


class PartAreaGroupNorm(AreaGroupNorm):
    """:class:`~spheregeo.nn.AreaGroupNorm` of the points of one process; made by :func:`distribute`."""

    shares: Shares

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.num_channels)
        sets = ChannelSets(self.of, self.part, self.part, self.num_groups)
        return _per_sample(x, self.share, self, sets, self.weight, self.bias)


class PartGroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm`` of the points of one process, all points alike; made by :func:`distribute`."""

    shares: Shares

    def forward(self, x: Tensor) -> Tensor:
        width = self.num_channels // self.num_groups
        points = x[0, 0].numel()
        count = sum_over_group(
            torch.tensor(float(points), dtype=torch.float64, device=x.device), self.shares.group
        )
        share = x.new_full((points,), 1 / float(count), dtype=working_dtype(x))
        of = torch.arange(self.num_channels, device=x.device) // width
        part = share.new_full((self.num_channels,), 1 / width)
        sets = ChannelSets(of, part, part, self.num_groups)
        return _per_sample(x, share, self, sets, self.weight, self.bias)


class PartFieldNorm(FieldNorm):
    """Norms of tangent fields on the points of one process; made by :func:`distribute`."""

    shares: Shares

    def forward(self, x: Tensor, areas: Tensor | None = None) -> Tensor:
        if not self.per_sample:
            return super().forward(x, areas)
        if self.share is None or areas is not None:
            raise ValueError("areas come with the call; a norm that is distributed needs the grid's own")
        self._weights(x, None, x.dtype)
        sets = ChannelSets(self.set_of, self.has_mean, self.part, self.num_sets, self.has_mean)
        gamma = None if self.weight is None else self.weight[self.set_of]
        beta = None
        if self.bias is not None:
            beta = self.bias.new_zeros(self.field_type.dim).index_copy(0, self.even, self.bias)
        return _per_sample(x, self.share, self, sets, gamma, beta)

    def _weights(self, x: Tensor, areas: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | int]:
        w, mass = super()._weights(x, areas, dtype)
        if areas is not None or self.share is None:
            return w, mass
        held = w.sum()
        return w / held, x.shape[0] * held


class PartGlobalPool(GlobalPool):
    """:class:`~spheregeo.nn.GlobalPool` over the points of all processes; made by :func:`distribute`."""

    shares: Shares

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        if self.reduce == "max":
            return stack_over_group(found, self.shares.group).amax(0)
        return sum_over_group(found, self.shares.group)


class PartMaxPool(Pool):
    """:class:`~spheregeo.nn.Pool` with ``reduce="max"`` on the points of one process; made by :func:`distribute`."""

    halo: Halo

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        index = self.get_buffer("children_index")
        extended = self.halo(x.flatten(2))  # (B, C, n and halo)
        largest = extended.index_select(2, index.reshape(-1)).unflatten(2, index.shape).amax(3)
        return largest.unflatten(2, self.target.shape)


def area_mean(field: Tensor, areas: Tensor, group: Group = None) -> Tensor:
    """Area-weighted mean of a field over the points of all processes, the same number on each of them.

    Args:
        field: on this process's points.
        areas: of these points, such as :attr:`Part.areas`.
        group: the processes; None for all.

    Shape: field (..., *points), areas (points,) -> (...,).

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Part, Partition, area_mean
        >>> from spheregeo.grids import HEALPix
        >>> area_mean(torch.zeros(2, 12), Part(Partition.of(HEALPix(1), 1), 0).areas)
        tensor([0., 0.])
    """
    axes = 0
    size = 1
    while size < areas.numel():
        axes += 1
        size *= field.shape[-axes]
    flat = field.flatten(-axes) if axes > 1 else field
    w = areas.reshape(-1).to(flat)
    return sum_over_group(flat @ w, group) / sum_over_group(w.sum(), group)

"""Stencils on HEALPix: the twelve faces dealt out to the processes, their borders fetched with the padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.distributed.halo import Halo
from spheregeo.distributed.maps import PartMap
from spheregeo.distributed.part import Shares
from spheregeo.distributed.partition import Partition
from spheregeo.nn import HEALPixFaceConv
from spheregeo.sparse import Gather, read_points, restricted


class PartHEALPixFaceConv(HEALPixFaceConv):
    """:class:`~spheregeo.nn.HEALPixFaceConv` (and :class:`~spheregeo.nn.HEALPixConv`) of the faces that this process does.

    Pixels may be split in any way: padding fetches the pixels of the process's faces and their borders, and what a face gives
    goes to the owners of its pixels.
    """

    shares: Shares
    rule: Any  # the class of the whole layer

    def _kernel(self) -> Tensor:
        kernel: Tensor = self.rule._kernel(self)
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        part = self.shares.part(self.source)
        check_tensor(x)
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.in_channels, part.num_points):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {part.num_points}), the fields of {part!r}"
            )
        side = self.source.nside + 2 * (self.kernel_size // 2)
        rows = self.pad(x).transpose(1, 2)  # (B, faces side^2, in_channels)
        images = rows.reshape(-1, side, side, rows.shape[2]).permute(0, 3, 1, 2)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y = nn.functional.conv2d(images, self._kernel().to(x.dtype), bias, self.stride, groups=self.groups)
        cells = y.permute(0, 2, 3, 1).reshape(x.shape[0], -1, y.shape[1]).transpose(1, 2)
        y = self.unpad(cells)  # (B, out_channels, n)
        if self.missing == "renormalize":
            pixel, present = self.get_buffer("partial"), self.get_buffer("present").to(y.dtype)
            rows = y.transpose(1, 2)
            found = rows.index_select(1, pixel)
            found = found if self.bias is None else found - self.bias.to(y.dtype)
            more = self.kernel_size**2 / present - 1
            y = rows.index_add(1, pixel, found * more[:, None]).transpose(1, 2)
        return y


def turn_faces(module: Any, shares: Shares) -> None:
    """Make a :class:`~spheregeo.nn.HEALPixFaceConv` act on this process's pixels.

    Raises: ValueError for more than twelve processes.
    """
    parts, grid, target = shares.first.parts, module.source, module.target
    if parts > 12:
        raise ValueError(
            f"the group has {parts} processes; stencils on HEALPix are dealt out to 12 at most, a face each"
        )
    owner = torch.from_numpy(np.arange(12) * parts // 12)
    side = grid.nside + 2 * (module.kernel_size // 2)
    padded = Partition(owner.repeat_interleave(side**2), parts)
    cells = Partition(owner.repeat_interleave(target.nside**2), parts)
    for name, source, to in (
        ("pad", shares.partition(grid), padded),
        ("unpad", cells, shares.partition(replace(target))),
    ):
        whole: Gather = getattr(module, name)
        rows = to.points_of(shares.rank)
        halo = Halo(source, read_points(whole, rows), shares.group)
        setattr(module, name, PartMap(halo, restricted(whole, rows, halo.points), whole.num_target))
    if module.missing == "renormalize":
        pixel, present = module.get_buffer("partial"), module.get_buffer("present")
        index = shares.part(target).index
        mine = torch.isin(pixel, index)
        module.register_buffer("partial", torch.searchsorted(index, pixel[mine]), persistent=False)
        module.register_buffer("present", present[mine], persistent=False)
    module.rule = type(module)
    module.shares = shares
    module.__class__ = PartHEALPixFaceConv

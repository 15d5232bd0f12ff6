"""Sparse maps whose rows are split over processes: a halo, and the rows of this process over its own points and the halo."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from spheregeo.distributed.collectives import sum_over_group
from spheregeo.distributed.halo import Halo
from spheregeo.sparse import AttentionMap, SparseMap
from spheregeo.sparse.maps.base import FixedMap


class PartMap(nn.Module):
    """The rows of a sparse map that belong to this process: what other processes own is fetched, and cotangents are returned.

    It is called as the map itself is, with this process's points in place of all; names that it lacks are those of the local map.

    Args:
        halo: exchange that extends fields on the source by the points that the rows read.
        local: the map from the extended fields to this process's rows.
        num_target: rows of the whole map.

    Shape: as the map's, on this process's points.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Partition, part_map
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import DiscoConv
        >>> whole = DiscoConv(2, 2, HEALPix(1)).map
        >>> partition = Partition.of(HEALPix(1), 1)  # of one process
        >>> part_map(whole, partition, partition)(torch.randn(1, 2, 12)).shape  # two functions a point
        torch.Size([1, 2, 2, 12])
    """

    def __init__(self, halo: Halo, local: FixedMap, num_target: int) -> None:
        super().__init__()
        self.halo, self.local, self.whole_target = halo, local, num_target
        self.num_source, self.num_target = halo.num_own, local.num_target  # type: ignore[assignment]

    def forward(self, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        result: Tensor = self.local(self.halo(x), *arguments, **options)
        return result

    def mix(self, x: Tensor, weight: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """As :meth:`spheregeo.sparse.SparseMap.mix`."""
        assert isinstance(self.local, SparseMap)
        return self.local.mix(self.halo(x), weight, *arguments, **options)

    def mean_square_rows(self) -> Tensor:
        """As :meth:`spheregeo.sparse.SparseMap.mean_square_rows`, over the rows of all processes."""
        assert isinstance(self.local, SparseMap)
        total = self.local.mean_square_rows() * (self.local.num_target / self.whole_target)
        return sum_over_group(total, self.halo.group)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("local", "halo") or name.startswith("_"):
                raise
            return getattr(super().__getattr__("local"), name)

    def shared(self, engine: str | None = None) -> Self:
        """A module of the caller's own over the same tensors and the same exchange."""
        return type(self)(self.halo, self.local.shared(engine), self.whole_target)

    def memory_bytes(self) -> int:
        """Bytes held by the local map and the plan."""
        return self.local.memory_bytes() + self.halo.send.numel() * self.halo.send.element_size()

    def extra_repr(self) -> str:
        return f"rows of {self.whole_target}"


class PartAttentionMap(PartMap):
    """The rows of an :class:`~spheregeo.sparse.AttentionMap` that belong to this process; keys and values are fetched together.

    Args:
        halo: exchange that extends fields on the source by the points that the rows read.
        local: the map from the extended fields to this process's rows.
        num_target: rows of the whole map.

    Shape: as the map's, on this process's points.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Partition, part_map
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SphereAttention
        >>> layer = SphereAttention(4, HEALPix(1), spacings=2.0)
        >>> partition = Partition.of(HEALPix(1), 1)  # of one process
        >>> type(part_map(layer.map, partition, partition)).__name__
        'PartAttentionMap'
    """

    def forward(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None
    ) -> Tensor:
        k, v = self.halo(torch.cat([k, v], 2), 1).split([k.shape[2], v.shape[2]], 2)
        result: Tensor = self.local(q, k, v, heads, bias)
        return result


def part_kind(map_: FixedMap) -> type[PartMap]:
    """The class of a map's part."""
    return PartAttentionMap if isinstance(map_, AttentionMap) else PartMap

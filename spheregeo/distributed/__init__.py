"""Spheres, meshes and graphs larger than one machine's memory: their points split over processes, on ``torch.distributed``.

See docs/guides/distributed.md.
"""

from spheregeo.distributed.collectives import (
    Traffic,
    group_rank,
    group_size,
    measured_traffic,
    share_groups,
    stack_over_group,
    sum_gradients,
    sum_over_group,
)
from spheregeo.distributed.distribute import distribute, part_map, work_of
from spheregeo.distributed.edges import PartEdges
from spheregeo.distributed.fields import gather_field, scatter_field
from spheregeo.distributed.halo import Halo
from spheregeo.distributed.maps import PartAttentionMap, PartMap
from spheregeo.distributed.norms import area_mean
from spheregeo.distributed.part import Part
from spheregeo.distributed.partition import Partition

__all__ = [
    "Halo",
    "Part",
    "PartAttentionMap",
    "PartEdges",
    "PartMap",
    "Partition",
    "Traffic",
    "area_mean",
    "distribute",
    "gather_field",
    "group_rank",
    "group_size",
    "measured_traffic",
    "part_map",
    "scatter_field",
    "share_groups",
    "stack_over_group",
    "sum_gradients",
    "sum_over_group",
    "work_of",
]

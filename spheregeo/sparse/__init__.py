"""Sparse linear maps with several coefficients per nonzero, and the engines that run them."""

from spheregeo.sparse.engines import (
    check_engine,
    default_engine,
    engines,
    register_engine,
)  # the function, not the folder
from spheregeo.sparse.maps.attention import AttentionMap
from spheregeo.sparse.maps.coupling import Coupling, Pairs
from spheregeo.sparse.maps.gather import Gather
from spheregeo.sparse.maps.max_plus import MaxPlusMap, max_plus_planes
from spheregeo.sparse.maps.paths import Path
from spheregeo.sparse.maps.reduce import segment_reduce, semiring_apply
from spheregeo.sparse.maps.restrict import read_points, restricted
from spheregeo.sparse.maps.rows import RowMaps, Rows
from spheregeo.sparse.maps.segment import segment_apply, segment_outer
from spheregeo.sparse.maps.sparse import SparseMap
from spheregeo.sparse.maps.tangent import TangentMap
from spheregeo.sparse.patterns import Block, BlockPattern, CSRPattern, Pattern, RingPattern

__all__ = [
    "AttentionMap",
    "Block",
    "BlockPattern",
    "CSRPattern",
    "Coupling",
    "Gather",
    "MaxPlusMap",
    "Pairs",
    "Path",
    "Pattern",
    "RingPattern",
    "RowMaps",
    "Rows",
    "SparseMap",
    "TangentMap",
    "check_engine",
    "default_engine",
    "engines",
    "max_plus_planes",
    "read_points",
    "register_engine",
    "restricted",
    "segment_apply",
    "segment_outer",
    "segment_reduce",
    "semiring_apply",
]

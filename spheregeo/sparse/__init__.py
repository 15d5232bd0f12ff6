"""Sparse linear maps with several coefficients per nonzero, and the engines that run them."""

from spheregeo.sparse.blocks import Block, BlockPattern
from spheregeo.sparse.coupling import Coupling, Pairs, Path
from spheregeo.sparse.engines import engines, register_engine
from spheregeo.sparse.gather import Gather
from spheregeo.sparse.map import SparseMap
from spheregeo.sparse.pattern import CSRPattern, Pattern, RingPattern
from spheregeo.sparse.rows import RowMaps, Rows
from spheregeo.sparse.segment import segment_reduce, semiring_apply
from spheregeo.sparse.tangent import TangentMap

__all__ = [
    "Block",
    "BlockPattern",
    "CSRPattern",
    "Coupling",
    "Gather",
    "Pairs",
    "Path",
    "Pattern",
    "RingPattern",
    "RowMaps",
    "Rows",
    "SparseMap",
    "TangentMap",
    "engines",
    "register_engine",
    "segment_reduce",
    "semiring_apply",
]

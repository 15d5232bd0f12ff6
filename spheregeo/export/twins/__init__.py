"""Plain twins: networks without an operator of this library, for ONNX and other runtimes."""

from __future__ import annotations

from spheregeo.export.twins.attention import PlainAttentionMap
from spheregeo.export.twins.copies import PlainGather, PlainPadding
from spheregeo.export.twins.linear import PlainSparseMap
from spheregeo.export.twins.max_plus import PlainMaxPlusMap
from spheregeo.export.twins.tangent import PlainTangentMap
from spheregeo.export.twins.twin import plain

__all__ = [
    "PlainAttentionMap",
    "PlainGather",
    "PlainMaxPlusMap",
    "PlainPadding",
    "PlainSparseMap",
    "PlainTangentMap",
    "plain",
]

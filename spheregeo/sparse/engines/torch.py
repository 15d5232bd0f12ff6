"""The portable engine: plain torch on any device and in any real floating type, in chunks that fit a memory budget."""

from spheregeo.sparse.engines.portable.attention import attention, attention_gradients
from spheregeo.sparse.engines.portable.bands import bands
from spheregeo.sparse.engines.portable.coupling import coupling
from spheregeo.sparse.engines.portable.gather import gather
from spheregeo.sparse.engines.portable.linear import PortableLinear
from spheregeo.sparse.engines.portable.max_plus import max_plus, max_plus_gradients
from spheregeo.sparse.engines.portable.rows import rows
from spheregeo.sparse.engines.portable.segment import segment
from spheregeo.sparse.engines.portable.tangent import PortableTangent

OPERATORS = {
    "linear": PortableLinear(),
    "bands": bands,
    "tangent": PortableTangent(),
    "coupling": coupling,
    "rows": rows,
    "gather": gather,
    "segment": segment,
    "attention": attention,
    "attention_gradients": attention_gradients,
    "max_plus": max_plus,
    "max_plus_gradients": max_plus_gradients,
}

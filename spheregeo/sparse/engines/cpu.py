"""The compiled engine: numba kernels for CPUs, threads as torch has them.

Copies of rows and sums of outer products are one library call each, which no loop of ours would improve: they are the portable
engine's here, too.
"""

from spheregeo.sparse.engines.compiled.attention import attention, attention_gradients
from spheregeo.sparse.engines.compiled.bands import bands
from spheregeo.sparse.engines.compiled.coupling import coupling
from spheregeo.sparse.engines.compiled.linear import CompiledLinear
from spheregeo.sparse.engines.compiled.max_plus import max_plus, max_plus_gradients
from spheregeo.sparse.engines.compiled.rows import rows
from spheregeo.sparse.engines.compiled.tangent import CompiledTangent
from spheregeo.sparse.engines.portable.gather import gather
from spheregeo.sparse.engines.portable.segment import segment

OPERATORS = {
    "linear": CompiledLinear(),
    "bands": bands,
    "tangent": CompiledTangent(),
    "coupling": coupling,
    "rows": rows,
    "gather": gather,
    "segment": segment,
    "attention": attention,
    "attention_gradients": attention_gradients,
    "max_plus": max_plus,
    "max_plus_gradients": max_plus_gradients,
}

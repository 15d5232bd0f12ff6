"""The Triton engine: kernels for CUDA devices of compute capability 8.0 and later; importing it imports ``triton``.

float32, bfloat16 and float16 are read as they are and summed in float32; products of float32 follow torch's own switches
(``torch.set_float32_matmul_precision``: "highest" exact, "high" three tf32 products, "medium" one). No kernel adds atomically,
so two runs are equal bit by bit. What is one library call already is the portable engine's here, too: spectra of wide rows and
copies of rows.
"""

from spheregeo.sparse.engines.portable.bands import bands
from spheregeo.sparse.engines.portable.gather import gather
from spheregeo.sparse.engines.triton.coupling import coupling
from spheregeo.sparse.engines.triton.linear import TritonLinear
from spheregeo.sparse.engines.triton.rows import rows
from spheregeo.sparse.engines.triton.tangent import TritonTangent

OPERATORS = {
    "linear": TritonLinear(),
    "bands": bands,
    "tangent": TritonTangent(),
    "coupling": coupling,
    "rows": rows,
    "gather": gather,
}

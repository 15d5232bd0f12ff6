r"""Engines: interchangeable ways to evaluate the sparse operators. To add one is to write one file.

An engine is a table {operator: implementation}. An implementation takes a structure, arguments and slots, and returns the partial
derivatives of the operator's form (:mod:`spheregeo.sparse.multilinear`) in these slots:

    def linear(structure, arguments, wanted):
        x, w, v, g = arguments            # None: absent, or needed by none of the partial derivatives wanted
        return [... for slot in wanted]   # tensors of their own, shaped as the arguments of these slots

    register_engine("mine", lambda: {"linear": linear}, devices=("cuda",), auto=True)

Arguments are plain tensors of one type on one device (float32 or float64; bfloat16 and float16 are widened before, but for
"gather"), without autograd: derivatives of every order are made of such calls. An engine that is registered with ``dtypes=`` of
low precision is given features (x and g) in that type and everything else in float32, makes its sums in float32, and may return
either. ``wanted`` is any selection of slots in ascending order; where it has several, as backward passes do, they may share
their work. The last slot is the output's cotangent g, whose partial derivative is the operator's output.

============  =======================  ====================================================================================
operator      arguments                form, and where it is described with its structure
============  =======================  ====================================================================================
"linear"      x (B, C, Q)              sum g[b,o,p] w[o,c,k] v[k,t] x[b,c,q_t] over the nonzeros t of each row p;
              w (O, C/groups, K)       ``structure.pattern`` (CSR or rings, never a sum), ``.adjoint``, ``.order``,
              v (K, T)                 ``.groups``; without w the functions stay apart, O = C * K.
              g (B, O, P)              :mod:`spheregeo.sparse.forms.linear`, base class :class:`LinearEngine`
"bands"       X (B, N, C, rings, F)    Re sum conj(G) w Psi X, complex, for rows of "linear" done by FFT. Optional: an engine
              w (O, C, K)              without it is given these rows as taps.
              G (B, N, O, rows, F)     :mod:`spheregeo.sparse.forms.bands`
"tangent"     x (B, I, Q)              tangent fields carried from frame to frame and mixed.
              w (O, I, R)              :mod:`spheregeo.sparse.forms.tangent`, base class :class:`TangentEngine`
              g (B, O, P)
"coupling"    x (N_s inputs,)          sum g_i W_ij C y_ij x_j over pairs, structure constants C as tables of integers;
              y (E, S)                 x and g planar, block after block.
              w, v: weights of pairs   :mod:`spheregeo.sparse.forms.coupling`
              g (N_t outputs H,)
"rows"        x (points inputs,)       a small matrix for each row times the features of the point it names; planar.
              k (R, K)                 :mod:`spheregeo.sparse.forms.rows`
              g (R outputs,)
"gather"      x (B, Q, C)              copies of rows and a few weighted extras.
              g (B, M, C)              :mod:`spheregeo.sparse.forms.gather`
"segment"     a (E, A), b (E, B)       outer products a_e b_e^T summed over the pairs of each target.
              g (N, A, B)              :mod:`spheregeo.sparse.forms.segment`
"attention"   q, k, v, bias or None    not linear: output and logarithms of sums, whatever is wanted, and in
              and for "..._gradients"  "attention_gradients" the gradients of the first three or four.
              sums, products, g        :mod:`spheregeo.sparse.forms.attention`
"max_plus"    x, k; for                not linear: largest sums x + k and the taps that attain them, and the gradients to both.
              "..._gradients" g, taps  :mod:`spheregeo.sparse.forms.max_plus`
============  =======================  ====================================================================================

Structures never change; what an engine prepares from one (plans, copies in another layout) it keeps in ``structure.memo``, a
dictionary, also those of patterns and tables, which several structures share. :mod:`spheregeo.sparse.engines.reference` defines
every operator in a few lines.

Ours are ``"cpu"`` (compiled by numba, float32 and float64, threads as torch has them), ``"torch"`` (portable), ``"reference"``
(the slow twin), ``"triton"`` (kernels for CUDA devices) and ``"pyg"`` (torch-sparse, "linear" alone). ``"auto"`` takes the first
that runs and has the operator: engines registered with ``auto=True`` or chosen by :func:`default_engine`, "cpu" for CPU tensors
(not in forked processes), "triton" for CUDA tensors of single and low precision, "torch". An
engine that is named is obeyed: where it does not run or lacks the operator, the call raises. :func:`pick` makes this choice for
every operator, by a tensor's device and type.
"""

from spheregeo.sparse.engines.linear import LinearEngine
from spheregeo.sparse.engines.tangent import TangentEngine
from spheregeo.sparse.registry import (
    OPERATORS,
    Implementation,
    check_engine,
    default_engine,
    engines,
    get_engine,
    pick,
    register_engine,
)

__all__ = [
    "OPERATORS",
    "Implementation",
    "LinearEngine",
    "TangentEngine",
    "check_engine",
    "default_engine",
    "engines",
    "get_engine",
    "pick",
    "register_engine",
]

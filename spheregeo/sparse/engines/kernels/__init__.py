"""Compiled loops of the CPU engine; importing this package imports numba."""

from spheregeo.sparse.engines.kernels.activated import channel_moments, norm_gelu, norm_gelu_back
from spheregeo.sparse.engines.kernels.attention import attend, attend_keys, attend_queries
from spheregeo.sparse.engines.kernels.coupling import couple, couple_back, couple_pairs
from spheregeo.sparse.engines.kernels.max_plus import max_planes, max_planes_back, max_rows, max_rows_back
from spheregeo.sparse.engines.kernels.rings import ring_apply, ring_gradients
from spheregeo.sparse.engines.kernels.rows import rows_adjoint, rows_apply, rows_coefficients
from spheregeo.sparse.engines.kernels.scattered import csr_contract
from spheregeo.sparse.engines.kernels.spectral import spectral_correlate, spectral_mix
from spheregeo.sparse.engines.kernels.tangent import tangent_contract, tangent_planar, tangent_runs

__all__ = [
    "attend",
    "attend_keys",
    "attend_queries",
    "channel_moments",
    "couple",
    "couple_back",
    "couple_pairs",
    "csr_contract",
    "max_planes",
    "max_planes_back",
    "max_rows",
    "max_rows_back",
    "norm_gelu",
    "norm_gelu_back",
    "ring_apply",
    "ring_gradients",
    "rows_adjoint",
    "rows_apply",
    "rows_coefficients",
    "spectral_correlate",
    "spectral_mix",
    "tangent_contract",
    "tangent_planar",
    "tangent_runs",
]

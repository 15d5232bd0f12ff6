"""numba with an on-disk cache that follows all sources of a function; numba is imported at the first decorator.

numba's own cache looks at the file of a function alone: a change in a function of another file, which the compiled code
holds a copy of, goes unseen. Functions decorated here are kept under a hash of all files that they draw on. Where they are
kept, and what happens if that fails, is told in :mod:`spheregeo.jit.folders` and :mod:`spheregeo.jit.store`.
"""

from spheregeo.jit.decorator import njit
from spheregeo.jit.folders import cache_folder
from spheregeo.jit.sources import add_to_key

__all__ = ["add_to_key", "cache_folder", "njit"]

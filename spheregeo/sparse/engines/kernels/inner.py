"""The inner loops that the kernels call: tiles in LLVM's language, or plain loops.

Plain loops are taken where ``SPHEREGEO_TILES=0``, where numba compiles nothing (``NUMBA_DISABLE_JIT=1``), and, with a warning,
where this version of numba or llvmlite cannot build the tiles. Results differ by rounding.
"""

from __future__ import annotations

import os
import warnings
from types import ModuleType

import numba
import numpy as np

from spheregeo.jit import add_to_key
from spheregeo.sparse.engines.kernels import loops


def _choose() -> ModuleType:
    """The module of tiles, if they are wanted and can be built, else that of plain loops.

    Raises: ValueError if SPHEREGEO_TILES is neither 0 nor 1.
    """
    wanted = os.environ.get("SPHEREGEO_TILES", "1")
    if wanted not in ("0", "1"):
        raise ValueError(f"SPHEREGEO_TILES is {wanted!r}; expected 0 (plain loops) or 1 (LLVM tiles)")
    if wanted == "0" or numba.config.DISABLE_JIT:
        return loops
    try:
        from spheregeo.sparse.engines.kernels import tiles

        tiles.each_once(np.zeros(1), np.zeros(1, np.int64))
    except Exception as error:  # whatever a change of numba or llvmlite raises
        warnings.warn(
            f"LLVM tiles do not build with numba {numba.__version__} ({type(error).__name__}: {error}); plain loops run in "
            "their place, some two to seven times slower; SPHEREGEO_TILES=0 chooses them without this warning",
            RuntimeWarning,
            stacklevel=2,
        )
        return loops
    return tiles


chosen = _choose()
add_to_key(__name__, chosen.__name__)

line_add, line_set = chosen.line_add, chosen.line_set
tiled_add, tiled_set, tiled_dot = chosen.tiled_add, chosen.tiled_set, chosen.tiled_dot
prefetch, no_inline = chosen.prefetch, chosen.no_inline

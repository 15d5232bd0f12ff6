"""A process forks while none of its threads compiles: the child has numba's compiler as it was, and nobody to finish the work."""

from __future__ import annotations

import os
from functools import cache


@cache
def wait_before_forks() -> None:
    """Let forks wait until numba's compiler is free, some seconds at most; called at the first decorator."""
    from numba.core.compiler_lock import global_compiler_lock as lock

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

"""The decorator of all compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spheregeo.jit.folders import warn_once
from spheregeo.jit.forking import wait_before_forks


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with numba and keep the compiled code on disk until any of its sources changes.

    Args:
        options: those of ``numba.njit``, except ``cache``: the code is always kept. Code of a function that closes over local
            variables is not kept, as no source tells their values.

    With ``NUMBA_DISABLE_JIT=1`` the function stays plain Python.

    Raises: TypeError if ``cache`` is among the options.

    Example:
        >>> from spheregeo.jit import njit
        >>> @njit(nogil=True)
        ... def double(x): return 2 * x
        >>> double(3)
        6
    """
    if "cache" in options:
        raise TypeError(
            "njit got the option 'cache'; expected none, as spheregeo.jit keeps all compiled code"
        )

    def decorate(function: Callable[..., Any]) -> Any:
        import numba

        wait_before_forks()
        compiled: Any = numba.njit(**options)(function)
        if hasattr(compiled, "py_func") and function.__closure__ is None:
            _attach_store(compiled)
        return compiled

    return decorate


def _attach_store(dispatcher: Any) -> None:
    """Have numba ask our store, in place of its own, for the function's compiled code."""
    try:
        from spheregeo.jit.store import Store

        if not hasattr(dispatcher, "_cache"):
            raise AttributeError("a dispatcher has no attribute '_cache'")
        dispatcher._cache = Store(dispatcher.py_func)
    except (ImportError, AttributeError) as error:
        warn_once(f"this version of numba offers no place for a cache of compiled code ({error})")

"""Properties that are computed once, without a lock.

Python 3.11 holds a lock for each property of a class, whatever the object, while the property is computed: threads wait for
objects that they do not use, and a child that is forked meanwhile waits for ever. Later versions have no lock.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["cached_property"]

if TYPE_CHECKING:
    from functools import cached_property
else:

    def cached_property(method: Callable[[Any], Any]) -> functools.cached_property:
        """``functools.cached_property`` as it is from Python 3.12 on.

        Args:
            method: computes the property; called once an object, or once a thread where threads ask at the same moment.
        """
        made = functools.cached_property(method)
        if hasattr(made, "lock"):
            made.lock = contextlib.nullcontext()
        return made

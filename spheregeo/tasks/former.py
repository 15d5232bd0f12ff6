"""Former names of a task's methods: subclasses that define them and code that calls them go on working, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

FORMER = {
    "run": "forward_batch",
    "count": "update_metrics",
    "summarise": "compute_metrics",
    "results": "report",
    "draw": "plot",
}


def _warn(owner: str, old: str, new: str) -> None:
    text = f"{owner}.{old} is called {new} now; the former name will go in 0.3"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


def _former(method: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _warn(type(self).__name__, old, new)
        return method(self, *args, **kwargs)

    call.__isabstractmethod__ = False  # type: ignore[attr-defined]  # what is abstract is the method of today
    return call


class FormerNames:
    """Mixin that gives every method of ``FORMER`` its former name too, and takes a former name for the method's own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in FORMER.items():
            if new in vars(cls):
                setattr(cls, old, _former(vars(cls)[new], old, new))
            elif old in vars(cls):
                _warn(cls.__name__, old, new)
                setattr(cls, new, vars(cls)[old])

"""Checks of arguments that are numbers, with messages that name the argument, what came and what was expected."""

from __future__ import annotations

import operator
from typing import Any

__all__ = ["check_count", "check_least"]


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int. Raises: ValueError unless it is an integer of at least ``least``."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected an integer >= {least}")
    return count


def check_least(**bounds: tuple[float, float]) -> None:
    """Check numbers given as name=(value, least). Raises: ValueError for the first whose value is below its bound."""
    for name, (value, least) in bounds.items():
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")

"""Validation of the sizes that grids are built from."""

from __future__ import annotations

import math
import operator
from typing import Any


def integer(owner: Any, name: str, minimum: int, advice: str = "") -> int:
    """Read attribute ``name`` of a frozen dataclass, store it back as a plain int, and return it."""
    value = getattr(owner, name)
    kind = type(owner).__name__
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{kind}: {name} must be an integer, got {value!r} ({type(value).__name__})"
        ) from None
    if number < minimum:
        hint = f"; {advice}" if advice else ""
        raise ValueError(f"{kind}: {name} is {number}, expected at least {minimum}{hint}")
    object.__setattr__(owner, name, number)
    return number


def number(owner: Any, name: str, positive: bool = False) -> float:
    """Read attribute ``name`` of a frozen dataclass, store it back as a plain finite float, and return it."""
    value = getattr(owner, name)
    kind = type(owner).__name__
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{kind}: {name} must be a number, got {value!r} ({type(value).__name__})") from None
    if not math.isfinite(result) or (positive and result <= 0):
        raise ValueError(
            f"{kind}: {name} is {result}, expected a finite {'positive ' if positive else ''}number"
        )
    object.__setattr__(owner, name, result)
    return result

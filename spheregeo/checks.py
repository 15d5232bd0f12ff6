"""Checks of arguments, with messages that name the argument, what came and what was expected."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any

__all__ = ["check_count", "check_least", "check_positions", "check_tensor", "nearest"]


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


def check_positions(positions: Any, name: str = "positions") -> None:
    """Check that positions are points of space, where a search for neighbours would take any dimension.

    Args:
        positions: what was given.
        name: of the argument, for the message.

    Raises: TypeError or ValueError as :func:`check_tensor`, and ValueError for another shape than (P, 3).
    """
    check_tensor(positions, name)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(positions.shape)}; expected (P, 3)")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest of the known ones, or nothing where none is near.

    Args:
        name: the unknown name.
        known: the names that there are.

    Example:
        >>> nearest("gpa", ["mu", "gap"])
        " (did you mean 'gap'?)"
    """
    by_fold = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(name.casefold(), by_fold, 2, 0.6)
    return f" (did you mean {' or '.join(repr(by_fold[one]) for one in found)}?)" if found else ""


def check_tensor(x: Any, name: str = "x") -> None:
    """Check that a layer's input is a tensor of real numbers in floating point, with memory: one rule for all layers.

    Args:
        x: what was given.
        name: of the argument, for the message.

    Raises: TypeError for anything but a tensor (None, a numpy array, a list) and for whole, boolean or complex numbers;
        ValueError for a tensor on the meta device.
    """
    import torch  # late: the command line checks names without it

    if not isinstance(x, torch.Tensor):
        more = "; torch.from_numpy makes one" if type(x).__module__ == "numpy" else ""
        raise TypeError(
            f"{name} is {'None' if x is None else f'a {type(x).__name__}'}; expected a tensor{more}"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{name} has dtype {x.dtype}; expected a real floating dtype, for instance {name}.float()"
        )
    if x.device.type == "meta":
        raise ValueError(
            f"{name} is on the meta device, which holds no numbers; expected a tensor on a CPU or GPU"
        )

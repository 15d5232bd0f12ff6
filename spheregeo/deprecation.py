"""Arguments that were renamed: old names go on working, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["renamed_arguments"]

F = TypeVar("F", bound=Callable[..., Any])


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Decorate a function or an ``__init__`` so that keyword arguments are accepted under their former names.

    Args:
        names: the argument's name of today, by its former name.

    Raises:
        TypeError: at a call that gives an argument under both names.

    Example:
        >>> @renamed_arguments(degree="num_neighbors")
        ... def scale(num_neighbors: float) -> float:
        ...     return num_neighbors**-0.5
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     scale(degree=4.0), caught[0].category.__name__
        (0.5, 'DeprecationWarning')
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"{old} is the former name of {new}; got both, expected {new} alone")
                    warnings.warn(
                        f"argument {old} is called {new} now; the former name will go in 0.3",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        wrapper.former_names = tuple(names)  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate

"""Networks by name: ``@register("name")`` on a builder, ``create(name, ...)`` to build, ``names()`` to list.

A builder is called as ``builder(in_channels, out_channels, grid, **options)`` and returns a module that maps
fields (B, in_channels, *grid.shape) to (B, out_channels, *grid.shape).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Builder = TypeVar("Builder", bound=Callable[..., torch.nn.Module])

_BUILDERS: dict[str, Callable[..., torch.nn.Module]] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that enters a builder under ``name``.

    Raises: ValueError if the name is taken.
    """

    def enter(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a model named {name!r} exists already; choose another name")
        _BUILDERS[name] = builder
        return builder

    return enter


def names() -> list[str]:
    """Names of all registered models, sorted."""
    return sorted(_BUILDERS)


def create(name: str, in_channels: int, out_channels: int, grid: Any, **options: Any) -> torch.nn.Module:
    """Build the registered model ``name`` for fields on ``grid``.

    Shape: the model maps (B, in_channels, *grid.shape) to (B, out_channels, *grid.shape).
    Raises: ValueError for an unknown name or an option that the builder does not take.
    """
    if name not in _BUILDERS:
        raise ValueError(f"no model is named {name!r}; the models are {', '.join(names())}")
    builder = _BUILDERS[name]
    signature = inspect.signature(builder)
    taken = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = sorted(set(options) - set(taken))
    if unknown and not open_ended:
        raise ValueError(
            f"model {name!r} takes no option {', '.join(map(repr, unknown))}; its options are {', '.join(taken)}"
        )
    return builder(in_channels, out_channels, grid, **options)

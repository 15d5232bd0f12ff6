"""This library's operators of torch, defined when somebody first looks for one: files of ``torch.export`` name them."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["offer"]

NAMESPACE = "spheregeo"
DEFINED_IN = ("spheregeo.sparse", "spheregeo.harmonics", "spheregeo.spectral")


class _OnDemand(ModuleType):
    """``torch.ops.spheregeo`` that imports the rooms with operators before it says that there is no such operator."""

    def __init__(self, own: ModuleType) -> None:
        super().__init__(own.__name__)
        self._own = own

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._own, name)
        except AttributeError:
            if name.startswith("__") or all(room in sys.modules for room in DEFINED_IN):
                raise
            if any(
                _half_imported(room) for room in DEFINED_IN
            ):  # its own definition asks whether the name is taken
                raise
            for room in DEFINED_IN:
                import_module(room)
            return getattr(self._own, name)


def _half_imported(room: str) -> bool:
    return getattr(getattr(sys.modules.get(room), "__spec__", None), "_initializing", False)


def offer() -> None:
    """Let ``torch.ops.spheregeo`` find operators of rooms that are not imported yet. Costs nothing until one is asked for."""
    import torch

    own = getattr(torch.ops, NAMESPACE)
    if not isinstance(own, _OnDemand):
        setattr(torch.ops, NAMESPACE, _OnDemand(own))

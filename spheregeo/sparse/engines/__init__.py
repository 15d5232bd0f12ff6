"""Engines: interchangeable ways to run the operator, in one registry.

An engine derives from :class:`~spheregeo.sparse.engines.gradients.Gradients` and has three methods of its own; patterns,
shapes and symbols are those of :mod:`spheregeo.sparse.form`:

* ``apply(pattern, v, w, x, groups) -> (B, O, P)``
* ``weight_gradient(pattern, v, x, g, groups) -> (O, C/groups, K)``
* ``value_gradient(pattern, w, x, g, groups) -> (K, num_values)``

``"auto"`` takes the compiled CPU engine for CPU tensors and the torch engine elsewhere. Another package adds its own
by ``register_engine(name, factory)``; the factory runs at first use, so heavy imports can wait till then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from spheregeo.sparse.engines.gradients import Adjoint
from spheregeo.sparse.pattern import Pattern


class Engine(Protocol):
    """What the operator asks of an engine."""

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor: ...

    def input_gradient(
        self, adjoint: Adjoint, v: Tensor, w: Tensor | None, g: Tensor, groups: int
    ) -> Tensor: ...

    def gradients(
        self,
        pattern: Pattern,
        adjoint: Adjoint,
        v: Tensor,
        w: Tensor,
        x: Tensor,
        g: Tensor,
        groups: int,
        need_x: bool,
    ) -> tuple[Tensor | None, Tensor]: ...

    def value_gradient(
        self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int
    ) -> Tensor: ...


def _own(module: str, name: str) -> Callable[[], Engine]:
    return lambda: getattr(import_module(f"spheregeo.sparse.engines.{module}"), name)()


_FACTORIES: dict[str, Callable[[], Engine]] = {
    "reference": _own("reference", "ReferenceEngine"),
    "torch": _own("torch", "TorchEngine"),
    "cpu": _own("cpu", "CPUEngine"),
    "pyg": _own("pyg", "PyGEngine"),
}


def register_engine(name: str, factory: Callable[[], Engine]) -> None:
    """Make ``engine=name`` available; ``factory()`` builds it when first used.

    Raises:
        ValueError: the name is taken.
    """
    if name in _FACTORIES or name == "auto":
        raise ValueError(f"name {name!r} is taken; engines are {', '.join(engines())}")
    _FACTORIES[name] = factory


def engines() -> list[str]:
    """Names accepted by ``engine=``."""
    return ["auto", *_FACTORIES]


@cache
def _load(name: str) -> Engine:
    return _FACTORIES[name]()


def check_engine(name: str | None) -> str:
    """Return a valid engine name, ``"auto"`` for None.

    Raises:
        ValueError: no engine has this name.
    """
    name = name or "auto"
    if name not in engines():
        raise ValueError(f"engine is {name!r}; expected one of {', '.join(engines())}")
    return name


def get_engine(name: str, device: torch.device) -> Engine:
    """The engine that runs on ``device``.

    Raises:
        ValueError: the compiled CPU engine was asked to run on another device.
    """
    if name == "auto":
        name = "cpu" if device.type == "cpu" else "torch"
    if name == "cpu" and device.type != "cpu":
        raise ValueError(f"engine is 'cpu' but the input is on {device}; use engine='auto' or 'torch'")
    return _load(name)

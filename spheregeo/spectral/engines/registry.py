"""Engines by name: who evaluates the Legendre stage on a device. What an engine is: :mod:`spheregeo.spectral.engines`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

import torch
from torch import Tensor

from spheregeo.spectral.legendre import Legendre


class LegendreEngine(Protocol):
    """What evaluates the Legendre stage: a linear map and its transpose."""

    def synthesis(self, structure: Legendre, a: Tensor, /) -> Tensor:
        """Ring values of packed coefficients. Shape: (T, K) -> (M, R, K)."""
        ...

    def analysis(self, structure: Legendre, values: Tensor, /) -> Tensor:
        """The transpose of the synthesis. Shape: (M, R, K) -> (T, K)."""
        ...


@dataclass(frozen=True)
class _Entry:
    """A known engine: its module, the types of devices it runs on (None: all), and why it cannot run at present, or None."""

    module: str
    devices: tuple[str, ...] | None = None
    hindered: Callable[[], str | None] = lambda: None


def _after_fork() -> str | None:
    runtime = import_module("spheregeo.sparse.engines.compiled.runtime")
    return (
        "a forked process must not enter the pool of threads its parent has used"
        if runtime.forked()
        else None
    )


def _without_ducc0() -> str | None:
    return (
        None
        if find_spec("ducc0")
        else "ducc0 is not installed (pip install ducc0; its licence is GPL-2 or later)"
    )


_ENGINES: dict[str, _Entry] = {
    "cpu": _Entry("spheregeo.spectral.engines.cpu", ("cpu",), _after_fork),
    "portable": _Entry("spheregeo.spectral.engines.portable"),
    "ducc0": _Entry("spheregeo.spectral.engines.ducc0", ("cpu",), _without_ducc0),
}
_AUTOMATIC = ("cpu", "portable")  # in the order "auto" tries them


def engines() -> list[str]:
    """Names accepted by ``engine=`` of harmonic transforms."""
    return ["auto", *_ENGINES]


def check_engine(name: str | None) -> str:
    """Return a valid engine name, ``"auto"`` for None.

    Raises:
        ValueError: no engine has this name.
    """
    name = name or "auto"
    if name not in engines():
        raise ValueError(f"engine is {name!r}; expected one of {', '.join(engines())}")
    return name


def get_engine(name: str, device: torch.device) -> LegendreEngine:
    """The engine of a name; of ``"auto"`` the first that runs on the device.

    Raises:
        ValueError: the engine does not run here.
    """
    reasons = {n: _hindrance(n, device) for n in (_AUTOMATIC if name == "auto" else (name,))}
    for candidate, reason in reasons.items():
        if reason is None:
            return cast(LegendreEngine, import_module(_ENGINES[candidate].module))
    raise ValueError(f"engine is {name!r} but {reasons.popitem()[1]}; use engine='auto' or 'portable'")


def _hindrance(name: str, device: torch.device) -> str | None:
    entry = _ENGINES[name]
    if entry.devices is not None and device.type not in entry.devices:
        return f"the input is on {device.type}, not {' or '.join(entry.devices)}"
    return entry.hindered()

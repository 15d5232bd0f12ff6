"""Engines by name: who evaluates an operator on a device. What an engine is: :mod:`spheregeo.sparse.engines`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

OPERATORS = (
    "linear",
    "bands",
    "tangent",
    "coupling",
    "rows",
    "gather",
    "segment",
    "attention",
    "attention_gradients",
    "max_plus",
    "max_plus_gradients",
)


class Implementation(Protocol):
    """What an engine does for an operator: partial derivatives of its form in the slots ``wanted``, in that order."""

    def __call__(
        self, structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int], /
    ) -> list[Tensor]: ...


@dataclass(frozen=True)
class _Entry:
    """A registered engine. ``hindered`` gives the reason why it cannot run at present, or None."""

    load: Callable[[], Any]
    devices: tuple[str, ...] | None = None
    hindered: Callable[[], str | None] | None = None


def _own(name: str) -> Callable[[], Any]:
    return lambda: import_module(f"spheregeo.sparse.engines.{name}").OPERATORS


def _after_fork() -> str | None:
    runtime = import_module("spheregeo.sparse.engines.compiled.runtime")
    return (
        "a forked process must not enter the pool of threads its parent has used"
        if runtime.forked()
        else None
    )


_ENGINES: dict[str, _Entry] = {
    "reference": _Entry(_own("reference")),
    "torch": _Entry(_own("torch")),
    "cpu": _Entry(_own("cpu"), ("cpu",), _after_fork),
    "pyg": _Entry(_own("pyg")),
}
_automatic = ["cpu", "torch"]  # in the order "auto" tries them
_tables: dict[str, Mapping[str, Implementation]] = {}
_found: dict[tuple[str, str, str], Implementation] = {}


def register_engine(
    name: str,
    factory: Callable[[], Any],
    *,
    devices: Sequence[str] | None = None,
    auto: bool = False,
) -> None:
    """Make ``engine=name`` available for all layers.

    Args:
        name: a new name.
        factory: builds the engine when it is first used: a mapping of operators' names to implementations.
        devices: types of devices that the engine runs on, such as ("cuda",); None for all.
        auto: whether ``"auto"`` tries this engine before those that are there.

    Raises:
        ValueError: the name is taken.
    """
    if name in _ENGINES or name == "auto":
        raise ValueError(f"name {name!r} is taken; engines are {', '.join(engines())}")
    _ENGINES[name] = _Entry(factory, None if devices is None else tuple(devices))
    if auto:
        _automatic.insert(0, name)
    forget()


@contextmanager
def default_engine(name: str) -> Iterator[None]:
    """Within it ``"auto"`` tries this engine first, for layers that are built without ``engine=`` and for functions.

    Raises:
        ValueError: no engine has this name.
    """
    check_engine(name)
    before = list(_automatic)
    _automatic.insert(0, name)
    forget()
    try:
        yield
    finally:
        _automatic[:] = before
        forget()


def engines() -> list[str]:
    """Names accepted by ``engine=``."""
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


def get_engine(name: str, device: torch.device, operator: str) -> Implementation:
    """The implementation of an operator by an engine; of ``"auto"`` the first engine's that runs on the device and has it.

    Raises:
        ValueError: the engine does not run on this device, or has no such operator.
    """
    key = (name, device.type, operator)
    found = _found.get(key)
    if found is None:
        found = _found[key] = _find(*key)
    return found


def has_operator(name: str, operator: str) -> bool:
    """Whether an engine, or for ``"auto"`` any that it tries, has an operator, whatever the device."""
    return any(operator in _table(n) for n in (_automatic if name == "auto" else [name]))


# What torch.compiler.assume_constant_result sets; calling that would import the compiler, half of torch's own time.
setattr(has_operator, "_dynamo_marked_constant", True)  # noqa: B010


def forget() -> None:
    """Find implementations anew: engines were added, or may no longer run."""
    _found.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def _find(name: str, device: str, operator: str) -> Implementation:
    if name == "auto":
        for candidate in _automatic:
            if _hindrance(candidate, device) is None and operator in _table(candidate):
                return _table(candidate)[operator]
        raise ValueError(f"no engine of {', '.join(_automatic)} has operator {operator!r} on {device}")
    reason = _hindrance(name, device)
    if reason is not None:
        raise ValueError(f"engine is {name!r} but {reason}; use engine='auto' or 'torch'")
    table = _table(name)
    if operator not in table:
        others = [n for n, t in _tables.items() if operator in t]
        raise ValueError(
            f"engine {name!r} has no operator {operator!r}, only {', '.join(table) or 'none'}; it is implemented by "
            f"{', '.join(dict.fromkeys([*others, 'reference', 'torch']))}"
        )
    return table[operator]


def _hindrance(name: str, device: str) -> str | None:
    """Why an engine cannot run on a type of device, or None."""
    entry = _ENGINES[name]
    if entry.devices is not None and device not in entry.devices:
        return f"the input is on {device}, not {' or '.join(entry.devices)}"
    return None if entry.hindered is None else entry.hindered()


def _table(name: str) -> Mapping[str, Implementation]:
    if name not in _tables:
        made = _ENGINES[name].load()
        # an object with the methods of LinearEngine is an engine for that operator
        _tables[name] = made if isinstance(made, Mapping) else {"linear": made}
    return _tables[name]

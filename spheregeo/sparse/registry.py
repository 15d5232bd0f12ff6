"""Engines by name: who evaluates an operator on a device. What an engine is: :mod:`spheregeo.sparse.engines`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
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
    """A registered engine. ``hindered`` gives the reason why it cannot run at present, or None.

    ``dtypes`` are the types of features that the engine is given; bfloat16 and float16 are widened where they are not among them.
    """

    load: Callable[[], Any]
    devices: tuple[str, ...] | None = None
    hindered: Callable[[], str | None] | None = None
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)


def _own(name: str) -> Callable[[], Any]:
    return lambda: import_module(f"spheregeo.sparse.engines.{name}").OPERATORS


def _after_fork() -> str | None:
    runtime = import_module("spheregeo.sparse.engines.compiled.runtime")
    return (
        "a forked process must not enter the pool of threads its parent has used"
        if runtime.forked()
        else None
    )


def _without_triton() -> str | None:
    if find_spec("triton") is None:
        return "triton is not installed (pip install spheregeo[triton])"
    if interpreted():
        return None
    if torch.version.hip is not None:
        return "its kernels are for CUDA, not ROCm"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    found = torch.cuda.get_device_capability()
    return (
        None
        if found >= (8, 0)
        else f"the device's compute capability is {found[0]}.{found[1]}, not 8.0 or more"
    )


def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, where tensors on a CPU serve for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


_ENGINES: dict[str, _Entry] = {
    "reference": _Entry(_own("reference")),
    "torch": _Entry(_own("torch")),
    "cpu": _Entry(_own("cpu"), ("cpu",), _after_fork),
    "pyg": _Entry(_own("pyg")),
    "triton": _Entry(
        _own("triton"),
        ("cuda", "cpu") if interpreted() else ("cuda",),
        _without_triton,
        (torch.float32, torch.bfloat16, torch.float16),
    ),
}
_automatic = ["cpu", "triton", "torch"]  # in the order "auto" tries them
_tables: dict[str, Mapping[str, Implementation]] = {}
_found: dict[tuple[str, str, torch.dtype, str], tuple[Implementation, torch.dtype]] = {}
WIDENED = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
"""Types of low precision, and that of their sums."""

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def register_engine(
    name: str,
    factory: Callable[[], Any],
    *,
    devices: Sequence[str] | None = None,
    auto: bool = False,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
) -> None:
    """Make ``engine=name`` available for all layers.

    Args:
        name: a new name.
        factory: builds the engine when it is first used: a mapping of operators' names to implementations.
        devices: types of devices that the engine runs on, such as ("cuda",); None for all.
        auto: whether ``"auto"`` tries this engine before those that are there.
        dtypes: types of features that the engine computes. With bfloat16 or float16 among them, features of that type arrive
            as they are, all other arguments in float32, and sums are to be made in float32; without, features are widened before.

    Raises:
        ValueError: the name is taken.
    """
    if name in _ENGINES or name == "auto":
        raise ValueError(f"name {name!r} is taken; engines are {', '.join(engines())}")
    _ENGINES[name] = _Entry(factory, None if devices is None else tuple(devices), dtypes=tuple(dtypes))
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


def pick(engine: str, x: Tensor, operator: str) -> tuple[Implementation, torch.dtype]:
    """The one choice of who evaluates an operator: by the tensor's device and type.

    Args:
        engine: name of an engine; ``"auto"`` takes the first that runs on the device, takes the type and has the operator.
        x: features. Of complex spectra the type of their parts counts.
        operator: a name in ``OPERATORS``.

    Returns:
        The implementation, and the type that it is to be given features in: their own or, for bfloat16 and float16 where the
        engine does not take these, float32.

    Raises:
        ValueError: the named engine does not run on this device, does not take this type, or has no such operator.
    """
    key = (engine, x.device.type, x.dtype, operator)
    found = _found.get(key)
    if found is None:
        found = _found[key] = _find(engine, x.device.type, _REAL.get(x.dtype, x.dtype), operator)
    return found


def get_engine(name: str, device: torch.device, operator: str) -> Implementation:
    """The implementation of an operator by an engine for float32 features; :func:`pick` looks at a tensor instead.

    Raises:
        ValueError: the engine does not run on this device, or has no such operator.
    """
    return _find(name, device.type, torch.float32, operator)[0]


def has_operator(name: str, operator: str) -> bool:
    """Whether an engine, or for ``"auto"`` any that it tries, has an operator, whatever the device."""
    return any(operator in _table(n) for n in (_automatic if name == "auto" else [name]))


def is_compiled(name: str, x: Tensor) -> bool:
    """Whether the choice for sparse maps of these features is the engine "cpu"."""
    return pick(name, x, "linear")[0] is _tables.get("cpu", {}).get("linear")


# What torch.compiler.assume_constant_result sets; calling that would import the compiler, half of torch's own time.
setattr(has_operator, "_dynamo_marked_constant", True)  # noqa: B010


def forget() -> None:
    """Find implementations anew: engines were added, or may no longer run."""
    _found.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def _find(name: str, device: str, dtype: torch.dtype, operator: str) -> tuple[Implementation, torch.dtype]:
    if name == "auto":
        for candidate in _automatic:
            if _hindrance(candidate, device, dtype) is None and operator in _table(candidate):
                return _table(candidate)[operator], _given(candidate, dtype)
        raise ValueError(f"no engine of {', '.join(_automatic)} has operator {operator!r} on {device}")
    reason = _hindrance(name, device, dtype)
    if reason is not None:
        raise ValueError(f"engine is {name!r} but {reason}; use engine='auto' or 'torch'")
    table = _table(name)
    if operator not in table:
        others = [n for n, t in _tables.items() if operator in t]
        raise ValueError(
            f"engine {name!r} has no operator {operator!r}, only {', '.join(table) or 'none'}; it is implemented by "
            f"{', '.join(dict.fromkeys([*others, 'reference', 'torch']))}"
        )
    return table[operator], _given(name, dtype)


def _given(name: str, dtype: torch.dtype) -> torch.dtype:
    """The type in which an engine is given features of this type."""
    return dtype if dtype in _ENGINES[name].dtypes else WIDENED.get(dtype, dtype)


def _hindrance(name: str, device: str, dtype: torch.dtype) -> str | None:
    """Why an engine cannot run on a type of device or of numbers, or None."""
    entry = _ENGINES[name]
    if entry.devices is not None and device not in entry.devices:
        return f"the input is on {device}, not {' or '.join(entry.devices)}"
    if _given(name, dtype) not in entry.dtypes and dtype.is_floating_point:
        return f"the input is {dtype}, not {' or '.join(map(str, entry.dtypes))}"
    return None if entry.hindered is None else entry.hindered()


def _table(name: str) -> Mapping[str, Implementation]:
    if name not in _tables:
        made = _ENGINES[name].load()
        # an object with the methods of LinearEngine is an engine for that operator
        _tables[name] = made if isinstance(made, Mapping) else {"linear": made}
    return _tables[name]

"""Constant tables on other devices and in other types: copied once, for as long as the table itself exists.

A table that is copied from the host whenever it is used stops a device at every call, and cannot be captured in a graph of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["made", "made_of", "on", "shared_moves", "table"]

Made = TypeVar("Made")

_copies: Any = WeakIdKeyDictionary()
_moved: Any = WeakIdKeyDictionary()
_made: Any = WeakIdKeyDictionary()
_tables: dict[Hashable, Tensor] = {}
_lock = threading.Lock()
TABLES = 512  # most small tables that are kept by key


def _is_followed(t: Tensor) -> bool:
    """Whether a compiler or a transform follows along, or stands in for tensors: what is made then must not be kept."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return type(t) is not Tensor and type(t) is not torch.nn.Parameter and type(t) is not torch.nn.Buffer


def on(constant: Tensor, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a constant on the device of another tensor; the constant itself where it is there already.

    Args:
        constant: a tensor that never changes, kept by whoever calls.
        like: a tensor on the device.
        dtype: the type, the constant's own if None.

    Example:
        >>> order = torch.tensor([2, 0, 1])
        >>> on(order, torch.zeros(3)) is order
        True
    """
    device, dtype = like.device, constant.dtype if dtype is None else dtype
    if _is_followed(like):
        return constant.to(device, dtype)
    if constant.dtype == dtype and constant.device == device:
        return constant
    found = _copies.get(constant)
    if found is None:
        with _lock:
            found = _copies.setdefault(constant, {})
    copy = found.get((device, dtype))
    if copy is None:
        with torch.inference_mode(False), torch.no_grad():
            copy = found[device, dtype] = constant.to(device, dtype)
    result: Tensor = copy
    return result


def table(values: Sequence[Any], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a few numbers as a tensor on the device of another one, kept by value; not to be written to.

    Args:
        values: numbers, or tuples of them.
        like: a tensor on the device.
        dtype: the type, that of ``like`` if None.

    Example:
        >>> table((1, 2), torch.zeros(1))
        tensor([1., 2.])
    """
    dtype = like.dtype if dtype is None else dtype
    return made(tuple(values), lambda: torch.tensor(values, dtype=dtype), like, dtype)


def made(key: Hashable, make: Callable[[], Tensor], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a small tensor that depends on a key alone, on the device of another tensor; not to be written to.

    Args:
        key: whatever the tensor depends on; begins with a name that no other tensor has.
        make: makes it on the CPU.
        like: a tensor on the device.
        dtype: the type, that of what is made if None.

    Example:
        >>> made(("squares", 3), lambda: torch.arange(3) ** 2, torch.zeros(1))
        tensor([0, 1, 4])
    """
    if _is_followed(like):
        return make().to(like.device, dtype)
    where = (key, like.device, dtype)
    found = _tables.get(where)
    if found is None:
        with torch.inference_mode(False), torch.no_grad():
            found = make().to(like.device, dtype)
        with _lock:
            while len(_tables) >= TABLES:
                _tables.pop(next(iter(_tables)))
            _tables[where] = found
    return found


def shared_moves(move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return ``move`` such that modules that share a constant go on to share it after each has been moved or converted.

    Args:
        move: what :meth:`torch.nn.Module._apply` is given.
    """

    def moved(t: Tensor) -> Tensor:
        probe = move(t.new_empty(0))
        if (probe.device, probe.dtype) == (t.device, t.dtype) or probe.is_meta or t.is_meta:
            return move(t)
        known = _moved.get(t)
        if known is None:
            with _lock:
                known = _moved.setdefault(t, {})
        found = known.get((probe.device, probe.dtype), lambda: None)()
        if found is None:
            found = move(t)
            if not _is_followed(found):
                known[probe.device, probe.dtype] = ref(found)
        result: Tensor = found
        return result

    return moved


def made_of(tensors: Sequence[Tensor], key: Hashable, make: Callable[[], Made]) -> Made:
    """Return what was made of some tensors, by identity: for objects that are built anew around one set of tensors.

    Args:
        tensors: one tensor at least, never changed. What is made of them must not hold the first of them.
        key: tells apart what is made of one set of tensors.
        make: makes it.

    Example:
        >>> lengths = torch.tensor([1, 2])
        >>> made_of([lengths], "sum", lambda: lengths.sum()) is made_of([lengths], "sum", lambda: lengths.sum())
        True
    """
    if _is_followed(tensors[0]):
        return make()
    entries = _made.get(tensors[0])
    if entries is None:
        with _lock:
            entries = _made.setdefault(tensors[0], [])
    for known, others, value in list(entries):
        same = known == key and len(others) == len(tensors) - 1
        if same and all(other() is t for other, t in zip(others, tensors[1:], strict=True)):
            found: Made = value
            return found
    with torch.inference_mode(False), torch.no_grad():
        value = make()
    entries[:] = [
        e for e in entries if all(other() is not None for other in e[1])
    ]  # of tensors that are gone
    entries.append((key, [ref(t) for t in tensors[1:]], value))
    return value

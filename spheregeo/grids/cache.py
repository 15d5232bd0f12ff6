"""A cache of geometry in memory, keyed by value and bounded in bytes (least recently used goes first).

Two equal grids share one copy of each tensor, whoever built them. A result larger than the whole limit is
handed out and not kept, so a huge grid costs nothing once its caller has dropped it.

A value is computed under a lock of its own key: threads wait for what they ask for, not for the slowest grid. What a value is
computed from never depends on the value, so that threads cannot wait for one another in a circle. A forked child forgets
the keys that threads of its parent were computing, for these threads do not exist in the child.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

DEFAULT_LIMIT = 1 << 30  # bytes: every tensor of a 512x1024 grid several times over


def nbytes(value: Any) -> int:
    """Bytes held by the tensors and arrays inside a value.

    Dataclasses, tuples, lists, dicts and modules are entered; another object says what it holds by an attribute ``kept``.
    """
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, torch.nn.Module):
        return sum(nbytes(t) for t in [*value.parameters(), *value.buffers()])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(nbytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, (tuple, list)):
        return sum(nbytes(item) for item in value)
    if isinstance(value, dict):
        return sum(nbytes(item) for item in value.values())
    return nbytes(getattr(value, "kept", None)) if value is not None else 0


class _Making:
    """A value that some thread computes: the lock of its key, and how many threads compute it or wait for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.threads = 0


class BoundedCache:
    """Least-recently-used cache whose values together stay below ``limit`` bytes."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._making: dict[Hashable, _Making] = {}
        self._lock = threading.RLock()  # of the tables; never held while a value is computed
        _caches.add(self)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    @property
    def limit(self) -> int:
        """Most bytes ever held."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit is {limit} bytes; it must be zero or more")
        with self._lock:
            self._limit = limit
            self._shrink()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed if absent; threads that ask for one key at once share one computation."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                value: T = self._items[key][0]
                return value
            making = self._making.setdefault(key, _Making())
            making.threads += 1
        try:
            with making.lock:
                with self._lock:
                    if key in self._items:
                        value = self._items[key][0]
                        return value
                # A tensor made under inference mode could never be saved for a later backward pass, and one made under
                # the default device "meta" or "cuda" would reach callers who asked for neither.
                with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
                    value = compute()
                self._keep(key, value)
                return value
        finally:
            with self._lock:
                making.threads -= 1
                if not making.threads and self._making.get(key) is making:
                    del self._making[key]

    def _keep(self, key: Hashable, value: Any) -> None:
        size = nbytes(value)
        with self._lock:
            if size <= self._limit and key not in self._items:
                self._items[key] = (value, size)
                self._bytes += size
                self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._bytes = 0

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._making = {}

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            _, (_, size) = self._items.popitem(last=False)
            self._bytes -= size


def _each_cache(method: Callable[[BoundedCache], Any]) -> None:
    for cache in list(_caches):
        method(cache)


_caches: weakref.WeakSet[BoundedCache] = weakref.WeakSet()
geometry = BoundedCache()
if hasattr(os, "register_at_fork"):
    # The tables are locked across the fork, so that the child finds them whole.
    os.register_at_fork(
        before=lambda: _each_cache(BoundedCache._before_fork),
        after_in_parent=lambda: _each_cache(BoundedCache._after_fork),
        after_in_child=lambda: _each_cache(BoundedCache._after_fork_in_child),
    )


def by_value(method: Callable[[Any], T]) -> Callable[[Any], T]:
    """Decorate a method without arguments: its result is kept under the value of ``self``."""
    name = method.__qualname__

    def cached(self: Any) -> T:
        return geometry.get((name, self), lambda: method(self))

    cached.__doc__ = method.__doc__
    cached.__name__ = method.__name__
    cached.__qualname__ = name
    return cached


def clear_cache() -> None:
    """Forget all geometry held in memory."""
    geometry.clear()


def set_cache_limit(limit: int) -> None:
    """Let the geometry cache hold at most ``limit`` bytes (1 GiB unless set).

    Raises: ValueError for a negative limit.
    """
    geometry.limit = limit

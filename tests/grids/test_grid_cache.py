"""The geometry cache: bounded in bytes, least recently used out first, safe under inference mode."""

from __future__ import annotations

import ast
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spheregeo.grids import Equiangular, Fibonacci, clear_cache, set_cache_limit
from spheregeo.grids.cache import DEFAULT_LIMIT, BoundedCache, geometry, nbytes


def test_least_recently_used_goes_first_and_the_limit_holds() -> None:
    cache = BoundedCache(limit=3 * 800)
    made = []

    def ask(key: str, size: int = 100) -> torch.Tensor:
        return cache.get(key, lambda: (made.append(key), torch.zeros(size, dtype=torch.float64))[1])

    for key in "abcabc":
        ask(key)
    assert made == ["a", "b", "c"] and cache.nbytes == 2400 and len(cache) == 3
    ask("a")
    ask("d")  # pushes out b, the one not asked for longest
    ask("a")
    ask("b")
    assert made == ["a", "b", "c", "d", "b"] and cache.nbytes <= 2400
    ask("huge", 1000)
    assert cache.nbytes <= 2400 and "huge" not in cache._items, "larger than the limit: handed out, not kept"
    cache.limit = 800
    assert len(cache) == 1
    cache.clear()
    assert cache.nbytes == 0 == len(cache)


def test_bytes_are_counted_through_containers_and_modules() -> None:
    t = torch.zeros(10, dtype=torch.float64)
    module = torch.nn.Linear(3, 2)
    assert nbytes((t, [t, {"a": t}], 3, None)) == 240 and nbytes(module) == 32 and nbytes(t.numpy()) == 80
    assert nbytes(Equiangular(8, 16).rings) == 4 * 64


def test_geometry_is_forgotten_and_limited() -> None:
    clear_cache()
    first = Fibonacci(1000).points
    assert geometry.nbytes == 24000 and Fibonacci(1000).points is first
    try:
        set_cache_limit(10000)
        assert geometry.nbytes == 0
        second = Fibonacci(1000).points
        assert second is not first and torch.equal(first, second) and geometry.nbytes == 0
        with pytest.raises(ValueError, match="limit is -1 bytes"):
            set_cache_limit(-1)
    finally:
        set_cache_limit(DEFAULT_LIMIT)


def test_geometry_made_under_inference_mode_may_be_used_for_training() -> None:
    clear_cache()
    with torch.inference_mode():
        points = Fibonacci(77).points
    assert not points.is_inference()
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (points @ weight).square().sum().backward()
    assert weight.grad is not None


def test_geometry_ignores_default_device_and_dtype() -> None:
    clear_cache()
    with torch.device("meta"):
        grid = Equiangular(4, 8)
        tensors = (grid.points, grid.areas, grid.frames, grid.rings.start, grid.children())
    assert all(t.device.type == "cpu" for t in tensors)


def test_threads_share_one_computation() -> None:
    cache, count = BoundedCache(), []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        cache.get("key", lambda: (count.append(1), torch.zeros(10))[1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [1]


def test_threads_wait_for_their_own_key_alone() -> None:
    cache, slow = BoundedCache(), threading.Event()
    thread = threading.Thread(target=lambda: cache.get("slow", lambda: (slow.wait(20), torch.ones(3))[1]))
    thread.start()
    start = time.monotonic()
    assert cache.get("quick", lambda: torch.zeros(2)).sum() == 0 and time.monotonic() - start < 10
    assert cache.get("outer", lambda: cache.get("inner", lambda: torch.ones(1)) + 1) == 2
    cache.limit = 4 * 2**10
    slow.set()
    thread.join()
    assert len(cache) == 4 and not cache._making and cache.nbytes == 4 * (2 + 1 + 1 + 3)


def test_what_fails_leaves_nothing_behind() -> None:
    cache = BoundedCache()
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert not cache._making and cache.get("key", lambda: 3) == 3


def in_child(work: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether ``work`` is true in a forked child that ends in time."""
    child = os.fork()
    if not child:
        right = False
        try:
            right = work()
        finally:
            os._exit(0 if right else 1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_computes_does_not_wait() -> None:
    computing, go_on = threading.Event(), threading.Event()

    def slow() -> torch.Tensor:
        computing.set()
        go_on.wait(60)
        return torch.ones(3)

    thread = threading.Thread(target=lambda: geometry.get("slow", slow))
    thread.start()
    computing.wait(20)
    try:
        assert in_child(lambda: geometry.get("slow", lambda: torch.zeros(3)).sum() == 0)
        assert in_child(lambda: len(Fibonacci(91).points) == 91)
        assert geometry.get("forks", lambda: in_child(lambda: geometry.get("x", lambda: True))), (
            "inside a computation"
        )
    finally:
        go_on.set()
        thread.join()
    assert geometry.get("slow", lambda: torch.zeros(3)).sum() == 3
    clear_cache()


def test_no_property_holds_a_lock_while_it_is_computed() -> None:
    package = Path(__file__).resolve().parents[2] / "spheregeo"
    wrong = []
    for file in sorted(set(package.rglob("*.py")) - {package / "lazy.py"}):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            used = isinstance(node, ast.Attribute) and ast.unparse(node) == "functools.cached_property"
            if used or ("cached_property" in names and getattr(node, "module", "") == "functools"):
                wrong.append(file.name)
    assert not wrong, f"functools.cached_property holds a lock in Python 3.11: {wrong}"

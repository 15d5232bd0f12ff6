"""The geometry cache: bounded in bytes, least recently used out first, safe under inference mode."""

from __future__ import annotations

import threading

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

"""The inner loops, tiles and plain ones, beside plain numpy, for lengths around those of vectors and tiles."""

from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from spheregeo.sparse.engines.kernels import loops as plain
from spheregeo.sparse.engines.kernels import product, tiles

LENGTHS = (0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 67, 130)
HEIGHTS = (0, 1, 2, 3, 5, 8, 11, 19)
PRECISION = {np.float32: 1e-5, np.float64: 1e-13}


def compiled(loops: ModuleType) -> SimpleNamespace:
    """Functions that call the inner loops of a module, which can be called from compiled code only."""
    line_add, line_set = loops.line_add, loops.line_set
    tiled_add, tiled_set, tiled_dot = loops.tiled_add, loops.tiled_set, loops.tiled_dot

    @njit
    def add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):
        tiled_add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n)

    @njit
    def put(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):
        tiled_set(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n)

    @njit
    def dot(x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n):
        tiled_dot(x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n)

    @njit
    def lines(x, y, s, z, n):
        line_add(x, 1, y, 2, z, 3, n)
        line_set(x, 1, s, 0, z, 4 + n, n)
        line_set(x, 1, y, 2, z, 5 + 2 * n, n)
        line_add(x, 1, s, 0, z, 5 + 2 * n, n)

    of_rows = product if loops is tiles else plain
    return SimpleNamespace(
        add=add, put=put, dot=dot, lines=lines, accumulate=of_rows.accumulate, correlate=of_rows.correlate
    )


KINDS = {"tiles": compiled(tiles), "loops": compiled(plain)}


@pytest.fixture(params=KINDS)
def inner(request):
    return KINDS[request.param]


def stretches(rng, count, n, dtype):
    """A buffer whose stretches are in any order, with something between them, and where they begin."""
    begins = rng.permutation(count).astype(np.int64) * (n + 3) + 2
    return rng.normal(size=count * (n + 3) + 5).astype(dtype), begins


def taken(buffer, begins, n):
    return buffer[begins[:, None] + np.arange(n)].astype(np.float64)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_equal_numpy_and_touch_nothing_else(inner, dtype, transposed):
    rng = np.random.default_rng(0)
    for m in HEIGHTS:
        for n in LENGTHS:
            count = int(rng.integers(0, 20))
            a = rng.normal(size=(count, m) if transposed else (m, count)).astype(dtype)
            x, xs = stretches(rng, count, n, dtype)
            z, zs = stretches(rng, m, n, dtype)
            by_row, by_term = (1, m) if transposed else (count, 1)
            total = (a.T if transposed else a).astype(np.float64) @ taken(x, xs, n)
            bound = PRECISION[dtype] * (1 + count)
            for call, before in ((inner.add, taken(z, zs, n)), (inner.put, 0)):
                result = z.copy()
                call(a, 0, by_row, by_term, x, 0, xs, result, 0, zs, m, count, n)
                expected = z.astype(np.float64)
                expected[zs[:, None] + np.arange(n)] = before + total
                assert np.abs(result - expected).max(initial=0) <= bound, (m, count, n)
            rows = rng.normal(size=(m, n)).astype(dtype)
            result = rows.copy()
            inner.accumulate(a.T if transposed else a, x, xs, result, n)
            assert np.abs(result - rows - total).max(initial=0) <= bound, (m, count, n)


@pytest.mark.parametrize("dtype", PRECISION)
def test_products_of_rows_equal_numpy_and_touch_nothing_else(inner, dtype):
    rng = np.random.default_rng(1)
    for m in HEIGHTS:
        for n in LENGTHS:
            count = int(rng.integers(0, 20))
            x, xs = stretches(rng, m, n, dtype)
            y, ys = stretches(rng, count, n, dtype)
            out = rng.normal(size=(m, count + 2)).astype(dtype)
            expected = out.astype(np.float64)
            expected[:, 1 : count + 1] += taken(x, xs, n) @ taken(y, ys, n).T
            result = out.copy()
            inner.dot(x, 0, xs, y, 0, ys, result, 1, count + 2, 1, m, count, n)
            assert np.abs(result - expected).max(initial=0) <= PRECISION[dtype] * (1 + n), (m, count, n)
            result = np.zeros((m, count), dtype)
            rows = np.ascontiguousarray(taken(x, xs, n).astype(dtype)).reshape(m, n)
            inner.correlate(rows, y, ys, result, n)
            assert np.abs(result - expected[:, 1 : count + 1] + out[:, 1 : count + 1]).max(
                initial=0
            ) <= PRECISION[dtype] * (1 + n)


@pytest.mark.parametrize("dtype", PRECISION)
def test_places_may_be_steps(inner, dtype):
    rng = np.random.default_rng(2)
    m, count, n = 5, 7, 21
    a, x = rng.normal(size=(m, count)).astype(dtype), rng.normal(size=4 + count * 30).astype(dtype)
    z = np.zeros(9 + m * n, dtype)
    inner.put(a, 0, count, 1, x, 4, 30, z, 9, n, m, count, n)
    expected = a @ x[4:].reshape(count, 30)[:, :n]
    assert np.abs(z[9:].reshape(m, n) - expected).max() <= PRECISION[dtype] * count
    out = np.zeros((m, count), dtype)
    inner.dot(z, 9, n, x, 4, 30, out, 0, count, 1, m, count, n)
    assert np.abs(out - expected @ x[4:].reshape(count, 30)[:, :n].T).max() <= PRECISION[dtype] * 100


@pytest.mark.parametrize("dtype", PRECISION)
def test_lines(inner, dtype):
    rng = np.random.default_rng(3)
    for n in LENGTHS:
        x, y, z = (rng.normal(size=3 * n + 9).astype(dtype) for _ in range(3))
        expected = z.astype(np.float64)
        expected[3 : 3 + n] += x[1 : 1 + n].astype(np.float64) * y[2 : 2 + n]
        expected[4 + n : 4 + 2 * n] = x[1 : 1 + n] * dtype(0.5)
        expected[5 + 2 * n : 5 + 3 * n] = x[1 : 1 + n].astype(np.float64) * (y[2 : 2 + n] + dtype(0.5))
        inner.lines(x, y, dtype(0.5), z, n)
        assert np.abs(z - expected).max() <= 10 * PRECISION[dtype]


def test_not_a_number_goes_where_its_products_go(inner):
    for n in (16, 19):
        x = np.ones(4 * n)
        x[2 * n + 1] = np.nan
        z = np.zeros(3 * n)
        a = np.ones((3, 4))
        inner.put(a, 0, 4, 1, x, 0, n, z, 0, n, 3, 4, n)
        assert np.isnan(z.reshape(3, n)[:, 1]).all()
        assert np.isfinite(np.delete(z.reshape(3, n), 1, 1)).all()


def test_mixed_types_are_refused():
    inner = KINDS["tiles"]
    single, double, places = np.ones(8, np.float32), np.ones(8), np.zeros(1, np.int64)
    with pytest.raises(TypingError, match="arrays hold float32, float64, float64; expected one type"):
        inner.put(single, 0, 1, 1, double, 0, places, double, 0, places, 1, 1, 4)
    with pytest.raises(TypingError, match="places are int32; expected int64"):
        inner.put(double, 0, 1, 1, double, 0, places.astype(np.int32), double, 0, places, 1, 1, 4)
    with pytest.raises(TypingError, match="expected one type"):
        inner.correlate(double.reshape(1, 8), single, places, double.reshape(1, 8), 4)

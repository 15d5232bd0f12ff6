"""Loops of the CPU engine in LLVM's own language, for use in compiled code.

No compiler finds these forms in loops: stretches of arrays may overlap for all that it knows, and are too short for checks
at run time and for remainders done singly. Here a tile of the result, some rows by some vectors wide, stays in registers
while all terms are added. Vectors have fixed lengths, which LLVM turns into whatever the processor has. Arrays of any shape
count as memory; goals must not overlap one another, nor what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

from llvmlite import binding, ir
from numba import extending
from numba.core import cgutils
from numba.core import types as numba_types
from numba.core.errors import TypingError

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS

types: Any = numba_types  # types are made as attributes are read
intrinsic: Any = extending.intrinsic

_VECTOR = 64  # bytes; two or four of the registers of processors with shorter ones
_COLUMNS = (256, 64, 32, 16)  # bytes of a tile's columns, the widest that fit first; then number by number
_TALLEST = 8  # rows of a tile


def _registers() -> int:
    """Bytes of the sums of a tile of products: half of the vector registers of AVX-512, AVX2 or NEON."""
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # not known on this platform
        features = {}
    return 1024 if features.get("avx512f") else 256


_REGISTERS = _registers()
_EXACT = ("contract",)  # products and sums may be fused, and the order of sums is as written
_ANY_ORDER = ("contract", "reassoc", "nsz")

_INT = ir.IntType(64)
_SHORT = ir.IntType(32)


def _number(value: int) -> ir.Constant:
    return ir.Constant(_INT, value)


class _Array:
    """Pointer to an array's first element, and the type of its elements."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder = builder
        self.data = context.make_array(kind)(context, builder, value).data
        self.scalar = context.get_data_type(kind.dtype)
        self.size = context.get_abi_sizeof(self.scalar)

    def at(self, index: Any) -> Any:
        return self.builder.gep(self.data, [index])

    def load(self, index: Any, kind: Any) -> Any:
        place = self.builder.bitcast(self.at(index), kind.as_pointer())
        return self.builder.load(place, align=self.size)

    def store(self, value: Any, index: Any) -> None:
        place = self.builder.bitcast(self.at(index), value.type.as_pointer())
        self.builder.store(value, place, align=self.size)


class _Stretches:
    """Where stretches of an array begin: at ``first`` plus an array's entries, or plus multiples of a step."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, first: Any) -> None:
        self.builder, self.first, self.value = builder, first, value
        self.places = _Array(context, builder, kind, value) if isinstance(kind, types.Array) else None

    def __getitem__(self, index: Any) -> Any:
        if self.places is None:
            return self.builder.add(self.first, self.builder.mul(index, self.value))
        return self.builder.add(self.first, self.builder.load(self.places.at(index)))


def _kind(scalar: Any, width: int) -> Any:
    return ir.VectorType(scalar, width) if width > 1 else scalar


def _splat(builder: Any, value: Any, width: int) -> Any:
    """A vector of one number."""
    if width == 1:
        return value
    kind = ir.VectorType(value.type, width)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_SHORT, 0))
    mask = ir.Constant(ir.VectorType(_SHORT, width), [0] * width)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), mask)


def _fold(builder: Any, value: Any, width: int, target: int) -> Any:
    """Sums of a vector's halves, of their halves, ... down to a length; a number for 1."""
    while width > target:
        width //= 2
        halves = []
        for first in (0, width):
            mask = ir.Constant(ir.VectorType(_SHORT, width), list(range(first, first + width)))
            halves.append(builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask))
        value = builder.fadd(*halves, flags=_ANY_ORDER)
    one = target == 1 and isinstance(value.type, ir.VectorType)
    return builder.extract_element(value, ir.Constant(_SHORT, 0)) if one else value


def _rolled(builder: Any, branch: Any) -> None:
    """Marks a loop's last branch: copies of the body would help nothing, and cost compilers time."""
    module = builder.module
    wish = module.add_metadata(["llvm.loop.unroll.disable"])
    loop = ir.MDValue(module, [wish], name=str(len(module.metadata)))
    loop.operands = (loop, wish)  # loops are told apart by nodes that begin with themselves
    branch.set_metadata("llvm.loop", loop)


@contextmanager
def _steps(builder: Any, at: Any, end: Any, size: int) -> Iterator[Any]:
    """While at + size <= end: the body, which gets at, and at += size."""
    test, body, after = (builder.append_basic_block(name) for name in ("test", "body", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    here = builder.load(at)
    builder.cbranch(builder.icmp_signed("<=", builder.add(here, _number(size)), end), body, after)
    builder.position_at_end(body)
    yield here
    builder.store(builder.add(here, _number(size)), at)
    _rolled(builder, builder.branch(test))
    builder.position_at_end(after)


def _check_types(arrays: Sequence[Any], places: Sequence[Any]) -> None:
    """Raises: TypingError unless the arrays hold one type of numbers, and places are int64."""
    if len({array.dtype for array in arrays}) > 1:
        raise TypingError(f"arrays hold {', '.join(str(a.dtype) for a in arrays)}; expected one type")
    for place in places:
        if isinstance(place, types.Array) and place.dtype != types.intp:
            raise TypingError(f"places are {place.dtype}; expected {types.intp}")


def _tiled_product(fresh: bool) -> Any:
    def typed(context, a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):  # type: ignore[no-untyped-def]
        whole = types.intp
        _check_types((a, x, z), (xs, zs))
        sources, goals = (kind if isinstance(kind, types.Array) else whole for kind in (xs, zs))
        numbers = [whole] * 3
        return types.void(a, *numbers, x, whole, sources, z, whole, goals, *numbers), generate

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        a, x, z = (_Array(context, builder, kinds[i], given[i]) for i in (0, 4, 7))
        first, by_row, by_term = given[1:4]
        sources = _Stretches(context, builder, kinds[6], given[6], given[5])
        goals = _Stretches(context, builder, kinds[9], given[9], given[8])
        rows, terms, length = given[10:]

        def tile(row: Any, column: Any, tall: int, part: int) -> None:
            width = min(part, _VECTOR) // x.size
            kind = _kind(x.scalar, width)
            steps = [_number(v * width) for v in range(part // (width * x.size))]
            places, sums, factors = [], [], []
            for k in range(tall):
                index = builder.add(row, _number(k))
                factors.append(builder.add(first, builder.mul(index, by_row)))
                goal = builder.add(goals[index], column)
                for step in steps:
                    places.append(builder.add(goal, step))
                    value = ir.Constant(kind, None) if fresh else z.load(places[-1], kind)
                    sums.append(cgutils.alloca_once(builder, kind))
                    builder.store(value, sums[-1])
            at = cgutils.alloca_once(builder, _INT)
            builder.store(_number(0), at)
            with _steps(builder, at, terms, 1) as index:
                source = builder.add(sources[index], column)
                vectors = [x.load(builder.add(source, step), kind) for step in steps]
                term = builder.mul(index, by_term)
                weights = [builder.load(a.at(builder.add(factor, term))) for factor in factors]
                pairs = product([_splat(builder, weight, width) for weight in weights], vectors)
                for total, (weight, vector) in zip(sums, pairs, strict=True):
                    more = builder.fmul(weight, vector, flags=_EXACT)
                    builder.store(builder.fadd(builder.load(total), more, flags=_EXACT), total)
            for place, total in zip(places, sums, strict=True):
                z.store(builder.load(total), place)

        column = cgutils.alloca_once(builder, _INT)
        builder.store(_number(0), column)
        row = cgutils.alloca_once(builder, _INT)
        for columns in (*_COLUMNS, x.size):
            with _steps(builder, column, length, columns // x.size) as c:
                builder.store(_number(0), row)
                tall = min(_TALLEST, _REGISTERS // min(columns, _VECTOR))
                tall = min(tall, 4) if columns > _VECTOR else tall
                while tall:
                    with _steps(builder, row, rows, tall) as r:
                        part = min(columns, _REGISTERS // tall)  # bytes that are done at once
                        for piece in range(0, columns, part):
                            tile(r, builder.add(c, _number(piece // x.size)), tall, part)
                    tall //= 2
        return context.get_dummy_value()

    return intrinsic(typed)


tiled_add = _tiled_product(fresh=False)
tiled_add.__doc__ = """z[z_at + Z(i) + j] += sum_r a[at + i by_row + r by_term] x[x_at + X(r) + j] for i < m, r < count, j < n.

For use in compiled code. X(r) is xs[r], or r xs where xs is a number; so Z with zs. Arrays of any shape count as their memory."""
tiled_set = _tiled_product(fresh=True)
tiled_set.__doc__ = "As ``tiled_add``, with = in place of +=."


@intrinsic
def tiled_dot(context, x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n):  # type: ignore[no-untyped-def]
    """out[at + i by_row + r by_column] += sum_j x[x_at + X(i) + j] y[y_at + Y(r) + j] for i < m, r < count, j < n."""
    whole = types.intp
    _check_types((x, y, out), (xs, ys))
    ours, theirs = (kind if isinstance(kind, types.Array) else whole for kind in (xs, ys))
    signature = types.void(x, whole, ours, y, whole, theirs, out, *[whole] * 6)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        left, right, goal = (_Array(context, builder, kinds[i], given[i]) for i in (0, 3, 6))
        rows = _Stretches(context, builder, kinds[2], given[2], given[1])
        columns = _Stretches(context, builder, kinds[5], given[5], given[4])
        first, by_row, by_column, height, width, length = given[7:]

        def tile(row: Any, column: Any, tall: int, wide: int) -> None:
            scalar, size = left.scalar, left.size
            ours = [builder.add(row, _number(k)) for k in range(tall)]
            theirs = [builder.add(column, _number(k)) for k in range(wide)]
            starts, others = [rows[k] for k in ours], [columns[k] for k in theirs]
            at = cgutils.alloca_once(builder, _INT)
            builder.store(_number(0), at)
            before = min(_VECTOR, _REGISTERS // 8) // size
            values = [ir.Constant(_kind(scalar, before), None)] * (tall * wide)
            for many in (before, 16 // size, 1):  # what is left goes on with the sums of the halves
                kind = _kind(scalar, many)
                sums = [cgutils.alloca_once(builder, kind) for _ in values]
                for total, value in zip(sums, values, strict=True):
                    builder.store(_fold(builder, value, before, many), total)
                with _steps(builder, at, length, many) as here:
                    a = [left.load(builder.add(start, here), kind) for start in starts]
                    b = [right.load(builder.add(start, here), kind) for start in others]
                    for total, (u, v) in zip(sums, product(a, b), strict=True):
                        term = builder.fmul(u, v, flags=_ANY_ORDER)
                        builder.store(builder.fadd(builder.load(total), term, flags=_ANY_ORDER), total)
                values, before = [builder.load(total) for total in sums], many
            for value, (k, q) in zip(values, product(ours, theirs), strict=True):
                place = builder.add(builder.mul(k, by_row), builder.mul(q, by_column))
                pointer = goal.at(builder.add(first, place))
                builder.store(builder.fadd(builder.load(pointer), value, flags=_ANY_ORDER), pointer)

        i, r = (cgutils.alloca_once(builder, _INT) for _ in range(2))
        builder.store(_number(0), i)
        for tall in (4, 1):
            with _steps(builder, i, height, tall) as row:
                builder.store(_number(0), r)
                for wide in (4, 1):
                    with _steps(builder, r, width, wide) as column:
                        tile(row, column, tall, wide)
        return context.get_dummy_value()

    return signature, generate


def _line(fresh: bool) -> Any:
    def typed(context, x, x_at, y, y_at, z, z_at, n):  # type: ignore[no-untyped-def]
        whole = types.intp
        _check_types((x, y, z) if isinstance(y, types.Array) else (x, z), ())
        factor = y if isinstance(y, types.Array) else z.dtype
        return types.void(x, whole, factor, whole, z, whole, whole), generate

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        x, z = (_Array(context, builder, kinds[i], given[i]) for i in (0, 4))
        y = _Array(context, builder, kinds[2], given[2]) if isinstance(kinds[2], types.Array) else None
        at = cgutils.alloca_once(builder, _INT)
        builder.store(_number(0), at)
        for bytes_ in (_VECTOR, 16, x.size):
            width = bytes_ // x.size
            kind = _kind(x.scalar, width)
            with _steps(builder, at, given[6], width) as j:
                value = x.load(builder.add(given[1], j), kind)
                if y is None:
                    factor = _splat(builder, given[2], width)
                else:
                    factor = y.load(builder.add(given[3], j), kind)
                value = builder.fmul(value, factor, flags=_EXACT)
                goal = builder.add(given[5], j)
                if not fresh:
                    value = builder.fadd(z.load(goal, kind), value, flags=_EXACT)
                z.store(value, goal)
        return context.get_dummy_value()

    return intrinsic(typed)


line_add = _line(fresh=False)
line_add.__doc__ = (
    "z[z_at + j] += x[x_at + j] y[y_at + j] for j < n; y may be a number, and y_at is then not read."
)
line_set = _line(fresh=True)
line_set.__doc__ = "As ``line_add``, with = in place of +=."


@intrinsic
def prefetch(context, x, first, count):  # type: ignore[no-untyped-def]
    """Prefetch x[first], ..., x[first + count - 1] into the cache."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        x = _Array(context, builder, signature.args[0], given[0])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _SHORT, _SHORT, _SHORT])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        at = cgutils.alloca_once(builder, _INT)
        builder.store(given[1], at)
        end = builder.add(builder.add(given[1], given[2]), _number(_VECTOR // x.size - 1))
        with _steps(builder, at, end, _VECTOR // x.size) as place:
            place = builder.bitcast(x.at(place), byte)
            builder.call(
                ask, [place, *(ir.Constant(_SHORT, value) for value in (0, 3, 1))]
            )  # to read, keep, data
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp), generate


@intrinsic
def no_inline(context):  # type: ignore[no-untyped-def]
    """Mark the calling function ``noinline``: inlining it into every caller makes LLVM take seconds."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@njit(**OPTIONS)
def each_once(x, places):  # type: ignore[no-untyped-def]
    """Build every loop above once and run none: a test of whether this version of llvmlite takes them."""
    no_inline()
    prefetch(x, 0, 0)
    line_add(x, 0, x, 0, x, 0, 0)
    line_set(x, 0, x[0], 0, x, 0, 0)
    tiled_add(x, 0, 0, 0, x, 0, places, x, 0, 0, 0, 0, 0)
    tiled_set(x, 0, 0, 0, x, 0, 0, x, 0, places, 0, 0, 0)
    tiled_dot(x, 0, places, x, 0, 0, x, 0, 0, 0, 0, 0, 0)

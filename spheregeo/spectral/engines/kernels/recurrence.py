"""One loop of the Legendre stage: a three-term recurrence over many rings at once, with the last two values in registers.

``recur`` exists twice, in LLVM's language and as a plain loop, and is chosen together with the tiles of
:mod:`spheregeo.sparse.engines.kernels.inner`.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels import inner, loops
from spheregeo.sparse.engines.kernels.options import OPTIONS

LANES = 32  # rings of a block


@njit(**OPTIONS)
def _plain(a, b, at, y, first, last, q, q_at, q_step, steps):  # type: ignore[no-untyped-def]
    for k in range(steps):
        for j in range(LANES):
            now = last[1, first + j]
            q[q_at + k * q_step + j] = now
            last[1, first + j] = (a[at + k] * y[first + j] + b[at + k]) * now - last[0, first + j]
            last[0, first + j] = now


if inner.chosen is loops:
    recur = _plain
else:
    from spheregeo.sparse.engines.kernels import tiles

    @tiles.intrinsic
    def recur(context, a, b, at, y, first, last, q, q_at, q_step, steps):  # type: ignore[no-untyped-def]
        """For k < steps: q[q_at + k q_step + j] = last[1, first + j], then a step of the recurrence on both rows of ``last``.

        q(k + 1) = (a[at + k] y[first + j] + b[at + k]) q(k) - q(k - 1) for j < 32; ``last`` holds q(k - 1) and q(k),
        C-contiguous. All are float64, except that q may be float32.
        """
        whole = tiles.types.intp
        signature = tiles.types.void(a, b, whole, y, whole, last, q, whole, whole, whole)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kinds = signature.args
            a, b, y, last, q = (tiles._Array(context, builder, kinds[i], given[i]) for i in (0, 1, 3, 5, 6))
            at, first, q_at, q_step, steps = (given[i] for i in (2, 4, 7, 8, 9))
            row = builder.extract_value(context.make_array(kinds[5])(context, builder, given[5]).shape, 1)
            width = 8
            kind, short = tiles._kind(a.scalar, width), tiles._kind(q.scalar, width)
            together = 4 if tiles._REGISTERS > 256 else 2  # vectors
            for part in range(0, LANES, together * width):
                steps_of = [tiles._number(part + v * width) for v in range(together)]
                places = [builder.add(first, step) for step in steps_of]
                angles = [y.load(place, kind) for place in places]
                old: list[Any] = []
                new: list[Any] = []
                for place in places:
                    for kept, where in ((old, place), (new, builder.add(place, row))):
                        kept.append(cgutils.alloca_once(builder, kind))
                        builder.store(last.load(where, kind), kept[-1])
                k = cgutils.alloca_once(builder, tiles._INT)
                builder.store(tiles._number(0), k)
                with tiles._steps(builder, k, steps, 1) as index:
                    place = builder.add(at, index)
                    slope = tiles._splat(builder, builder.load(a.at(place)), width)
                    shift = tiles._splat(builder, builder.load(b.at(place)), width)
                    goal = builder.add(q_at, builder.mul(index, q_step))
                    for v in range(together):
                        now = builder.load(new[v])
                        value = builder.fptrunc(now, short) if q.size < a.size else now
                        q.store(value, builder.add(goal, steps_of[v]))
                        factor = builder.fadd(
                            builder.fmul(slope, angles[v], flags=tiles._EXACT), shift, flags=tiles._EXACT
                        )
                        following = builder.fsub(
                            builder.fmul(factor, now, flags=tiles._EXACT),
                            builder.load(old[v]),
                            flags=tiles._EXACT,
                        )
                        builder.store(now, old[v])
                        builder.store(following, new[v])
                for v, place in enumerate(places):
                    last.store(builder.load(old[v]), place)
                    last.store(builder.load(new[v]), builder.add(place, row))
            return context.get_dummy_value()

        return signature, generate

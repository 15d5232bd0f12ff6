"""Contract and mix of the linear form in one pass: y = sum_k w_k (v_k x), scattered rows and rings.

``N`` functions are contracted at a time, so that one load of features serves them all; ``PASSES`` such turns make up the table,
whose columns and whose weights are padded with zeros. ``MODE`` says what is done with a contraction z: MIX multiplies by a matrix
of channels, DEPTHWISE by one weight a channel, APART writes the functions one beside the other.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

MIX = tl.constexpr(0)
DEPTHWISE = tl.constexpr(1)
APART = tl.constexpr(2)


@triton.jit
def csr_tile(
    x,
    table,
    indices,
    begin,
    start,
    length,
    c,
    k,
    C,
    row_stride,
    KP: tl.constexpr,
    N: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
):
    """Contractions of functions k to k + N - 1 at a tile of rows: up to three (BP, BC) float32."""
    z0 = tl.zeros((BP, BC), tl.float32)
    z1 = z0
    z2 = z0
    listed = (c < C)[None, :]
    for t in range(tl.max(length, 0)):
        inside = t < length
        q = tl.load(indices + begin + t, mask=inside, other=0)
        v = table + (start + t) * KP + k
        value = tl.load(
            x + (q * row_stride)[:, None] + c[None, :], mask=inside[:, None] & listed, other=0.0
        ).to(tl.float32)
        z0 += tl.load(v, mask=inside, other=0.0)[:, None] * value
        if N > 1:
            z1 += tl.load(v + 1, mask=inside, other=0.0)[:, None] * value
        if N > 2:
            z2 += tl.load(v + 2, mask=inside, other=0.0)[:, None] * value
    return z0, z1, z2


@triton.jit
def csr_rows(row, begin, start, length, tile, P, WIDE: tl.constexpr, BP: tl.constexpr):
    """A tile of rows in the order of work: where each goes, its first entry, first column of the table, and entries."""
    place = tile * BP + tl.arange(0, BP)
    there = place < P
    r = tl.load(row + place, mask=there, other=0)
    first = tl.load(begin + place, mask=there, other=0)
    column = tl.load(start + place, mask=there, other=0)
    taps = tl.load(length + place, mask=there, other=0)
    if WIDE:
        r, first, column = r.to(tl.int64), first.to(tl.int64), column.to(tl.int64)
    return r, there, first, column, taps


@triton.jit
def mixed(acc, z, w, k, c, o, C, O, PRECISION: tl.constexpr):
    """acc (BP, BO) + z (BP, BC) w_k, weights (K, C, O)."""
    weight = tl.load(
        w + (k * C + c[:, None]) * O + o[None, :], mask=(c < C)[:, None] & (o < O)[None, :], other=0.0
    )
    return tl.dot(z.to(weight.dtype), weight, acc, input_precision=PRECISION)


@triton.jit
def csr_mix(
    x,
    table,
    w,
    y,
    row,
    begin,
    start,
    length,
    indices,
    P,
    Q,
    C,
    O,
    groups,
    K: tl.constexpr,
    PASSES: tl.constexpr,
    N: tl.constexpr,
    MODE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
    BO: tl.constexpr,
):
    """x (B, Q, groups C), table (T, PASSES N), w (groups, PASSES N, C, O), y (B, P, groups O).

    A program: BP rows, BO outputs (of MIX) or BC channels, one sample, one group.
    """
    KP: tl.constexpr = PASSES * N
    batch, group = tl.program_id(2) // groups, tl.program_id(2) % groups
    x_stride = groups * C
    if WIDE:
        x_stride = x_stride.to(tl.int64)
    r, there, first, column, taps = csr_rows(row, begin, start, length, tl.program_id(0), P, WIDE, BP)
    x += batch.to(tl.int64) * Q * x_stride + group * C
    if MODE == MIX:
        w += group * KP * C * O
        o = tl.program_id(1) * BO + tl.arange(0, BO)
        acc = tl.zeros((BP, BO), tl.float32)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            for turn in range(PASSES):
                k = turn * N
                z0, z1, z2 = csr_tile(
                    x, table, indices, first, column, taps, c, k, C, x_stride, KP, N, BP, BC
                )
                acc = mixed(acc, z0, w, k, c, o, C, O, PRECISION)
                if N > 1:
                    acc = mixed(acc, z1, w, k + 1, c, o, C, O, PRECISION)
                if N > 2:
                    acc = mixed(acc, z2, w, k + 2, c, o, C, O, PRECISION)
        y += batch.to(tl.int64) * P * groups * O + group * O
        tl.store(
            y + (r * (groups * O))[:, None] + o[None, :],
            acc.to(y.dtype.element_ty),
            mask=there[:, None] & (o < O)[None, :],
        )
    else:
        c = tl.program_id(1) * BC + tl.arange(0, BC)
        own = there[:, None] & (c < C)[None, :]
        acc = tl.zeros((BP, BC), tl.float32)
        y += batch.to(tl.int64) * P * C * (K if MODE == APART else 1)
        for turn in range(PASSES):
            k = turn * N
            z0, z1, z2 = csr_tile(x, table, indices, first, column, taps, c, k, C, x_stride, KP, N, BP, BC)
            if MODE == DEPTHWISE:
                acc += z0 * tl.load(w + k * C + c, mask=c < C, other=0.0)[None, :]
                if N > 1:
                    acc += z1 * tl.load(w + (k + 1) * C + c, mask=c < C, other=0.0)[None, :]
                if N > 2:
                    acc += z2 * tl.load(w + (k + 2) * C + c, mask=c < C, other=0.0)[None, :]
            else:
                place = y + (r * (K * C))[:, None] + (k * C + c)[None, :]
                tl.store(place, z0.to(y.dtype.element_ty), mask=own)
                if N > 1:
                    tl.store(place + C, z1.to(y.dtype.element_ty), mask=own & (k + 1 < K))
                if N > 2:
                    tl.store(place + 2 * C, z2.to(y.dtype.element_ty), mask=own & (k + 2 < K))
        if MODE == DEPTHWISE:
            tl.store(y + (r * C)[:, None] + c[None, :], acc.to(y.dtype.element_ty), mask=own)


@triton.jit
def ring_tile(
    x,
    table,
    source,
    step,
    shift,
    first,
    last,
    j,
    c,
    k,
    M,
    Q,
    C,
    KP: tl.constexpr,
    N: tl.constexpr,
    BC: tl.constexpr,
    BJ: tl.constexpr,
):
    """Contractions of functions k to k + N - 1 at some longitudes of a row: up to three (BC, BJ) float32."""
    z0 = tl.zeros((BC, BJ), tl.float32)
    z1 = z0
    z2 = z0
    inside = (c < C)[:, None] & (j < M)[None, :]
    for t in range(first, last):
        turned = j + tl.load(shift + t)
        turned = tl.where(turned >= M, turned - M, turned)
        at = tl.load(source + t) + tl.load(step + t) * turned
        value = tl.load(x + c[:, None] * Q + at[None, :], mask=inside, other=0.0).to(tl.float32)
        v = table + t * KP + k
        z0 += tl.load(v) * value
        if N > 1:
            z1 += tl.load(v + 1) * value
        if N > 2:
            z2 += tl.load(v + 2) * value
    return z0, z1, z2


@triton.jit
def ring_mixed(acc, z, w, k, c, o, C, O, PRECISION: tl.constexpr):
    """acc (BO, BJ) + w_k z (BC, BJ), weights (K, O, C)."""
    weight = tl.load(
        w + (k * O + o[:, None]) * C + c[None, :], mask=(o < O)[:, None] & (c < C)[None, :], other=0.0
    )
    return tl.dot(weight, z.to(weight.dtype), acc, input_precision=PRECISION)


@triton.jit
def ring_mix(
    x,
    table,
    w,
    y,
    indptr,
    source,
    step,
    shift,
    base,
    stride,
    M,
    P,
    Q,
    C,
    O,
    groups,
    K: tl.constexpr,
    PASSES: tl.constexpr,
    N: tl.constexpr,
    MODE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BJ: tl.constexpr,
    BC: tl.constexpr,
    BO: tl.constexpr,
):
    """x (B, groups C, Q), table (T, PASSES N), w (groups, PASSES N, O, C), y (B, groups O, P); of APART y is (B, C, K, P).

    A program: BJ longitudes of one row, BO outputs (of MIX) or BC channels, one sample, one group.
    """
    KP: tl.constexpr = PASSES * N
    batch, group = tl.program_id(2) // groups, tl.program_id(2) % groups
    tiles = tl.cdiv(M, BJ)
    row = tl.program_id(0) // tiles
    j = (tl.program_id(0) % tiles) * BJ + tl.arange(0, BJ)
    first, last = tl.load(indptr + row), tl.load(indptr + row + 1)
    place = tl.load(base + row) + tl.load(stride + row) * j
    x += (batch.to(tl.int64) * groups + group) * C * Q
    if WIDE:
        first, last = first.to(tl.int64), last.to(tl.int64)
    if MODE == MIX:
        w += group * KP * C * O
        o = tl.program_id(1) * BO + tl.arange(0, BO)
        acc = tl.zeros((BO, BJ), tl.float32)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            cw = c
            if WIDE:
                cw = c.to(tl.int64)
            for turn in range(PASSES):
                k = turn * N
                z0, z1, z2 = ring_tile(
                    x, table, source, step, shift, first, last, j, cw, k, M, Q, C, KP, N, BC, BJ
                )
                acc = ring_mixed(acc, z0, w, k, c, o, C, O, PRECISION)
                if N > 1:
                    acc = ring_mixed(acc, z1, w, k + 1, c, o, C, O, PRECISION)
                if N > 2:
                    acc = ring_mixed(acc, z2, w, k + 2, c, o, C, O, PRECISION)
        y += (batch.to(tl.int64) * groups + group) * O * P
        ow = o
        if WIDE:
            ow = o.to(tl.int64)
        tl.store(
            y + ow[:, None] * P + place[None, :],
            acc.to(y.dtype.element_ty),
            mask=(o < O)[:, None] & (j < M)[None, :],
        )
    else:
        c = tl.program_id(1) * BC + tl.arange(0, BC)
        own = (c < C)[:, None] & (j < M)[None, :]
        if WIDE:
            c = c.to(tl.int64)
        acc = tl.zeros((BC, BJ), tl.float32)
        y += batch.to(tl.int64) * C * P * (K if MODE == APART else 1)
        for turn in range(PASSES):
            k = turn * N
            z0, z1, z2 = ring_tile(
                x, table, source, step, shift, first, last, j, c, k, M, Q, C, KP, N, BC, BJ
            )
            if MODE == DEPTHWISE:
                acc += z0 * tl.load(w + k * C + c, mask=c < C, other=0.0)[:, None]
                if N > 1:
                    acc += z1 * tl.load(w + (k + 1) * C + c, mask=c < C, other=0.0)[:, None]
                if N > 2:
                    acc += z2 * tl.load(w + (k + 2) * C + c, mask=c < C, other=0.0)[:, None]
            else:
                goal = y + ((c * K + k) * P)[:, None] + place[None, :]
                tl.store(goal, z0.to(y.dtype.element_ty), mask=own)
                if N > 1:
                    tl.store(goal + P, z1.to(y.dtype.element_ty), mask=own & (k + 1 < K))
                if N > 2:
                    tl.store(goal + 2 * P, z2.to(y.dtype.element_ty), mask=own & (k + 2 < K))
        if MODE == DEPTHWISE:
            tl.store(y + c[:, None] * P + place[None, :], acc.to(y.dtype.element_ty), mask=own)

"""Weight gradient of the linear form: contractions are made again, tile by tile, and correlated with the output's cotangent.

Each of S programs takes every S-th tile and writes its own sums, (S, functions, channels, outputs), which one reduction adds up.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from spheregeo.sparse.engines.triton.kernels.mix import MIX, csr_rows, csr_tile, ring_tile


@triton.jit
def put(sums, a, k, c, o, C, O):
    """One function's sums (BC, BO) in their place of (functions, C, O)."""
    tl.store(sums + (k * C + c[:, None]) * O + o[None, :], a, mask=(c < C)[:, None] & (o < O)[None, :])


@triton.jit
def csr_weights(
    x,
    table,
    g,
    sums,
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
    batches,
    PASSES: tl.constexpr,
    N: tl.constexpr,
    MODE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
    BO: tl.constexpr,
):
    """x (B, Q, groups C), g (B, P, groups O), sums (S, groups, PASSES N, C, O); of DEPTHWISE (S, PASSES N, C).

    A program: every S-th tile of BP rows, BC channels and N functions, BO outputs of one group.
    """
    KP: tl.constexpr = PASSES * N
    blocks = tl.cdiv(O, BO)
    k = (tl.program_id(1) % PASSES) * N
    c = (tl.program_id(1) // PASSES) * BC + tl.arange(0, BC)
    group = tl.program_id(2) // blocks
    o = (tl.program_id(2) % blocks) * BO + tl.arange(0, BO)
    x_stride, g_stride = groups * C, groups * O
    if WIDE:
        x_stride, g_stride = x_stride.to(tl.int64), g_stride.to(tl.int64)
    tiles = tl.cdiv(P, BP)
    a0 = tl.zeros((BC, BO), tl.float32)
    a1 = a0
    a2 = a0
    d0 = tl.zeros((BP, BC), tl.float32)
    d1 = d0
    d2 = d0
    for tile in range(tl.program_id(0), tiles * batches, tl.num_programs(0)):
        batch = (tile // tiles).to(tl.int64)
        r, there, first, column, taps = csr_rows(row, begin, start, length, tile % tiles, P, WIDE, BP)
        z0, z1, z2 = csr_tile(
            x + batch * Q * x_stride + group * C,
            table,
            indices,
            first,
            column,
            taps,
            c,
            k,
            C,
            x_stride,
            KP,
            N,
            BP,
            BC,
        )
        if MODE == MIX:
            at = g + batch * P * g_stride + group * O + (r * g_stride)[:, None] + o[None, :]
            near = tl.load(at, mask=there[:, None] & (o < O)[None, :], other=0.0)
            a0 = tl.dot(tl.trans(z0).to(near.dtype), near, a0, input_precision=PRECISION)
            if N > 1:
                a1 = tl.dot(tl.trans(z1).to(near.dtype), near, a1, input_precision=PRECISION)
            if N > 2:
                a2 = tl.dot(tl.trans(z2).to(near.dtype), near, a2, input_precision=PRECISION)
        else:
            at = g + batch * P * C + (r * C)[:, None] + c[None, :]
            near = tl.load(at, mask=there[:, None] & (c < C)[None, :], other=0.0).to(tl.float32)
            d0 += z0 * near
            if N > 1:
                d1 += z1 * near
            if N > 2:
                d2 += z2 * near
    if MODE == MIX:
        sums += (tl.program_id(0).to(tl.int64) * groups + group) * KP * C * O
        put(sums, a0, k, c, o, C, O)
        if N > 1:
            put(sums, a1, k + 1, c, o, C, O)
        if N > 2:
            put(sums, a2, k + 2, c, o, C, O)
    else:
        sums += (tl.program_id(0).to(tl.int64) * KP + k) * C + c
        tl.store(sums, tl.sum(d0, 0), mask=c < C)
        if N > 1:
            tl.store(sums + C, tl.sum(d1, 0), mask=c < C)
        if N > 2:
            tl.store(sums + 2 * C, tl.sum(d2, 0), mask=c < C)


@triton.jit
def ring_weights(
    x,
    table,
    g,
    sums,
    indptr,
    source,
    step,
    shift,
    base,
    stride,
    rows,
    M,
    P,
    Q,
    C,
    O,
    groups,
    batches,
    PASSES: tl.constexpr,
    N: tl.constexpr,
    MODE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BJ: tl.constexpr,
    BC: tl.constexpr,
    BO: tl.constexpr,
):
    """x (B, groups C, Q), g (B, groups O, P), sums as those of ``csr_weights``; tiles are BJ longitudes of a row."""
    KP: tl.constexpr = PASSES * N
    blocks = tl.cdiv(O, BO)
    k = (tl.program_id(1) % PASSES) * N
    c = (tl.program_id(1) // PASSES) * BC + tl.arange(0, BC)
    group = tl.program_id(2) // blocks
    o = (tl.program_id(2) % blocks) * BO + tl.arange(0, BO)
    cw, ow = c, o
    if WIDE:
        cw, ow = c.to(tl.int64), o.to(tl.int64)
    along = tl.cdiv(M, BJ)
    tiles = rows * along
    a0 = tl.zeros((BC, BO), tl.float32)
    a1 = a0
    a2 = a0
    d0 = tl.zeros((BC, BJ), tl.float32)
    d1 = d0
    d2 = d0
    for tile in range(tl.program_id(0), tiles * batches, tl.num_programs(0)):
        batch = (tile // tiles).to(tl.int64)
        row = (tile % tiles) // along
        j = (tile % along) * BJ + tl.arange(0, BJ)
        first, last = tl.load(indptr + row), tl.load(indptr + row + 1)
        if WIDE:
            first, last = first.to(tl.int64), last.to(tl.int64)
        place = tl.load(base + row) + tl.load(stride + row) * j
        near_x = x + (batch * groups + group) * C * Q
        z0, z1, z2 = ring_tile(
            near_x, table, source, step, shift, first, last, j, cw, k, M, Q, C, KP, N, BC, BJ
        )
        if MODE == MIX:
            at = g + (batch * groups + group) * O * P + place[:, None] + (ow * P)[None, :]
            near = tl.load(at, mask=(j < M)[:, None] & (o < O)[None, :], other=0.0)
            a0 = tl.dot(z0.to(near.dtype), near, a0, input_precision=PRECISION)
            if N > 1:
                a1 = tl.dot(z1.to(near.dtype), near, a1, input_precision=PRECISION)
            if N > 2:
                a2 = tl.dot(z2.to(near.dtype), near, a2, input_precision=PRECISION)
        else:
            at = g + batch * C * P + (cw * P)[:, None] + place[None, :]
            near = tl.load(at, mask=(c < C)[:, None] & (j < M)[None, :], other=0.0).to(tl.float32)
            d0 += z0 * near
            if N > 1:
                d1 += z1 * near
            if N > 2:
                d2 += z2 * near
    if MODE == MIX:
        sums += (tl.program_id(0).to(tl.int64) * groups + group) * KP * C * O
        put(sums, a0, k, c, o, C, O)
        if N > 1:
            put(sums, a1, k + 1, c, o, C, O)
        if N > 2:
            put(sums, a2, k + 2, c, o, C, O)
    else:
        sums += (tl.program_id(0).to(tl.int64) * KP + k) * C + c
        tl.store(sums, tl.sum(d0, 1), mask=c < C)
        if N > 1:
            tl.store(sums + C, tl.sum(d1, 1), mask=c < C)
        if N > 2:
            tl.store(sums + 2 * C, tl.sum(d2, 1), mask=c < C)

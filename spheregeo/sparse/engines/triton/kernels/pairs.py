"""Sums over pairs of a small matrix times a row of features: couplings, matrices of rows, tangent fields.

A pair e from source s to target i has a matrix A_e of F functions by D components for one block of the source, row-major, and
weights W_e: none, one a head (SHARED), or one a channel (CHANNEL). Functions lie anywhere in the result: ``place`` (F, 4) has of
each its first number, the step from target to target and from head to head, and its first column of weights. VECTOR: all of
these are multiples of four, so that 16 bytes go at once.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

NONE = tl.constexpr(0)
SHARED = tl.constexpr(1)
CHANNEL = tl.constexpr(2)


@triton.jit
def pairs_sum(
    x,
    a,
    w,
    z,
    place,
    indptr,
    source,
    row_of,
    x_row,
    x_step,
    a_row,
    w_row,
    C,
    row0,
    first,
    last,
    F: tl.constexpr,
    D: tl.constexpr,
    HEADS: tl.constexpr,
    KIND: tl.constexpr,
    VECTOR: tl.constexpr,
    MAPPED: tl.constexpr,
    AGAIN: tl.constexpr,
    BF: tl.constexpr,
    BC: tl.constexpr,
):
    """z_i[h, f, c] = sum of W_e A_e[f, m] x_s[m, c] over the pairs first to last - 1 that have target i.

    A program: one target, BC channels, BF functions of a head. A is read at pair e - first, or at row_of[e] (MAPPED); weights of
    channels at e - first. AGAIN: some of a target's pairs came before, and their sum is there.
    """
    i = tl.program_id(0) + row0
    blocks: tl.constexpr = (F + BF - 1) // BF
    f = (tl.program_id(1) % blocks) * BF + tl.arange(0, BF)
    c = (tl.program_id(1) // blocks) * BC + tl.arange(0, BC)
    head = tl.program_id(2)
    real = f < F
    listed = c < C
    own = real[:, None] & listed[None, :]
    begin = tl.load(indptr + i).to(tl.int32)
    low = tl.maximum(begin, first)
    high = tl.minimum(tl.load(indptr + i + 1).to(tl.int32), last)
    at = tl.load(place + f * 4, mask=real, other=0) + i.to(tl.int64) * tl.load(
        place + f * 4 + 1, mask=real, other=0
    )
    at += head * tl.load(place + f * 4 + 2, mask=real, other=0)
    if VECTOR:
        at = tl.multiple_of(at, 4)
    goal = z + at[:, None] + c[None, :]
    acc = tl.zeros((BF, BC), tl.float32)
    if AGAIN:
        acc += tl.load(goal, mask=own & (begin < first) & (low < high), other=0.0)
    if KIND == CHANNEL:
        column = tl.load(place + f * 4 + 3, mask=real, other=0).to(tl.int32)
        if VECTOR:
            column = tl.multiple_of(column, 4)
    for e in range(low, high):
        near = x + tl.load(source + e).to(tl.int64) * x_row
        if MAPPED:
            matrix = a + tl.load(row_of + e).to(tl.int64) * a_row
        else:
            matrix = a + (e - first).to(tl.int64) * a_row
        p = tl.zeros((BF, BC), tl.float32)
        for m in tl.static_range(D):
            value = tl.load(near + m * x_step + c, mask=listed, other=0.0).to(tl.float32)
            p += tl.load(matrix + f * D + m, mask=real, other=0.0)[:, None] * value[None, :]
        if KIND == CHANNEL:
            p *= tl.load(
                w + (e - first).to(tl.int64) * w_row + column[:, None] + c[None, :], mask=own, other=0.0
            )
        if KIND == SHARED:
            p *= tl.load(w + ((e - first).to(tl.int64) + first) * HEADS + head)
        acc += p
    if AGAIN:
        own = own & (low < high)
    tl.store(goal, acc.to(z.dtype.element_ty), mask=own)


@triton.jit
def pairs_back(
    g,
    a,
    w,
    gx,
    place,
    indptr,
    order,
    target,
    x_row,
    x_step,
    a_row,
    w_row,
    C,
    first,
    last,
    F: tl.constexpr,
    D: tl.constexpr,
    HEADS: tl.constexpr,
    KIND: tl.constexpr,
    VECTOR: tl.constexpr,
    PLACED: tl.constexpr,
    AGAIN: tl.constexpr,
    BD: tl.constexpr,
    BC: tl.constexpr,
):
    """gx_j[m, c] = sum of A_e[f, m] W_e g_i[h, f, c] over the pairs e = order[first] to order[last - 1] that have source j.

    A program: one source, BC channels. With PLACED matrices and weights of channels are listed in that order from ``first`` on,
    else by pair.
    """
    j = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    m = tl.arange(0, BD)
    listed = c < C
    own = (m < D)[:, None] & listed[None, :]
    begin = tl.load(indptr + j).to(tl.int32)
    low = tl.maximum(begin, first)
    high = tl.minimum(tl.load(indptr + j + 1).to(tl.int32), last)
    goal = gx + j.to(tl.int64) * x_row + (m * x_step)[:, None] + c[None, :]
    acc = tl.zeros((BD, BC), tl.float32)
    if AGAIN:
        acc += tl.load(goal, mask=own & (begin < first) & (low < high), other=0.0)
    for n in range(low, high):
        e = tl.load(order + n).to(tl.int64)
        i = tl.load(target + e).to(tl.int64)
        spot = e
        if PLACED:
            spot = (n - first).to(tl.int64)
        for f in range(F):
            at = tl.load(place + f * 4) + i * tl.load(place + f * 4 + 1)
            step, column = tl.load(place + f * 4 + 2), tl.load(place + f * 4 + 3)
            if VECTOR:
                at, step, column = tl.multiple_of(at, 4), tl.multiple_of(step, 4), tl.multiple_of(column, 4)
            q = tl.zeros((BC,), tl.float32)
            for h in tl.static_range(HEADS):
                value = tl.load(g + at + h * step + c, mask=listed, other=0.0).to(tl.float32)
                if KIND == SHARED:
                    value *= tl.load(w + e * HEADS + h)
                q += value
            if KIND == CHANNEL:
                q *= tl.load(w + spot * w_row + column + c, mask=listed, other=0.0)
            acc += tl.load(a + spot * a_row + f * D + m, mask=m < D, other=0.0)[:, None] * q[None, :]
    if AGAIN:
        own = own & (low < high)
    tl.store(goal, acc.to(gx.dtype.element_ty), mask=own)


@triton.jit
def pairs_slope(
    x,
    g,
    w,
    ga,
    place,
    source,
    target,
    x_row,
    x_step,
    a_row,
    w_row,
    C,
    first,
    F: tl.constexpr,
    D: tl.constexpr,
    HEADS: tl.constexpr,
    KIND: tl.constexpr,
    VECTOR: tl.constexpr,
    BF: tl.constexpr,
    BC: tl.constexpr,
):
    """gA_e[f, m] = sum over channels and heads of W_e g_i[h, f, c] x_s[m, c], for pairs from ``first`` on.

    A program: one pair, BF functions; loops over channels.
    """
    n = tl.program_id(0).to(tl.int64)
    e = n + first
    f = tl.program_id(1) * BF + tl.arange(0, BF)
    real = f < F
    near = x + tl.load(source + e).to(tl.int64) * x_row
    at = tl.load(place + f * 4, mask=real, other=0) + tl.load(target + e).to(tl.int64) * tl.load(
        place + f * 4 + 1, mask=real, other=0
    )
    step = tl.load(place + f * 4 + 2, mask=real, other=0)
    column = tl.load(place + f * 4 + 3, mask=real, other=0)
    if VECTOR:
        at, step, column = tl.multiple_of(at, 4), tl.multiple_of(step, 4), tl.multiple_of(column, 4)
    for m in tl.static_range(D):
        acc = tl.zeros((BF, BC), tl.float32)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            own = real[:, None] & (c < C)[None, :]
            q = tl.zeros((BF, BC), tl.float32)
            for h in tl.static_range(HEADS):
                value = tl.load(g + (at + h * step)[:, None] + c[None, :], mask=own, other=0.0).to(tl.float32)
                if KIND == SHARED:
                    value *= tl.load(w + e * HEADS + h)
                q += value
            if KIND == CHANNEL:
                q *= tl.load(w + n * w_row + column[:, None] + c[None, :], mask=own, other=0.0)
            acc += q * tl.load(near + m * x_step + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
        tl.store(ga + n * a_row + f * D + m, tl.sum(acc, 1), mask=real)


@triton.jit
def pairs_weights(
    x,
    g,
    a,
    gw,
    place,
    paths,
    source,
    target,
    x_row,
    x_step,
    a_row,
    w_row,
    C,
    first,
    F: tl.constexpr,
    D: tl.constexpr,
    HEADS: tl.constexpr,
    KIND: tl.constexpr,
    VECTOR: tl.constexpr,
    BC: tl.constexpr,
):
    """gW_e: for pairs from ``first`` on, the sums over those functions that share a weight of g_i[h, f, c] A_e[f, m] x_s[m, c].

    A program: one pair and, of CHANNEL, one path (its functions from paths[n, 0] to paths[n, 1] - 1) and BC channels; of SHARED
    one head, over all functions and channels.
    """
    n = tl.program_id(0).to(tl.int64)
    e = n + first
    near = x + tl.load(source + e).to(tl.int64) * x_row
    i = tl.load(target + e).to(tl.int64)
    matrix = a + n * a_row
    if KIND == CHANNEL:
        c = tl.program_id(2) * BC + tl.arange(0, BC)
        begin = tl.load(paths + tl.program_id(1) * 2)
        acc = tl.zeros((BC,), tl.float32)
        for f in range(begin, tl.load(paths + tl.program_id(1) * 2 + 1)):
            p = tl.zeros((BC,), tl.float32)
            for m in tl.static_range(D):
                p += tl.load(matrix + f * D + m) * tl.load(near + m * x_step + c, mask=c < C, other=0.0).to(
                    tl.float32
                )
            at = tl.load(place + f * 4) + i * tl.load(place + f * 4 + 1)
            if VECTOR:
                at = tl.multiple_of(at, 4)
            acc += p * tl.load(g + at + c, mask=c < C, other=0.0).to(tl.float32)
        tl.store(gw + n * w_row + tl.load(place + begin * 4 + 3) + c, acc, mask=c < C)
    else:
        head = tl.program_id(1)
        acc = tl.zeros((BC,), tl.float32)
        for f in range(F):
            at = tl.load(place + f * 4) + i * tl.load(place + f * 4 + 1) + head * tl.load(place + f * 4 + 2)
            if VECTOR:
                at = tl.multiple_of(at, 4)
            for c0 in range(0, C, BC):
                c = c0 + tl.arange(0, BC)
                p = tl.zeros((BC,), tl.float32)
                for m in tl.static_range(D):
                    p += tl.load(matrix + f * D + m) * tl.load(
                        near + m * x_step + c, mask=c < C, other=0.0
                    ).to(tl.float32)
                acc += p * tl.load(g + at + c, mask=c < C, other=0.0).to(tl.float32)
        tl.store(gw + e * HEADS + head, tl.sum(acc, 0))

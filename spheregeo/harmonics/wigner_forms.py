r"""Wigner matrices of unit quaternions, without a pole, in a closed form whose only recurrence is Jacobi's in l.

With A = w + iy, B = x + iz and t = |A|² − |B|² every entry of D^l is, for orders row, col ≥ 0, d = |row − col|, s = row + col,
a real or imaginary part of conj(A)^s B^d P_k^{(d,s)}(t) ± conj(A)^d B^s P_k^{(s,d)}(t), k = l − max(row, col), up to a
constant: a polynomial in the quaternion. Degrees 0 … lmax lie packed in one row a rotation; degree l begins at
l(4l² − 1)/3, row by row.
Also here: products with the generators of rotations, which are all that derivatives need.
Reference: Varshalovich, Moskalev & Khersonskii 1988, §4.3 (Jacobi form); real basis and signs checked against e3nn.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.constants import made
from spheregeo.harmonics.clebsch_gordan import rotation_generators


def packed_size(lmax: int) -> int:
    """Σ_{l ≤ lmax} (2l + 1)²."""
    return (lmax + 1) * (4 * (lmax + 1) ** 2 - 1) // 3


def packed_degree(size: int) -> int:
    """The lmax whose packed matrices have ``size`` numbers. Raises: ValueError if there is none."""
    lmax = 0
    while packed_size(lmax) < size:
        lmax += 1
    if packed_size(lmax) != size:
        raise ValueError(f"packed matrices have {size} numbers; expected Σ (2l + 1)²: 1, 10, 35, 84, 165, …")
    return lmax


@cache
def jacobi_tables(lmax: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """n P at k = 0, (row, col), and a, b, c of (n P)_{k+1} = (a t + b)(n P)_k − c (n P)_{k−1}, indexed (l, row, col), col ≤ row.

    n = √(k! (k + d + s)! / ((k + d)! (k + s)!)), which makes the matrices orthogonal.
    """
    first = np.zeros((lmax + 1, lmax + 1))
    a, b, c = (np.zeros((lmax + 1,) * 3) for _ in range(3))
    for row in range(lmax + 1):
        for col in range(row + 1):
            d, s = row - col, row + col
            total = d + s
            first[row, col] = math.sqrt(math.comb(total, d))
            before = 0.0
            for k in range(lmax - row):
                ratio = math.sqrt((k + 1) * (k + total + 1) / ((k + d + 1) * (k + s + 1)))
                at = row + k + 1, row, col
                if k == 0:
                    a[at], b[at] = (total + 2) / 2 * ratio, (d - s) / 2 * ratio
                else:
                    scale = ratio * (2 * k + total + 1) / (2 * (k + 1) * (k + total + 1))
                    a[at] = scale * (2 * k + total + 2)
                    b[at] = scale * (d * d - s * s) / (2 * k + total)
                    c[at] = (
                        ratio * before * (k + d) * (k + s) * (2 * k + total + 2)
                        / ((k + 1) * (k + total + 1) * (2 * k + total))
                    )  # fmt: skip
                before = ratio
    return first, a, b, c


@cache
def generator_entries(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Entries above the diagonal of the generators of degrees ≤ lmax: (axis, offset of row i, of row j, 2l + 1), and values."""
    entries, values = [], []
    for degree in range(1, lmax + 1):
        generators = rotation_generators(degree).numpy()
        begin, size = packed_size(degree - 1), 2 * degree + 1
        for i in range(size):
            for j in range(i + 1, size):
                for axis in range(3):
                    if generators[axis, i, j]:
                        entries.append((axis, begin + i * size, begin + j * size, size))
                        values.append(generators[axis, i, j])
    return np.array(entries, dtype=np.int64).reshape(-1, 4), np.array(values)


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


def packed_matrices(quaternions: Tensor, lmax: int, dtype: torch.dtype) -> Tensor:
    """Unit quaternions (N, 4), float64 -> (N, Σ(2l + 1)²) of ``dtype``, compiled on the CPU. No derivative."""
    if quaternions.device.type != "cpu":
        return plain_matrices(quaternions.to(dtype), lmax)
    from spheregeo.harmonics.compiled.wigner import matrices
    from spheregeo.jit.threads import in_parts

    out = quaternions.new_empty((len(quaternions), packed_size(lmax)), dtype=dtype)
    q = _array(quaternions)
    in_parts(matrices, len(q), out.shape[1], q, lmax, *jacobi_tables(lmax), out.numpy())
    return out


def torque(left: Tensor, right: Tensor) -> Tensor:
    """Σ_l ⟨left^l, 𝒳_k right^l⟩ for k = x, y, z: packed (N, Σ(2l + 1)²) twice -> (N, 3)."""
    lmax = packed_degree(left.shape[1])
    if left.device.type != "cpu":
        return plain_torque(left, right)
    from spheregeo.harmonics.compiled.wigner import torque as kernel
    from spheregeo.jit.threads import in_parts

    entries, values = generator_entries(lmax)
    g, d, out = _array(left), _array(right), left.new_empty(len(left), 3)
    in_parts(kernel, len(g), left.shape[1], g, entries, values.astype(g.dtype), d, out.numpy())
    return out


def turn(vectors: Tensor, right: Tensor) -> Tensor:
    """Σ_k vectors_k 𝒳_k right^l for every degree: (N, 3) and packed (N, Σ(2l + 1)²) -> packed."""
    lmax = packed_degree(right.shape[1])
    if right.device.type != "cpu":
        return plain_turn(vectors, right)
    from spheregeo.harmonics.compiled.wigner import turn as kernel
    from spheregeo.jit.threads import in_parts

    entries, values = generator_entries(lmax)
    v, d, out = _array(vectors), _array(right), right.new_empty(right.shape)
    in_parts(kernel, len(v), right.shape[1], v, entries, values.astype(d.dtype), d, out.numpy())
    return out


@cache
def _entry_tables(lmax: int) -> dict[str, np.ndarray]:
    """What :func:`plain_matrices` gathers: pairs row ≥ col of orders, n in all, and where each packed entry comes from.

    ``a``, ``b``, ``c`` (lmax, 2n) take both Jacobi polynomials of each pair from one degree to the next, from ``first`` on;
    ``left`` and ``right`` name the powers whose products are the 4n angular parts. Entry e of the packed matrices is
    x[e] F[f[e]] parts[at_x[e]] + y[e] F[g[e]] parts[at_y[e]].
    """
    start, a, b, c = jacobi_tables(lmax)
    row, col = np.tril_indices(lmax + 1)
    n, d, s = len(row), row - col, row + col
    scale = np.where((col == 0) & (row > 0), math.sqrt(2), 1.0)
    steps = np.zeros((3, lmax, 2 * n))
    for k in range(lmax):
        pair = np.nonzero(row + k < lmax)[0]
        at = row[pair] + k + 1, row[pair], col[pair]
        for table, values, sign in zip(steps, (a, b, c), (1, -1, 1), strict=True):
            table[k, pair], table[k, n + pair] = values[at], sign * values[at]
    even, keep = 1.0 - 2 * (d % 2), np.where(col > 0, 1.0 - 2 * (col % 2), 0.0)
    size = packed_size(lmax)
    x, y = np.zeros(size), np.zeros(size)
    f, at_x, at_y = (np.zeros(size, dtype=np.int64) for _ in range(3))
    for degree in range(lmax + 1):
        pair = np.arange((degree + 1) * (degree + 2) // 2)
        begin, width = packed_size(degree - 1) if degree else 0, 2 * degree + 1
        centre = begin + degree * width + degree
        for turned, (i, j) in enumerate(((row[pair], col[pair]), (col[pair], row[pair]))):
            factor = even[pair] if turned else np.ones(len(pair))
            imaginary = -1.0 if turned else 1.0  # the second product is conjugated
            # where an order is zero two of the four places coincide: the right one is written last
            for i_sign, j_sign, part, of_x, of_y in (
                (-1, -1, 0, 1, -1), (-1, 1, 1, -1, -1), (1, -1, 1, 1, -1), (1, 1, 0, 1, 1),
            ):  # fmt: skip
                there = ((i_sign > 0) | (i > 0)) & ((j_sign > 0) | (j > 0))
                place = (centre + i_sign * i * width + j_sign * j)[there]
                x[place] = (of_x * factor)[there]
                y[place] = (of_y * factor * keep[pair] * (imaginary if part else 1.0))[there]
                f[place] = ((degree - row[pair]) * 2 * n + pair)[there]
                at_x[place] = (2 * (turned * n + pair) + part)[there]
                at_y[place] = (2 * ((2 + turned) * n + pair) + part)[there]
    left = 3 * np.concatenate([s, s, d, d])
    right = np.concatenate([3 * d + 1, 3 * d + 2, 3 * s + 1, 3 * s + 2])
    first = np.tile(start[row, col] * scale, 2)
    return {
        "first": first, "a": steps[0], "b": steps[1], "c": steps[2], "x": x, "y": y,
        "f": f, "g": f + n, "at_x": at_x, "at_y": at_y, "left": left, "right": right,
    }  # fmt: skip


def plain_matrices(quaternions: Tensor, lmax: int) -> Tensor:
    """The same in torch operations, all degrees at once: the twin, and the path of other devices."""

    def table(name: str) -> Tensor:
        numbers = _entry_tables(lmax)[name]
        dtype = quaternions.dtype if numbers.dtype == np.float64 else torch.int64
        return made(("wigner", lmax, name), lambda: torch.from_numpy(numbers), quaternions, dtype)

    w, x, y, z = quaternions.unbind(-1)
    t = (w * w + y * y) - (x * x + z * z)
    # powers of conj(A), B and conj(B)
    one = torch.complex(torch.stack([w, x, x]), torch.stack([-y, z, -z]))
    powers = torch.stack([torch.ones_like(one), one])
    while powers.shape[0] <= 2 * lmax:
        powers = torch.cat([powers, powers[1:] * powers[-1]])
    powers = powers.flatten(0, 1)
    products = powers.index_select(0, table("left")) * powers.index_select(0, table("right"))
    parts = torch.view_as_real(products).transpose(1, 2).flatten(0, 1)  # real and imaginary in turn
    before, last = None, table("first")[:, None].expand(-1, t.shape[0])
    a, b, c = (table(name)[:, :, None] for name in "abc")
    levels = [last]
    for k in range(lmax):
        following = torch.addcmul(b[k], a[k], t) * last
        if before is not None:
            following = torch.addcmul(following, c[k], before, value=-1)
        before, last = last, following
        levels.append(last)
    functions = torch.cat(levels)
    first = functions.index_select(0, table("f")) * parts.index_select(0, table("at_x"))
    second = functions.index_select(0, table("g")) * parts.index_select(0, table("at_y"))
    return torch.addcmul(first * table("x")[:, None], second, table("y")[:, None]).T.contiguous()


def blocks(packed: Tensor) -> list[Tensor]:
    """Views (..., 2l + 1, 2l + 1) of packed (..., Σ(2l + 1)²), l = 0 … lmax."""
    lmax = packed_degree(packed.shape[-1])
    sizes = [(2 * degree + 1) ** 2 for degree in range(lmax + 1)]
    return [
        part.unflatten(-1, (2 * degree + 1, 2 * degree + 1))
        for degree, part in enumerate(packed.split(sizes, -1))
    ]


def _generators(degree: int, like: Tensor) -> Tensor:
    return made(("generators", degree), lambda: rotation_generators(degree), like, like.dtype)


def plain_torque(left: Tensor, right: Tensor) -> Tensor:
    """The same in torch operations."""
    parts = []
    for degree, (g, d) in enumerate(zip(blocks(left), blocks(right), strict=True)):
        generators = _generators(degree, g)
        parts.append(torch.einsum("kab,nab->nk", generators, g @ d.transpose(1, 2)))
    return torch.stack(parts).sum(0)


def plain_turn(vectors: Tensor, right: Tensor) -> Tensor:
    """The same in torch operations."""
    parts = []
    for degree, d in enumerate(blocks(right)):
        generators = _generators(degree, d)
        parts.append((torch.einsum("nk,kab->nab", vectors, generators) @ d).flatten(1))
    return torch.cat(parts, 1)

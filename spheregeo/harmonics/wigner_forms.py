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


def plain_matrices(quaternions: Tensor, lmax: int) -> Tensor:
    """The same in torch operations, all orders of a degree at once: the twin, and the path of other devices."""
    first, a, b, c = (torch.from_numpy(table).to(quaternions) for table in jacobi_tables(lmax))
    w, x, y, z = quaternions.unbind(-1)
    t = (w * w + y * y) - (x * x + z * z)
    big_a, big_b = _powers(w, y, 2 * lmax), _powers(x, z, 2 * lmax)  # (2, 2 lmax + 1, N): real, imaginary
    # pairs row ≥ col ordered by row, so that those of degree l are the first (l + 1)(l + 2)/2
    row, col = torch.tril_indices(lmax + 1, lmax + 1, device=quaternions.device)
    d, s = row - col, row + col
    even, sign = (1 - 2 * (d % 2))[:, None].to(t), (1 - 2 * (col % 2))[:, None].to(t)
    scale = ((col == 0) & (row > 0)).to(t) * (math.sqrt(2) - 1) + 1
    p, q = big_a[0][s], -big_a[1][s]
    u, v = big_b[0][d], big_b[1][d]
    cosines = [p * u - q * v, p * v + q * u, even * (p * u + q * v), even * (q * u - p * v)]
    p, q, u, v = big_a[0][d], big_a[1][d], big_b[0][s], big_b[1][s]
    sines = [p * u + q * v, p * v - q * u, even * (p * u - q * v), even * (p * v + q * u)]
    keep = (col > 0).to(t)[:, None] * sign  # the second product is absent where an order is 0
    sines = [keep * value for value in sines]
    out = []
    f = g = f0 = g0 = t.new_empty(0, len(t))
    for degree in range(lmax + 1):
        n = degree * (degree + 1) // 2
        fresh = (first[degree, : degree + 1] * scale[n : n + degree + 1])[:, None].expand(-1, len(t))
        r, k = row[:n], col[:n]
        ca, cb, cc = a[degree, r, k, None], b[degree, r, k, None], c[degree, r, k, None]
        old_f, old_g = (torch.cat([v, v.new_zeros(n - len(v), len(t))]) for v in (f0, g0))
        f0, g0 = f, g
        f = torch.cat([(ca * t + cb) * f - cc * old_f, fresh])
        g = torch.cat([(ca * t - cb) * g - cc * old_g, fresh])
        n += degree + 1
        pr, pi, mr, mi = (f * value[:n] for value in cosines)
        qr, qi, nr, ni = (g * value[:n] for value in sines)
        r, k, size = row[:n], col[:n], 2 * degree + 1
        matrix = t.new_empty(size * size, len(t))
        centre = degree * size + degree
        for i, j, (xr, xi, yr, yi) in ((r, k, (pr, pi, qr, qi)), (k, r, (mr, mi, nr, ni))):
            # where an order is zero two of the four places coincide: the right one is written last
            for i_sign, j_sign, value in (
                (-1, -1, xr - yr), (-1, 1, -(xi + yi)), (1, -1, xi - yi), (1, 1, xr + yr),
            ):  # fmt: skip
                there = (i_sign > 0) | (i > 0)
                there = there & ((j_sign > 0) | (j > 0))
                matrix[centre + i_sign * i[there] * size + j_sign * j[there]] = value[there]
        out.append(matrix)
    return torch.cat(out).T.contiguous()


def _powers(real: Tensor, imaginary: Tensor, top: int) -> Tensor:
    re, im = [torch.ones_like(real)], [torch.zeros_like(real)]
    for _ in range(top):
        u, v = re[-1], im[-1]
        re.append(u * real - v * imaginary)
        im.append(u * imaginary + v * real)
    return torch.stack([torch.stack(re), torch.stack(im)])


def blocks(packed: Tensor) -> list[Tensor]:
    """Views (..., 2l + 1, 2l + 1) of packed (..., Σ(2l + 1)²), l = 0 … lmax."""
    lmax = packed_degree(packed.shape[-1])
    sizes = [(2 * degree + 1) ** 2 for degree in range(lmax + 1)]
    return [
        part.unflatten(-1, (2 * degree + 1, 2 * degree + 1))
        for degree, part in enumerate(packed.split(sizes, -1))
    ]


def plain_torque(left: Tensor, right: Tensor) -> Tensor:
    """The same in torch operations."""
    parts = []
    for degree, (g, d) in enumerate(zip(blocks(left), blocks(right), strict=True)):
        generators = rotation_generators(degree).to(g)
        parts.append(torch.einsum("kab,nab->nk", generators, g @ d.transpose(1, 2)))
    return torch.stack(parts).sum(0)


def plain_turn(vectors: Tensor, right: Tensor) -> Tensor:
    """The same in torch operations."""
    parts = []
    for degree, d in enumerate(blocks(right)):
        generators = rotation_generators(degree).to(d)
        parts.append((torch.einsum("nk,kab->nab", vectors, generators) @ d).flatten(1))
    return torch.cat(parts, 1)

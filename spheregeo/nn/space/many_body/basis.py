r"""Symmetric products of irreps: for each degree ν and target L a basis of the equivariant polynomials of degree ν.

A polynomial of the components x_lm, l = 0 ... lmax, with values in an irrep L is a table of coefficients, one for each component
M and each monomial. Couplings of ν factors by Clebsch-Gordan coefficients, one after another over all degrees between, span all
of them; tables that agree with combinations of earlier ones are left out, the others made orthonormal, which fixes the basis.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from spheregeo.harmonics import clebsch_gordan

_RANK = 1e-6  # of a table's norm: less than that left beside the tables before means that it is one of their combinations


class ProductBasis(NamedTuple):
    """Equivariant polynomials of one degree and one target, as tables of coefficients that are mostly zero.

    Attributes:
        size: number of polynomials.
        monomials: (n, ν) ascending components of each nonzero coefficient.
        rows: (n,) component M of the target, from 0.
        paths: (n,) the polynomial.
        values: (n,) the coefficient.
    """

    size: int
    monomials: np.ndarray
    rows: np.ndarray
    paths: np.ndarray
    values: np.ndarray


def _coupled(degrees: Sequence[int], target: int, lmax: int) -> Iterator[np.ndarray]:
    """Tensors (2 l1 + 1, ..., 2 lν + 1, 2 L + 1): the factors coupled in turn, by every chain of degrees between them."""
    if len(degrees) == 1:
        if degrees[0] == target:
            yield np.eye(2 * target + 1)
        return
    *first, last = degrees
    reach = sum(first)
    for between in range(abs(target - last), min(reach, target + last) + 1):
        table = np.asarray(clebsch_gordan(between, last, target))  # (between, last, target)
        for left in _coupled(first, between, lmax):
            yield np.tensordot(left, table, 1)


def _table(tensor: np.ndarray, degrees: Sequence[int]) -> dict[tuple[int, ...], np.ndarray]:
    """Coefficients (2 L + 1,) of each monomial, named by its ascending components."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    starts = [degree * degree for degree in degrees]
    for place in np.argwhere(np.abs(tensor).max(-1) > 1e-14):
        name = tuple(sorted(int(s + m) for s, m in zip(starts, place, strict=True)))
        value = tensor[tuple(place)]
        found[name] = found[name] + value if name in found else value.copy()
    return found


def _orderings(name: Sequence[int]) -> float:
    """Number of orders in which the factors of a monomial can be written."""
    return math.factorial(len(name)) / math.prod(math.factorial(k) for k in Counter(name).values())


@lru_cache(maxsize=64)
def product_basis(lmax: int, target: int, degree: int) -> ProductBasis:
    """The equivariant polynomials of a degree with values in a target irrep, natural parities throughout.

    They are orthonormal as symmetric tensors, times √(2 L + 1).

    Args:
        lmax: the variables are the components of l = 0 ... lmax, (lmax + 1)² of them, in e3nn's basis, with parity (-1)^l.
        target: L of the values, with parity (-1)^L.
        degree: ν.

    Example:
        >>> [product_basis(3, 0, degree).size for degree in (1, 2, 3)]
        [1, 4, 8]
    """
    monomials, rows, paths, values = (
        list[tuple[int, ...]](),
        list[int](),
        list[int](),
        list[float](),
    )
    count = 0
    for degrees in combinations_with_replacement(range(lmax + 1), degree):
        if (sum(degrees) + target) % 2:
            continue
        names: dict[tuple[int, ...], int] = {}
        every = [_table(tensor, degrees) for tensor in _coupled(degrees, target, lmax)]
        for table in every:
            for name in sorted(table):
                names.setdefault(name, len(names))
        kept: list[np.ndarray] = []
        spread = np.array([math.sqrt(1 / _orderings(name)) for name in names])
        for table in every:
            vector = np.zeros((len(names), 2 * target + 1))
            for name, value in table.items():
                vector[names[name]] = value
            vector *= spread[:, None]  # a monomial's coefficient is shared by its orders
            size = np.linalg.norm(vector)
            if size < 1e-12:
                continue
            for _ in range(2):  # twice is enough
                for other in kept:
                    vector = vector - other * np.vdot(other, vector)
            left = np.linalg.norm(vector)
            if left > _RANK * size:
                kept.append(vector / left)
        for vector in kept:
            table = vector / spread[:, None] * math.sqrt(2 * target + 1)
            for name, k in names.items():
                for m in np.flatnonzero(np.abs(table[k]) > 1e-12):
                    monomials.append(name)
                    rows.append(int(m))
                    paths.append(count)
                    values.append(float(table[k, m]))
            count += 1
    return ProductBasis(
        count,
        np.array(monomials, np.int64).reshape(-1, degree),
        np.array(rows, np.int64),
        np.array(paths, np.int64),
        np.array(values),
    )

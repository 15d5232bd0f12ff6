"""Quadrature tables in 40 digits: weights by solving the moment equations, not by the library's transforms.

Run ``python make.py [folder]`` to write ``rules.csv``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import mpmath as mp
import numpy as np

SIZES = (2, 3, 5, 8, 9, 16)
RULES = ("fejer1", "fejer2", "clenshaw_curtis", "gauss_legendre")


def nodes(rule: str, n: int) -> list[mp.mpf]:
    """Colatitudes, north to south."""
    if rule == "fejer1":
        return [(k + mp.mpf(1) / 2) * mp.pi / n for k in range(n)]
    if rule == "fejer2":
        return [k * mp.pi / (n + 1) for k in range(1, n + 1)]
    if rule == "clenshaw_curtis":
        return [k * mp.pi / (n - 1) for k in range(n)]
    guesses = -np.polynomial.legendre.leggauss(n)[0]  # descending
    return [mp.acos(mp.findroot(lambda x: mp.legendre(n, x), mp.mpf(float(g)))) for g in guesses]


def weights(theta: list[mp.mpf]) -> list[mp.mpf]:
    """The only weights that integrate cos(j theta) sin(theta) exactly for every j below the number of nodes."""
    n = len(theta)
    matrix = mp.matrix(n, n)
    moments = mp.matrix(n, 1)
    for j in range(n):
        for k in range(n):
            matrix[j, k] = mp.cos(j * theta[k])
        moments[j] = mp.mpf(0) if j % 2 else mp.mpf(-2) / (j * j - 1)
    return list(mp.lu_solve(matrix, moments))


def main(folder: Path) -> None:
    """Write rules.csv into ``folder``."""
    mp.mp.dps = 40
    with open(folder / "rules.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["rule", "n", "k", "colatitude", "weight"])
        for rule in RULES:
            for n in SIZES:
                theta = nodes(rule, n)
                for k, (t, w) in enumerate(zip(theta, weights(theta), strict=True)):
                    table.writerow([rule, n, k, mp.nstr(t, 20), mp.nstr(w, 20)])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

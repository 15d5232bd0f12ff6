"""Transports along great circles in 40 digits, by rotating a frame about the circle's axis: no library code.

Run ``python make.py [folder]`` to write ``pairs.csv``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import mpmath as mp

COUNT = 12  # points on the spiral
COLUMNS = ("colatitude_p", "longitude_p", "colatitude_q", "longitude_q", "distance", "angle", "transport")
Vector = list[mp.mpf]


def spiral() -> list[tuple[mp.mpf, mp.mpf]]:
    """Colatitude and longitude of points on a spiral, equal in height and a golden turn apart."""
    golden = (3 - mp.sqrt(5)) * mp.pi
    return [(mp.acos(1 - (2 * k + mp.mpf(1)) / COUNT), mp.fmod(golden * k, 2 * mp.pi)) for k in range(COUNT)]


def dot(a: Vector, b: Vector) -> mp.mpf:
    return mp.fsum(x * y for x, y in zip(a, b))


def cross(a: Vector, b: Vector) -> Vector:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def frame(theta: mp.mpf, phi: mp.mpf) -> tuple[Vector, Vector, Vector]:
    """Point, south and east."""
    ct, st, cp, sp = mp.cos(theta), mp.sin(theta), mp.cos(phi), mp.sin(phi)
    return [st * cp, st * sp, ct], [ct * cp, ct * sp, -st], [-sp, cp, mp.mpf(0)]


def main(folder: Path) -> None:
    """Write pairs.csv into ``folder``."""
    mp.mp.dps = 40
    points = spiral()
    with open(folder / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for here in points:
            p, south, east = frame(*here)
            for there in points:
                if here == there:
                    continue
                q, q_south, _ = frame(*there)
                axis = cross(q, p)  # rotating about it moves q along the great circle to p
                sine = mp.sqrt(dot(axis, axis))
                distance = mp.acos(dot(p, q))
                k = [x / sine for x in axis]
                c, s = mp.cos(distance), mp.sin(distance)
                turned = [
                    c * u + s * w + (1 - c) * dot(k, q_south) * z
                    for u, w, z in zip(q_south, cross(k, q_south), k)
                ]
                angle = mp.atan2(dot(q, east), dot(q, south))
                transport = mp.atan2(dot(turned, east), dot(turned, south))
                table.writerow([mp.nstr(x, 18) for x in (*here, *there, distance, angle, transport)])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

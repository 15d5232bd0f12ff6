"""OFF, the text format of Geomview (1996): counts, then a line for each vertex and each polygon."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import count_of, numbers, read_text, rows_of, whole_numbers

HEAD = re.compile(r"\s*(ST)?C?N?OFF(?=[\s\d]|$)")


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, and the polygons' corners end to end with the number of corners of each.

    Shape: (V, 3) float64, (C,) and (P,) int64.
    Raises: ValueError for counts that the lines do not bear out, and lines that are no vertices or polygons.
    """
    text = "\n".join(line.split("#", 1)[0] for line in read_text(path).split("\n"))
    head = HEAD.match(text)
    if head is None:
        raise ValueError("it does not begin with OFF")
    rows = rows_of(text[head.end() :])  # some files have the counts on the line of the keyword
    if not rows or len(rows[0]) < 2:
        raise ValueError("it has no line with the numbers of vertices and faces")
    vertices, faces = count_of(rows[0][0], "vertices"), count_of(rows[0][1], "faces")
    if len(rows) - 1 != vertices + faces:
        raise ValueError(
            f"its header says {vertices} vertices and {faces} faces, {vertices + faces} lines; {len(rows) - 1} follow"
        )
    places, polygons = rows[1 : 1 + vertices], rows[1 + vertices :]
    widths = {len(row) for row in places}
    if len(widths) > 1 or min(widths, default=3) < 3:
        raise ValueError(
            f"its vertices have {', '.join(map(str, sorted(widths)))} numbers a line; expected 3"
        )
    points = numbers([word for row in places for word in row[:3]]).reshape(-1, 3)
    sizes = whole_numbers([row[0] for row in polygons])
    for face, (size, row) in enumerate(zip(sizes.tolist(), polygons, strict=True)):
        if not 0 <= size < len(row):
            raise ValueError(f"face {face} says {size} corners; {len(row) - 1} numbers follow")
    corners = [word for size, row in zip(sizes.tolist(), polygons, strict=True) for word in row[1 : 1 + size]]
    return points, whole_numbers(corners), sizes

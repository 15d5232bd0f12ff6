"""STL, text or binary (3D Systems 1989): three corners a triangle, which nothing connects."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import decoded, numbers

TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
CORNER = ("vertex", "", "", "")  # and three numbers
FACET = ("facet", "normal", "", "", "", "outer", "loop", *CORNER, *CORNER, *CORNER, "endloop", "endfacet")
SOLID = re.compile(r"^[ \t]*solid\b[^\n]*$", re.MULTILINE)
ENDSOLID = re.compile(r"^[ \t]*endsolid\b[^\n]*$", re.MULTILINE)


def read_stl(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, and the triangles' corners end to end with the number of corners of each, which is three.

    Shape: (3 F, 3) float64, (3 F,) and (F,) int64.
    Raises: ValueError for a length that the header does not bear out, and text that is cut or no list of facets.
    """
    content = path.read_bytes()
    count = int.from_bytes(content[80:84], "little")
    if len(content) >= 84 and len(content) == 84 + TRIANGLE.itemsize * count:
        corners = np.frombuffer(content, TRIANGLE, count, 84)["corners"].reshape(-1, 3).astype(np.float64)
    else:
        if not decoded(content[:400]).lstrip().lower().startswith("solid"):
            raise ValueError(
                f"it is no text that begins with solid, and its header says {count} triangles, "
                f"{84 + TRIANGLE.itemsize * count} bytes in all, but it has {len(content)}"
            )
        corners = _corners(decoded(content).lower())
    return corners, np.arange(len(corners)), np.full(len(corners) // 3, 3)


def _corners(text: str) -> np.ndarray:
    begun, ended = SOLID.findall(text), ENDSOLID.findall(text)
    if len(begun) != len(ended) or not text.rstrip().rsplit("\n", 1)[-1].lstrip().startswith("endsolid"):
        raise ValueError("its last solid has no endsolid: the file is cut")
    words = ENDSOLID.sub("", SOLID.sub("", text)).split()
    facets, rest = divmod(len(words), len(FACET))
    for k, word in enumerate(FACET):
        wrong = set(words[k :: len(FACET)]) - {word} if word else ()
        if wrong:
            raise ValueError(f"it has {min(wrong)[:40]!r} where {word} belongs in a facet")
    if rest:
        raise ValueError(f"facet {facets} is cut")
    places = [words[k :: len(FACET)] for k, word in enumerate(FACET) if not word and k > FACET.index("loop")]
    return np.stack([numbers(column) for column in places], 1).reshape(-1, 3)

"""OBJ, the text format of Wavefront (1995): positions and faces alone, in the file's order.

trimesh splits vertices for textures, reorders faces by material, and counts negative indices from the last vertex of the file;
they count from the last vertex above their line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import STRANGE, numbers, read_text

NAME = re.compile(r"[A-Za-z_]\w*")
WHOLE = re.compile(r"[-+]?[0-9]{1,15}")
COMMENT = re.compile("#[^\n]*")
CONTINUED = ("v", "vn", "vt", "vp", "f", "fo", "l", "p")  # names of files and groups may end in a backslash


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, and the polygons' corners end to end with the number of corners of each.

    Shape: (V, 3) float64, (C,) and (P,) int64.
    Raises: ValueError that names the line of a vertex or face that is none.
    """
    places: list[str] = []
    flat: list[int] = []
    sizes: list[int] = []
    for number, line in _statements(read_text(path)):
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            if len(words) < 4:
                raise ValueError(f"line {number} has {len(words) - 1} coordinates; expected 3")
            places += words[1:4]
        elif words[0] in ("f", "fo"):
            above = len(places) // 3
            flat += [_vertex(word, above, number) for word in words[1:]]
            sizes.append(len(words) - 1)
        elif not NAME.fullmatch(words[0]):
            raise ValueError(f"line {number} begins with {words[0][:40]!r}, which is no statement of OBJ")
    return numbers(places).reshape(-1, 3), np.array(flat, np.int64), np.array(sizes, np.int64)


def _statements(text: str) -> Iterable[tuple[int, str]]:
    """Lines without comments, with the number of each; those that end in a backslash are joined to the next ones."""
    if "#" in text:
        text = COMMENT.sub("", text)
    lines = enumerate(text.split("\n"), 1)
    return _joined(lines) if "\\" in text else lines


def _joined(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    begun, start = "", 0
    for number, line in lines:
        line = line.rstrip()
        if line.endswith("\\") and (begun or line.split(maxsplit=1)[0] in CONTINUED):
            begun, start = begun + line[:-1] + " ", start or number
            continue
        yield start or number, begun + line
        begun, start = "", 0
    if begun:
        yield start, begun


def _vertex(word: str, above: int, line: int) -> int:
    """The vertex, counted from 0, of a corner such as 3, 3/1, 3//2 or -1/-1/-1; ``above`` vertices stand above the line."""
    index = word.split("/", 1)[0]
    if not WHOLE.fullmatch(index) or STRANGE.search(word):
        raise ValueError(f"line {line} has {word[:40]!r} as a corner; expected the number of a vertex")
    k = int(index)
    if k == 0 or k < -above:
        raise ValueError(
            f"line {line} names vertex {k}; expected 1 or more, or -1 to -{above} to count backwards"
        )
    return k - 1 if k > 0 else above + k

"""Tables of points in text: which columns are coordinates, normals, or nothing that a cloud has."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import numbers, read_text

__all__: list[str] = []

COLUMNS = "x y z nx ny nz"
UNIT = 0.05  # by so much the length of a written normal may differ from 1
HELP = "name the columns in a first line, or with columns='x y z nx ny nz' (--data.columns), '_' for those to leave out"
Columns = dict[str, np.ndarray]


def read_table(path: Path, columns: str = "", normals: bool = False, last: str = "") -> Columns:
    """The columns of a table of points in a text file, by name.

    Numbers stand apart by blanks, tabs, commas or semicolons; lines from # or // on are skipped. A first line of names (x y z
    nx ny nz) names the columns, a first line of one number counts the points. Without names three columns are coordinates; the
    other three of six are normals where they have unit length, colours where they lie in 0 to 1 or 0 to 255.

    Args:
        path: the file.
        columns: names of the columns, apart by blanks; empty for those of the first line, or those that fit.
        normals: the last three of six columns are normals of any length.
        last: name of the last of four or seven columns without names; empty where such tables are refused.

    Shape: (P,) float64 each.
    Raises: ValueError for what is no table of numbers, decimal commas, and columns whose meaning is not plain.
    """
    rows = [row for row in map(str.split, _apart(read_text(path)).split("\n")) if row]
    names = columns.split()
    if rows and all(
        re.fullmatch(r"(?!(nan|inf|infinity)$)[a-z_]\w*", word, re.IGNORECASE) for word in rows[0]
    ):
        if not {"x", "y", "z"} <= {word.lower() for word in rows[0]}:
            raise ValueError(
                f"is no table of numbers: it begins with {' '.join(rows[0])[:80]!r}; expected x y z"
            )
        names, rows = names or [word.lower() for word in rows[0]], rows[1:]
    elif len(rows) > 1 and len(rows[0]) == 1 and len(rows[1]) > 2:
        if rows[0][0] != str(len(rows) - 1):
            raise ValueError(
                f"says {rows[0][0][:40]} points in its first line but holds {len(rows) - 1}; is it complete?"
            )
        rows = rows[1:]
    widths = [len(row) for row in rows]
    if len(set(widths)) > 1:
        odd = next(k for k, width in enumerate(widths) if width != widths[0])
        raise ValueError(
            f"is no table of numbers: row 0 has {widths[0]} of them, row {odd} has {widths[odd]}; is it complete?"
        )
    if not rows:
        raise ValueError("holds no point; expected at least one line of x y z")
    try:
        table = numbers([word for row in rows for word in row]).reshape(len(rows), widths[0])
    except ValueError as error:
        raise ValueError(
            f"is no table of numbers: {error}; expected x y z, or {COLUMNS}, on every line"
        ) from error
    return _named(table, names, normals, last)


def _named(table: np.ndarray, names: list[str], normals: bool, last: str = "") -> Columns:
    width = table.shape[1]
    if last and not names and width in (4, 7):
        names = [*COLUMNS.split()[: width - 1], last]
    if names:
        if len(names) != width or not {"x", "y", "z"} <= set(names):
            raise ValueError(
                f"has {width} numbers a line but its columns are {' '.join(names)!r}; expected as many, x, y and z among them"
            )
        return {name: table[:, k] for k, name in enumerate(names)}
    if width < 3:
        raise ValueError(f"has {width} numbers a line; expected 3 (x y z) or 6 (with normals)")
    if width not in (3, 6):
        raise ValueError(f"has {width} numbers a line; expected 3 (x y z) or 6 (with normals), or {HELP}")
    known = COLUMNS.split()
    if width == 6 and not normals and not are_normals(table[:, 3:]):
        if not _are_colours(table[:, 3:]):
            raise ValueError(
                f"has 6 numbers a line, and the last three are neither normals of unit length nor colours; {HELP}"
            )
        known = known[:3]
    return {name: table[:, k] for k, name in enumerate(known[:width])}


def are_normals(values: np.ndarray) -> bool:
    """Whether rows have length 1, or 0 where a normal is not known, up to the decimals written. Shape: (P, 3)."""
    with np.errstate(over="ignore"):
        length = np.linalg.norm(values[np.isfinite(values).all(1)], axis=1)
    return bool(((np.abs(length - 1) < UNIT) | (length == 0)).all() and (length > 0).any())


def _are_colours(values: np.ndarray) -> bool:
    values = values[np.isfinite(values).all(1)]
    return bool(len(values)) and bool(values.min() >= 0 and values.max() <= 255)


def _apart(text: str) -> str:
    """The text without comments, its numbers apart by blanks. Raises: ValueError where commas are decimal."""
    text = re.sub(r"^[ \t]*//(?=[^\n]*[xX][\s,;]+[yY][\s,;]+[zZ])", "", text, count=1)  # names behind a slash
    text = re.sub(r"(#|//)[^\n]*", "", text)
    if "," in text:
        bare = re.search(r"[^\s,][ \t]+[^\s,]", text)  # two numbers without a comma between them
        both = "." not in text and re.search(r",[^\s,]", text) and re.search(r",[ \t]+[^\s,]", text)
        if bare or both or ";" in text:
            raise ValueError(
                "is no table of numbers: commas stand within numbers, or only between some; write decimal points, and one "
                "separator between numbers"
            )
    return text.replace(",", " ").replace(";", " ")

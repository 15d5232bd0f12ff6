"""Text as people's files have it: any line ends, a byte-order mark, tabs, comments; numbers that are numbers."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
STRANGE = re.compile(
    r"[^\t -^`-~]"
)  # no part of any number: control characters, the underscore, beyond ASCII


def decoded(content: bytes) -> str:
    """The text of a file with plain line ends; bytes beyond ASCII, which may stand in comments and names, cannot fail."""
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "latin-1")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def rows_of(text: str, comment: str = "") -> list[list[str]]:
    """The words of every line that has some, before its comment where the format has comments."""
    rows = ((line.split(comment, 1)[0] if comment else line).split() for line in text.split("\n"))
    return [row for row in rows if row]


def numbers(words: Sequence[str]) -> np.ndarray:
    """Words as float64. Raises: ValueError that names the first word that is no number."""
    found = STRANGE.search(" ".join(words))
    try:
        if found is None:
            return np.array([float(word) for word in words], np.float64)
    except ValueError:
        pass
    bad = next(word for word in words if STRANGE.search(word) or not _is_number(word))
    hint = "; write decimal points, not commas" if re.fullmatch(r"[-+]?\d+,\d+", bad) else ""
    raise ValueError(f"{bad[:40]!r} is no number{hint}")


def whole_numbers(words: Sequence[str]) -> np.ndarray:
    """Words as int64. Raises: ValueError that names the first word that is no whole number."""
    return as_whole(numbers(words))


def as_whole(values: np.ndarray) -> np.ndarray:
    """Values as int64. Raises: ValueError for fractions, NaN, and what int64 cannot hold."""
    if values.dtype.kind in "iub" and values.dtype != np.uint64:
        return values.astype(np.int64)
    bad = ~(np.abs(values.astype(np.float64)) < 2**53) | (values != np.round(values))
    if bad.any():
        raise ValueError(f"{values[bad][0]} stands where a whole number belongs")
    return values.astype(np.int64)


def count_of(word: str, what: str) -> int:
    """A count in a header. Raises: ValueError for anything but digits."""
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise ValueError(f"its header has {word[:40]!r} as the number of {what}; expected 0 or more")
    return int(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_text(path: Path) -> str:
    """The text of a file, see :func:`decoded`."""
    return decoded(path.read_bytes())

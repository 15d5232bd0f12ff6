"""Frames of extended XYZ files, checked against what their own lines say before ASE reads them."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.data.files import need_file, read_text
from spheregeo.files import reading

WHAT = "extended XYZ"
MAX_COMMENT = 1_000_000  # characters; ASE reads a comment line character by character
MAX_KEYS = 10_000  # characters; longer comment lines are not searched for keys that come twice
MAX_WIDTH = 10_000  # columns of one property
_COUNT = re.compile(r"\s*\d{1,9}\s*")
_PROPERTIES = re.compile(r"""(?:^|\s)Properties\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|(\S+))""")
_QUOTED = re.compile(r'"[^"]*"|\'[^\']*\'|\{[^}]*\}|\[[^\]]*\]')
_KEY = re.compile(r"(?:^|\s)([^\s=]+)\s*=")


def xyz_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The file itself, the .xyz and .extxyz files of a folder by name, or all of a list. Raises: FileNotFoundError."""
    if isinstance(source, (list, tuple)):
        return [path for part in source for path in xyz_files(part)]
    path = Path(source)  # type: ignore[arg-type]
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in (".xyz", ".extxyz") and p.is_file())
        if not found:
            raise FileNotFoundError(f"{path} holds no .xyz or .extxyz file; give a file or a folder of them")
        return found
    return [need_file(path, "an extended XYZ file")]


def read_frames(path: str | Path) -> list[Any]:
    """All frames of an extended XYZ file as ASE's Atoms.

    Each frame's number of atoms is compared with its lines, the columns that ``Properties`` states with the words of every line.

    Raises: FileNotFoundError; ValueError for other content, or a frame that holds less or more than it says.
    """
    path = need_file(path, "an extended XYZ file")
    text = read_text(path, f"an {WHAT} file")
    with reading(path, WHAT):
        frames = frames_of_text(text)
        if not frames:
            raise ValueError(f"{path} holds no molecule")
    return frames


def frames_of_text(text: str) -> list[Any]:
    """All frames of a text as ASE's Atoms. Raises: ValueError as :func:`read_frames`, without a file's name."""
    from ase.io.extxyz import read_xyz

    frames: list[Any] = []
    checked = checked_frames(text.split("\n"))
    source = read_xyz(io.StringIO("\n".join(line for frame in checked for line in frame) + "\n"), slice(None))
    for k in range(len(checked)):
        try:
            frames.append(next(source))
        except KeyError as error:
            raise ValueError(
                f"frame {k} has an atom {error}; expected the symbols of elements, such as C or Cl"
            ) from error
        except Exception as error:  # ASE raises errors of many kinds for words that are no numbers
            raise ValueError(f"frame {k}: {error or type(error).__name__}") from error
    return frames


def checked_frames(lines: Sequence[str]) -> list[list[str]]:
    """The lines of each frame, without blank lines between frames.

    Raises: ValueError for a frame that holds less, or other, than its first two lines say; the message has the frame's number.
    """
    frames: list[list[str]] = []
    at, end = 0, len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    while at < end:
        if not lines[at].strip():
            at += 1
            continue
        stop = _end_of_frame(lines, at, end, len(frames))
        frames.append([line.replace("\t", " ").rstrip() for line in lines[at:stop]])
        at = stop
    return frames


def _end_of_frame(lines: Sequence[str], at: int, end: int, k: int) -> int:
    """The line after frame k, which begins at line ``at``. Raises: ValueError as :func:`checked_frames`."""
    if not _COUNT.fullmatch(lines[at]):
        hint = f": does frame {k - 1} have more atoms than it says?" if k else ""
        raise ValueError(
            f"frame {k} begins with {_shown(lines[at])} (line {at + 1}); expected its number of atoms{hint}"
        )
    count = int(lines[at])
    if count < 1:
        raise ValueError(f"frame {k} has no atoms (line {at + 1}); expected at least one")
    if at + 2 + count > end:
        raise ValueError(
            f"frame {k} should have {count} atoms, but the file ends after {max(0, end - at - 2)}; is the file complete?"
        )
    comment = lines[at + 1]
    if len(comment) > MAX_COMMENT:
        raise ValueError(
            f"frame {k} has a comment line of {len(comment)} characters; expected at most {MAX_COMMENT}"
        )
    _check_keys(comment, k)
    width, exact = _width(comment, k)
    for number, line in enumerate(lines[at + 2 : at + 2 + count], at + 3):
        words = len(line.split())
        if words < width or (exact and words > width):
            raise ValueError(
                f"frame {k} has an atom of {words} words, {_shown(line)} (line {number}); expected "
                f"{width if exact else f'at least {width}'}, as its second line says"
            )
    stop = at + 2 + count
    while stop < end and lines[stop].lstrip().startswith("VEC"):
        stop += 1
    return stop


def _check_keys(comment: str, k: int) -> None:
    """Raises: ValueError where the comment line gives a key twice: which of its values holds is not said."""
    if len(comment) > MAX_KEYS:
        return
    keys = Counter(_KEY.findall(_QUOTED.sub('""', comment)))
    twice = sorted(key for key, times in keys.items() if times > 1)
    if twice:
        raise ValueError(f"frame {k} gives {', '.join(twice)} twice; expected each key once")


def _width(comment: str, k: int) -> tuple[int, bool]:
    """How many words a line of an atom has, and whether it may have no more: plain XYZ may carry further columns."""
    found = _PROPERTIES.search(comment)
    if found is None:
        return 4, False
    stated = next(group for group in found.groups() if group is not None)
    fields = stated.strip().split(":")
    kinds, widths = fields[1::3], fields[2::3]
    sound = len(fields) % 3 == 0 and all(kind in ("R", "I", "S", "L") for kind in kinds)
    if not sound or not all(width.isascii() and width.isdigit() for width in widths):
        raise ValueError(
            f"frame {k} has Properties={_shown(stated)}; expected triples NAME:TYPE:COLUMNS, such as species:S:1:pos:R:3"
        )
    if any(not 1 <= int(width[:9]) <= MAX_WIDTH for width in widths):
        raise ValueError(
            f"frame {k} has Properties={_shown(stated)}; expected 1 to {MAX_WIDTH} columns of each property"
        )
    return sum(map(int, widths)), True


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else f"{text[:77]}...")

"""Molecules of SDF and MOL files, V2000 and V3000: atoms, positions and titles, checked against the counts of each record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spheregeo.data.files import need_file
from spheregeo.data.molecules.files import atomic_number
from spheregeo.files import reading

MAX_LINE = 100_000  # characters
# What may follow the bonds of a V2000 record: properties, lists of atoms, data, or nothing.
_AFTER = re.compile(r"\s*$|[MAVGS]  |\s*>|[ \d]{3} [FT] ")
Record = tuple[np.ndarray, np.ndarray]


def _records(path: Path) -> Iterator[tuple[list[str], bool]]:
    """The lines of each record of an SDF file, and whether the record is closed by ``$$$$``."""
    record: list[str] = []
    # Titles may be in any encoding; atoms and numbers are in ASCII.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        while line := file.readline(MAX_LINE):
            if line.startswith("$$$$"):
                yield record, True
                record = []
            else:
                record.append(line.rstrip("\n"))
    if any(line.strip() for line in record):
        yield record, False


def read_sdf(path: str | Path) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Atomic numbers, positions (Å) and titles of the molecules of an SDF file, V2000 or V3000; bonds and properties are skipped.

    Raises: FileNotFoundError; ValueError for broken records, records that hold less or more than their counts, unknown elements.
    """
    path = need_file(path, "an SDF file")
    numbers, positions, titles = [], [], []
    with reading(path, "an SDF file"):
        for k, (record, closed) in enumerate(_records(path)):
            title = record[0].strip() if record else ""
            where = f"{path}: record {k}{f' ({title[:40]})' if title else ''}"
            if len(record) < 4:
                raise ValueError(
                    f"{where} has {len(record)} lines; expected a header of three and a line of counts"
                )
            version = "V3000" if "V3000" in record[3] else "V2000"
            try:
                ends = sum(line.startswith("M  END") for line in record)
                if ends > 1 or (not closed and not ends):
                    fault = "ends without M  END; is the file complete?" if not ends else "has several M  END"
                    raise ValueError(f"it {fault}")
                z, x = (_v3000 if version == "V3000" else _v2000)(record, where)
            except (ValueError, IndexError) as error:
                if str(path) in str(error):
                    raise
                raise ValueError(f"{where} cannot be read ({error}); expected a {version} record") from error
            numbers.append(z)
            positions.append(x)
            titles.append(title)
        if not numbers:
            raise ValueError(f"{path} holds no molecule")
    return numbers, positions, titles


def _count(text: str, what: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit():
        raise ValueError(f"its number of {what} is {text.strip()!r}")
    return int(text)


def _atom(line: str) -> tuple[list[float], str]:
    """Position and symbol of an atom line, in fixed columns or, where these hold no numbers, in words."""
    try:
        return [float(line[a : a + 10]) for a in (0, 10, 20)], line[31:34].strip()
    except ValueError:
        words = line.split()
        if len(words) < 4:
            raise ValueError(f"{line.strip()[:60]!r} is no line of an atom") from None
        return [float(word) for word in words[:3]], words[3]


def _v2000(record: list[str], where: str) -> Record:
    atoms, bonds = _count(record[3][:3], "atoms"), _count(record[3][3:6] or "0", "bonds")
    lines = record[4 : 4 + atoms]
    if len(lines) != atoms or any(line.startswith("M  END") for line in lines):
        raise ValueError("fewer atom lines than counted")
    for line in record[4 + atoms : 4 + atoms + bonds]:
        ends = line[:3].strip(), line[3:6].strip()
        if not all(end.isdigit() and 1 <= int(end) <= atoms for end in ends):
            raise ValueError(f"{line.strip()[:60]!r} is no bond between two of its {atoms} atoms")
    rest = record[4 + atoms + bonds :]
    if len(record) < 4 + atoms + bonds or (rest and not _AFTER.match(rest[0])):
        raise ValueError(
            f"{atoms} atoms and {bonds} bonds are counted, but then comes {rest[0].strip()[:60] if rest else 'the end'!r}"
        )
    pairs = [_atom(line) for line in lines]
    return _arrays([xyz for xyz, _ in pairs], [symbol for _, symbol in pairs], where)


def _v3000(record: list[str], where: str) -> Record:
    lines: list[str] = []
    joined = ""
    for line in record[4:]:
        if line.startswith("M  END"):
            break
        if not line.startswith("M  V30"):
            continue
        joined += line[6:].strip() + " "
        if joined.rstrip().endswith("-"):  # goes on in the next line
            joined = joined.rstrip()[:-1]
            continue
        lines.append(joined.strip())
        joined = ""
    counts = next((line.split() for line in lines if line.startswith("COUNTS")), None)
    if counts is None or len(counts) < 3:
        raise ValueError("it has no line of COUNTS")
    atoms, bonds = _block(lines, "ATOM"), _block(lines, "BOND")
    for what, block, said in (("atoms", atoms, counts[1]), ("bonds", bonds, counts[2])):
        if len(block) != _count(said, what):
            raise ValueError(f"{said} {what} are counted, but it holds {len(block)}")
    words = [line.split() for line in atoms]
    if any(len(found) < 5 for found in words):
        raise ValueError("an atom has fewer than five entries")
    return _arrays([[float(w) for w in found[2:5]] for found in words], [found[1] for found in words], where)


def _block(lines: list[str], name: str) -> list[str]:
    if f"BEGIN {name}" not in lines:
        return []
    first = lines.index(f"BEGIN {name}")
    return lines[first + 1 : lines.index(f"END {name}", first)]


def _arrays(positions: list[list[float]], symbols: list[str], where: str) -> Record:
    numbers = np.array([atomic_number(symbol, where) for symbol in symbols], np.int64)
    return numbers, np.array(positions, np.float64).reshape(-1, 3)

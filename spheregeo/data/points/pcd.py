"""PCD, version 0.7 (Rusu & Cousins 2011): a header of named columns and a table, text, binary or compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import count_of, decoded, numbers, rows_of

__all__ = ["read_pcd"]

Columns = dict[str, np.ndarray]
TYPES = {"F": "f", "I": "i", "U": "u"}
DATA = ("ascii", "binary", "binary_compressed")


def read_pcd(path: Path) -> Columns:
    """The named columns of a PCD file; those with several numbers a row are left out.

    Shape: (P,) float64 each.
    Raises: ValueError for a header that is none, or that the table does not bear out.
    """
    content = path.read_bytes()
    head, body = _head(content)
    missing = [name for name in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA") if not head.get(name)]
    if missing:
        raise ValueError(f"its header has no {' or '.join(missing)} line; is it complete?")
    names, kind = head["FIELDS"], head["DATA"][0].lower()
    counts = [count_of(word, "values of a column") for word in head.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(counts) == len(head["SIZE"]) == len(head["TYPE"]):
        raise ValueError("its lines FIELDS, SIZE, TYPE and COUNT differ in length")
    rows = count_of(head["POINTS"][0], "points")
    sides = [
        count_of(word[0], "rows and columns") for word in (head.get("WIDTH"), head.get("HEIGHT")) if word
    ]
    if len(sides) == 2 and sides[0] * sides[1] != rows:
        raise ValueError(f"its header says {rows} points but {sides[0]} columns of {sides[1]} rows")
    if kind not in DATA:
        raise ValueError(f"its header has DATA {kind}; expected {', '.join(DATA[:2])} or {DATA[2]}")
    types = [
        np.dtype(f"<{TYPES[letter.upper()]}{int(size)}")
        for letter, size in zip(head["TYPE"], head["SIZE"], strict=True)
    ]
    table = (
        _text(body, rows, counts) if kind == "ascii" else _binary(body, rows, types, counts, kind != "binary")
    )
    return {name: values for name, values, count in zip(names, table, counts, strict=True) if count == 1}


def _head(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    end = "\n" if b"\n" in content[:4096] else "\r"
    head: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in head:
        stop = content.find(end.encode(), at)
        if stop < 0:
            raise ValueError("its header has no DATA line; expected that of a PCD file")
        words = content[at:stop].decode("ascii", errors="replace").split("#")[0].split()
        at = stop + 1
        if words:
            head[words[0].upper()] = words[1:]
    return head, content[at:]


def _text(body: bytes, rows: int, counts: list[int]) -> list[np.ndarray]:
    lines = rows_of(decoded(body), "#")
    if len(lines) != rows or any(len(line) != sum(counts) for line in lines):
        widths = sorted({len(line) for line in lines})
        raise ValueError(
            f"its header says {rows} points of {sum(counts)} numbers; {len(lines)} lines of {widths} follow; is it complete?"
        )
    table = numbers([word for line in lines for word in line]).reshape(rows, sum(counts))
    return [table[:, at] for at in np.cumsum([0, *counts[:-1]])]


def _binary(
    body: bytes, rows: int, types: list[np.dtype], counts: list[int], compressed: bool
) -> list[np.ndarray]:
    widths = [kind.itemsize * count for kind, count in zip(types, counts, strict=True)]
    if compressed:  # column after column
        body = _unpacked(body, rows * sum(widths))
        starts = np.cumsum([0, *(rows * width for width in widths[:-1])])
        columns = [
            np.frombuffer(body, kind, rows * count, start).reshape(rows, count)
            for kind, count, start in zip(types, counts, starts, strict=True)
        ]
    else:
        if len(body) != rows * sum(widths) and body[rows * sum(widths) :].strip(b"\0\r\n "):
            raise ValueError(_other_length(rows * sum(widths), len(body)))
        if len(body) < rows * sum(widths):
            raise ValueError(_other_length(rows * sum(widths), len(body)))
        table = np.frombuffer(body[: rows * sum(widths)], np.uint8).reshape(rows, sum(widths))
        columns = [
            np.ascontiguousarray(table[:, start : start + width]).view(kind)
            for kind, width, start in zip(types, widths, np.cumsum([0, *widths[:-1]]), strict=True)
        ]
    return [column[:, 0].astype(np.float64) if column.shape[1] else np.zeros(rows) for column in columns]


def _unpacked(body: bytes, size: int) -> bytes:
    """What an LZF stream holds, whose lengths packed and unpacked stand before it (Lehmann 2000)."""
    packed, unpacked = (int.from_bytes(body[at : at + 4], "little") for at in (0, 4))
    if unpacked != size or packed > len(body) - 8:
        raise ValueError(
            f"its header asks for {size} bytes; {packed} packed ones that make {unpacked} are announced, "
            f"{max(0, len(body) - 8)} follow; is it complete?"
        )
    source, found, at = memoryview(body)[8 : 8 + packed], bytearray(), 0
    while at < packed:
        head = source[at]
        at += 1
        if head < 32:  # so many bytes and one as they stand
            found += source[at : at + head + 1]
            at += head + 1
            continue
        length = head >> 5
        if length == 7:
            length += source[at]
            at += 1
        back = len(found) - ((head & 31) << 8) - source[at] - 1
        at += 1
        if back < 0:
            raise ValueError("its compressed table is damaged")
        while length + 2 > len(found) - back:  # it repeats what it writes
            piece = found[back:]
            found += piece
            length -= len(piece)
        found += found[back : back + length + 2]
        if len(found) > size:
            break
    if len(found) != size:
        raise ValueError("its compressed table is damaged")
    return bytes(found)


def _other_length(said: int, held: int) -> str:
    return f"its header asks for {said} bytes; {held} follow; is it complete?"

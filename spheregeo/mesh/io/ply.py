"""PLY, text or binary (Turk 1994): a header of elements and their properties, then the elements' rows.

trimesh takes what it finds where the header asks for another number of rows, and reads no binary file of mixed polygons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spheregeo.mesh.io.text import as_whole, count_of, decoded, numbers, rows_of

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8",
    "float16": "f2", "float32": "f4", "float64": "f8",
}  # fmt: skip
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")
Ragged = tuple[np.ndarray, np.ndarray]  # values end to end, number of values in each row


@dataclass
class Element:
    """An element of the header, then its rows: columns of single numbers, and lists."""

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(
        default_factory=list
    )  # name, type, type of a list's length or ""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, Ragged] = field(default_factory=dict)


def read_ply(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns of the vertices by name, and the polygons' corners end to end with the number of corners of each.

    Shape: columns (V,) each; (C,) and (P,) int64.
    Raises: ValueError for a header that is none or that the rows do not bear out, and files without x, y and z.
    """
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    kind, elements, body = _head(content)
    if kind == "ascii":
        _read_rows(elements, rows_of(decoded(body)))
    else:
        _read_bytes(elements, body, FORMATS[kind])
    named = {element.name: element for element in elements}
    if "vertex" not in named or any(axis not in named["vertex"].columns for axis in "xyz"):
        raise ValueError("it has no vertices with x, y and z")
    if "tristrips" in named and named["tristrips"].count:
        raise ValueError("it has strips of triangles, which are not read; save it with faces")
    faces = named.get("face", Element("face", 0))
    lists = [faces.lists[name] for name in CORNERS if name in faces.lists]
    if faces.count and not lists:
        raise ValueError(f"its faces have no list {' or '.join(CORNERS)}")
    corners, sizes = lists[0] if lists else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    return named["vertex"].columns, as_whole(corners), sizes


def points_of(columns: dict[str, np.ndarray]) -> np.ndarray:
    """x, y and z of columns. Shape: (V, 3) float64."""
    return np.stack([columns[axis] for axis in "xyz"], 1).astype(np.float64)


def _head(content: bytes) -> tuple[str, list[Element], bytes]:
    """Format, elements without their rows, and what follows the header."""
    begin = re.match(rb"ply[ \t]*(\r\n|\n|\r)", content)
    if begin is None:
        raise ValueError("it does not begin with ply")
    end = re.search(rb"[\r\n]end_header[ \t]*" + begin[1], content)
    if end is None:
        raise ValueError("its header has no end_header")
    kind, elements = "", list[Element]()
    for words in rows_of(decoded(content[begin.end() : end.start()])):
        if words[0] == "format" and len(words) > 1 and words[1] in FORMATS:
            kind = words[1]
        elif words[0] == "element" and len(words) == 3:
            elements.append(Element(words[1], count_of(words[2], f"rows of {words[1]}")))
        elif (
            words[0] == "property"
            and elements
            and len(words) in (3, 5)
            and (words[1] == "list") == (len(words) == 5)
        ):
            if any(word not in TYPES for word in words[-2:0:-1] if word != "list"):
                raise ValueError(
                    f"its header has {' '.join(words)[:80]!r}; expected types such as float or uchar"
                )
            length = TYPES[words[2]] if words[1] == "list" else ""
            if length[:1] == "f":
                raise ValueError(
                    f"its header has a list of {words[2]} length; expected a type of whole numbers"
                )
            elements[-1].properties.append((words[-1], TYPES[words[-2]], length))
        elif words[0] not in ("comment", "obj_info"):
            raise ValueError(f"its header has {' '.join(words)[:80]!r}; expected format, element or property")
    if not kind:
        raise ValueError(f"its header names no format; expected one of {', '.join(FORMATS)}")
    for element in elements:
        names = [name for name, _, _ in element.properties]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"its element {element.name} has properties {names}; expected some, each once")
    if len({element.name for element in elements}) < len(elements):
        raise ValueError("its header names an element twice")
    return kind, elements, content[end.end() :]


def _read_rows(elements: list[Element], rows: list[list[str]]) -> None:
    """Fill elements from lines of text, one a row."""
    said = " and ".join(f"{element.count} {element.name}" for element in elements)
    if sum(element.count for element in elements) != len(rows):
        raise ValueError(f"its header says {said} rows; {len(rows)} lines follow")
    at = 0
    for element in elements:
        own = rows[at : at + element.count]
        at += element.count
        values = numbers([word for row in own for word in row])
        stop = np.cumsum([len(row) for row in own], dtype=np.int64)
        cursor = stop - np.array([len(row) for row in own], np.int64)
        for name, kind, length in element.properties:
            _check_rows(element, cursor < stop)
            if not length:
                element.columns[name], cursor = _of_type(values[cursor], kind), cursor + 1
                continue
            sizes = as_whole(values[cursor])
            _check_rows(element, (sizes >= 0) & (cursor + 1 + sizes <= stop))
            element.lists[name] = values[_ranges(cursor + 1, sizes, 1)], sizes
            cursor = cursor + 1 + sizes
        _check_rows(element, cursor == stop)


def _of_type(values: np.ndarray, kind: str) -> np.ndarray:
    """Values as a column of the header's type holds them: text may have more digits than float32."""
    with np.errstate(over="ignore"):
        return values.astype(kind) if kind[0] == "f" else values


def _check_rows(element: Element, sound: np.ndarray) -> None:
    if not sound.all():
        raise ValueError(
            f"row {int((~sound).argmax())} of {element.name} has not the numbers that the header asks for"
        )


def _ranges(start: np.ndarray, sizes: np.ndarray, step: int) -> np.ndarray:
    """start_i, start_i + step, ... of each row, sizes_i of them, end to end."""
    first = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    inside = np.arange(int(sizes.sum())) - np.repeat(first, sizes)
    return np.repeat(start, sizes) + step * inside


def _read_bytes(elements: list[Element], body: bytes, order: str) -> None:
    """Fill elements from binary rows."""
    at = 0
    for element in elements:
        smallest = sum(np.dtype(length or kind).itemsize for _, kind, length in element.properties)
        if element.count * smallest > len(body) - at:
            raise ValueError(
                f"its header says {element.count} rows of {element.name}, at least {element.count * smallest} bytes; "
                f"{len(body) - at} follow"
            )
        if element.count:
            at = _read_table(element, body, at, order)
    if body[at:].strip():
        raise ValueError(f"its header asks for {at} bytes; {len(body)} follow")


def _read_table(element: Element, body: bytes, at: int, order: str) -> int:
    """Rows that are all as long as the first one by numpy, others one after another; returns where they end."""
    sizes = [int(n[0]) for n in _walk(element, body, at, order, 1)[0]]
    fields = list[tuple[str, str, tuple[int, ...]]]()
    for k, (_, kind, length) in enumerate(element.properties):
        fields += [(f"n{k}", order + length, ())] if length else []
        fields.append((f"p{k}", order + kind, (sizes[k],) if length else ()))
    dtype = np.dtype(fields)
    if element.count * dtype.itemsize <= len(body) - at:
        table = np.frombuffer(body, dtype, element.count, at)
        listed = [k for k, (_, _, length) in enumerate(element.properties) if length]
        if all((table[f"n{k}"] == sizes[k]).all() for k in listed):
            for k, (name, _, length) in enumerate(element.properties):
                if length:
                    counts = np.full(element.count, sizes[k], np.int64)
                    element.lists[name] = table[f"p{k}"].reshape(-1), counts
                else:
                    element.columns[name] = table[f"p{k}"]
            return at + element.count * dtype.itemsize
    lengths, starts, end = _walk(element, body, at, order, element.count)
    held = np.frombuffer(body, np.uint8)
    for (name, kind, length), n, start in zip(element.properties, lengths, starts, strict=True):
        size = np.dtype(kind).itemsize
        where = _ranges(start, n, size)[:, None] + np.arange(size)
        values = held[where].view(order + kind).reshape(-1)
        if length:
            element.lists[name] = values, n
        else:
            element.columns[name] = values
    return end


def _walk(
    element: Element, body: bytes, at: int, order: str, count: int
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """How many values each property has in each row, where they begin, and where the rows end."""
    signs = {"<": "little", ">": "big"}
    counts = np.ones((len(element.properties), count), np.int64)
    starts = np.zeros_like(counts)
    for row in range(count):
        for k, (_, kind, length) in enumerate(element.properties):
            n = 1
            if length:
                size = int(length[1])
                n = int.from_bytes(body[at : at + size], signs[order], signed=length[0] == "i")  # type: ignore[arg-type]
                at += size
            counts[k, row], starts[k, row] = n, at
            at += n * int(kind[1])
            if n < 0 or at > len(body):
                raise ValueError(f"row {row} of {element.name} says {n} values; the file ends before them")
    return list(counts), list(starts), at

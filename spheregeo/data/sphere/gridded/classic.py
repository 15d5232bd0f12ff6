"""Headers of classic NetCDF files (CDF-1, 2 and 5), checked against the file's length before the library reads them.

The library believes the counts of a damaged header, works for long, and reads zeros beyond the end of a file that was cut.
Reference: The NetCDF Classic Format Specification, https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

from spheregeo.files import reading

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # bytes of each type
PADDING = 3


class _Variable(NamedTuple):
    name: str
    dims: tuple[int, ...]
    width: int
    begin: int


class _Header:
    """A reader of a header's fields that does not go beyond the end of the file."""

    def __init__(self, content: bytes, length: int) -> None:
        self.content, self.length, self.at = content, length, 4
        self.wide, self.far = content[3] == 5, content[3] in (2, 5)

    def number(self, wide: bool) -> int:
        form = ">q" if wide else ">i"
        (value,) = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def count(self, each: int) -> int:
        """A number of elements, each of at least so many bytes."""
        value = self.number(self.wide)
        if value < 0 or value * each > len(self.content) - self.at:
            raise ValueError(
                f"its header counts {value} entries at byte {self.at}, more than the file has room for"
            )
        return value

    def elements(self, each: int) -> int:
        self.number(False)  # what the list holds
        return self.count(each)

    def name(self) -> str:
        size = self.count(1)
        text = self.content[self.at : self.at + size].decode("utf-8", "replace")
        self.at += -(-size // 4) * 4
        return text

    def attributes(self) -> None:
        for _ in range(self.elements(8)):
            self.name()
            kind = self.number(False)
            if kind not in SIZES:
                raise ValueError(f"its header has an attribute of type {kind}; expected 1 ... 11")
            size = self.count(SIZES[kind]) * SIZES[kind]
            self.at += -(-size // 4) * 4

    def variable(self) -> _Variable:
        name = self.name()
        dims = tuple(self.number(self.wide) for _ in range(self.count(4)))
        self.attributes()
        kind = self.number(False)
        if kind not in SIZES:
            raise ValueError(f"its header says that {name} has type {kind}; expected 1 ... 11")
        self.number(self.wide)  # the stored size, which overflows in large files
        return _Variable(name, dims, SIZES[kind], self.number(self.far))


def check_classic(path: Path) -> None:
    """Compare the counts in a classic NetCDF header with the file; other files pass.

    Raises: ValueError naming the file when it holds less than its header says.
    """
    with reading(path, "NetCDF (it may be truncated)"):
        with open(path, "rb") as file:
            if file.read(3) != b"CDF" or file.read(1) not in (b"\x01", b"\x02", b"\x05"):
                return
            file.seek(0)
            length = path.stat().st_size
            header = _Header(file.read(min(length, 1 << 24)), length)
        records = header.number(header.wide)
        sizes = []
        for _ in range(header.elements(8)):
            header.name()
            sizes.append(header.number(header.wide))
        header.attributes()
        variables = [header.variable() for _ in range(header.elements(16))]
        _check_extent(variables, sizes, records, length)


def _check_extent(variables: list[_Variable], sizes: list[int], records: int, length: int) -> None:
    per_record = [v for v in variables if v.dims and sizes[v.dims[0]] == 0]
    steps = {v: math.prod(sizes[d] for d in v.dims[1:]) * v.width for v in per_record}
    # a record holds one step of each variable, padded to four bytes unless there is one variable alone
    record = sum(-(-step // 4) * 4 for step in steps.values()) if len(steps) > 1 else sum(steps.values())
    for variable in variables:
        if variable in steps:
            said = max(0, records - 1) * record + (steps[variable] if records > 0 else 0)
        else:
            said = math.prod(sizes[d] for d in variable.dims) * variable.width
        if said < 0 or variable.begin < 0 or variable.begin + said > length + PADDING:
            raise ValueError(
                f"its header says that {variable.name} ends at byte {variable.begin + said} but the file has {length}: "
                "copy it again"
            )

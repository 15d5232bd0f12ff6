"""Files of compressed fields: what wrote them, on which grid, the symbols, and a checksum over all.

===========  =====================  ============================================================
bytes        content                meaning
===========  =====================  ============================================================
4            ``SGC1``               kind and version of the file
8            digest                 of the model: its tables, its decoder, its units
1+           grid                   H, R (HEALPix nside, nested or ring), E (rows, columns), T (text)
1+, 1+       height, width          of the picture
1+           length                 of the symbols in bytes
length       symbols                as :class:`spheregeo.coding.SymbolWriter` writes them
4            CRC-32                 of everything before, little-endian
===========  =====================  ============================================================

Numbers take seven bits a byte, low ones first.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from spheregeo.coding.numbers import read_number, write_number
from spheregeo.files import reading, write_bytes

MAGIC = b"SGC1"
SUFFIX = ".sgc"
DIGEST = 8  # bytes


@dataclass(frozen=True)
class Compressed:
    """A compressed field.

    Args:
        digest: of the model, 8 bytes.
        grid: text of the grid of the field, as its repr.
        size: rows and columns of the picture.
        symbols: bytes of the latents.

    Raises: ValueError for a digest of another length.

    Example:
        >>> from spheregeo.coding import Compressed, pack, unpack
        >>> file = Compressed(b"12345678", "HEALPix(nside=8, order='nested')", (16, 32), b"symbols")
        >>> len(pack(file)), unpack(pack(file)) == file
        (28, True)
    """

    digest: bytes
    grid: str
    size: tuple[int, int]
    symbols: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST:
            raise ValueError(f"digest has {len(self.digest)} bytes; expected {DIGEST}")


_FORMS = {
    b"H": ("HEALPix(nside={}, order='nested')", 1),
    b"R": ("HEALPix(nside={}, order='ring')", 1),
    b"E": ("Equiangular(nlat={}, nlon={}, offset=0.0, poles=False)", 2),
}


def _short(grid: str) -> tuple[bytes, list[int], bytes]:
    """A grid's text as a letter, numbers, and the text itself where there is no shorter form."""
    for letter, (form, _) in _FORMS.items():
        found = re.fullmatch(re.escape(form).replace(r"\{\}", r"(\d+)"), grid)
        if found:
            return letter, [int(number) for number in found.groups()], b""
    text = grid.encode()
    return b"T", [len(text)], text


def pack(file: Compressed) -> bytes:
    """Return a compressed field as the bytes of a file.

    Args:
        file: the field.
    """
    letter, numbers, text = _short(file.grid)
    content = bytearray(MAGIC + file.digest + letter)
    for number in numbers:
        write_number(content, number)
    content += text
    for number in (*file.size, len(file.symbols)):
        write_number(content, number)
    content += file.symbols
    return bytes(content) + zlib.crc32(content).to_bytes(4, "little")


def unpack(content: bytes) -> Compressed:
    """Return the compressed field that the bytes of a file hold.

    Args:
        content: the bytes.

    Raises: ValueError for bytes that are none of these files, are cut off, or have changed since they were written.
    """
    if content[: len(MAGIC)] != MAGIC:
        if content[:3] == MAGIC[:3] and len(content) > 3:
            raise ValueError(
                f"the format has version {content[3:4]!r}; this version of spheregeo reads {MAGIC[3:]!r}"
            )
        raise ValueError(f"it begins with {content[:4]!r}; expected {MAGIC!r}")
    whole, check = content[:-4], content[-4:]
    try:
        if len(content) < len(MAGIC) + DIGEST + 4 or zlib.crc32(whole).to_bytes(4, "little") != check:
            raise ValueError("checksum")
        at = len(MAGIC) + DIGEST + 1
        letter = whole[at - 1 : at]
        if letter == b"T":
            length, at = read_number(whole, at)
            grid, at = whole[at : at + length].decode(), at + length
        else:
            form, count = _FORMS[letter]
            numbers = []
            for _ in range(count):
                number, at = read_number(whole, at)
                numbers.append(number)
            grid = form.format(*numbers)
        height, at = read_number(whole, at)
        width, at = read_number(whole, at)
        length, at = read_number(whole, at)
        if at + length != len(whole):
            raise ValueError("length")
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"its checksum does not fit its {len(content)} bytes: the file is cut off or damaged; copy it anew"
        ) from error
    return Compressed(whole[len(MAGIC) : len(MAGIC) + DIGEST], grid, (height, width), whole[at:])


def write_compressed(path: str | Path, file: Compressed) -> Path:
    """Write a compressed field to a file, which is whole or absent; returns the path.

    Args:
        path: the file.
        file: the field.
    """
    return write_bytes(path, pack(file))


def read_compressed(path: str | Path) -> Compressed:
    """Read a compressed field.

    Args:
        path: the file.

    Raises: FileNotFoundError; ValueError for a file that is none of these, is cut off or damaged, with its name.
    """
    with reading(path, "a compressed panorama"):
        return unpack(Path(path).read_bytes())

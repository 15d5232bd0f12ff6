"""Files of every domain: text and its lines, class lists, arrays of numbers. Images are in ``sphere/files.py``."""

from __future__ import annotations

import codecs
import math
import re
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from spheregeo.files import reading

__all__ = ["read_class_names"]

# Marks at the beginning of a text file that name its encoding; UTF-8 without one is the rule.
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


# "floor 128 64 0", "floor, 128, 64, 0" or "floor: (128, 64, 0)"
_COLOUR = re.compile(
    r"(?P<name>.*?\S)[\s,;:=]+[([]?(?P<r>\d{1,3})[\s,]+(?P<g>\d{1,3})[\s,]+(?P<b>\d{1,3})[)\]]?"
)


def need_file(path: str | Path, what: str) -> Path:
    """The path itself. Raises: FileNotFoundError when there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected {what} there")
    return path


def read_text(path: str | Path, what: str = "a text file") -> str:
    r"""The text of a file in UTF-8, or in UTF-16 with a mark, without that mark and with "\n" alone at the ends of lines.

    Args:
        path: the file.
        what: what the file was expected to be, with its article.

    Raises: FileNotFoundError; ValueError for another encoding, or bytes that are no text.
    """
    path = need_file(path, what)
    with reading(path, what):
        content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise ValueError(f"{path} is not {name} text ({error}); expected {what}: save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path} holds bytes of value 0; expected {what} as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, without blanks at their ends.

    Raises: FileNotFoundError; ValueError for another encoding.
    """
    return [line.strip() for line in read_text(path).splitlines()]


def read_stored(path: str | Path, what: str = "an array") -> np.ndarray | dict[str, np.ndarray]:
    """What an .npy file holds, or the arrays of an .npz file by name, of any type; nothing is unpickled.

    Args:
        path: the file.
        what: what it was expected to be, for the message.

    Raises: FileNotFoundError; ValueError for files that are torn, hold more or less than their headers say, or objects.
    """
    path = need_file(path, "an .npy or .npz file")
    # A file of our own: numpy leaves the one that it opens itself open when the archive is torn.
    with reading(path, what), open(path, "rb") as file:
        if file.read(2) != b"PK":
            return _whole_array(file, path.stat().st_size)
        with zipfile.ZipFile(file) as archive:
            arrays = {}
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        arrays[info.filename.removesuffix(".npy")] = _whole_array(member, info.file_size)
            return arrays


def _whole_array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array in a stream of ``size`` bytes, once its header fits them."""
    stream.seek(0)
    version = np.lib.format.read_magic(stream)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = head(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled; expected numbers")
    said, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if said != held:
        raise ValueError(
            f"its header asks for {said} bytes of shape {shape} but {held} follow; copy it again"
        )
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def read_array(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    """What an .npy file holds, or the arrays of numbers of an .npz file by name; nothing is unpickled.

    Raises: FileNotFoundError; ValueError for files that are truncated, no arrays, or hold no numbers.
    """
    content = read_stored(path)
    if isinstance(content, dict):
        return {name: array for name, array in content.items() if array.dtype.kind in "biuf"}
    if content.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds values of type {content.dtype}; expected real numbers")
    return content


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read the names of classes, one per line, index 0 first; blank lines and lines from # on are skipped.

    Args:
        path: a UTF-8 text file.

    Raises: FileNotFoundError; ValueError for no names, more than 255, or one that comes twice.
    """
    return read_class_table(path)[0]


def read_class_table(path: str | Path) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names of classes as :func:`read_class_names` reads them, and their colours, if lines end in three numbers: NAME R G B.

    Shape: names (K,); colours (K, 3) uint8, or None.
    Raises: FileNotFoundError; ValueError as :func:`read_class_names`, and for colours of some classes only, beyond 255, or alike.
    """
    path = need_file(path, "a text file with one class name a line, index 0 first")
    lines = (line.split("#")[0].strip() for line in read_lines(path))
    found = [(line, _COLOUR.fullmatch(line)) for line in lines if line]
    coloured = [match for _, match in found if match]
    if coloured and len(coloured) < len(found):
        bare = next(line for line, match in found if not match)
        raise ValueError(
            f"{path} gives colours to some classes but not to {bare!r}; expected NAME R G B in every line, or in none"
        )
    names = tuple(match["name"] if match else " ".join(line.split()) for line, match in found)
    if not names or len(names) > 255:
        raise ValueError(
            f"{path} holds {len(names)} class names; expected 1 to 255, one a line (index 255 is void)"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"{path} names a class twice; expected {len(names)} different names")
    if not coloured:
        return names, None
    colours = np.array([[int(match[k]) for k in "rgb"] for match in coloured])
    if colours.max() > 255 or len(np.unique(colours, axis=0)) < len(colours):
        raise ValueError(
            f"{path} has colours beyond 255, or one for two classes; expected one of its own each"
        )
    return names, colours.astype(np.uint8)

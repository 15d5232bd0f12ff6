"""Files of every domain: lines of text, class lists, arrays of numbers. Images are in ``sphere/files.py``."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

__all__ = ["read_class_names"]


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, without blanks at their ends.

    Raises: FileNotFoundError; ValueError for another encoding.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a text file")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def read_array(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    """What an .npy file holds, or the arrays of numbers of an .npz file by name; nothing is unpickled.

    Raises: FileNotFoundError; ValueError for files that are truncated, no arrays, or hold no numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected an .npy or .npz file")
    try:
        # A file of our own: numpy leaves the one that it opens itself open when the archive is torn.
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            content = dict(stored) if isinstance(stored, np.lib.npyio.NpzFile) else stored
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read as an array ({error}); it may be truncated: "
            "copy it again, or write it with numpy.save"
        ) from error
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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; expected a text file with one class name a line, index 0 first"
        )
    lines = (line.split("#")[0].strip() for line in read_lines(path))
    names = tuple(line for line in lines if line)
    if not names or len(names) > 255:
        raise ValueError(
            f"{path} holds {len(names)} class names; expected 1 to 255, one a line (index 255 is void)"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"{path} names a class twice; expected {len(names)} different names")
    return names

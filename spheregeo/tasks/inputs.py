"""The inputs of a prediction: which files, what is wrong with one, how far the prediction has come."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from spheregeo.files import NO_SPACE

EVERY = 15.0  # seconds between two lines of progress


def find_files(source: Path, suffixes: Sequence[str], thing: str) -> list[Path]:
    """Return the file itself, or all that ends in one of the suffixes in a folder, by name; hidden files are left out.

    Folders, pipes and dangling links with such a name are among them: :func:`check_file` reports each when its turn comes.

    Args:
        source: file or folder; a file may have any name.
        suffixes: endings in lower case, such as ".png".
        thing: what a file holds, for the messages, such as "mesh".

    Raises: FileNotFoundError when there is none.
    """
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in suffixes and p.name[0] != ".")
        if not found:
            raise FileNotFoundError(
                f"{source} holds no {', '.join(suffixes)} file; give a {thing} or a folder of such files"
            )
        return found
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a {thing} or a folder of such files")
    return [source]


def check_file(path: Path) -> Path:
    """Return a path that can be read as a file. Raises: ValueError for a folder, a pipe or a link that leads nowhere."""
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    raise ValueError(f"{path} is {'no ordinary file' if path.exists() else 'gone'}; expected a file")


def is_full_disk(error: Exception) -> bool:
    """Return whether an error is none of the file's: no place to write to is left for any other file either."""
    return isinstance(error, OSError) and error.errno in NO_SPACE


def fault(name: str, error: Exception) -> str:
    """Return what is wrong with a file or a frame, in one line that names it.

    Args:
        name: the file, with the frame where there are several.
        error: what was raised.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (ValueError, OSError)):
        text = f"{type(error).__name__}: {text}"
    return text if name in text else f"{name}: {text}"


class Progress:
    """A line now and then: how many are done, how many in a second, and how long the rest will take.

    Args:
        total: how many there are.
        things: what they are.
        every: seconds between two lines.
    """

    def __init__(self, total: int, things: str, every: float = EVERY) -> None:
        self.total, self.things, self.every = total, things, every
        self.begin = self.said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.said < self.every or not 0 < done < self.total:
            return
        self.said = now
        rate = done / (now - self.begin)
        rest = (self.total - done) / rate
        left = (
            f"{rest:.0f} s"
            if rest < 120
            else f"{rest / 60:.0f} min"
            if rest < 7200
            else f"{rest / 3600:.1f} h"
        )
        print(
            f"{done} of {self.total} {self.things}, {rate:.3g} a second, about {left} left",
            file=sys.stderr, flush=True,
        )  # fmt: skip

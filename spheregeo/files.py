"""Files that are whole or absent when written, and named in the error when they cannot be read."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["NO_SPACE", "atomic_path", "file_digest", "reading", "write_bytes", "write_json"]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ABANDONED = 3600.0  # seconds without a write after which a temporary file belongs to no living process


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces ``path`` when the block ends, and is removed when the block fails.

    A crash, a kill or a full disk inside the block leaves an earlier file as it was. Several processes may write at once: each
    has a temporary file of its own, and the last one wins. Temporary files of killed processes are removed by a later write.

    Args:
        path: the file to write; its folder is made if need be.

    Raises: OSError when the disk is full or the place is not writable.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        temporary.touch(exist_ok=False)  # with the permissions of any other file
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in NO_SPACE:
            kept = "the file written before it is intact" if path.exists() else "nothing was left behind"
            raise OSError(error.errno, f"no space left ({kept}); free some space", str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    for found in path.parent.glob(f".{glob.escape(path.name)}.????????.part{glob.escape(path.suffix)}"):
        try:
            if time.time() - found.stat().st_mtime > ABANDONED:
                found.unlink()
        except OSError:
            pass  # another process was faster, or owns the file


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` as :func:`atomic_path` does; returns the path. Raises: OSError from the disk."""
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_json(path: str | Path, content: Any, allow_nan: bool = True) -> Path:
    """Write ``content`` as indented JSON, as :func:`atomic_path` does; returns the path.

    Args:
        path: the file to write.
        content: plain types.
        allow_nan: whether numbers may be NaN or infinite, which strict JSON does not know.

    Raises: TypeError for what JSON cannot hold, ValueError for numbers that are not allowed, OSError from the disk.
    """
    return write_bytes(path, (json.dumps(content, indent=2, allow_nan=allow_nan) + "\n").encode())


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits.

    Args:
        path: the file.

    Raises: OSError from the disk.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[None]:
    """Name the file in every error of the block: whatever a parser raises becomes a ValueError with path, kind and reason.

    Errors that name the file already pass as they are: those of the operating system, and ValueErrors with the path in their
    text. Missing packages (ImportError) are no fault of the file and pass too.

    Args:
        path: the file that is read in the block.
        what: what the file was expected to be, with its article: "an OFF mesh", "a table of molecules".

    Raises: ValueError for every fault of the content; OSError from the operating system; ImportError.

    Example:
        >>> with reading("numbers.txt", "a list of numbers"):
        ...     float("1,5")
        Traceback (most recent call last):
        ...
        ValueError: numbers.txt cannot be read as a list of numbers: could not convert string to float: '1,5'
    """
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        # libraries lend OSError to their own faults, with numbers that no operating system has
        of_system = error.errno is not None and error.errno > 0
        ours = isinstance(error, FileNotFoundError) and str(path) in str(error)
        if ours or (of_system and error.filename is not None and str(path) in str(error.filename)):
            raise
        raise _unreadable(path, what, error) from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise _unreadable(path, what, error) from error
    except Exception as error:
        raise _unreadable(path, what, error) from error


def _unreadable(path: str | Path, what: str, error: Exception) -> ValueError:
    if isinstance(error, MemoryError):
        reason = "it asks for more memory than there is"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"it is not {error.encoding.upper()} text (byte {error.start}: {error.reason})"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, (KeyError, StopIteration, RecursionError, AssertionError)):
            reason = f"{type(error).__name__}: {reason}"
    return ValueError(f"{path} cannot be read as {what}: {reason}")

"""Where compiled code is kept.

The folder that the user chose (``NUMBA_CACHE_DIR``), else the first that can be written of: the user's cache folder
(``$XDG_CACHE_HOME``, or what the system has in its place), the package's ``__pycache__``, and a folder of the user's own among
temporary files. The user's folder comes first because code is kept by content: environments and checkouts with equal sources
share it. Inside, each module has a folder for each version of its sources, of which the latest ``VERSIONS`` stay.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

VERSIONS = 8  # of a module: other checkouts, environments and branches

_warned: list[str] = []


def warn_once(problem: str) -> None:
    """Warn of the first problem of the cache; what follows from it needs no warnings of its own."""
    if not _warned:
        _warned.append(problem)
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        warnings.warn(
            f"{problem}: every process compiles anew, for some ten to thirty seconds; {advice}",
            RuntimeWarning,
            stacklevel=2,
        )


@cache
def cache_folder() -> Path | None:
    """The folder that holds all compiled code, or None (and a warning) if none can be written or read."""
    import numba

    chosen = numba.config.CACHE_DIR
    tried = []
    for folder in [Path(chosen) / "spheregeo"] if chosen else _candidates():
        if _writable(folder):
            return folder
        tried.append(folder)
    for folder in tried:
        if folder.is_dir():  # what others wrote can be read
            return folder
    warn_once(f"compiled code cannot be kept in {', '.join(map(str, tried)) or 'any folder'}")
    return None


def _candidates() -> Iterator[Path]:
    home = _user_cache()
    if home is not None:
        yield home / "spheregeo" / "compiled"
    yield Path(__file__).resolve().parents[1] / "__pycache__" / "compiled"
    temporary = _private_temporary()
    if temporary is not None:
        yield temporary / "compiled"


def _user_cache() -> Path | None:
    """The system's folder for files of this user that can be made again, or None without a home."""
    if sys.platform == "win32":
        places = [os.environ.get("LOCALAPPDATA", "")]
    elif sys.platform == "darwin":
        places = [os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/Library/Caches")]
    else:
        places = [os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")]
    return next((Path(place) for place in places if os.path.isabs(place)), None)


def _private_temporary() -> Path | None:
    """A folder among temporary files that nobody else can write: code is run that was read from it."""
    if not hasattr(os, "getuid"):  # such systems give each user temporary files of his own
        return Path(tempfile.gettempdir()) / "spheregeo"
    try:
        folder = Path(tempfile.gettempdir()) / f"spheregeo-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:  # FileNotFoundError: no temporary folder at all
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if private else None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def touch(folder: Path) -> None:
    """Mark a version's folder as in use, so that it is among the latest."""
    try:
        os.utime(folder)
    except OSError:  # somebody else's, or on a file system that is read only
        pass


def remove_old(folder: Path) -> None:
    """Remove all but the latest versions of the module that ``folder`` is a version of."""
    module = folder.name.rpartition("-")[0]

    def age(version: Path) -> float:
        try:
            return -version.stat().st_mtime
        except OSError:  # another process was faster
            return 0.0

    versions = [
        other for other in folder.parent.glob(f"{module}-*") if other.name.rpartition("-")[0] == module
    ]
    for old in sorted(versions, key=age)[VERSIONS:]:
        shutil.rmtree(old, ignore_errors=True)

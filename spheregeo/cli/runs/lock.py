"""One process at a time writes into a run's folder: a hidden file there names the process and its machine."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: what the file says has to do
    fcntl = None  # type: ignore[assignment]

LOCK = ".spheregeo-lock"


@contextlib.contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Hold a run's folder against other processes; the lock of a process that is gone is taken over.

    Args:
        folder: the folder, which is made if need be.
        command: what this process does there, for the message that others get.

    Raises: ValueError when another process holds the folder.

    Example:
        >>> import tempfile
        >>> with locked(Path(tempfile.mkdtemp()), "fit"):
        ...     pass
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    file = _take(path, command)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _take(path: Path, command: str) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                try:
                    # A record lock, which workers forked from this process do not inherit and a killed process loses.
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        raise _refusal(path, _read(file)) from None
                    # a file system without locks: what the file says has to do
            if not _is_still(path, file):
                os.close(file)
                continue  # its holder has just removed it
            holder = _read(file)
            if holder and (holder.get("host") != socket.gethostname() or _is_alive(holder)):
                raise _refusal(path, holder)
            content = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": _started(os.getpid()),
                "command": command,
            }
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(content).encode(), 0)
            return file
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(file)
            raise


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _read(file: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _started(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; empty where the kernel does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_alive(holder: dict[str, Any]) -> bool:
    """Return whether the process that wrote the lock runs on this machine; a number used again is not that process."""
    try:
        pid = int(holder["pid"])
        os.kill(pid, 0)
    except (KeyError, ValueError, ProcessLookupError):
        return False
    except OSError:
        return True  # it runs under another user
    return not holder.get("started") or holder["started"] == _started(pid)


def _refusal(path: Path, holder: dict[str, Any]) -> ValueError:
    who = (
        f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('command')})"
        if holder
        else "another process"
    )
    if holder and holder.get("host") != socket.gethostname():
        way = f"wait for it, or remove {path} if that process is gone: from this machine it cannot be seen"
    else:
        way = "wait for it, or choose another --output"
    return ValueError(f"{path.parent} is in use by {who}; {way}")

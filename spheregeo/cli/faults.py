"""Which errors are the input's, the data's or the machine's fault, or somebody's wish, and how to say so in one line."""

from __future__ import annotations

import re

from spheregeo.cli.runs.process import LOST
from spheregeo.cli.runs.stop import Stopped, received
from spheregeo.files import NO_SPACE

# jsonargparse tries every type that an entry may have and reports all attempts; the first one is the user's.
_ATTEMPTS = re.compile(
    r"(Parser key \"[^\"]*\": )?Does not validate against any of the Union subtypes Subtypes: .*? Errors: - "
)
# What gloo and NCCL say in the processes that are left when another one of the run has stopped.
_PEER_LOST = re.compile(r"Connection (closed|reset) by peer|remote process exited")
_NO_MEMORY = re.compile(r"(\[enforce fail at alloc_\w+\.cpp:\d+\] [^.]*\. )?DefaultCPUAllocator")
_NOT_NONE = re.compile(r" - Expected a <class 'NoneType'>.*$")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return _NOT_NONE.sub("", _ATTEMPTS.sub("", text)) or type(error).__name__


def _noted(line: str, error: BaseException) -> str:
    """Return a line with what the run has noted on the error: what its folder now holds."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{line} ({notes})" if notes else line


def stopped(error: BaseException) -> tuple[str, int] | None:
    """Return a line and an exit code for a run that a signal has ended; None for every other error.

    Args:
        error: what came out of the command. After a signal that may be another error: workers die, connections close.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Stopped):
            return _noted(str(cause), error), cause.code
        if isinstance(cause, KeyboardInterrupt):
            return _noted("interrupted", error), 130
        cause = cause.__context__
    stop = received()
    if stop is not None:
        return _noted(str(stop), error), stop.code
    if (
        type(error).__name__ == "SIGTERMException"
    ):  # Lightning's, where a signal came to a thread of a larger program
        return _noted("stopped by SIGTERM", error), 143
    return None


def explain(error: BaseException) -> str | None:
    """One line for a fault that the user can mend; None for a bug, whose traceback is wanted."""
    line = _explained(error)
    return None if line is None else _noted(line, error)


def _explained(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        reason = error.strerror or type(error).__name__
        if error.errno in NO_SPACE and "no space" not in reason:
            reason = f"no space left ({reason}); free some space"
        return f"{error.filename}: {reason}" if error.filename else reason
    # torch's own error, bare or as the parser repeats it; others begin with the name of a file
    if _NO_MEMORY.match(_line(error)):
        wanted = re.search(r"tried to allocate (\d+) bytes", str(error))
        size = f" for an array of {int(wanted[1]) / 2**30:.1f} GiB" if wanted else ""
        return f"not enough memory{size}; lower --data.batch_size, the model's width or the resolution"
    if isinstance(error, (ValueError, OSError, ImportError, MemoryError)):
        return _line(error)
    if type(error).__name__ in ("ArgumentError", "MisconfigurationException", "OutOfMemoryError"):
        return _line(error)
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return _line(error)
    if isinstance(error, RuntimeError) and _PEER_LOST.search(str(error)):
        return LOST
    return None

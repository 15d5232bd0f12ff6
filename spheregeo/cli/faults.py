"""Which errors are the input's, the data's or the machine's fault, and how to say so in one line."""

from __future__ import annotations

import re

from spheregeo.files import NO_SPACE

# jsonargparse tries every type that an entry may have and reports all attempts; the first one is the user's.
_ATTEMPTS = re.compile(
    r"(Parser key \"[^\"]*\": )?Does not validate against any of the Union subtypes Subtypes: .*? Errors: - "
)
# What gloo and NCCL say in the processes that are left when another one of the run has stopped.
_PEER_LOST = re.compile(r"Connection (closed|reset) by peer|remote process exited")
_NOT_NONE = re.compile(r" - Expected a <class 'NoneType'>.*$")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return _NOT_NONE.sub("", _ATTEMPTS.sub("", text)) or type(error).__name__


def explain(error: BaseException) -> str | None:
    """One line for a fault that the user can mend; None for a bug, whose traceback is wanted."""
    if isinstance(error, OSError) and error.errno is not None:
        reason = error.strerror or type(error).__name__
        if error.errno in NO_SPACE and "no space" not in reason:
            reason = f"no space left ({reason}); free some space"
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, (ValueError, OSError, ImportError, MemoryError)):
        return _line(error)
    if type(error).__name__ in ("ArgumentError", "MisconfigurationException", "OutOfMemoryError"):
        return _line(error)
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return _line(error)
    if isinstance(error, RuntimeError) and _PEER_LOST.search(str(error)):
        return "another process of this run has stopped; its own message says why"
    return None

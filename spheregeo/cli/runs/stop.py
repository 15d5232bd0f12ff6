"""Signals that end a run: one line and the exit code that shells expect, 130 for SIGINT and 143 for SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []  # signals since the command began
_handled: list[signal.Signals] = []  # signals that are ours to handle
_owner = 0  # the process that they are to stop


class Stopped(BaseException):
    """A signal has asked the process to end.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


def received() -> Stopped | None:
    """Return the stop that a signal has asked for, if one has: other errors may follow from it, such as dead workers."""
    return Stopped(_received[0]) if _received else None


def check_stop() -> None:
    """Raise the stop once more where it was lost: what is raised inside a destructor or a foreign callback goes nowhere.

    Raises: Stopped when a signal has come.
    """
    stop = received()
    if stop is not None:
        raise stop


def _handle(number: int, frame: FrameType | None) -> None:
    """Raise at once; a second signal ends the process where it stands."""
    if os.getpid() != _owner:  # a worker forked from the run
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return  # the run ends its workers itself
    if _received:
        os._exit(128 + number)
    _received.append(number)
    raise Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into :class:`Stopped` inside the block; only the main thread can."""
    global _owner
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # A handler that a caller has set is the caller's; an ignored signal (nohup, a job in the background) stays ignored.
    _handled[:] = [n for n in _SIGNALS if before[n] in (signal.SIG_DFL, signal.default_int_handler)]
    _owner = os.getpid()
    for number in _handled:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number in _handled:
            signal.signal(number, before[number])
        _handled.clear()


def renew(first: Callable[[int], Any] | None = None) -> None:
    """Set the handlers again where a library has replaced them since :func:`stoppable` did.

    Args:
        first: called with the number of the signal, before the stop is raised.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        if first is not None and not _received and os.getpid() == _owner:
            first(number)
        _handle(number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in _handled:
            signal.signal(number, handler)

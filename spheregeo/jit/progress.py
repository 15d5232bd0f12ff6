"""One line on stderr where compiling takes long, and how much was compiled."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

AFTER = 2.0  # seconds of a processor, from which a line is due


class Progress:
    """Seconds that functions took to compile, and how many there were; a line once a process, none in workers.

    Args:
        silent: no line; by default that of a process that another one started, and where ``SPHEREGEO_PROGRESS=0``.
    """

    def __init__(self, silent: bool | None = None) -> None:
        if silent is None:
            child = multiprocessing.parent_process() is not None
            silent = child or os.environ.get("SPHEREGEO_PROGRESS", "1") == "0"
        self.silent, self.pid = silent, os.getpid()
        self.functions, self.seconds = 0, 0.0
        self._open: list[tuple[str, float]] = []
        self._shown = False

    def begin(self, name: str, folder: str | None) -> None:
        """Note that a function will be compiled, perhaps for another that is being compiled.

        Args:
            name: of the function.
            folder: where the code will be kept; None if nowhere.
        """
        self._open.append((name, time.process_time()))
        self._tell(folder)

    def end(self, name: str, folder: str | None) -> None:
        """Note that a function was compiled. Those begun after it and not ended have failed.

        Args:
            name: of the function.
            folder: where the code is kept; None if nowhere.
        """
        while self._open:
            begun, start = self._open.pop()
            if begun == name:
                self.functions += 1
                if not self._open:
                    self.seconds += time.process_time() - start
                break
        self._tell(folder)

    def _tell(self, folder: str | None) -> None:
        if self._shown or self.silent or os.getpid() != self.pid:
            return
        spent = self.seconds + (time.process_time() - self._open[0][1] if self._open else 0.0)
        if spent >= AFTER:
            self._shown = True
            where = (
                f"once for this machine, and keeping them in {os.path.dirname(folder)}"
                if folder
                else "for this process alone"
            )
            latest = (
                f"; {self.functions} done in {spent:.0f} s, now {self._open[-1][0]}" if self._open else ""
            )
            print(
                f"spheregeo: compiling numerical kernels, {where}{latest}. This takes up to half a minute for a kind of network; "
                "`spheregeo warmup` does it for all.",
                file=sys.stderr,
                flush=True,
            )


progress = Progress()

"""Which of the processes of a run this one is."""

from __future__ import annotations

import os

LOST = "another process of this run has stopped; its own message says why, unless it was killed"


def is_first_process() -> bool:
    """Return whether this process is the one of a run that writes files: launchers number the others from 1 on."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name]) == 0
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0

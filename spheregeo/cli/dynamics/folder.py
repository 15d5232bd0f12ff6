"""The folder of a simulation or relaxation: held against others, and remembered by what was asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.runs.lock import LOCK, locked
from spheregeo.cli.runs.stop import Stopped
from spheregeo.files import reading, write_json


@contextlib.contextmanager
def work_folder(
    folder: Path, command: str, record: str, asked: Mapping[str, Any], ours: Sequence[str], resume: bool | None, overwrite: bool
) -> Iterator[None]:  # fmt: skip
    """Hold a folder while a command writes there, and record there what was asked.

    Args:
        folder: the folder.
        command: the command, for messages.
        record: name of the file of what was asked.
        asked: entries that must be the same to go on.
        ours: patterns of the names of the command's files; without the first, which the command writes when it has begun, a fault
            leaves nothing behind.
        resume: whether the command goes on in the folder; None for a command that cannot.
        overwrite: whether it may replace the files of an earlier call.

    Raises: FileNotFoundError, ValueError for a folder with nothing to go on with, with other settings, or somebody else's files.
    """
    made = not folder.exists()
    begun = False
    try:
        with locked(folder, command):
            _admit(folder, command, record, asked, ours, resume, overwrite)
            try:
                yield
            except (Stopped, KeyboardInterrupt) as error:
                if any(folder.glob(ours[0])):
                    error.add_note(
                        f"{folder} holds what is done{'' if resume is None else '; go on with --resume'}"
                    )
                raise
            finally:
                begun = any(folder.glob(ours[0]))
                if not begun:
                    for name in (record, *ours):
                        for path in folder.glob(name):
                            path.unlink()
    finally:
        if made and not begun:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _admit(
    folder: Path, command: str, record: str, asked: Mapping[str, Any], ours: Sequence[str], resume: bool | None, overwrite: bool
) -> None:  # fmt: skip
    known = folder / record
    if resume:
        if not known.is_file():
            raise FileNotFoundError(
                f"{known} does not exist, so there is nothing to resume; leave --resume out to start"
            )
        with reading(known, f"settings of {command}"):
            earlier = json.loads(known.read_text(encoding="utf-8"))
            differ = [name for name in asked if earlier.get(name) != asked[name]]
        if differ:
            told = ", ".join(f"{name} was {earlier.get(name)!r} and is {asked[name]!r}" for name in differ)
            raise ValueError(
                f"{folder} cannot be gone on with: {told}; give the same options, or another --output"
            )
        return
    own = {path for pattern in ours for path in folder.glob(pattern)}
    others = sorted(
        p.name for p in folder.iterdir() if p not in own and p.name not in (record, LOCK) and p.name[0] != "."
    )
    if known.is_file() and not overwrite:
        way = "" if resume is None else "--resume to go on with it, "
        raise ValueError(
            f"{folder} already holds a {command}; pass {way}--overwrite to replace it, or --output DIR to leave it alone"
        )
    if (others or own) and not known.is_file() and not overwrite:
        names = ", ".join([*others, *sorted(p.name for p in own)][:3])
        raise ValueError(
            f"{folder} holds other files ({names}); choose a new folder with --output, or pass --overwrite to write beside them"
        )
    for path in own:
        path.unlink()
    write_json(known, dict(asked))

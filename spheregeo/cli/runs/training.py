"""A training's hold on its folder: what is cleared when it begins, and what is kept, or put back, when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from spheregeo.cli.checkpoints import CHECKPOINTS, RECORD
from spheregeo.cli.runs.files import RunFiles
from spheregeo.cli.runs.lock import locked
from spheregeo.cli.runs.process import is_first_process
from spheregeo.cli.runs.stop import Stopped

_WRITTEN = (RECORD, "curves.png", *CHECKPOINTS)


class Training:
    """What a training may do in its folder, and what it has done there.

    Args:
        folder: folder of the run.
        resume: whether the training goes on from the run's last checkpoint.
        overwrite: whether the training may replace a run, or write beside files that are no run's.
        artifacts: names of pictures and tables that tests of runs may have written.

    Raises: FileNotFoundError for a run to go on with that has no checkpoint; ValueError for a folder that is somebody else's.
    """

    def __init__(self, folder: Path, resume: bool, overwrite: bool, artifacts: Iterable[str]) -> None:
        self.folder, self.resume = folder, resume
        self.files = RunFiles(folder, artifacts)
        self.epoch: int | None = None  # of the last checkpoint that this training has written
        self.begun = False
        self.files.settle()
        last = folder / CHECKPOINTS[1]
        if resume and not last.is_file():
            raise FileNotFoundError(
                f"{last} does not exist, so there is nothing to resume; leave --resume out to start"
            )
        if resume or overwrite:
            return
        if self.files.has_checkpoint():
            raise ValueError(
                f"{folder} already holds a run; pass --resume to go on with it, --overwrite to replace it, "
                "or --output DIR to leave it alone"
            )
        if results := self.files.results():
            names = ", ".join(path.relative_to(folder).as_posix() for path in results[:3])
            raise ValueError(
                f"{folder} holds results of a run without its checkpoints ({names}); pass --overwrite to replace them, or "
                "--output DIR to leave them alone"
            )
        foreign = self.files.foreign()
        if foreign and not self.files.known():
            names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise ValueError(
                f"{folder} holds no run of spheregeo but other files ({names}); choose a new folder with --output, or pass "
                "--overwrite to write beside them (they are kept)"
            )

    def begin(self, recipe: str, source: str) -> None:
        """Make room and record the recipe, once recipe, data and model are found sound.

        Args:
            recipe: the recipe with all that was given beside it.
            source: content of the recipe's own file.

        Raises: ValueError where a file that is not the run's would be replaced.
        """
        self.begun = True
        edited = self.files.keep_edited_recipe()
        if edited is not None:
            print(
                f"the recipe in {self.folder} has been edited since the run began; it is kept as {edited}",
                flush=True,
            )
        self.files.check_free(*((RECORD,) if self.resume else _WRITTEN))
        if not self.resume:
            if self.files.has_checkpoint() or self.files.results():
                self.files.set_aside()
            else:
                self.files.clear()
        self.files.own(*_WRITTEN)
        self.files.record(recipe, None if self.resume else source)

    def saving(self, path: Path) -> None:
        """Write down a checkpoint that is about to be written."""
        self.files.own_path(path)

    def saved(self, path: Path, epoch: int) -> None:
        """Let an earlier run go, now that this one has a checkpoint."""
        if path.resolve().parent == (self.folder / CHECKPOINTS[0]).resolve().parent:
            self.epoch = epoch
            self.files.drop_earlier()

    def _outcome(self, error: BaseException) -> str:
        """Say what an error has left in the folder, and put the earlier run back if this one has written nothing."""
        last = self.folder / CHECKPOINTS[1]
        if self.epoch is not None and last.is_file():
            return f"{last} holds epoch {self.epoch + 1}; go on with --resume"
        if self.resume:
            return f"{last} is as it was; go on with --resume"
        try:
            if self.files.bring_back():
                return "no checkpoint was written, and the earlier run is back in its place"
        except OSError:
            return f"no checkpoint was written; the next command puts the earlier run back into {self.folder}"
        return "no checkpoint was written" if isinstance(error, Stopped) else ""


@contextlib.contextmanager
def training(
    folder: Path, resume: bool, overwrite: bool, artifacts: Iterable[str], active: bool
) -> Iterator[Training | None]:
    """Hold a run's folder while a training writes there; an error is given a note that says what the folder now holds.

    Args:
        folder: folder of the run.
        resume: whether the training goes on from the run's last checkpoint.
        overwrite: whether the training may replace a run.
        artifacts: names of pictures and tables that tests of runs may have written.
        active: whether anything is to be trained at all: help and printed recipes touch no folder.

    Raises: FileNotFoundError, ValueError as :class:`Training` does, and where another process holds the folder.
    """
    if not active or not is_first_process():
        yield None
        return
    made = not folder.exists()
    begun = False
    try:
        with locked(folder, "fit"):
            session = Training(folder, resume, overwrite, artifacts)
            try:
                yield session
            except BaseException as error:
                if session.begun and (note := session._outcome(error)):
                    error.add_note(note)
                raise
            finally:
                begun = session.begun
    finally:
        if made and not begun:
            with contextlib.suppress(OSError):
                folder.rmdir()  # a faulty call leaves nothing behind

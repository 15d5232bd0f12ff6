"""What Lightning calls in a run: checkpoints that are written down, signals that end it, a profile in its folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from spheregeo.cli.runs import stop
from spheregeo.cli.runs.process import LOST
from spheregeo.cli.runs.training import Training
from spheregeo.tasks import AtomicCheckpointIO

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


class RunCheckpointIO(AtomicCheckpointIO):
    """Checkpoint files that a run writes down as its own.

    Args:
        run: the training; None where another process keeps the books.
    """

    def __init__(self, run: Training | None) -> None:
        super().__init__()
        self.run = run

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        if self.run is not None:
            self.run.saving(Path(path))
        super().save_checkpoint(checkpoint, path, storage_options)
        if self.run is not None:
            self.run.saved(Path(path), int(checkpoint.get("epoch", 0)))


class Stoppable(Callback):
    """Lightning callback that lets signals end a run at once, in every process of it; also writes down the folders of logs.

    Lightning's own handler waits for the end of a batch and then leaves with exit code 0.

    Args:
        run: the training; None where nothing is trained, or another process keeps the books.
    """

    def __init__(self, run: Training | None) -> None:
        self.run = run

    def _renew(self, trainer: Trainer) -> None:
        def pass_on(number: int) -> None:
            for process in getattr(trainer.strategy.launcher, "procs", []):
                process.send_signal(signal.SIGTERM)

        stop.renew(pass_on)
        for thread in threading.enumerate():
            # Lightning kills this process without a word as soon as another one has ended with an error.
            if thread.name == "child-process-observer" and hasattr(thread, "_terminate_all"):
                thread._terminate_all = partial(end_without, trainer.strategy.launcher)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._renew(trainer)
        if self.run is not None:
            for logger in trainer.loggers:
                if isinstance(logger, (CSVLogger, TensorBoardLogger)):
                    self.run.files.own_log(Path(logger.log_dir))
            if isinstance(trainer.profiler, tuple(PROFILERS.values())):  # type: ignore[attr-defined]
                self.run.files.own("fit-profile*")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._renew(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._renew(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._renew(trainer)

    def on_train_batch_start(self, *arguments: Any) -> None:
        stop.check_stop()

    def on_validation_batch_start(self, *arguments: Any, **options: Any) -> None:
        stop.check_stop()

    def on_test_batch_start(self, *arguments: Any, **options: Any) -> None:
        stop.check_stop()


def end_without(launcher: Any, grace: float = 10.0) -> None:
    """End this process because another one of the run is gone, unless it notices by itself and says so.

    Args:
        launcher: Lightning's launcher, which has started the other processes.
        grace: seconds in which this process may end by itself.
    """
    time.sleep(grace)
    for process in launcher.procs:
        process.kill()
    print(f"spheregeo: error: {LOST}", file=sys.stderr, flush=True)
    os._exit(2)


def make_profiler(name: str, folder: Path) -> Profiler:
    """Return a profiler of Lightning's by name, which writes into a run's folder.

    Args:
        name: one of ``PROFILERS``.
        folder: folder of the run.
    """
    return PROFILERS[name](dirpath=str(folder), filename="profile")  # type: ignore[no-any-return]

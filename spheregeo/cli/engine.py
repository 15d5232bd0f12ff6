"""Training and scoring through Lightning's CLI: a recipe and its overrides become data, model and trainer.

The model is built from the data: channels, classes and grid are linked, so that a recipe states them once.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from spheregeo import recipes, tasks
from spheregeo.cli.checkpoints import best_checkpoint, run_folder
from spheregeo.cli.class_paths import public_paths
from spheregeo.cli.former import current_options, current_recipe
from spheregeo.cli.own_task import import_task
from spheregeo.files import write_bytes, write_json
from spheregeo.tasks.training.average import Average
from spheregeo.tasks.training.callbacks import Curves, EpochLine, EpochSeed, TestReport
from spheregeo.tasks.training.precise_bn import PreciseBatchNorm

COMMON = ("recipe.yaml", "metrics.json", "curves.png")  # files of every run


class SphereCLI(LightningCLI):
    """Lightning's CLI for one recipe: the run's folder, checkpoints, logs and callbacks are set here."""

    def __init__(self, command: str, recipe: Path, folder: Path, overrides: list[str]) -> None:
        self.command, self.folder, self.recipe = command, folder, recipe
        written = recipe.read_text(encoding="utf-8")
        content = current_recipe(public_paths(written))
        config = str(recipe) if content == written else content  # faults name the file where they can
        import_task(recipe)
        super().__init__(
            model_class=tasks.Task, subclass_mode_model=True,
            datamodule_class=LightningDataModule, subclass_mode_data=True,
            save_config_callback=None, seed_everything_default=0, run=False, auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 10, "default_root_dir": str(folder)},
            parser_kwargs={"exit_on_error": False, "prog": f"spheregeo {command} {recipe.stem}"},
            args=["--config", config, *map(public_paths, current_options(overrides))],
        )  # fmt: skip

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ema", type=float, default=0.0, help="decay of averaged weights, such as 0.99; 0 for none"
        )
        parser.add_argument(
            "--patience", type=int, default=0, help="epochs without progress before stopping; 0: never"
        )
        parser.add_argument(
            "--precise_bn", type=int, default=0,
            help="re-estimate batch-norm statistics from the last N training batches before each validation; 0: keep them",
        )  # fmt: skip
        for name in sorted({name for kind in tasks.kinds() for name in kind.linked_from_data}):
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning's own version warns when sys.argv is not empty; here it never is.
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init
        extra: dict[str, Any] = {"logger": False}
        callbacks: list[Any] = []
        terminal = sys.stderr.isatty()
        if self.command == "fit":
            model: Any = self.model
            extra["logger"] = config.trainer.logger if config.trainer.logger is not None else self._loggers()
            callbacks.append(EpochSeed(int(config.seed_everything)))
            if config.ema:
                callbacks.append(Average(config.ema))
            if config.precise_bn:
                callbacks.append(PreciseBatchNorm(config.precise_bn))
            if config.patience:
                callbacks.append(EarlyStopping(model.monitor, mode=model.mode, patience=config.patience))
            # Two of them: one alone writes `last` only in epochs that have a new best.
            place: dict[str, Any] = {
                "dirpath": self.folder / "checkpoints",
                "save_on_train_epoch_end": True,
                "enable_version_counter": False,
            }
            callbacks.append(
                ModelCheckpoint(filename="best", monitor=model.monitor, mode=model.mode, **place)
            )
            callbacks.append(ModelCheckpoint(filename="last", **place))
            callbacks.append(Curves(self.folder))
            if not terminal:
                callbacks.append(EpochLine())
        if terminal:
            callbacks.append(TQDMProgressBar())
        elif config.trainer.enable_progress_bar is None:
            extra["enable_progress_bar"] = False
        plugins = config.trainer.plugins or []
        extra["plugins"] = [
            *(plugins if isinstance(plugins, list) else [plugins]),
            tasks.AtomicCheckpointIO(),
        ]
        settings = {**dict(config.trainer), **extra, **kwargs}
        if settings.get("enable_model_summary") is None:
            settings["enable_model_summary"] = False
        settings["callbacks"] = [*(settings.get("callbacks") or []), *callbacks]
        return Trainer(**settings)

    def _loggers(self) -> list[Any]:
        loggers: list[Any] = [CSVLogger(self.folder, name="logs")]
        if importlib.util.find_spec("tensorboard") is not None:
            loggers.append(TensorBoardLogger(self.folder, name="tensorboard"))
        return loggers


@contextmanager
def quiet() -> Iterator[None]:
    """Keep silent what is no fault here: small generated data need neither many workers nor a full log interval."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r"The '.*dataloader' does not have many workers",
            r"The number of training batches .* is smaller than the logging interval",
            r"Checkpoint directory .* exists and is not empty",
            r"Starting from v1\.9\.0, `tensorboardX` has been removed",
            r"Using the current installed CUDA version|The `srun` command is available",
            # Lightning 2.6 calls functions that jsonargparse 4.53 and torch 2.13 have replaced.
            r"\s*By default only one JsonargparseDeprecationWarning",
            r"\s*.*instantiate_classes",
            r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_process() -> bool:
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, of whatever task."""
    for name in ("checkpoints", "logs", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in {*COMMON, *(name for kind in tasks.kinds() for name in kind.artifacts)}:
        (folder / name).unlink(missing_ok=True)


def _source(recipe: str, folder: Path) -> Path:
    """The recipe as the run recorded it, if there is a run: scores must use the data that the training used."""
    record = folder / "recipe.yaml"
    path = recipes.find(recipe)
    return record if record.is_file() else path


def fit(
    recipe: str, output: str | None, resume: bool, overwrite: bool, overrides: list[str]
) -> dict[str, float]:
    """Train a recipe; returns the last epoch's metrics. Checkpoints, logs and curves go to the run's folder."""
    path, folder = recipes.find(recipe), run_folder(recipe, output)
    last = folder / "checkpoints" / "last.ckpt"
    started = "--help" not in overrides and _first_process()
    if started and resume and not last.is_file():
        raise FileNotFoundError(
            f"{last} does not exist, so there is nothing to resume; leave --resume out to start"
        )
    if started and not resume and last.is_file() and not overwrite:
        raise ValueError(
            f"{folder} already holds a run; pass --resume to go on with it, --overwrite to replace it, "
            "or --output DIR to leave it alone"
        )
    if resume:
        path = _source(recipe, folder)
    with quiet():
        cli = SphereCLI("fit", path, folder, overrides)
        if resume:  # before the run's recipe is written anew
            cli.model.on_load_checkpoint(tasks.read_checkpoint(last))
        if started:
            if not resume:
                _clear(folder)
            record = cli.parser.dump(cli.config, skip_link_targets=True)
            write_bytes(folder / "recipe.yaml", record.encode())
        cli.trainer.fit(
            cli.model, datamodule=cli.datamodule, ckpt_path=str(last) if resume else None, weights_only=True
        )
        metrics = {k: float(v) for k, v in cli.trainer.callback_metrics.items()}
    if cli.trainer.is_global_zero:
        print(f"checkpoints in {folder / 'checkpoints'}, curves in {folder / 'curves.png'}", flush=True)
    return metrics


def score(
    command: str, recipe: str, ckpt: str | None, output: str | None, overrides: list[str]
) -> dict[str, float]:
    """Score a checkpoint on the validation or test split; a test writes its report into the run's folder."""
    folder = run_folder(recipe, output)
    if "--help" in overrides:
        SphereCLI(command, recipes.find(recipe), folder, overrides)
    source = _source(recipe, folder)
    checkpoint = Path(ckpt) if ckpt else best_checkpoint(folder)
    # The checkpoint says how its network was built: the recipe may have been changed since.
    import_task(source)
    task: LightningModule = tasks.load(checkpoint)
    with quiet():
        cli = SphereCLI(command, source, folder, overrides)
        report = TestReport(folder, extra={"recipe": recipe, "checkpoint": str(checkpoint)})
        if command == "test":
            cli.trainer.callbacks.append(report)  # type: ignore[attr-defined]
        run = cli.trainer.test if command == "test" else cli.trainer.validate
        values = run(task, datamodule=cli.datamodule, verbose=False)[0]
    if cli.trainer.is_global_zero:
        print("\n".join(f"{name:<16} {value:.4f}" for name, value in sorted(values.items())), flush=True)
        if command == "test":
            print(
                f"report in {folder}: {', '.join(sorted(p.name for p in folder.glob('*.png')))}, metrics.json"
            )
    return {k: float(v) for k, v in values.items()}


def load_run(folder: Path, overrides: list[str]) -> tuple[tasks.Task, LightningDataModule]:
    """Return the best task of a run, and the data of its recorded recipe.

    Args:
        folder: folder of the run.
        overrides: options that differ from the recipe.
    """
    cli = SphereCLI("test", folder / "recipe.yaml", folder, overrides)
    return tasks.load(best_checkpoint(folder)), cli.datamodule


def audit(
    recipe: str, ckpt: str | None, output: str | None, json_file: str | None, overrides: list[str]
) -> dict[str, Any]:
    """Measure a checkpoint's (or an untrained model's) equivariance error, cost and memory; prints a table."""
    folder = run_folder(recipe, output)
    import_task(recipes.find(recipe))
    try:
        task: Any = tasks.load(ckpt if ckpt else best_checkpoint(folder))
    except FileNotFoundError:
        if ckpt:
            raise
        print("no checkpoint in the run's folder: this is the recipe's model, untrained")
        with quiet():
            task = SphereCLI("audit", recipes.find(recipe), folder, overrides).model
    result: dict[str, Any] = task.audit()
    if json_file:
        write_json(json_file, result, allow_nan=False)
    return result

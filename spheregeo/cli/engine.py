"""Training and scoring through Lightning's CLI: a recipe and its overrides become data, model and trainer.

The model is built from the data: channels, classes and grid are linked, so that a recipe states them once.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from spheregeo import recipes, tasks
from spheregeo.cli.checkpoints import (
    CHECKPOINTS,
    OPTIONS,
    RECORD,
    REPORT,
    best_checkpoint,
    report_place,
    run_folder,
)
from spheregeo.cli.class_paths import public_paths
from spheregeo.cli.former import as_it_was, current_options, current_recipe
from spheregeo.cli.own_task import import_task
from spheregeo.cli.runs.files import RunFiles
from spheregeo.cli.runs.hooks import RunCheckpointIO, Stoppable, make_profiler
from spheregeo.cli.runs.lock import locked
from spheregeo.cli.runs.loggers import logger_of, make_loggers
from spheregeo.cli.runs.process import is_first_process
from spheregeo.cli.runs.record import record_text, recorded_instead
from spheregeo.cli.runs.training import Training, training
from spheregeo.cli.trust import check_recipe, guarded, parse_recipe
from spheregeo.data.record import data_differences, describe_data
from spheregeo.export.describe import SCORED
from spheregeo.files import atomic_path, file_digest, write_bytes, write_json
from spheregeo.nn.parallel import leave_constants_alone, synchronize_norms
from spheregeo.tasks.training.average import Average
from spheregeo.tasks.training.callbacks import Curves, EpochLine, EpochSeed, TestReport
from spheregeo.tasks.training.checkpoints import RunCheckpoint
from spheregeo.tasks.training.precise_bn import PreciseBatchNorm
from spheregeo.tasks.training.progress import StartLine
from spheregeo.tasks.training.start import Frozen, freeze, take_weights


class RecipeParser(LightningArgumentParser):
    """Lightning's parser of arguments, whose values are values: none is read from a file that it names."""

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        return super().add_class_arguments(*args, **{**kwargs, "sub_configs": False})


class SphereCLI(LightningCLI):
    """Lightning's CLI for one recipe: the run's folder, checkpoints, logs and callbacks are set here."""

    def __init__(
        self, command: str, recipe: Path, folder: Path, overrides: list[str],
        run: Training | None = None, profile: str | None = None,
    ) -> None:  # fmt: skip
        self.command, self.folder, self.recipe, self.training, self.profile = (
            command,
            folder,
            recipe,
            run,
            profile,
        )
        self.written = recipe.read_text(encoding="utf-8")
        config = public_paths(self.written)
        parse_recipe(config, recipe)  # its faults are named before anything else looks at it
        config = current_recipe(config)
        content = parse_recipe(config, recipe)
        check_recipe(content, recipe)
        if (content.get("trainer") or {}).get("default_root_dir") is not None and recipe == folder / RECORD:
            del content["trainer"]["default_root_dir"]  # where the run lay when it began
            config = yaml.safe_dump(content, sort_keys=False)
        if recipe == folder / RECORD and as_it_was(content):
            config = yaml.safe_dump(content, sort_keys=False)
        self.logger_name, options = logger_of(content, current_options(overrides))
        if self.logger_name is not None:
            config = yaml.safe_dump(content, sort_keys=False)
        if config == self.written:
            config = str(recipe)  # faults name the file where they can
        import_task(recipe)
        with guarded(recipe):
            super().__init__(
                model_class=tasks.Task, subclass_mode_model=True,
                datamodule_class=LightningDataModule, subclass_mode_data=True,
                save_config_callback=None, seed_everything_default=0, run=False, auto_configure_optimizers=False,
                load_from_checkpoint_support=False, parser_class=RecipeParser,
                trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 10, "default_root_dir": str(folder)},
                parser_kwargs={"exit_on_error": False, "prog": f"spheregeo {command} {recipe.stem}"},
                args=["--config", config, *map(public_paths, options)],
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
        parser.add_argument(
            "--freeze", type=list[str], default=[],
            help="patterns of names of parameters that are not trained, such as network.encoder.*",
        )  # fmt: skip
        parser.add_argument(
            "--sync_norms", type=bool, default=True,
            help="batch norms of several processes take the statistics of all; false: each of its own share",
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
            model: Any = leave_constants_alone(synchronize_norms(self.model, config.sync_norms))
            given = config.trainer.logger
            extra["logger"] = given if given is not None else make_loggers(self.folder, self.logger_name)
            if self.profile:
                extra["profiler"] = make_profiler(self.profile, self.folder)
            if config.freeze:
                freeze(model, config.freeze)
                callbacks.append(Frozen(config.freeze))
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
            callbacks.append(RunCheckpoint(filename="best", monitor=model.monitor, mode=model.mode, **place))
            callbacks.append(RunCheckpoint(filename="last", **place))
            callbacks.append(Curves(self.folder))
            callbacks.append(StartLine())
            if not terminal:
                callbacks.append(EpochLine())
        if terminal:
            callbacks.append(TQDMProgressBar())
        elif config.trainer.enable_progress_bar is None:
            extra["enable_progress_bar"] = False
        callbacks.append(Stoppable(self.training))
        plugins = config.trainer.plugins or []
        extra["plugins"] = [
            *(plugins if isinstance(plugins, list) else [plugins]),
            RunCheckpointIO(self.training),
        ]
        settings = {**dict(config.trainer), **extra, **kwargs}
        if settings.get("enable_model_summary") is None:
            settings["enable_model_summary"] = False
        settings["callbacks"] = [*(settings.get("callbacks") or []), *callbacks]
        return Trainer(**settings)


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


def _source(recipe: str, folder: Path) -> tuple[Path, bool]:
    """The recipe that a run recorded, if there is a run: scores must use the data that the training used.

    Returns: the recipe's file, and whether its content is not that of the recipe named.
    """
    path, record = recipes.find(recipe), folder / RECORD
    if not record.is_file():
        return path, False
    differs = recorded_instead(path, folder)
    if differs and is_first_process():
        print(f"using the recipe that the run recorded, {record}, which is not that of {recipe}", flush=True)
    return record, differs


def fit(
    recipe: str, output: str | None, resume: bool, overwrite: bool, overrides: list[str],
    init: str | None = None, freeze: Sequence[str] = (), profile: str | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train a recipe; returns the last epoch's metrics. Checkpoints, logs and curves go to the run's folder.

    Args:
        recipe: name or path of the recipe.
        output: folder of the run; ``runs/RECIPE`` if None.
        resume: go on from the run's last checkpoint.
        overwrite: replace a run that is in the folder.
        overrides: entries of the recipe, as options.
        init: checkpoint or folder of a run whose weights the training starts from.
        freeze: patterns of names of parameters that are not trained.
        profile: name of Lightning's profiler; none if None.

    Raises: FileNotFoundError, ValueError for what is missing or bad.
    """
    path, folder = recipes.find(recipe), run_folder(recipe, output)
    if init is not None and resume:
        raise ValueError(
            "--init starts a run from other weights and --resume goes on with its own; pass one of them"
        )
    start = best_checkpoint(Path(init)) if init is not None and Path(init).is_dir() else init
    last = folder / CHECKPOINTS[1]
    asks = any(word.startswith("--print_config") for word in overrides)
    artifacts = {REPORT, *(name for kind in tasks.kinds() for name in kind.artifacts)}
    if freeze:
        overrides = [*overrides, f"--freeze={json.dumps(list(freeze))}"]
    with training(folder, resume, overwrite, artifacts, not asks) as run, quiet():
        if resume:
            path, _ = _source(recipe, folder)
        cli = SphereCLI("fit", path, folder, overrides, run, profile)
        data = describe_data(cli.datamodule, cli.config.data.init_args.as_dict())
        cli.model.data_record = data
        if resume:  # before the run's recipe is written anew
            stored = tasks.read_checkpoint(last)
            cli.model.on_load_checkpoint(stored)
            _compare(stored.get("data"), data)
        if start is not None:
            new = take_weights(cli.model, start)
            if new and is_first_process():
                print(f"not in {start}, so new: {', '.join(new)}", flush=True)
        if run is not None:
            dump = cli.parser.dump(cli.config, skip_link_targets=True)
            run.begin(
                record_text(dump, cli.logger_name, data, start, cli.written if resume else ""), cli.written
            )
        cli.trainer.fit(
            cli.model, datamodule=cli.datamodule, ckpt_path=str(last) if resume else None, weights_only=True
        )
        metrics = {k: float(v) for k, v in cli.trainer.callback_metrics.items()}
    if cli.trainer.is_global_zero:
        print(f"checkpoints in {folder / 'checkpoints'}, curves in {folder / 'curves.png'}", flush=True)
    return metrics


def _compare(recorded: Any, data: dict[str, Any]) -> None:
    """Print one line where a run goes on with other data than it began with."""
    differences = data_differences(recorded, data) if isinstance(recorded, dict) else []
    if differences and is_first_process():
        print(f"warning: the data differ from those of the checkpoint: {'; '.join(differences)}", flush=True)


def score(
    command: str, recipe: str, ckpt: str | None, output: str | None, overrides: list[str]
) -> dict[str, float]:
    """Score a checkpoint on the validation or test split; a test writes its report into the run's folder.

    Args:
        command: ``"validate"`` or ``"test"``.
        recipe: name or path of the recipe.
        ckpt: checkpoint file; the run's best if None.
        output: folder of the run; ``runs/RECIPE`` if None.
        overrides: entries of the recipe, as options.

    Raises: FileNotFoundError, ValueError for what is missing or bad.
    """
    folder = run_folder(recipe, output)
    source, differs = _source(recipe, folder)
    checkpoint = Path(ckpt) if ckpt else best_checkpoint(folder)
    # The checkpoint says how its network was built: the recipe may have been changed since.
    import_task(source)
    task: tasks.Task = tasks.load(checkpoint)
    place, digest = report_place(folder, overrides, ckpt)
    with _reporting(command, folder, place.name, task), quiet():
        cli = SphereCLI(command, source, folder, overrides)
        named = str(source) if differs else recipe
        facts = {
            "recipe": named,
            "checkpoint": str(checkpoint),
            SCORED: file_digest(checkpoint),
            OPTIONS: digest,
        }
        report = TestReport(place, extra=facts)
        if command == "test":
            cli.trainer.callbacks.append(report)  # type: ignore[attr-defined]
        run = cli.trainer.test if command == "test" else cli.trainer.validate
        values = run(task, datamodule=cli.datamodule, verbose=False)[0]
    if cli.trainer.is_global_zero:
        for name, value in sorted(values.items()):
            print(f"{name:<16} {value:.4f} {task.unit_of(name.rpartition('/')[2])}".rstrip(), flush=True)
        if command == "test":
            print(f"report in {place}: {', '.join(sorted(p.name for p in place.glob('*.png')))}, {REPORT}")
            for name in (
                REPORT,
                *task.artifacts,
            ):  # beside the run too, where the last test's report used to lie alone
                if (place / name).is_file():
                    write_bytes(folder / name, (place / name).read_bytes())
    return {k: float(v) for k, v in values.items()}


@contextmanager
def _reporting(command: str, folder: Path, place: str, task: tasks.Task) -> Iterator[None]:
    """Hold the folder while a test writes its report there, which replaces nothing but the reports of tests."""
    if command != "test" or not is_first_process():
        yield
        return
    with locked(folder, "test"):
        names = (REPORT, *task.artifacts)
        written = (*names, *(f"{place}/{name}" for name in names))
        files = RunFiles(folder, written)
        files.check_free(*written)
        files.own(*written)
        yield


def load_run(folder: Path, overrides: list[str]) -> tuple[tasks.Task, LightningDataModule]:
    """Return the best task of a run, and the data of its recorded recipe.

    Args:
        folder: folder of the run.
        overrides: options that differ from the recipe.
    """
    cli = SphereCLI("test", folder / "recipe.yaml", folder, overrides)
    return tasks.load(best_checkpoint(folder)), cli.datamodule


def audit(
    recipe: str,
    ckpt: str | None,
    output: str | None,
    json_file: str | None,
    overrides: list[str],
    plot: str | None = None,
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
    if plot:
        if "by_angle" not in result:
            raise ValueError(
                f"--plot draws errors by angle, which {type(task).__name__} does not measure; leave it out"
            )
        from spheregeo.audit import plot_angles

        with atomic_path(plot) as path:
            plot_angles(result["by_angle"], path)
    return result

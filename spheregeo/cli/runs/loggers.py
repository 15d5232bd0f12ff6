"""Loggers by name, ``--trainer.logger wandb|mlflow|tensorboard|csv``, made when their package is there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

# the package that each name needs
PACKAGES = {"csv": "", "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def make_loggers(folder: Path, name: str | None) -> list[Any]:
    """Return the loggers of a run: CSV tables, from which curves are drawn, and the one named.

    Args:
        folder: folder of the run, where logs are written.
        name: one of ``PACKAGES``; TensorBoard where it is installed if None.

    Raises: ValueError for an unknown name; ImportError where the package is missing.
    """
    from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

    tables: list[Any] = [CSVLogger(folder, name="logs")]
    if name is None and importlib.util.find_spec("tensorboard") is not None:
        name = "tensorboard"
    if name is None or name == "csv":
        return tables
    package = PACKAGES[name]
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"--trainer.logger {name} needs the package {package}; pip install {package}")
    if name == "wandb":
        return [*tables, WandbLogger(project="spheregeo", name=folder.name, save_dir=folder)]
    if name == "mlflow":
        server = os.environ.get("MLFLOW_TRACKING_URI")  # else a file in the run's folder
        return [
            *tables,
            MLFlowLogger(
                "spheregeo", run_name=folder.name, tracking_uri=server, save_dir=str(folder / "mlruns")
            ),
        ]
    return [*tables, TensorBoardLogger(folder, name="tensorboard")]


def logger_of(content: dict[str, Any], overrides: list[str]) -> tuple[str | None, list[str]]:
    """Take the name of a logger out of a recipe and the options given beside it; returns the name and the other options.

    Args:
        content: the recipe, from which the entry is removed.
        overrides: options, of which the last one counts.
    """
    name: str | None = None
    trainer = content.get("trainer")
    if isinstance(trainer, dict) and trainer.get("logger") in PACKAGES:
        name = trainer.pop("logger")
    left: list[str] = []
    words = iter(overrides)
    for word in words:
        key, equals, value = word.partition("=")
        if key == "--trainer.logger":
            given = value if equals else next(words, "")
            if given in PACKAGES:
                name = given
                continue
            left.append(f"{key}={given}")
            name = None
        else:
            left.append(word)
    return name, left

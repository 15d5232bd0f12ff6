"""Tasks of the user's own: a recipe names the module that defines them, a checkpoint only their name."""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml

from spheregeo.cli.class_paths import public_paths


def import_task(recipe: Path) -> None:
    """Import the module of a recipe's task, so that ``tasks.kinds`` lists the task.

    Modules are named by recipes alone: a checkpoint, which may come from anywhere, makes nothing run.

    Args:
        recipe: the recipe's file.

    Raises: ModuleNotFoundError for a module that is not on Python's path.
    """
    content = yaml.safe_load(public_paths(recipe.read_text(encoding="utf-8")))
    path = str(((content or {}).get("model") or {}).get("class_path", ""))
    if "." in path:
        importlib.import_module(path.rpartition(".")[0])

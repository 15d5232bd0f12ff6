"""Tasks of the user's own: a recipe names the module that defines them, a checkpoint only their name."""

from __future__ import annotations

import importlib
from pathlib import Path

from spheregeo.cli.class_paths import public_paths
from spheregeo.cli.trust import check_path, parse_recipe


def import_task(recipe: Path) -> None:
    """Import the module of a recipe's task, so that ``tasks.kinds`` lists the task.

    Modules are named by recipes alone, and imported where the user trusts the recipe: a checkpoint, which may come from
    anywhere, makes nothing run.

    Args:
        recipe: the recipe's file.

    Raises: ModuleNotFoundError for a module that is not on Python's path; ValueError for a module from outside the trusted
        packages, unless recipes are trusted.
    """
    content = parse_recipe(public_paths(recipe.read_text(encoding="utf-8")), recipe)
    model = content.get("model") or {}
    path = str(model.get("class_path", "") if isinstance(model, dict) else model)
    if "." in path:
        check_path(path, recipe)
        importlib.import_module(path.rpartition(".")[0])

"""Prediction from files: a checkpoint is found and its task asked."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from pathlib import Path

import torch

from spheregeo import recipes, tasks
from spheregeo.cli.checkpoints import run_folder, trained_model
from spheregeo.cli.own_task import import_task
from spheregeo.tasks.predict import PredictOptions


def run(
    recipe: str,
    source: str,
    ckpt: str | None,
    output: str | None,
    grid: str | None,
    options: PredictOptions | None = None,
) -> None:
    """Predict a file, or the files of a folder, with a trained task; answers go to ``predictions`` in the run's folder.

    Args:
        recipe: name or path of the recipe.
        source: file or folder.
        ckpt: checkpoint, or what else ``sg.load`` takes; the run's best, else the shipped model, if None.
        output: folder of the answers; in the run's folder if None.
        grid: another grid to work on, such as "Equiangular(256, 512)"; that of the training if None.
        options: how files are predicted; the usual way if None.

    Raises: FileNotFoundError, ValueError for what is missing or bad; of a folder, after the others are done.
    """
    if not Path(recipe).suffix or Path(recipe).is_file():
        import_task(recipes.find(recipe))
    folder = run_folder(recipe, None)
    checkpoint = trained_model(recipe, folder, ckpt)
    task = tasks.load(checkpoint, grid=grid)
    task = task.cuda() if torch.cuda.is_available() else task
    target = Path(output) if output else folder / "predictions"
    options = options or PredictOptions()
    if "options" in inspect.signature(task.predict).parameters:
        with open(checkpoint, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        model = f"a checkpoint with the digest {digest}" + (f" on {grid}" if grid else "")
        if options.several_passes:
            model += f" in {options.tiles} x {options.tiles} tiles and {options.turns} turns"
        task.predict(Path(source), target, options=replace(options, model=model))
    elif options != PredictOptions():
        raise ValueError(
            f"{type(task).__name__}.predict takes no options; leave out --batch-size, --resume, --overwrite, "
            "--confidence, --tiles and --turns"
        )
    else:
        task.predict(Path(source), target)

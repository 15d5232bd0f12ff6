"""Prediction from files: a checkpoint is found and its task asked."""

from __future__ import annotations

from pathlib import Path

import torch

from spheregeo import recipes, tasks
from spheregeo.cli.checkpoints import best_checkpoint, run_folder
from spheregeo.cli.own_task import import_task


def run(recipe: str, source: str, ckpt: str | None, output: str | None, grid: str | None) -> None:
    """Predict a file, or the files of a folder, with a trained task; answers go to ``predictions`` in the run's folder.

    Args:
        recipe: name or path of the recipe.
        source: file or folder.
        ckpt: checkpoint file; the run's best if None.
        output: folder of the answers; in the run's folder if None.
        grid: another grid to work on, such as "Equiangular(256, 512)"; that of the training if None.

    Raises: FileNotFoundError, ValueError for what is missing or bad; of a folder, after the others are done.
    """
    if not Path(recipe).suffix or Path(recipe).is_file():
        import_task(recipes.find(recipe))
    folder = run_folder(recipe, None)
    task = tasks.load(ckpt if ckpt else best_checkpoint(folder), grid=grid)
    task = task.cuda() if torch.cuda.is_available() else task
    task.predict(Path(source), Path(output) if output else folder / "predictions")

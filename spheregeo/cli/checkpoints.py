"""Where a run keeps its files."""

from __future__ import annotations

from pathlib import Path

RECORD = "recipe.yaml"  # the recipe as a run recorded it, in the run's folder
CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def run_folder(recipe: str, output: str | None) -> Path:
    """The folder of a recipe's run: the one given, else ``runs/RECIPE``."""
    return Path(output) if output else Path("runs") / Path(recipe).stem


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a run, or its last where no validation chose a best one.

    Raises: FileNotFoundError when there is none.
    """
    for name in CHECKPOINTS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder / 'checkpoints'} holds no checkpoint; run `spheregeo fit` first, or name one with --ckpt"
    )

"""Where a run keeps its files."""

from __future__ import annotations

from pathlib import Path


def run_folder(recipe: str, output: str | None) -> Path:
    """The folder of a recipe's run: the one given, else ``runs/RECIPE``."""
    return Path(output) if output else Path("runs") / Path(recipe).stem


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a run, or its last where no validation chose a best one.

    Raises: FileNotFoundError when there is none.
    """
    for name in ("best.ckpt", "last.ckpt"):
        if (folder / "checkpoints" / name).is_file():
            return folder / "checkpoints" / name
    raise FileNotFoundError(
        f"{folder / 'checkpoints'} holds no checkpoint; run `spheregeo fit` first, or name one with --ckpt"
    )

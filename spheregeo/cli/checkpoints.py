"""Where a run keeps its files."""

from __future__ import annotations

from pathlib import Path

from spheregeo import weights

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


def trained_model(recipe: str, folder: Path, given: str | None = None) -> Path:
    """The trained model that answers for a recipe: the one given, the run's best, or the one that ships with the package.

    What a shipped model knows is printed in one line.

    Args:
        recipe: name or path of the recipe.
        folder: folder of the recipe's run.
        given: checkpoint, exported model, shipped name, https address or ``hf://user/name``; None to look for one.

    Raises: FileNotFoundError when there is none.
    """
    if given is not None:
        from spheregeo import export

        return export.locate(given)
    try:
        return best_checkpoint(folder)
    except FileNotFoundError:
        name = weights.for_recipe(recipe)
        if name is None:
            raise
        print(weights.note(name), flush=True)
        return weights.find(name) / "model.safetensors"

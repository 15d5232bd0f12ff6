"""Where a run keeps its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from spheregeo import weights
from spheregeo.tasks.files import CHECKPOINTS as CHECKPOINTS
from spheregeo.tasks.files import EXPORTED, model_file

RECORD = "recipe.yaml"  # the recipe as a run recorded it, in the run's folder
# entries of data that change no score
SAME_SCORES = ("num_workers", "batch_size", "eval_batch_size", "pin_memory", "seed")


def run_folder(recipe: str, output: str | None) -> Path:
    """The folder of a recipe's run: the one given, else ``runs/RECIPE``."""
    return Path(output) if output else Path("runs") / Path(recipe).stem


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a run, or its last where no validation chose a best one; the file of an exported model.

    Raises: FileNotFoundError when there is none.
    """
    found = model_file(folder)
    if found is not None:
        return found
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
        return weights.find(name) / EXPORTED


def report_name(overrides: Sequence[str]) -> str:
    """Return the folder of a test's report in its run: "test", with what was scored where that differs from the run's own data.

    Args:
        overrides: entries of the recipe, as options.

    Example:
        >>> report_name(["--data.test_root", "scans/attic", "--data.num_workers", "2"]), report_name(["--data.test_rotation=so3"])
        ('test-attic', 'test-so3')
    """
    words = [part for word in overrides for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = {
        name.removeprefix("--data."): value
        for name, value in pairwise(words)
        if name.startswith("--data.") and name.removeprefix("--data.") not in SAME_SCORES
    }
    values = [Path(v).stem if k.endswith("root") else v for k, v in given.items()]
    parts = [re.sub(r"[^\w.-]+", "-", value).strip("-.")[:40] for value in values]
    return "-".join(["test", *(part for part in parts if part)])

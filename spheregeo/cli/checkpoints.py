"""Where a run keeps its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from spheregeo import weights
from spheregeo.files import reading
from spheregeo.tasks.files import CHECKPOINTS as CHECKPOINTS
from spheregeo.tasks.files import EXPORTED, model_file

RECORD = "recipe.yaml"  # the recipe as a run recorded it, in the run's folder
REPORT = "metrics.json"  # of every test
OPTIONS = "options_digest"  # in a report: of the options that change scores
# entries of data that change no score
SAME_SCORES = ("num_workers", "batch_size", "eval_batch_size", "pin_memory")
# other options that do
SCORING = (
    "--data",
    "--seed_everything",
    *(f"--trainer.{name}" for name in ("limit_test_batches", "precision", "fast_dev_run", "overfit_batches")),
)


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


def report_name(overrides: Sequence[str], ckpt: str | None = None) -> str:
    """Return the folder of a test's report in its run: "test", with what was scored where that differs from the run's own.

    Args:
        overrides: entries of the recipe, as options.
        ckpt: checkpoint that is scored; the run's own if None.

    Example:
        >>> report_name(["--data.test_root", "scans/attic", "--data.num_workers", "2"]), report_name(["--data.test_rotation=so3"])
        ('test-attic', 'test-so3')
    """
    given = _scored(overrides).items()
    values = [
        *([Path(ckpt).stem] if ckpt else []),
        *(Path(v).stem if k.endswith("root") else v for k, v in given),
    ]
    parts = [re.sub(r"[^\w.-]+", "-", value).strip("-.")[:40] for value in values]
    return "-".join(["test", *(part for part in parts if part)])


def report_place(folder: Path, overrides: Sequence[str], ckpt: str | None = None) -> tuple[Path, str]:
    """Return where a test's report lies, and the digest of its options, by which tests of one :func:`report_name` are told apart.

    Args:
        folder: folder of the run.
        overrides: entries of the recipe, as options.
        ckpt: checkpoint that is scored; the run's best if None.
    """
    if ckpt is not None:
        with contextlib.suppress(FileNotFoundError):
            ckpt = None if Path(ckpt).resolve() == best_checkpoint(folder).resolve() else ckpt
    given = {k: str(Path(v).resolve()) if k.endswith("root") else v for k, v in _scored(overrides).items()}
    if ckpt is not None:
        given["ckpt"] = str(Path(ckpt).resolve())
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    place = folder / report_name(overrides, ckpt)
    if not (place / REPORT).is_file():
        return place, digest
    with reading(place / REPORT, "the scores of a test"):
        earlier = json.loads((place / REPORT).read_text(encoding="utf-8")).get(OPTIONS)
    # Reports of versions without digests are those of plain tests only where nothing was given.
    same = earlier == digest or (earlier is None and not given)
    return (place if same else place.with_name(f"{place.name}-{digest[:8]}")), digest


def _scored(overrides: Sequence[str]) -> dict[str, str]:
    """Return the options that change scores: those of data by their names alone."""
    words = [part for word in overrides for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found: dict[str, str] = {}
    for word, value in pairwise(words):
        name = word.removeprefix("--data.").removeprefix("init_args.")
        if word in SCORING or (word.startswith("--data.") and name not in SAME_SCORES):
            found[name.removeprefix("--")] = value
    return found

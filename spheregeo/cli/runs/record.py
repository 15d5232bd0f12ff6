"""The recipe as a run records it: with all that was given beside it, and what it ran with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spheregeo.cli.checkpoints import RECORD
from spheregeo.cli.class_paths import public_paths
from spheregeo.cli.former import current_recipe
from spheregeo.cli.runs.files import RunFiles, digest
from spheregeo.cli.trust import parse_recipe
from spheregeo.tasks.files import versions

_START = "weights taken from"


def record_text(
    dump: str, logger: str | None, data: dict[str, Any], start: str | Path | None, earlier: str = ""
) -> str:
    """Return the record of a run.

    Args:
        dump: the recipe with every argument.
        logger: name of the logger, which the parser has not seen.
        data: description of the data.
        start: checkpoint that the weights were taken from; none if None.
        earlier: the record of the run as it was, where the run goes on.
    """
    content = yaml.safe_load(dump)
    content["trainer"].pop("default_root_dir", None)  # the run may be moved
    if logger is not None:
        content["trainer"]["logger"] = logger
    counts = ", ".join(f"{split} {count}" for split, count in data["counts"].items())
    files = [
        f"{name}: {d['files']} files, {d['bytes']} bytes, sha256 {d['digest'][:16]}"
        for name, d in data["files"].items()
    ]
    lines = [
        "recorded by a run; --resume, test and validate use it",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
        f"data: {data['kind']}, {'; '.join(filter(None, [counts, *files]))}",
        *([f"{_START} {start}"] if start is not None else []),
        *(line[2:] for line in earlier.splitlines() if line.startswith(f"# {_START} ")),
    ]
    return "".join(f"# {line}\n" for line in lines) + yaml.safe_dump(content, sort_keys=False)


def recorded_instead(recipe: Path, folder: Path) -> bool:
    """Return whether a recipe's file holds anything else than the recipe that a run was begun with.

    Args:
        recipe: the recipe's file.
        folder: folder of the run.
    """
    record = folder / RECORD
    if recipe.resolve() == record.resolve():
        return False
    text = recipe.read_text(encoding="utf-8")
    source = RunFiles(folder).source
    if source:
        return source != digest(text)
    # A run of a version that did not say: what the recipe states has to stand in the record.
    return not _within(_content(text, recipe), _content(record.read_text(encoding="utf-8"), record))


def _content(text: str, name: Path) -> dict[str, Any]:
    text = public_paths(text)
    parse_recipe(text, name)
    return parse_recipe(current_recipe(text), name)


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)

"""All of a recipe's data read once: progress, every bad file with its reason, classes with their shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from tqdm import tqdm

from spheregeo import recipes
from spheregeo.cli.options import merged
from spheregeo.cli.trust import check_recipe, guarded
from spheregeo.data.module import DataModule
from spheregeo.data.readings import Reading, read_all
from spheregeo.files import write_json


def run(recipe: str, workers: int, json_file: str | None, overrides: list[str]) -> None:
    """Read the data of a recipe and print what was found.

    Args:
        recipe: name or path of the recipe.
        workers: processes that read.
        json_file: file for the report as JSON, if any.
        overrides: options of the command line.

    Raises: ValueError when any file is bad, after all have been read.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}; expected at least 0")
    module = data_of(recipes.find(recipe), overrides)
    found = read_all(module, workers, _bar)
    names = [] if not found.counts else _class_names(module)
    print(report(found, names))
    if json_file:
        write_json(json_file, _plain(found, names), allow_nan=False)
    total = sum(found.counts.values())
    if found.faults:
        raise ValueError(f"{len(found.faults)} of {total} readings failed; see the lines above")


def data_of(recipe: Path, overrides: list[str]) -> DataModule[Any]:
    """Make the data module of a recipe, without a model and without reading anything.

    Args:
        recipe: the YAML file.
        overrides: options of the command line.

    Raises: ValueError for options that the data do not take.
    """
    content = merged(recipe, overrides)
    check_recipe(content, recipe)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    with guarded(recipe):
        made = parser.instantiate(parser.parse_object({"data": content.get("data")}))
    module: DataModule[Any] = made.data
    return module


def _bar(readings: Any, count: int, split: str) -> Any:
    return tqdm(readings, desc=split, total=count, unit=" readings", disable=None)


def _class_names(module: Any) -> Sequence[str]:
    try:
        return tuple(module.class_names)
    except (OSError, ValueError):
        return ()


def report(found: Reading, class_names: Sequence[str]) -> str:
    """Return what reading has shown as text: faults, counts, and a table of classes.

    Args:
        found: what reading has shown.
        class_names: names of the classes; empty where there are none.
    """
    lines = [f"{split}: {message}" for split, message in found.faults]
    lines.append(", ".join(f"{split} {count}" for split, count in found.counts.items()) or "nothing was read")
    if found.classes:
        width = max([len(name) for name in class_names] + [5])
        lines.append(f"{'class':<{width}}  " + "  ".join(f"{split:>7}" for split in found.classes))
        for index in sorted(set().union(*found.classes.values())):
            name = class_names[index] if 0 <= index < len(class_names) else f"{index} (no name)"
            shares = (_share(counts, index) for counts in found.classes.values())
            lines.append(f"{name:<{width}}  " + "  ".join(f"{share:>7}" for share in shares))
        for index, name in enumerate(class_names):
            absent = [split for split, counts in found.classes.items() if not counts.get(index)]
            if absent:
                lines.append(f"odd: class {name} is absent from {', '.join(absent)}")
    return "\n".join(lines)


def _share(counts: Counter[int], index: int) -> str:
    return f"{counts.get(index, 0) / max(1, counts.total()):.2%}"


def _plain(found: Reading, class_names: Sequence[str]) -> dict[str, Any]:
    named = {
        split: {class_names[k] if 0 <= k < len(class_names) else str(k): n for k, n in sorted(counts.items())}
        for split, counts in found.classes.items()
    }
    faults = [{"split": split, "message": message} for split, message in found.faults]
    return {"counts": found.counts, "classes": named, "faults": faults}

"""``spheregeo new``: look at a user's data, tell what was found and what is odd, write a recipe for it."""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml

from spheregeo import recipes
from spheregeo.cli.new.survey import Survey
from spheregeo.cli.options import render
from spheregeo.files import write_bytes

_LOOKS = {
    "segment-sphere": "panoramas",
    "depth-sphere": "panoramas",
    "classify-points": "classes",
    "classify-mesh": "classes",
    "regress-molecules": "molecules",
    "fit-md": "molecules",
}


def run(kind: str, data: str, output: str | None, classes: list[str], overwrite: bool) -> None:
    """Look at data, print what was found and what is odd, and write a commented recipe.

    Args:
        kind: the job, one of ``spheregeo.cli.commands.new.KINDS``.
        data: folder or file of the data.
        output: the recipe to write; KIND-NAME.yaml here if None.
        classes: names of the classes of panoramas, for a folder without classes.txt.
        overwrite: whether to replace a file of that name.

    Raises: FileNotFoundError, ValueError for data without what the job needs, or a recipe that is there already.
    """
    root = Path(data)
    if not root.exists():
        raise FileNotFoundError(f"data {root} does not exist; expected a folder or file for {kind}")
    path = Path(output) if output else Path(f"{kind}-{root.stem}.yaml")
    if path.exists() and not overwrite:
        raise ValueError(
            f"{path} exists already; pass --overwrite to replace it, or --output for another name"
        )
    if classes and _LOOKS[kind] != "panoramas":
        raise ValueError(f"classes are given, but those of {kind} are in the data; leave --classes out")
    look = importlib.import_module(f"spheregeo.cli.new.{_LOOKS[kind]}").look
    survey: Survey = look(root, kind, classes) if _LOOKS[kind] == "panoramas" else look(root, kind)
    print("\n".join([*survey.found, *(f"odd: {line}" for line in survey.odd)]))
    write_bytes(path, recipe_of(survey, kind).encode())
    print(f"recipe in {path}; next: spheregeo check {path}, then spheregeo fit {path}")


def recipe_of(survey: Survey, kind: str) -> str:
    """Return a recipe for the data that were looked at, with what was found and what is odd in its head.

    Args:
        survey: what was found.
        kind: the job.
    """
    content = yaml.safe_load(recipes.find(survey.recipe).read_text(encoding="utf-8"))
    content["data"] = {"class_path": f"spheregeo.data.{survey.data}", "init_args": survey.options}
    content["model"]["init_args"] |= survey.model
    content["trainer"] |= survey.trainer
    head = [f"# {kind} on {survey.options['root']}", "#", *(f"# {line}" for line in survey.found)]
    head += [f"# odd: {line}" for line in survey.odd]
    return "\n".join([*head, "", render(content, everything=False)])

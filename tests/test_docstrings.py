"""Docstrings: examples run and print what they say, and public classes explain every argument."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILES = [file for file in sorted((ROOT / "spheregeo").rglob("*.py")) if " >>> " in file.read_text()]


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", [module(file) for file in FILES])
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for examples that write files
    torch.manual_seed(0)
    found = importlib.import_module(name)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    said: list[str] = []
    for example in finder.find(found, name):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries, f"{name} has >>> in its text but no example that is found"


ROOMS = ("nn", "models", "grids", "kernels", "data")


def public_classes() -> dict[str, type]:
    """Return every class that a package inside one of the rooms lists in ``__all__``, by its own name."""
    found = {}
    for room in ROOMS:
        for file in sorted((ROOT / "spheregeo" / room).rglob("__init__.py")):
            package = importlib.import_module(module(file))
            for public in getattr(package, "__all__", ()):
                value = getattr(package, public)
                if inspect.isclass(value) and value.__module__.startswith("spheregeo."):
                    found[value.__name__] = value
    return found


CLASSES = public_classes()


def arguments(thing: type) -> list[str]:
    """Return the names of a constructor's arguments; a constructor inherited from torch is torch's to explain."""
    if hasattr(thing, "_fields"):  # a named tuple
        return list(thing._fields)
    owner = next(base for base in thing.__mro__ if "__init__" in vars(base))
    return list(inspect.signature(thing).parameters) if owner.__module__.startswith("spheregeo") else []


def explained(docstring: str) -> set[str]:
    """Return the names before the colons of a docstring's Args, or of its Attributes for plain tuples and dataclasses."""
    found: set[str] = set()
    for section in re.findall(r"^(?:Args|Attributes):[ ]*\n((?:[ ]{4,}.*\n|\n)+)", docstring + "\n", re.M):
        for names in re.findall(r"^[ ]{4}(\*{0,2}\w+(?:, ?\*{0,2}\w+)*)(?: \([^)]*\))?:", section, re.M):
            found.update(name.strip().lstrip("*") for name in names.split(","))
    return found


def test_what_counts_as_explained() -> None:
    text = "Layer.\n\nArgs:\n    a, b: two.\n        longer: text.\n    **options: rest.\n\nShape: (c: none)\n    d: no.\n"
    assert explained(text) == {"a", "b", "options"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_public_classes_explain_their_arguments_and_have_an_example(name: str) -> None:
    docstring = inspect.getdoc(CLASSES[name]) or ""
    silent = [argument for argument in arguments(CLASSES[name]) if argument not in explained(docstring)]
    assert not silent, f"{name} does not explain {', '.join(silent)}"
    reads_files = {"root", "source"} & set(
        arguments(CLASSES[name])
    )  # which an example would have to make first
    in_data = CLASSES[name].__module__.startswith("spheregeo.data")
    if not (
        in_data and (reads_files or inspect.isabstract(CLASSES[name]) or issubclass(CLASSES[name], Exception))
    ):
        assert ">>> " in docstring, f"{name} has no example"

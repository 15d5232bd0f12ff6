"""Collect what the package offers, for commands that answer without importing torch: ``catalogue.json`` for
``spheregeo list``, ``options.json`` for the help of recipes and for checks of options.

Command, after adding or changing a public grid, layer, model, dataset or task: ``python -m spheregeo.cli.catalogue``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from spheregeo.files import write_bytes

CATALOGUE = Path(__file__).with_name("catalogue.json")
OPTIONS = Path(__file__).with_name("options.json")
_ROLE = re.compile(r":\w+:`~?(?:[^`<]*<)?(?:[\w.]*\.)?([\w]+)>?`")


def summary(thing: Any) -> str:
    """Return the first paragraph of a docstring as one line of plain text, without Sphinx roles and code marks.

    Args:
        thing: a class or a function.

    Example:
        >>> def example() -> None: "Options as for :class:`~spheregeo.nn.DiscoConv`; see ``stride``."
        >>> summary(example)
        'Options as for DiscoConv; see stride.'
    """
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return _ROLE.sub(r"\1", " ".join(paragraph.split())).replace("``", "")


def _public(room: ModuleType) -> Iterator[Any]:
    """Yield the public things of a room and of its sub-rooms that are imported with it."""
    for name in getattr(room, "__all__", ()):
        thing = getattr(room, name)
        if inspect.ismodule(thing):
            yield from _public(thing)
        else:
            yield thing


def _kinds(room: ModuleType, root: type) -> dict[str, str]:
    """Return the summaries of the room's public concrete classes that descend from ``root``, by name."""
    found = {thing for thing in _public(room) if inspect.isclass(thing) and issubclass(thing, root)}
    concrete = (kind for kind in found if kind is not root and not inspect.isabstract(kind))
    return {kind.__name__: summary(kind) for kind in sorted(concrete, key=lambda kind: kind.__name__)}


def collect() -> dict[str, dict[str, str]]:
    """Return one line of text per grid, layer, model, dataset and task, by list and name."""
    from lightning.pytorch import LightningDataModule
    from torch.nn import Module

    from spheregeo import data, grids, models, nn, tasks

    short = {name: alias for alias, by_output in models.aliases().items() for name in by_output.values()}
    networks = {
        name: summary(models.builder_of(name)) + (f" [in short: {short[name]}]" if name in short else "")
        for name in models.names()
    }
    return {
        "grids": _kinds(grids, grids.Grid),
        "layers": _kinds(nn, Module),
        "models": networks,
        "datasets": _kinds(data, LightningDataModule),
        "tasks": _kinds(tasks, tasks.Task),
    }


def text() -> str:
    """Return the content of ``catalogue.json``."""
    return json.dumps(collect(), indent=1, ensure_ascii=False) + "\n"


def _first_sentence(text: str | None) -> str:
    plain = " ".join(_ROLE.sub(r"\1", text or "").replace("``", "").split())
    return re.split(r"(?<=[a-z0-9)\]}])\.(?= [A-Z]|$)", plain)[0].removesuffix(".")


def _plain(default: Any) -> Any:
    """Return a default as JSON holds it."""
    if default is None or isinstance(default, (bool, int, float, str)):
        return default
    if isinstance(default, (tuple, list)):
        return [_plain(value) for value in default]
    return default if isinstance(default, dict) else repr(default)


def _options(thing: Any, skip: Iterable[str] = ()) -> dict[str, Any]:
    """Return (default, one line of text) per option of a class or function, those of its bases included."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(thing) else parser.add_function_arguments
    add(thing, fail_untyped=False)
    return {
        action.dest: [_plain(action.default), _first_sentence(action.help)]
        for action in parser._actions
        if "." not in action.dest and action.dest not in ("help", *skip)
    }


class _Recorder:
    """Stands for a parser that only takes notes of the arguments added to it."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def add_argument(self, name: str, *, default: Any, help: str, **_: Any) -> None:
        self.found[name.removeprefix("--")] = [default, help]

    def link_arguments(self, *_: Any, **__: Any) -> None:
        """Links are no options."""


def _former_names(kind: type) -> Iterable[str]:
    """Return the former names of arguments that the constructor of a class still takes."""
    constructor = vars(kind).get("__init__")
    return (*getattr(kind, "former_names", ()), *getattr(constructor, "former_names", ()))


def _network_options(name: str) -> dict[str, Any]:
    from spheregeo.models import registry

    found: dict[str, Any] = {}
    for part in reversed(registry.takers_of(name)):
        found |= _options(part)
    taken = registry.options_taken(name)
    return found if taken is None else {option: found[option] for option in taken if option in found}


def collect_options() -> dict[str, Any]:
    """Return the options of every dataset, task and network, of the trainer and of a run: default and one line of text each."""
    from lightning.pytorch import LightningDataModule, Trainer

    from spheregeo import data, models, tasks
    from spheregeo.cli.engine import SphereCLI

    classes: dict[str, Any] = {}
    linked: dict[str, Any] = {}
    for room, root in ((data, LightningDataModule), (tasks, tasks.Task)):
        for name in _kinds(room, root):
            kind = getattr(room, name)
            skip = getattr(kind, "linked_from_data", ())
            classes[f"{room.__name__}.{name}"] = _options(kind, skip)
            former = {old for base in kind.__mro__ for old in _former_names(base)}
            linked[f"{room.__name__}.{name}"] = sorted({*skip, *former})
    recorder = _Recorder()
    SphereCLI.add_arguments_to_parser(recorder, recorder)  # type: ignore[arg-type]
    short = {alias: sorted(by_output.values()) for alias, by_output in models.aliases().items()}
    return {
        "classes": classes,
        "linked": linked,
        "targets": {
            f"{data.__name__}.{name}": list(getattr(data, name).target_names)
            for name in _kinds(data, LightningDataModule)
            if getattr(getattr(data, name), "target_names", ())
        },
        "networks": {name: _network_options(name) for name in models.names()},
        "aliases": short,
        "trainer": _options(Trainer),
        "run": recorder.found,
    }


def options_text() -> str:
    """Return the content of ``options.json``: a line per option."""
    content = json.dumps(collect_options(), indent=1, ensure_ascii=False)
    return (
        re.sub(r"\[\s*([^][]*?)\s*\](?=,?\n)", lambda m: "[" + " ".join(m[1].split()) + "]", content) + "\n"
    )


if __name__ == "__main__":
    write_bytes(CATALOGUE, text().encode())
    write_bytes(OPTIONS, options_text().encode())
    print(f"{CATALOGUE.name} and {OPTIONS.name} are written")

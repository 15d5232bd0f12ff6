"""Collect what the package offers into ``catalogue.json``, from which ``spheregeo list`` answers without importing torch.

Command, after adding a public grid, layer, model, dataset or task: ``python -m spheregeo.cli.catalogue``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from spheregeo.files import write_bytes

CATALOGUE = Path(__file__).with_name("catalogue.json")
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


if __name__ == "__main__":
    write_bytes(CATALOGUE, text().encode())
    print(f"{CATALOGUE.name} is written")

"""Cases, one file each: `cases()` returns its configurations."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from cases.configuration import Configuration, PointConfiguration


def names() -> list[str]:
    """Return the names of all cases; those in a folder are folder/name."""
    helpers, here = {"__init__", "configuration", "layers"}, Path(__file__).parent
    files = [file for file in here.rglob("*.py") if file.stem not in helpers]
    return sorted(file.relative_to(here).with_suffix("").as_posix() for file in files)


def load(name: str) -> list[Configuration | PointConfiguration]:
    """Return the configurations of a case."""
    configurations: list[Configuration | PointConfiguration] = import_module(
        f"cases.{name.replace('/', '.')}"
    ).cases()
    return configurations

"""Cases, one file each: `cases()` returns its configurations."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from cases.configuration import Configuration, PointConfiguration


def names() -> list[str]:
    """Return the names of all cases."""
    helpers = {"__init__", "configuration", "layers"}
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in helpers)


def load(name: str) -> list[Configuration | PointConfiguration]:
    """Return the configurations of a case."""
    configurations: list[Configuration | PointConfiguration] = import_module(f"cases.{name}").cases()
    return configurations

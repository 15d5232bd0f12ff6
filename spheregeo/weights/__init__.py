"""Small trained models that come with the package, by name; ``datasets/make_weights.py`` of the repository makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["find", "for_recipe", "names", "note", "summary"]

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the shipped models, sorted.

    Example:
        >>> "rooms" in names()
        True
    """
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def find(name: str) -> Path:
    """The folder of a shipped model. Raises: ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"no shipped model is named {name!r}; there are {', '.join(names())}")
    return _FOLDER / name


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((find(name) / "config.json").read_text(encoding="utf-8"))
    return config


def for_recipe(recipe: str) -> str | None:
    """The name of the shipped model that serves a recipe, None where there is none."""
    return next((name for name in names() if _config(name).get("recipe") == recipe), None)


def summary(name: str) -> str:
    """What a shipped model does, in one line."""
    config = _config(name)
    return f"{config['about']} [recipe {config['recipe']}]"


def note(name: str) -> str:
    """What a shipped model knows and what it is not for, in one line.

    Example:
        >>> note("rooms").startswith("shipped model 'rooms'")
        True
    """
    config = _config(name)
    known = config.get("classes") or [
        f"{target} ({unit})" for target, unit in (config.get("targets") or {}).items()
    ]
    return f"shipped model {name!r}: {config['about']}; knows {', '.join(known)}; not for {config['not_for']}"

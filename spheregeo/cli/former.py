"""Options of a recipe that were renamed: former names go on working, in recipes and on the command line, with a warning."""

from __future__ import annotations

import warnings
from typing import Any

import yaml

FORMER = {"settle": "precise_bn"}  # names of today by former names


def _warn(old: str) -> None:
    text = f"option {old} is called {FORMER[old]} now; the former name will go in 0.3"
    warnings.warn(text, FutureWarning, stacklevel=4)


def current_recipe(text: str) -> str:
    """Return a recipe with the names of today; the very text where the recipe uses no former name.

    Args:
        text: the recipe.
    """
    content = yaml.safe_load(text)
    found = [old for old in FORMER if isinstance(content, dict) and old in content]
    if not found:
        return text
    for old in found:
        _warn(old)
        content[FORMER[old]] = content.pop(old)
    return yaml.safe_dump(content, sort_keys=False)


# Options of data that recorded runs do not have, and what those runs did, where today's default is another.
BEFORE = {"ForcesData": {"split_by": "frame"}}


def as_it_was(content: dict[str, Any]) -> bool:
    """Give a recorded run the options that it was made with where these have other defaults now; whether there were any.

    Args:
        content: the recipe that the run recorded, which is changed.
    """
    data = content.get("data") or {}
    options = BEFORE.get(str(data.get("class_path", "")).rpartition(".")[2], {})
    missing = {k: v for k, v in options.items() if k not in (data.get("init_args") or {})}
    if missing:
        data["init_args"] = {**(data.get("init_args") or {}), **missing}
    return bool(missing)


def current_options(overrides: list[str]) -> list[str]:
    """Return options of the command line with the names of today.

    Args:
        overrides: options and their values, such as ``["--settle", "8"]``.
    """
    current = []
    for option in overrides:
        name, sign, value = option.partition("=")
        if name.startswith("--") and name[2:] in FORMER:
            _warn(name[2:])
            name = f"--{FORMER[name[2:]]}"
        current.append(name + sign + value)
    return current

"""What a recipe may make run: classes of spheregeo, torch and lightning, and nothing else unless the user trusts it.

A recipe names classes by their import path, and to import is to run. A recipe may come from anywhere, on its own or inside
a run's folder; docs/security.md says what may be taken from strangers.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

TRUSTED = ("spheregeo", "torch", "lightning")
_NODES = 100_000  # of a recipe once its anchors are written out; the largest of the package has some hundreds
_PATH = re.compile(rf"({'|'.join(TRUSTED)})(\.[A-Za-z_]\w*)+")
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Let recipes name any class or function inside the block, if they are trusted.

    Args:
        trust: whether the user trusts the recipes that are read.
    """
    token = _trusting.set(trust)
    try:
        yield
    finally:
        _trusting.reset(token)


def parse_recipe(text: str, name: str | Path) -> dict[str, Any]:
    """Return a recipe's content; errors name its place, and never show what stands in the file.

    Args:
        text: the recipe, YAML.
        name: the recipe's file, for messages.

    Raises: ValueError for text that is no mapping in YAML, that includes other files, or that grows beyond measure by anchors.

    Example:
        >>> parse_recipe("ema: 0.99", "mine.yaml")
        {'ema': 0.99}
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ValueError(f"{name} is no YAML{where}: {problem}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name} is no YAML that can be read: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} is no recipe: expected a YAML mapping with data, model and trainer")
    if _size(content, {}, name) > _NODES:
        raise ValueError(
            f"{name} has more than {_NODES} entries once its anchors are written out; expected a recipe"
        )
    if "config" in content:
        raise ValueError(f"{name} has an entry config; a recipe includes no other file")
    for part in ("data", "model", "trainer"):
        _check_part(content.get(part), part, name)
    return content


def _size(node: Any, known: dict[int, int | None], name: str | Path) -> int:
    """Return the number of nodes below and including one, aliases counted each time they are used."""
    if not isinstance(node, (dict, list, tuple, set)):
        return 1
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise ValueError(f"{name} has an anchor that holds itself; expected a recipe")
        return size
    known[id(node)] = None
    children = [*node.keys(), *node.values()] if isinstance(node, dict) else list(node)
    known[id(node)] = size = 1 + sum(_size(child, known, name) for child in children)
    return size


def _check_part(part: Any, key: str, name: str | Path) -> None:
    """Check that a part of a recipe is given in place: a path there would be read, and shown when it is no YAML."""
    if isinstance(part, str) and not re.fullmatch(r"[A-Za-z_][\w.]*", part):
        raise ValueError(f"{name}: {key} is a text; expected a mapping with class_path and init_args")
    if isinstance(part, str) and Path(part).exists():
        raise ValueError(f"{name}: {key} names a file; a recipe includes no other file")
    if isinstance(part, dict):
        for inner in ("init_args", "dict_kwargs"):
            if isinstance(part.get(inner), str):
                raise ValueError(f"{name}: {key}.{inner} is a text; expected a mapping")


def check_path(path: str, name: str | Path) -> None:
    """Check that an import path may be imported.

    Args:
        path: path of a class, such as ``spheregeo.data.RoomsData``.
        name: the recipe that names it, for the message.

    Raises: ValueError for one of another package, unless recipes are trusted.
    """
    if not _trusting.get() and path.partition(".")[0] not in TRUSTED:
        raise ValueError(_refusal(path, name))


def _refusal(path: str, name: str | Path) -> str:
    return (
        f"{name} names {path}, which is code from outside {', '.join(TRUSTED)}; if you know the recipe and that code, "
        "pass --trust-recipe"
    )


def check_recipe(content: Any, name: str | Path) -> None:
    """Check what a recipe names by import path, at any depth: classes of trusted packages, and no functions.

    Args:
        content: the recipe as :func:`parse_recipe` returns it, or a part.
        name: the recipe's file, for messages.

    Raises: ValueError for anything else, unless recipes are trusted.
    """
    if _trusting.get():
        return
    for key, value in _strings(content):
        if key == "class_path" and "." in value:
            check_path(value, name)
        if _PATH.fullmatch(value) and _is_function(value):
            raise ValueError(
                f"{name} names the function {value}; if you know what it does there, pass --trust-recipe"
            )


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for inner, value in node.items():
            yield from _strings(value, str(inner))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _strings(value, key)
    elif isinstance(node, str):
        yield key, node


def _is_function(path: str) -> bool:
    """Return whether a path within the trusted packages leads to something that can be called and is no class."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return callable(found) and not inspect.isclass(found)
    return False


@contextlib.contextmanager
def guarded(name: str | Path) -> Iterator[None]:
    """Hold the parser of recipes to the trusted packages inside the block, whatever names a value and however deep.

    Args:
        name: the recipe that is parsed, for messages.

    Raises: ValueError for a class or function of another package, unless recipes are trusted.
    """
    from jsonargparse import _common, set_parsing_settings

    if _trusting.get():
        yield
        return
    before = dict(_common.parsing_settings)
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(TRUSTED))
    try:
        yield
    except Exception as error:
        denied = re.search(r"Importing '([\w.]+)' is not allowed", str(error))
        if denied is None:
            raise
        raise ValueError(_refusal(denied[1], name)) from error
    finally:
        _common.parsing_settings.clear()
        _common.parsing_settings.update(before)

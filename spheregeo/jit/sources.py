"""What compiled code depends on: the files that a function can draw on, versions of the compilers, choices at run time."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

_CHOICES: dict[str, str] = {}


def add_to_key(module: str, value: str) -> None:
    """Keep compiled code apart by a choice that a module makes when it is imported, such as one by an environment variable.

    Args:
        module: ``__name__`` of the module that chooses; the choice counts for functions that are defined afterwards in this
            module and in all that import from it.
        value: what was chosen; code compiled under another value is not used.
    """
    _CHOICES[module] = value


def key_of(module: str, file: str) -> str:
    """Hash of all that compiled code of a module depends on: sources, compilers, and choices made so far.

    Args:
        module: name of the module.
        file: path of its source.

    Raises: OSError if a source cannot be read, SyntaxError if one cannot be parsed.
    """
    hashed, modules = digest(module, file)
    chosen = sorted((name, value) for name, value in _CHOICES.items() if name in modules)
    return hashlib.sha256(repr((hashed, chosen)).encode()).hexdigest()


@cache
def digest(module: str, file: str) -> tuple[str, frozenset[str]]:
    """Hash of compilers' versions and of the sources of a module and of all modules of ours that it imports; their names.

    numba writes the value of a global name into compiled code, be it a function or a constant. Whatever a function draws on is
    therefore in its own file or in one that this file imports from. Read when the module is imported, not later: then an
    edit during a long run cannot make old code pass for new.

    Raises: OSError if a source cannot be read, SyntaxError if one cannot be parsed.
    """
    import llvmlite
    import numba
    import numpy

    total = hashlib.sha256()
    for package in (numba, llvmlite, numpy):
        total.update(f"{package.__name__} {package.__version__}\n".encode())
    packages = frozenset(name.partition(".")[0] for name in (module, __name__))
    waiting, seen = [(module, file)], {module}
    while waiting:
        name, path = waiting.pop(0)
        hashed, imported = _read(name, path, packages)
        total.update(f"{name} {hashed}\n".encode())
        new = [pair for pair in imported if pair[0] not in seen]
        waiting += new
        seen.update(target for target, _ in new)
    return total.hexdigest(), frozenset(seen)


@cache
def _read(module: str, file: str, packages: frozenset[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Hash of a source, and (name, file) of each module of the ``packages`` that is imported anywhere in its text."""
    source = Path(file).read_bytes()
    here = module.split(".") if Path(file).stem == "__init__" else module.split(".")[:-1]
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            origin = _origin(stem, packages)
            if origin is not None and Path(origin).stem == "__init__":  # names in a package may be modules
                names = [f"{stem}.{alias.name}" for alias in node.names]
            names.append(stem)
        found |= {name: origin for name in names if (origin := _origin(name, packages)) is not None}
    return hashlib.sha256(source).hexdigest(), tuple(found.items())


@cache
def _origin(name: str, packages: frozenset[str]) -> str | None:
    """File of a module of the ``packages``, or None if the name is not one of such a module."""
    if name.partition(".")[0] not in packages:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None and spec.has_location else None

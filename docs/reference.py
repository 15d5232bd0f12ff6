"""Pages of the reference, one per public module, written from ``__all__``; and our docstring sections as field lists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import spheregeo

SECTIONS = ("Shape", "Units", "Equivariance", "Raises", "Reference", "References", "Returns", "Yields")
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):\s*(.*)$")
_LITERAL = re.compile(r"(``.*?``|:[\w:]+:`[^`]*`|`[^`]*`)")


def modules() -> list[str]:
    """Names of all packages of ours that list public names in ``__all__``, a room before its folders."""
    found = []
    for info in pkgutil.walk_packages(spheregeo.__path__, "spheregeo."):
        if info.ispkg and getattr(importlib.import_module(info.name), "__all__", None):
            found.append(info.name)
    return sorted(found)


def placed() -> dict[str, list[tuple[str, str]]]:
    """By page (a module's name), the objects described there as (module to name them by, name).

    An object that several modules export is described once: on the page of the innermost module, under the outermost
    one's name.
    """
    exports: dict[int, list[tuple[str, str]]] = {}
    objects: dict[int, Any] = {}
    for module in modules():
        held = importlib.import_module(module)
        for name in held.__all__:
            value = getattr(held, name)
            objects[id(value)] = value
            exports.setdefault(id(value), []).append((module, name))
    pages: dict[str, list[tuple[str, str]]] = {module: [] for module in modules()}
    for places in exports.values():
        shown = min(places, key=lambda place: (place[0].count("."), place[0]))
        page = max(places, key=lambda place: (place[0].count("."), place[0]))[0]
        pages[page].append(shown)
    return pages


def _directive(module: str, name: str) -> str:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n   :members:\n"
    if inspect.ismodule(value):
        again = "   :no-index:\n" if value.__name__ in modules() else ""  # has a page of its own
        return f".. automodule:: {value.__name__}\n{again}"
    return (
        f".. autofunction:: {name}\n"
        if callable(value)
        else f".. py:data:: {name}\n   :type: {type(value).__name__}\n"
    )


def write(folder: Path) -> None:
    """Write a page per module into ``folder`` and an index; pages that are as they were keep their time."""
    folder.mkdir(exist_ok=True)
    pages = {module: names for module, names in placed().items() if names}
    written = {"index.rst": _index(sorted(pages))}
    described = {
        f"{home}.{name}" for names in pages.values() for home, name in names
    }  # as a folder and a function may be
    for module, names in pages.items():
        lines = [module, "=" * len(module), "", f".. automodule:: {module}"]
        if module in described:
            lines.append("   :no-index:")
        lines.append("")
        for home, name in sorted(names, key=lambda place: place[1].lower()):
            lines += [f".. currentmodule:: {home}", "", _directive(home, name)]
        written[f"{module}.rst"] = "\n".join(lines)
    for file, text in written.items():
        if not (folder / file).exists() or (folder / file).read_text() != text:
            (folder / file).write_text(text)
    for stale in set(folder.glob("*.rst")) - {folder / file for file in written}:
        stale.unlink()


def _index(pages: list[str]) -> str:
    lines = ["Reference", "=========", "", "Every public name, by the room it lives in.", ""]
    lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {page}" for page in pages), ""]
    return "\n".join(lines)


def _escape(line: str) -> str:
    """Plain text of a docstring as reStructuredText that means the same: no substitutions, references or stray stars."""
    parts = _LITERAL.split(line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", parts[i].replace("|", r"\|").replace("*", r"\*"))
    return "".join(parts)


def sections(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Turn ``Shape: …`` and its like into field lists, and keep formulas from being read as markup."""
    out: list[str] = []
    plain, inside = True, False  # inside a field: a line that is not indented goes on with it
    for line in lines:
        if line.lstrip().startswith(">>>"):
            plain = False
        elif not line.strip():
            plain = True
        match = _SECTION.match(line)
        if match:
            if out and out[-1].strip() and not inside:
                out.append("")
            out.append(f":{match[1]}: {_escape(match[2])}".rstrip())
            inside = True
            continue
        inside = inside and bool(line.strip())
        text = _escape(line) if plain else line
        out.append(f"    {text}" if inside and not line.startswith(" ") else text)
    lines[:] = out

"""What the package offers, read from its source text: no import, so that ``spheregeo list`` answers at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from spheregeo import recipes

_PACKAGE = Path(__file__).parents[1]


def _trees(room: str) -> Iterator[ast.Module]:
    for path in sorted((_PACKAGE / room).rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def _first_line(node: ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").strip().split("\n")[0]


def _public(room: str) -> set[str]:
    """Names in the ``__all__`` of the room and of its sub-rooms."""
    found: set[str] = set()
    for path in sorted((_PACKAGE / room).rglob("__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.value, (ast.List, ast.Tuple)):
                continue
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
                found |= {str(e.value) for e in node.value.elts if isinstance(e, ast.Constant)}
    return found


def _classes(room: str) -> dict[str, ast.ClassDef]:
    return {n.name: n for tree in _trees(room) for n in tree.body if isinstance(n, ast.ClassDef)}


def _descends(node: ast.ClassDef, root: str, classes: dict[str, ast.ClassDef]) -> bool:
    bases = [
        b.id if isinstance(b, ast.Name) else b.attr if isinstance(b, ast.Attribute) else ""
        for b in node.bases
    ]
    return root in bases or any(
        b in classes and b != node.name and _descends(classes[b], root, classes) for b in bases
    )


def _abstract(node: ast.ClassDef) -> bool:
    return any(isinstance(b, ast.Name) and b.id == "ABC" for b in node.bases) or any(
        isinstance(d, ast.Name) and d.id == "abstractmethod"
        for item in node.body
        if isinstance(item, ast.FunctionDef)
        for d in item.decorator_list
    )


def _kinds(room: str, root: str) -> list[tuple[str, str]]:
    """Public concrete classes of a room that descend from ``root``, with the first line of their docstrings."""
    classes, public = _classes(room), _public(room)
    return [
        (name, _first_line(node))
        for name, node in sorted(classes.items())
        if name in public and _descends(node, root, classes) and not _abstract(node)
    ]


def _aliases() -> dict[str, str]:
    """The short name of each model that has one, from the table in ``models/alias.py``."""
    for node in ast.parse((_PACKAGE / "models" / "alias.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "ALIASES" for t in node.targets
        ):
            table: dict[str, tuple[str, ...]] = ast.literal_eval(node.value)
            return {name: alias for alias, pair in table.items() for name in pair}
    return {}


def _models() -> list[tuple[str, str]]:
    rows, aliases = [], _aliases()
    for tree in _trees("models"):
        for node in tree.body:
            for call in getattr(node, "decorator_list", []):
                named = (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == "register"
                )
                if named and isinstance(call.args[0], ast.Constant):
                    name = str(call.args[0].value)
                    short = f" [in short: {aliases[name]}]" if name in aliases else ""
                    rows.append((name, _first_line(node) + short))  # type: ignore[arg-type]
    return sorted(rows)


def rows(what: str) -> list[tuple[str, str]]:
    """(name, one line) of all grids, layers, models, datasets or recipes."""
    if what == "grids":
        found = _kinds("grids", "Grid")
        return [row for row in found if row[0] not in ("Grid", "LatLon")]
    if what == "layers":
        return _kinds("nn", "Module")
    if what == "models":
        return _models()
    if what == "datasets":
        return _kinds("data", "LightningDataModule")
    return [(name, recipes.summary(name)) for name in recipes.names()]


def table(what: str) -> str:
    """The rows as aligned text."""
    lines = rows(what)
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in lines)

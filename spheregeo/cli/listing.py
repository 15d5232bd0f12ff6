"""What the package offers, read from ``catalogue.json``: no heavy import, so that ``spheregeo list`` answers at once."""

from __future__ import annotations

import json
from importlib import resources

from spheregeo import recipes, weights

LISTS = ("grids", "layers", "models", "datasets", "tasks", "recipes", "weights")


def rows(what: str) -> list[tuple[str, str]]:
    """Return (name, one line of text) of every entry of a list.

    Args:
        what: one of ``LISTS``.

    Example:
        >>> "HEALPix" in dict(rows("grids"))
        True
    """
    if what == "recipes":
        return [(name, recipes.summary(name)) for name in recipes.names()]
    if what == "weights":
        return [(name, weights.summary(name)) for name in weights.names()]
    catalogue = resources.files("spheregeo.cli").joinpath("catalogue.json").read_text(encoding="utf-8")
    return list(json.loads(catalogue)[what].items())


def table(what: str) -> str:
    """Return the rows of a list as aligned text."""
    lines = rows(what)
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in lines)

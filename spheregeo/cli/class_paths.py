"""Class paths of recipes written before classes moved: ``spheregeo.data.modules.RoomsData`` is ``spheregeo.data.RoomsData``."""

from __future__ import annotations

import importlib
import re

_DEEP = re.compile(r"\bspheregeo\.(data|tasks)(?:\.\w+)+\.([A-Za-z]\w*)\b")


def public_paths(text: str) -> str:
    """Replace paths through the files of ``data`` and ``tasks`` by the public names of these rooms, wherever the files lie now.

    Args:
        text: a recipe, or one word of a command line.

    Returns: the text; paths of names that are not public stay as they are.

    Example:
        >>> public_paths("class_path: spheregeo.data.modules.RoomsData")
        'class_path: spheregeo.data.RoomsData'
    """

    def public(match: re.Match[str]) -> str:
        room, name = match.groups()
        known = name in importlib.import_module(f"spheregeo.{room}").__all__
        return f"spheregeo.{room}.{name}" if known else match[0]

    return _DEEP.sub(public, text)

"""What looking at a user's data has found: facts, oddities, and the parts of a recipe that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 3  # names that a line gives of many
LOOKED_AT = 200  # files whose content is read; `spheregeo check` reads all


@dataclass
class Survey:
    """Facts and oddities of a folder, and what a recipe for it says.

    Args:
        recipe: name of the recipe of the package that the new one starts from.
        data: class of the data module, a name in ``spheregeo.data``.
        options: options of the data module by name.
        model: options of the task by name, beside those of the recipe.
        trainer: options of the trainer by name, beside those of the recipe.
        found: lines about what was found.
        odd: lines about what is odd, each with what to do.
    """

    recipe: str
    data: str
    options: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def some(names: Iterable[Any]) -> str:
    """Return the first of many names, and how many more there are.

    Args:
        names: the names.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    shown = [name.name if isinstance(name, Path) else str(name) for name in names]
    more = len(shown) - SHOWN
    return ", ".join(shown[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(counts: Mapping[Any, int]) -> str:
    """Return what there is and how often, the most frequent first.

    Args:
        counts: number by thing.
    """
    return ", ".join(f"{thing} ({number})" for thing, number in Counter(counts).most_common(8))


def spread(paths: Sequence[Path], number: int = LOOKED_AT) -> list[Path]:
    """Return at most ``number`` of the paths, evenly spread over them.

    Args:
        paths: the paths.
        number: how many.
    """
    step = max(1, -(-len(paths) // number))
    return list(paths[::step])

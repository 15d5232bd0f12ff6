"""Grids as plain text."""

from __future__ import annotations

from spheregeo import grids, plain_text
from spheregeo.grids.base import Grid


def parse_grid(text: str) -> Grid:
    """Return the grid whose ``repr`` is ``text``, without evaluating code.

    Args:
        text: name of a class of grids, called with numbers and words.

    Raises: ValueError when the text is no grid with literal arguments.

    Example:
        >>> parse_grid("HEALPix(8)").num_points
        768
    """
    found: Grid = plain_text.parse(text, grids, "grid")
    return found

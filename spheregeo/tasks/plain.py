"""Grids and kernels as plain text, see :mod:`spheregeo.grids.parse`."""

from __future__ import annotations

from typing import Any

from spheregeo.grids.parse import parse, parse_grid


def parse_kernel(text: str) -> Any:
    """The kernel whose ``repr`` is ``text``, for example ``Rings(3)``.

    Raises: ValueError when the text is no kernel with literal arguments.
    """
    from spheregeo import kernels

    return parse(text, kernels, "kernel")


__all__ = ["parse_grid", "parse_kernel"]

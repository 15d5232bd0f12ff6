"""A picture of equivariance errors against resolution or degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_equivariance(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    xlabel: str = "grid spacing (radians)",
    path: str | Path | None = None,
) -> Any:
    """Draw errors on logarithmic axes, one line for each entry of ``series``; returns the matplotlib figure.

    Args:
        series: label -> (x, error) pairs, x being a spacing, a number of points or a degree.
        xlabel: what x is.
        path: file to save to as well.

    Raises: ValueError for a series without points or with negative numbers; ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    places: set[float] = set()
    for label, pairs in series.items():
        if not pairs or any(x <= 0 or error < 0 for x, error in pairs):
            raise ValueError(
                f"series {label!r} is {list(pairs)}; expected pairs of a positive x and an error"
            )
        ordered = sorted(pairs)
        axes.loglog(
            [x for x, _ in ordered], [max(error, 1e-17) for _, error in ordered], marker="o", label=label
        )
        places.update(x for x, _ in ordered)
    if len(places) <= 8:
        axes.set_xticks(sorted(places))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(xlabel)
    axes.set_ylabel("relative equivariance error")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure

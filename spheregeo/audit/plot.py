"""A picture of equivariance errors against resolution or degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SMALLEST = 1e-17  # errors that are exactly zero are drawn here


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

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, pairs) in enumerate(series.items()):
        if not pairs or any(x <= 0 or error < 0 for x, error in pairs):
            raise ValueError(
                f"series {label!r} is {list(pairs)}; expected pairs of a positive x and an error"
            )
        x, errors = zip(*sorted(pairs))
        style = ("-", "--", ":", "-.")[i // 10 % 4]  # the colours repeat after ten
        axes.loglog(x, [max(e, SMALLEST) for e in errors], style, marker="o", markersize=4, label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("relative equivariance error")
    axes.grid(True, which="both", alpha=0.3)
    if series:
        figure.legend(loc="outside right center", fontsize="small")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure

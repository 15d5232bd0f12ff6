"""A picture of a frame: windows over degrees, and how its needlets fall off with distance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from spheregeo.harmonics import needlet_profile
from spheregeo.spectral.needlets import make_windows

FLOOR = 1e-8  # smallest share of a needlet's peak that is drawn


def plot_needlets(
    lmax: int = 64, B: float = 2.0, windows: str = "needlet", *, path: str | Path | None = None
) -> Any:
    """Draw the windows of a frame and the decay of its needlets; returns the matplotlib figure.

    The second panel has |ψ_j(θ)| as a share of the peak, its largest value within half a wavelength, over the distance in units
    of 1/L_j: lines of all scales fall together where needlets are copies of one shape. The finest scale, whose band is cut off at
    lmax, falls off more slowly.

    Args:
        lmax: largest degree.
        B: dilation of the windows.
        windows: "needlet" or "framelet".
        path: file to save to as well.

    Raises: ValueError as :class:`~spheregeo.spectral.NeedletFrame`; ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    table = make_windows(lmax, B, windows)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    theta = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    for scale, window in enumerate(table):
        style = "-" if scale < 10 else "--"  # the colours repeat after ten
        held = torch.arange(lmax + 1)[window > 0]
        top = int(held.max())
        degrees = torch.arange(max(int(held.min()) - 1, 0), min(top + 1, lmax) + 1)
        (line,) = left.plot(degrees, window[degrees], style, marker=".", markersize=4, label=f"scale {scale}")
        if top < 2:
            continue
        size = needlet_profile(window, theta).abs()
        reach = max(1, round(math.pi / top / 2 / float(theta[1])))
        envelope = torch.nn.functional.max_pool1d(size[None], 2 * reach + 1, 1, reach)[0]
        share = (envelope / size.max()).clamp(min=FLOOR)
        right.loglog(theta[1:] * top, share[1:], style, color=line.get_color())
    left.set(xlabel="degree l", ylabel="window b(l)", xscale="symlog", title="windows: squares sum to 1")
    figure.legend(loc="outside right center", fontsize="small")
    right.set(
        xlabel="distance × largest degree",
        ylabel="|needlet| / peak",
        title="needlets fall off",
        xlim=(0.5, 4 * lmax),
    )
    for axes in (left, right):
        axes.grid(True, which="major", alpha=0.3)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


__all__ = ["plot_needlets"]

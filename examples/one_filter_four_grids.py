"""Draw one filter, and its answer to a panorama, on four kinds of grids: python examples/one_filter_four_grids.py figure.png"""

from __future__ import annotations

import math
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial import cKDTree

import spheregeo as sg

GRIDS = {
    "equiangular, 48 × 96": sg.grids.Equiangular(48, 96),
    "HEALPix, nside 20": sg.grids.HEALPix(nside=20),
    "icosahedral, level 4": sg.grids.Icosahedral(level=4),
    "Fibonacci": sg.grids.Fibonacci(4000),
}
RADIUS = 0.24  # radians, the same on all grids
PIXELS = 420
LATITUDE, LONGITUDE = math.radians(28), math.radians(155)  # of the viewer
ZOOM = slice(PIXELS * 3 // 8, PIXELS * 5 // 8)


def edge_filter(grid: sg.grids.Grid) -> sg.nn.DiscoConv:
    """A layer with one filter, a slope from west to east. The same weights on every grid: they know nothing of it."""
    conv = sg.nn.DiscoConv(1, 1, grid, kernel=sg.kernels.Morlet(3, 3), radius=RADIUS, bias=False).double()
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1] = 1.0
    return conv


def seen_from(grid: sg.grids.Grid, conv: sg.nn.DiscoConv, target: int) -> torch.Tensor:
    """The filter as one target point has it: the derivative of its answer by the signal's density."""
    x = torch.zeros(1, 1, *grid.shape, dtype=torch.float64, requires_grad=True)
    (row,) = torch.autograd.grad(conv(x).flatten()[target], x)
    return row.flatten() / grid.areas.flatten()


def globe() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the pixels of a globe seen from afar, (PIXELS, PIXELS, 3), and which pixels are on it."""
    y, x = np.mgrid[1 : -1 : PIXELS * 1j, -1 : 1 : PIXELS * 1j]
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    up = y * math.cos(LATITUDE) + z * math.sin(LATITUDE)
    out = z * math.cos(LATITUDE) - y * math.sin(LATITUDE)
    sin, cos = math.sin(LONGITUDE), math.cos(LONGITUDE)
    return np.stack([cos * out - sin * x, sin * out + cos * x, up], -1), x**2 + y**2 < 1


def main(path: str) -> None:
    room = sg.data.Rooms(1, size=(128, 256), seed=11)[0]["image"].double()
    pixels, inside = globe()
    figure, axes = plt.subplots(3, 4, figsize=(10, 7.6))
    for column, (title, grid) in zip(axes.T, GRIDS.items(), strict=True):
        tree = cKDTree(grid.points.numpy())
        cell = tree.query(pixels.reshape(-1, 3))[1].reshape(
            inside.shape
        )  # each pixel shows its nearest point
        image = sg.sampling.resample(room[None], sg.grids.Equiangular(128, 256), grid)
        conv = edge_filter(grid)
        weights = seen_from(grid, conv, int(cell[PIXELS // 2, PIXELS // 2]))
        with torch.no_grad():
            answer = conv(image.mean(1, keepdim=True))
        colours = image[0].flatten(1).numpy().T[cell].clip(0, 1)
        column[0].imshow(np.concatenate([colours, inside[..., None]], -1))
        column[0].set_title(f"{title}\n{grid.num_points} points", fontsize=10)
        for axis, values, window in ((column[1], weights, ZOOM), (column[2], answer, slice(None))):
            shown = np.ma.array(values.flatten().numpy()[cell], mask=~inside)[window, window]
            limit = np.quantile(np.abs(shown.compressed()), 0.998)
            axis.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for axis, text in zip(axes[:, 0], ("a panorama", "one filter", "its answer"), strict=True):
        axis.text(-0.08, 0.5, text, rotation=90, va="center", ha="center", transform=axis.transAxes)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout(w_pad=0.4, h_pad=0.2)
    figure.savefig(path, dpi=80)
    print(f"one filter on {len(GRIDS)} kinds of grids -> {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "one_filter_four_grids.png")

"""Draw every function of every kernel on its disc: python examples/plot_kernels.py kernels.png"""

from __future__ import annotations

import math
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from spheregeo import kernels

KERNELS: list[kernels.Kernel] = [
    kernels.Rings(5),
    kernels.PiecewiseLinear(3, 3),
    kernels.GaussianRings(3),
    kernels.CircularHarmonics(1, 2),
    kernels.Zernike(2),
    kernels.Morlet(3, 3),
    kernels.FourierBessel(2, 2),
]


def main(path: str) -> None:
    r, phi = (
        torch.linspace(0, 1, 101, dtype=torch.float64),
        torch.linspace(0, 2 * math.pi, 181, dtype=torch.float64),
    )
    r, phi = torch.meshgrid(r, phi, indexing="ij")
    east, south = (r * torch.sin(phi)).numpy(), (r * torch.cos(phi)).numpy()  # phi runs from south to east
    columns = max(kernel.num_functions for kernel in KERNELS)
    figure, axes = plt.subplots(
        len(KERNELS), columns, figsize=(1.5 * columns, 2 * len(KERNELS)), squeeze=False
    )
    for row, kernel in zip(axes, KERNELS, strict=True):
        values = kernel(r, phi, 1.0)
        for axis in row[kernel.num_functions :]:
            axis.set_visible(False)
        for axis, value, order in zip(row, values, kernel.orders, strict=False):
            limit = float(value.abs().max())
            axis.pcolormesh(
                east, south, value.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, shading="gouraud"
            )
            axis.invert_yaxis()  # south is down
            axis.set(aspect="equal", xticks=[], yticks=[], frame_on=False)
            axis.set_xlabel("mixed orders" if order is None else f"m = {order}", fontsize=7)
        row[0].set_title(str(kernel), fontsize=10, loc="left")
    figure.suptitle("Kernels on the disc (south down, east right; colours scaled per function)", fontsize=11)
    figure.tight_layout(h_pad=0.2, w_pad=0.2)
    figure.savefig(path, dpi=90)
    print(f"{sum(kernel.num_functions for kernel in KERNELS)} functions of {len(KERNELS)} kernels -> {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "kernels.png")

"""Turn a panorama by 30° about a tilted axis and back; print what is lost, there and at the seam and the poles.

Run with a 2:1 picture of your own (``rotate_panorama.py PICTURE.jpg``) or without, for a drawn room.
"""

from __future__ import annotations

import math
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import spheregeo as sg


def drawn_room(height: int = 256) -> Tensor:
    """A box around the camera with a chequered floor and striped walls, (3, H, 2H)."""
    grid = sg.grids.panorama_grid(height, 2 * height)
    x, y, z = grid.points.T
    distance = torch.stack(
        [2 / x.abs(), 1.5 / y.abs(), 1 / z.abs()]
    )  # to the walls at x = ±2, y = ±1.5, z = ±1
    wall = distance.argmin(0)
    u, v, w = (grid.points.T * distance.min(0).values).unbind(0)
    chequer = 0.5 + 0.5 * torch.tanh(8 * torch.sin(2 * math.pi * u) * torch.sin(2 * math.pi * v))
    floor = torch.stack([chequer, 0.6 * chequer, 0.3 * chequer])
    stripes = 0.7 + 0.2 * torch.tanh(8 * torch.sin(3 * math.pi * (u + v)))
    walls = torch.stack([stripes, 0.5 + 0.3 * w, 0.5 - 0.3 * torch.sign(u) * (wall == 0)])
    ceiling = torch.stack([0.9 + 0 * u, 0.9 + 0 * u, 0.85 + 0.1 * torch.cos(3 * u)])
    colour = torch.where(wall == 2, torch.where(z < 0, floor, ceiling), walls)
    return colour.reshape(3, *grid.shape).float().clamp(0, 1)


if len(sys.argv) > 1:
    pixels = plt.imread(sys.argv[1])[..., :3]
    scale = 255 if pixels.dtype == np.uint8 else 1
    image = torch.from_numpy(np.array(pixels, dtype=np.float32) / scale).permute(2, 0, 1)
else:
    image = drawn_room()

grid = sg.grids.panorama_grid(*image.shape[1:])
rotation = sg.sampling.rotation_about([1.0, 0.5, 0.3], math.radians(30))
turned = sg.sampling.rotate(image, grid, rotation)
back = sg.sampling.rotate(turned, grid, rotation.T)

area = grid.areas.reshape(grid.shape)
squared = ((back - image) ** 2).mean(0).double()
for name, part in {
    "everywhere": np.s_[:, :],
    "seam": np.s_[:, [-1, 0]],
    "poles": np.s_[[0, 1, -2, -1], :],
}.items():
    rms = float(((squared * area)[part].sum() / area[part].sum()).sqrt())
    print(f"rms error there and back, {name:>10}: {rms:.4f}")

figure, axes = plt.subplots(3, 1, figsize=(7, 10.5), layout="constrained")
for axis, picture, title in zip(
    axes, (image, turned, back), ("panorama", "turned by 30°", "turned back"), strict=True
):
    axis.imshow(picture.permute(1, 2, 0).clamp(0, 1))
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig("rotated_panorama.png", dpi=100)
print("picture: rotated_panorama.png")

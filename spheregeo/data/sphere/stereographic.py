r"""Flat images on the sphere by stereographic projection, as in Spherical MNIST.

The unit sphere lies on the plane, touching it with its south pole; rays from the north pole carry the image up. A point
whose angle from the south pole is ϑ reads the plane at the radius 2 tan(ϑ/2): p = (x, y, z) reads (X, Y) = 2 (x, y)/(1 − z).
The image is the square |X|, |Y| ≤ 3/2, so that its edges' middles come to ϑ = 73.7° and its corners to 93.4°. Rows run down
towards −x and columns right towards +y: seen from outside, the image is neither mirrored nor transposed. Between the pixels'
centres it is bilinear, beyond them zero.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv 1801.10130, section 5.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF_WIDTH = 1.5
CHUNK = 64  # images projected at a time: a few MB each for the grids that such small images are worth


def image_coordinates(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column, counted from the first pixel's centre, that each direction reads.

    Shape: (..., 3) -> two of (...). Far outside the image the values are clipped to one pixel beyond its border.
    """
    x, y, z = points.unbind(-1)
    near = (
        1 - z < 1e-12
    )  # the north pole, which no ray reaches, and where x = y = 0 would read the picture's middle
    scale = 1 / ((1 - z).masked_fill(near, 1.0) * HALF_WIDTH)  # of (2x, 2y), in half widths, over 2
    row = ((0.5 - x * scale) * height - 0.5).masked_fill(near, -1.0)
    column = (0.5 + y * scale) * width - 0.5
    return row.clamp(-1, height), column.clamp(-1, width)


def _stencil(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Indices into the image padded by 1 before and 2 after each axis, and weights, of the four pixels around: (4, ...)."""
    row, column = image_coordinates(points, height, width)
    top, left = row.floor(), column.floor()
    down, right = (row - top).float(), (column - left).float()
    corner = (top.long() + 1) * (width + 3) + left.long() + 1
    index = torch.stack([corner, corner + 1, corner + width + 3, corner + width + 4])
    weights = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    return index, weights


def project(images: Tensor, points: Tensor, rotations: Tensor | None = None) -> Tensor:
    """Each image at the given points of the sphere, turned by its own rotation: (R f)(p) = f(R⁻¹p).

    Args:
        images: brightness of any real type.
        points: unit vectors.
        rotations: one for each image; all stay upright if None.

    Shape: images (n, H, W), points (N, 3), rotations (n, 3, 3) -> (n, N) float32.
    Raises: ValueError when shapes do not fit.
    """
    if images.ndim != 3 or points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and points {tuple(points.shape)}; expected (n, H, W) and (N, 3)"
        )
    n, height, width = images.shape
    if rotations is not None and tuple(rotations.shape) != (n, 3, 3):
        raise ValueError(f"rotations have shape {tuple(rotations.shape)}; expected ({n}, 3, 3), one an image")
    result = torch.empty(n, len(points))
    upright = _stencil(points, height, width) if rotations is None else None
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        padded = torch.nn.functional.pad(images[part].float(), (1, 2, 1, 2)).flatten(1)  # (m, (H + 3)(W + 3))
        if upright is not None:
            index, weights = upright
            terms = [padded[:, i] * w for i, w in zip(index, weights)]
        else:
            assert rotations is not None
            turned = points @ rotations[part]  # rows: (R⁻¹ p)ᵀ = pᵀ R; (m, N, 3)
            index, weights = _stencil(turned, height, width)
            terms = [padded.gather(1, i) * w for i, w in zip(index, weights)]
        result[part] = terms[0] + terms[1] + terms[2] + terms[3]
    return result

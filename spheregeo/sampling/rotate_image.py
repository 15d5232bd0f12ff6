"""Rotation of equirectangular images in milliseconds, for augmentation: one rotation an image, no sparse map.

Pixel (i, j) of an H×W image looks at colatitude (i + 1/2)π/H and longitude φ₀ + 2πj/W. The image is continued by one
row over each pole (its own first or last row, half a turn further) and by one column round the circle; on that, torch's
``grid_sample`` is the same bilinear interpolation that :func:`spheregeo.sampling.rotate` computes.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.sampling.missing import check_missing, renormalized
from spheregeo.sampling.rotation import rotation_matrix


@functools.lru_cache(maxsize=8)
def _view(height: int, width: int, origin: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Directions (H W, 3) of an image's pixels."""
    theta = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    phi = origin + torch.arange(width, dtype=torch.float64) * (2 * math.pi / width)
    sine = torch.sin(theta)[:, None]
    z = torch.cos(theta)[:, None].expand(height, width)
    return torch.stack([sine * torch.cos(phi), sine * torch.sin(phi), z], -1).reshape(-1, 3).to(device, dtype)


def rotate_image(
    x: Tensor,
    rotation: Tensor,
    mode: str = "bilinear",
    longitude_origin: float = 0.0,
    missing: str = "propagate",
) -> Tensor:
    """Equirectangular images turned: (R f)(p) = f(R⁻¹ p), on cell-centred rows.

    Args:
        x: images or label maps.
        rotation: (3, 3) or (4,) for all images, or (B, 3, 3) or (B, 4), one an image; quaternions are (w, x, y, z).
        mode: "bilinear", or "nearest" for labels of any dtype.
        longitude_origin: longitude of the first column; 0 on this library's grids, -π + π/W on most panorama files.
            It decides which way the axes point in the picture, and nothing else.
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it.

    Shape: (B, C, H, W) -> the same; W even for "bilinear".
    Equivariance: as :func:`rotate`; exact for turns about z by whole columns.
    Raises: ValueError for shapes that do not fit; TypeError where labels would be mixed.
    """
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected images (B, C, H, W)")
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"mode is {mode!r}, expected 'bilinear' or 'nearest'")
    check_missing(missing)
    if missing == "renormalize":
        return renormalized(x, lambda field: rotate_image(field, rotation, mode, longitude_origin))
    batch, channels, height, width = x.shape
    matrix = rotation_matrix(rotation)
    if matrix.ndim == 2:
        matrix = matrix[None]
    if matrix.ndim != 3 or len(matrix) not in (1, batch):
        raise ValueError(
            f"rotation holds {tuple(matrix.shape[:-2])} rotations, expected 1 or {batch}, one an image"
        )
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    view = _view(height, width, float(longitude_origin), dtype, x.device)
    px, py, pz = (view @ matrix.to(view)).unbind(-1)  # (B or 1, H W) each: R^-1 p
    theta = torch.atan2(torch.sqrt(px * px + py * py), pz)
    u = (torch.atan2(py, px) - longitude_origin) * (width / (2 * math.pi))  # columns
    v = theta * (height / math.pi) - 0.5  # rows, -1/2 to H - 1/2
    if mode == "nearest":
        row = torch.round(v).long().clamp_(0, height - 1)
        index = row * width + torch.round(u).long().remainder_(width)  # (B or 1, H W)
        index = index[:, None].expand(batch, channels, height * width)
        return torch.gather(x.flatten(2), 2, index).view_as(x)
    if not x.is_floating_point():
        raise TypeError(
            f"x is {x.dtype} and mode is 'bilinear', which mixes values; labels need mode='nearest'"
        )
    if width % 2:
        raise ValueError(
            f"x has {width} columns, expected an even number (half a turn leads over the pole); use rotate()"
        )
    poles = torch.stack([x[..., 0, :], x[..., -1, :]], dim=-2).roll(width // 2, dims=-1)  # (B, C, 2, W)
    wide = torch.cat([poles[..., :1, :], x, poles[..., 1:, :]], dim=-2)
    wide = torch.cat([wide, wide[..., :1]], dim=-1).to(dtype)  # (B, C, H + 2, W + 1)
    # grid_sample's corners: -1 is the first, +1 the last row or column
    place = torch.stack([u.remainder(width) * (2 / width) - 1, (v + 1) * (2 / (height + 1)) - 1], dim=-1)
    place = place.view(-1, height, width, 2).expand(batch, height, width, 2)
    turned = F.grid_sample(wide, place, mode="bilinear", padding_mode="border", align_corners=True)
    return turned.to(x.dtype)

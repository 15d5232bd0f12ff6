r"""The twelve faces of HEALPix as images, and what lies beyond their borders.

Face f is an nside × nside image, rows y and columns x (healpy's ``pix2xyf``): its first pixel is the south corner, columns go
north-east and rows north-west. A pixel's eight neighbours as healpy orders them (SW, W, NW, N, NE, E, SE, S) are then the
3 × 3 stencil around it, across borders too: the cell (x + dx, y + dy) outside the face belongs to the neighbouring
face, turned by the quarter turns that join the two. Two tiles of each face's surroundings do not exist, at the
corner where three faces meet rather than four: W and E of faces 0–3 and 8–11, N and S of faces 4–7.

**Corner rule.** Around such a corner the plane lacks a quarter. The cell i columns and j rows into the missing tile is
reached over the neighbour on the one side or on the other, whichever is nearer: for i > j over the tile across the vertical
border, which continues into the other neighbour; for i < j the other way about; on the diagonal i = j it is the mean of
both. For the cell next to the corner, the only one that a 3 × 3 kernel sees, that is the mean of the two adjacent
neighbours.
Reference: Górski et al. 2005, ApJ 622; padded faces: Karlbauer et al. 2024, arXiv:2311.06253. Away from the missing tiles the
borders are earth2grid's, which in them agrees for faces 4–7 and width 1 alone (it fills the others from one side).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import HEALPix
from spheregeo.grids.cache import geometry
from spheregeo.sparse import Gather

# (dx, dy) of the centre and of healpy's neighbours SW, W, NW, N, NE, E, SE, S
OFFSETS = ((0, 0), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
MISSING = ("drop", "renormalize", "mean")


def check_grid(grid: object, name: str = "grid") -> HEALPix:
    """The grid itself. Raises: ValueError unless it is a HEALPix grid."""
    if not isinstance(grid, HEALPix):
        raise ValueError(
            f"{name} is {grid!r}; expected a HEALPix grid, for instance grids.HEALPix(64, order='nested'); "
            "nn.Resample brings fields of another grid onto it"
        )
    return grid


def face_pixels(grid: HEALPix) -> np.ndarray:
    """Pixel of every cell. Shape: (12, nside, nside) int64, by face, row and column."""
    import healpy

    n = np.arange(grid.nside)
    face, y, x = np.meshgrid(np.arange(12), n, n, indexing="ij")
    found: np.ndarray = healpy.xyf2pix(grid.nside, x, y, face, nest=grid.nested)
    return found


def _turn(u: np.ndarray, v: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A quarter turn of the n × n square."""
    return n - 1 - v, u


@cache
def neighboring_faces() -> tuple[np.ndarray, np.ndarray]:
    """Face at each step (dx, dy) from each face, -1 for none, and the quarter turns into its own columns and rows.

    Shape: both (12, 3, 3), by face, dy + 1 and dx + 1. Read off the neighbours of nside 2, whose pixels are corners.
    """
    import healpy

    faces, turns = np.full((12, 3, 3), -1), np.zeros((12, 3, 3), dtype=np.int64)
    for face in range(12):
        for way, (dx, dy) in enumerate(OFFSETS[1:]):
            u, v = int(dx < 0), int(dy < 0)  # nearest corner, in the tile's own cells
            x, y = 2 * dx + u, 2 * dy + v
            px, py = np.clip((x, y), 0, 1)
            way = OFFSETS.index((x - px, y - py)) - 1
            found = healpy.get_all_neighbours(2, healpy.xyf2pix(2, px, py, face, nest=True), nest=True)[way]
            if found < 0:
                continue
            gx, gy, faces[face, dy + 1, dx + 1] = healpy.pix2xyf(2, found, nest=True)
            while (u, v) != (gx, gy):
                u, v = _turn(u, v, 2)  # type: ignore[assignment,arg-type]
                turns[face, dy + 1, dx + 1] += 1
    faces[:, 1, 1] = np.arange(12)
    return faces, turns


def _cells(nside: int, x: np.ndarray, y: np.ndarray, face: int) -> np.ndarray:
    """Cell at any column and row within one face's width of a face; -1 in the missing tiles."""
    faces, turns = (table[face, y // nside + 1, x // nside + 1] for table in neighboring_faces())
    u, v = x % nside, y % nside
    for quarter in range(1, 4):
        u, v = np.where(turns >= quarter, _turn(u, v, nside), (u, v))
    return np.where(faces < 0, -1, (faces * nside + v) * nside + u)


def padded_cells(nside: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which cell, (face · nside + row) · nside + column, each cell of the padded faces copies; and a second one.

    The second is -1 but on the diagonal of a missing tile, where the value is the mean of both.
    Shape: (12, nside + 2 width, nside + 2 width) int64 each, by face, row and column.
    Raises: ValueError for a width outside 0 to nside.
    """
    if not 0 <= width <= nside:
        raise ValueError(f"width is {width}; expected 0 to {nside}, the width of a face")
    side = np.arange(-width, nside + width)
    rows, columns = np.meshgrid(side, side, indexing="ij")
    first = np.stack([_cells(nside, columns, rows, face) for face in range(12)])
    second = np.full_like(first, -1)
    for face in range(12):
        gap = first[face] < 0
        x, y = columns[gap], rows[gap]
        # steps beyond the corner, and the same cell seen round it by a quarter turn, either way
        i, j = np.where(x < 0, -1 - x, x - nside), np.where(y < 0, -1 - y, y - nside)
        last = nside - 1
        above = _cells(nside, np.where(x < 0, j, last - j), np.where(y < 0, -1 - i, nside + i), face)
        aside = _cells(nside, np.where(x < 0, -1 - j, nside + j), np.where(y < 0, i, last - i), face)
        first[face, gap] = np.where(i < j, aside, above)
        second[face, gap] = np.where(i == j, aside, -1)
    return first, second


def missing_cells(nside: int, width: int) -> np.ndarray:
    """Which cells of the padded faces lie in missing tiles. Shape: (12, nside + 2 width, nside + 2 width) bool."""
    side = np.arange(-width, nside + width) // nside + 1
    missing: np.ndarray = (neighboring_faces()[0] < 0)[:, side[:, None], side]
    return missing


def padding_map(grid: HEALPix, width: int, missing: str, faces: bool = False) -> Gather:
    """Map from pixels, or from the cells of the faces, to those of the padded faces.

    Missing tiles are filled by the corner rule ("mean"), or zero.
    """

    def build() -> Gather:
        first, second = padded_cells(grid.nside, width)
        if not faces:
            order = face_pixels(grid).reshape(-1)
            first, second = (np.where(cells < 0, -1, order[cells]) for cells in (first, second))
        if missing != "mean":
            first[missing_cells(grid.nside, width)] = -1
            return Gather(torch.from_numpy(first), grid.num_points)
        (diagonal,) = (second.reshape(-1) >= 0).nonzero()
        sources = np.concatenate([cells.reshape(-1)[diagonal] for cells in (first, second)])
        first.reshape(-1)[diagonal] = -1
        extras = (np.tile(diagonal, 2), sources, np.full(len(sources), 0.5))
        return Gather(torch.from_numpy(first), grid.num_points, extras)

    return geometry.get(("healpix padding", grid, width, missing, faces), build).shared()


def faces_map(grid: HEALPix) -> Gather:
    """Map from pixels to the cells of the faces, a permutation."""
    build = lambda: Gather(torch.from_numpy(face_pixels(grid).reshape(-1)), grid.num_points)  # noqa: E731
    return geometry.get(("healpix faces", grid), build).shared()


def pixels_map(grid: HEALPix) -> Gather:
    """Map from the cells of the faces to pixels, the inverse permutation."""

    def build() -> Gather:
        cells = np.argsort(face_pixels(grid).reshape(-1))
        return Gather(torch.from_numpy(cells), grid.num_points)

    return geometry.get(("healpix pixels", grid), build).shared()


def to_images(cells: Tensor, side: int) -> Tensor:
    """(B, C, 12 side²) with channels last -> (12 B, C, side, side), a view."""
    rows = cells.transpose(1, 2)  # (B, 12 side², C)
    return rows.reshape(-1, side, side, rows.shape[2]).permute(0, 3, 1, 2)


def from_images(images: Tensor) -> Tensor:
    """(12 B, C, side, side) -> (B, C, 12 side²), a view where channels are last in memory."""
    rows = images.permute(0, 2, 3, 1)
    return rows.reshape(-1, 12 * rows.shape[1] * rows.shape[2], rows.shape[3]).transpose(1, 2)

"""Faces of HEALPix as images: their cells, their borders against healpy's neighbours, shuffling, errors."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.nn import FromFaces, HEALPixPad, PixelShuffle, PixelUnshuffle, Pool, ToFaces, Unpool
from spheregeo.nn.sphere.healpix.faces import OFFSETS, missing_cells, padded_cells

GRIDS = [
    HEALPix(1),
    HEALPix(2, "nested"),
    HEALPix(3),
    HEALPix(4),
    HEALPix(8, "nested"),
]


def numbered(grid: HEALPix) -> torch.Tensor:
    """The field whose value is the pixel's number. Shape: (1, 1, N)."""
    return torch.arange(grid.num_points, dtype=torch.float64)[None, None]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_faces_are_healpys(grid: HEALPix) -> None:
    images = ToFaces(grid)(numbered(grid))
    assert images.shape == (12, 1, grid.nside, grid.nside)
    x, y, face = healpy.pix2xyf(grid.nside, np.arange(grid.num_points), nest=grid.nested)
    assert (images[face, 0, y, x].long().numpy() == np.arange(grid.num_points)).all()
    field = torch.randn(2, 3, grid.num_points)
    images = ToFaces(grid)(field)
    assert torch.equal(images[12 + face, :, y, x], field[1].T)  # image 12 b + f is face f of sample b
    assert torch.equal(FromFaces(grid)(images), field)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_padded_cells_are_healpys_neighbours(grid: HEALPix) -> None:
    """At every pixel, inside and across borders, the 3 x 3 stencil holds the eight neighbours in healpy's order."""
    pixels = np.arange(grid.num_points)
    x, y, face = healpy.pix2xyf(grid.nside, pixels, nest=grid.nested)
    images = HEALPixPad(grid, 1, missing="drop")(numbered(grid) + 1).long()[:, 0].numpy() - 1
    neighbours = healpy.get_all_neighbours(grid.nside, pixels, nest=grid.nested)
    for k, (dx, dy) in enumerate(OFFSETS[1:]):
        assert (images[face, y + 1 + dy, x + 1 + dx] == neighbours[k]).all()
    assert missing_cells(grid.nside, 1).sum() == (neighbours == -1).sum() == 24


@pytest.mark.parametrize("grid", [HEALPix(3), HEALPix(4, "nested"), HEALPix(8)], ids=str)
def test_wider_borders_go_straight_on(grid: HEALPix) -> None:
    """Oracle: from pixel a to its neighbour b, straight on is the neighbour of b opposite to a."""
    n = grid.nside
    pixels = np.arange(grid.num_points)
    neighbours = healpy.get_all_neighbours(n, pixels, nest=grid.nested)
    images = HEALPixPad(grid, n, missing="drop")(numbered(grid)).long()[:, 0].numpy()
    inside = np.arange(n)
    for x_step, y_step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        end = n - 1 if x_step + y_step > 0 else 0
        x, y = (np.full(n, end), inside) if x_step else (inside, np.full(n, end))
        for face in range(12):
            at = images[face, n + y, n + x]
            before = healpy.xyf2pix(n, x, y, face, nest=grid.nested)
            assert (at == before).all()
            b = images[face, n + y + y_step, n + x + x_step]
            a = at
            for step in range(2, n + 1):
                back = (neighbours[:, b] == a).argmax(0)
                c = neighbours[(back + 4) % 8, b]
                assert (images[face, n + y + step * y_step, n + x + step * x_step] == c).all()
                a, b = b, c


@pytest.mark.parametrize("nside", [2, 4])
def test_corner_rule(nside: int) -> None:
    """Missing tiles: by a quarter turn about the corner to the nearer side, averaged on the diagonal."""
    grid = HEALPix(nside, "nested")
    images = HEALPixPad(grid, nside)(numbered(grid))[:, 0]
    first, second = padded_cells(nside, nside)
    gap = missing_cells(nside, nside)
    assert gap.sum() == 24 * nside**2 and (second >= 0).sum() == 24 * nside and (first >= 0).all()
    # Face 4 lacks N: beyond it lie face 0 over the columns and face 3 over the rows.
    for i in range(nside):  # columns beyond
        for j in range(nside):  # rows beyond
            over_rows = images[4, 2 * nside + i, 2 * nside - 1 - j]
            over_columns = images[4, 2 * nside - 1 - i, 2 * nside + j]
            expected = over_rows if i > j else over_columns if i < j else (over_rows + over_columns) / 2
            assert images[4, 2 * nside + j, 2 * nside + i] == expected
    assert (HEALPixPad(grid, nside, missing="drop")(numbered(grid))[:, 0][gap] == 0).all()


@pytest.mark.parametrize("missing", ["drop", "mean"])
def test_padding_of_faces_is_padding_of_pixels(missing: str) -> None:
    grid = HEALPix(4)
    x = torch.randn(2, 3, grid.num_points, dtype=torch.float64, requires_grad=True)
    from_faces = HEALPixPad(grid, 2, missing=missing, faces=True)(ToFaces(grid)(x))
    assert torch.equal(from_faces, HEALPixPad(grid, 2, missing=missing)(x))
    assert torch.autograd.gradcheck(HEALPixPad(grid, 2, missing=missing), (x[:1, :1],), fast_mode=True)


def turned(images: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """What one of the grid's rotations makes of the cells of (padded) faces: quarter turns about z move whole faces."""
    quarter = round(float(torch.atan2(rotation[1, 0], rotation[0, 0])) / (np.pi / 2)) % 4
    order = torch.cat([4 * k + (torch.arange(4) - quarter) % 4 for k in range(3)])
    return images[order]


def test_padding_commutes_with_quarter_turns() -> None:
    grid = HEALPix(4, "nested")
    x = torch.randn(1, 2, grid.num_points)
    for g in range(4):  # the turns about z come first
        rotation, permutation = grid.symmetry.rotations[g], grid.symmetry.permutations[g]
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        for missing in ("drop", "mean"):
            pad = HEALPixPad(grid, 3, missing=missing)
            torch.testing.assert_close(pad(moved), turned(pad(x), rotation))


@pytest.mark.parametrize("grid", [HEALPix(2), HEALPix(2, "nested")], ids=str)
def test_shuffle_and_unshuffle(grid: HEALPix) -> None:
    fine = grid.refine()
    x = torch.randn(2, 12, grid.num_points, dtype=torch.float64, requires_grad=True)
    y = PixelShuffle(grid)(x)
    assert y.shape == (2, 3, fine.num_points)
    children = grid.children()
    for c in range(3):
        for i in range(4):
            assert torch.equal(y[:, c, children[:, i]], x[:, 3 * i + c])
    assert torch.equal(PixelUnshuffle(fine)(y), x)
    assert torch.equal(PixelShuffle(grid)(PixelUnshuffle(fine)(y)), y)
    assert torch.autograd.gradcheck(PixelShuffle(grid), (x[:, :4],), fast_mode=True)
    rows = x.detach().transpose(1, 2).contiguous()
    shuffled = PixelShuffle(grid)(rows.transpose(1, 2))
    assert torch.equal(shuffled, y)
    if grid.nested:  # with channels last, a view
        assert shuffled.data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("grid", [HEALPix(4), HEALPix(4, "nested")], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_pooling_and_its_inverse(grid: HEALPix, last: bool) -> None:
    coarse = grid.coarsen()
    children = coarse.children()
    x = torch.randn(2, 3, grid.num_points, dtype=torch.float64)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    torch.testing.assert_close(Pool(grid).double()(x), x[..., children].mean(-1), rtol=0, atol=1e-15)
    assert torch.equal(Pool(grid, "max").double()(x), x[..., children].amax(-1))
    y = torch.randn(2, 3, coarse.num_points, dtype=torch.float64)
    up = Unpool(coarse).double()(y)
    assert torch.equal(up, y[..., grid.parents()])
    torch.testing.assert_close(Pool(grid).double()(up), y, rtol=0, atol=1e-15)


def test_errors() -> None:
    grid = HEALPix(2)
    for make in (ToFaces, FromFaces, PixelShuffle, PixelUnshuffle, lambda g: HEALPixPad(g, 1)):
        with pytest.raises(ValueError, match="expected a HEALPix grid"):
            make(Equiangular(4, 8))
    with pytest.raises(ValueError, match="width is 3; expected 0 to 2"):
        HEALPixPad(grid, 3)
    with pytest.raises(ValueError, match="missing is 'zero'"):
        HEALPixPad(grid, 1, missing="zero")
    with pytest.raises(ValueError, match=r"x has shape \(1, 2, 12\); expected \(batch, channels, 48\)"):
        ToFaces(grid)(torch.randn(1, 2, 12))
    with pytest.raises(ValueError, match=r"expected \(12 batch, channels, 2, 2\)"):
        FromFaces(grid)(torch.randn(10, 1, 2, 2))
    with pytest.raises(ValueError, match="multiple of 4"):
        PixelShuffle(grid)(torch.randn(1, 6, 48))
    with pytest.raises(ValueError, match="nside is odd"):
        PixelUnshuffle(HEALPix(3))

"""The image plane as a grid."""

from __future__ import annotations

import pytest
import torch

from spheregeo.grids import Plane


def test_pixels_are_right_and_down_with_row_zero_on_top() -> None:
    grid = Plane(2, 3)
    assert torch.equal(grid.points[:, 2], torch.zeros(6, dtype=torch.float64))
    p = grid.points.reshape(2, 3, 3)
    assert torch.equal(p[0, 1] - p[0, 0], grid.frames[0, 1]), "e_phi is one column to the right"
    assert torch.equal(p[1, 0] - p[0, 0], grid.frames[0, 0]), "e_theta is one row down"
    assert torch.equal(grid.areas, torch.ones(6, dtype=torch.float64)) and grid.spacing == 1.0
    assert not grid.is_sphere and grid.rings is None and grid.symmetry is None


def test_levels_cover_the_same_picture() -> None:
    grid = Plane(4, 8)
    for level in (grid.coarsen(), grid.refine()):
        assert level.areas.sum() == grid.areas.sum() == 32
        assert torch.equal(level.points.mean(0), grid.points.mean(0))
    assert grid.coarsen().spacing == 2.0


def test_a_plane_has_no_angles() -> None:
    for name in ("colatitude", "longitude"):
        with pytest.raises(AttributeError, match=f"a Plane has no {name}"):
            getattr(Plane(2, 2), name)

"""Areas, normals, frames, edge angles and transports equal the tables in meshes/surfaces."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.mesh import TriangleMesh
from spheregeo.mesh.transport import IntrinsicRings, holonomy, intrinsic_rings, wrap_angle

GOLDEN = Path(__file__).parents[2] / "meshes" / "surfaces"
NAMES = ("ellipsoid", "torus", "tube")


def golden(name: str) -> dict[str, np.ndarray]:
    table = np.load(GOLDEN / f"{name}.npz")
    return {key: table[key].astype(int) if key in ("faces", "edges") else table[key] for key in table.files}


def slots(rings: IntrinsicRings) -> np.ndarray:
    """Order of the slots in which (p, q) ascend, as in the table."""
    return np.lexsort([rings.indices, rings.rows])


@pytest.mark.parametrize("weights", ["angle", "area", "uniform"])
@pytest.mark.parametrize("name", NAMES)
def test_areas_normals_and_frames(name: str, weights: str) -> None:
    table = golden(name)
    mesh = TriangleMesh(table["vertices"], table["faces"], normals=weights)
    np.testing.assert_allclose(mesh.areas, table["areas"], rtol=1e-13)
    np.testing.assert_allclose(mesh.normals, table[f"normals_{weights}"], atol=1e-14)
    if weights == "angle":
        # where two axes are equally far from the normal, rounding chooses between them
        clear = np.diff(np.sort(np.abs(table["normals_angle"]), axis=1)[:, :2], axis=1)[:, 0] > 1e-9
        assert clear.sum() > 20
        np.testing.assert_allclose(mesh.frames.numpy()[clear], table["frames"][clear], atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_intrinsic_angles_transports_and_holonomies(name: str) -> None:
    table = golden(name)
    rings = intrinsic_rings(table["vertices"], table["faces"], table["frames"])
    order = slots(rings)
    assert np.array_equal(np.stack([rings.rows, rings.indices], 1)[order], table["edges"])
    for found, wanted in (
        (rings.angle[order], table["angle"]),
        (rings.transport[order], table["transport"]),
        (holonomy(table["faces"], rings), table["holonomy"]),
    ):
        assert np.abs(wrap_angle(found - wanted)).max() < 1e-13


@pytest.mark.parametrize("name", NAMES)
def test_transports_from_normals(name: str) -> None:
    from spheregeo.sampling import surface_neighbors

    table = golden(name)
    mesh = TriangleMesh(table["vertices"], table["faces"], frames=torch.from_numpy(table["frames"]))
    near = surface_neighbors(mesh, rings=1)
    edge = near.rows != near.indices
    pairs = torch.stack([near.rows, near.indices], 1)[edge].numpy()
    order = np.lexsort([pairs[:, 1], pairs[:, 0]])
    assert np.array_equal(pairs[order], table["edges"])
    found = near.transport[edge].numpy()[order]
    assert np.abs(wrap_angle(found - table["transport_normals"])).max() < 1e-13


def test_the_tables_obey_gauss_and_bonnet() -> None:
    for name, euler in zip(NAMES, (2, 0, 0), strict=True):
        table = golden(name)
        assert abs(table["defect"].sum() - 2 * math.pi * euler) < 1e-12
    on_border = np.isin(golden("tube")["faces"], np.r_[0:9, 27:36]).any(axis=1)
    assert np.abs(golden("tube")["holonomy"][~on_border]).max() < 1e-13

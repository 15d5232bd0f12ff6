"""Generated meshes: from (seed, split, index) alone, scale-free, with true correspondences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spheregeo.data import Creatures, Primitives, collate_meshes
from spheregeo.data.meshes.dataset import Warped, scale_free, scaled_mesh
from spheregeo.data.meshes.generated import LIMBS, creature
from spheregeo.mesh import check


@pytest.mark.parametrize("kind", [Primitives, Creatures])
def test_a_mesh_depends_on_seed_split_and_index_alone(kind: type[Primitives] | type[Creatures]) -> None:
    options = {"vertices": (150, 200)}
    one, two = kind(3, **options), kind(5, **options)  # type: ignore[arg-type]
    assert one[2]["mesh"] == two[2]["mesh"]
    others = [kind(3, seed=1, **options), kind(3, split="test", **options)]  # type: ignore[arg-type]
    assert all(other[2]["mesh"] != one[2]["mesh"] for other in others)
    mesh = one[0]["mesh"]
    assert mesh.area == pytest.approx(1) and 130 < mesh.num_points < 230
    np.testing.assert_allclose((mesh.areas @ mesh.points).numpy(), 0, atol=0.02)
    assert len({one[k]["mesh"].num_points for k in range(3)}) > 1


def test_classes_come_in_turn() -> None:
    data = Primitives(12, (120, 140))
    assert [data[k]["label"] for k in (0, 1, 10, 11)] == [0, 1, 0, 1]
    assert len(data.class_names) == 10 and data.class_names[0] == "bowl"


def test_deform_zero_leaves_creatures_at_rest() -> None:
    data = Creatures(2, (200, 200), deform=0.0, template_vertices=150)
    template = data.template
    assert template is not None
    radius = template.mesh.points.norm(dim=1)
    for k in range(2):
        item = data[k]
        # turned and meshed anew, but each vertex is as far from the centre as its point at rest
        gap = (item["mesh"].points.norm(dim=1) - radius[item["target"]]).abs()
        assert float(gap.median()) < 0.03
        assert item["target"].shape == (item["mesh"].num_points,)
    assert Creatures(1, (200, 200), template_vertices=150)[0]["mesh"] != data[0]["mesh"]


def test_correspondences_stay_on_their_limb() -> None:
    data = Creatures(1, (300, 300), template_vertices=200)
    item, template = data[0], data.template
    assert template is not None
    mesh, rest = item["mesh"], template.mesh.points
    start, stop = mesh.edges.unbind(1)
    edges = (rest[item["target"][start]] - rest[item["target"][stop]]).norm(dim=1)
    assert float(edges.max()) < 6 * template.mesh.spacing  # neighbours go to neighbours


def test_no_limb_of_the_creature_mirrors_another() -> None:
    assert len({tuple(row[3:]) for row in LIMBS}) == len(LIMBS)
    u = np.random.default_rng(0).standard_normal((50, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    rest = creature(np.ones(6), np.zeros((6, 3)))(u)
    posed = creature(np.ones(6), np.full((6, 3), 0.5))(u)
    np.testing.assert_allclose(np.linalg.norm(rest, axis=1), np.linalg.norm(posed, axis=1), rtol=1e-9)
    assert np.abs(rest - posed).max() > 0.1


def test_warped_copies_are_fixed_and_the_first_is_the_mesh_itself() -> None:
    data = Primitives(2, (120, 140))
    warped = Warped(data, copies=2, strength=0.5, seed=3)
    assert len(warped) == 6 and warped[1]["mesh"] == data[1]["mesh"]
    meshes = {warped[k]["mesh"].digest for k in range(6)}
    assert len(meshes) == 6
    again = Warped(data, copies=2, strength=0.5, seed=3)
    assert again[4]["mesh"] == warped[4]["mesh"] and warped[4]["label"] == data[0]["label"]
    assert check(warped[5]["mesh"].points, warped[5]["mesh"].faces).ok
    assert warped.name(5) == "1 copy 2" and warped[5]["mesh"].area == pytest.approx(1)


def test_collate_is_ragged() -> None:
    data = Creatures(3, (150, 250), template_vertices=150)
    batch = collate_meshes([data[k] for k in range(3)])
    assert len(batch["target"]) == sum(mesh.num_points for mesh in batch["mesh"])
    assert batch["index"].tolist() == [0, 1, 2] and "label" not in batch


def test_scale_free_and_back_to_back_sheets() -> None:
    # two fans glued back to back at vertex 0: the normals of its faces cancel
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, -1, 0], [0, 0, 3.0]])
    top, bottom = [[0, 1, 2], [0, 2, 3], [0, 3, 1]], [[1, 2, 4], [2, 3, 4], [3, 1, 4]]
    plain = scaled_mesh(vertices, np.array([*top, *[f[::-1] for f in bottom]]))
    assert plain.area == pytest.approx(1)
    folded = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]])
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0.0]])
    mesh = scaled_mesh(points, folded)
    assert torch.allclose(mesh.normals.norm(dim=1), torch.ones(5, dtype=torch.float64))
    np.testing.assert_allclose(
        scale_free(7 * vertices + 3, np.array(top)), scale_free(vertices, np.array(top)), atol=1e-12
    )
    with pytest.raises(ValueError, match=r"area 0\.0"):
        scale_free(np.zeros((3, 3)), np.array([[0, 1, 2]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 1, "vertices": (50, 60)}, "fewest at least 100"),
        ({"count": 1, "vertices": (300, 200)}, r"vertices is \(300, 200\)"),
        ({"count": 1, "seed": -1}, "seed is -1"),
        ({"count": 1, "deform": -1.0}, "deform is -1.0"),
        ({"count": 1, "split": "dev"}, "split is 'dev'"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    for kind in (Primitives, Creatures):
        with pytest.raises(ValueError, match=message):
            kind(**options)

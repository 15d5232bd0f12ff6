"""From stored clouds to what a network sees: scale, turns, choice of points, changes, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from spheregeo.data import PointAugment, Views, collate_clouds, unit_sphere
from spheregeo.data.points.arrays import ArrayClouds
from spheregeo.data.points.dataset import check_cloud
from spheregeo.data.points.views import draw_rotation
from spheregeo.sampling import estimate_normals


def stored(n: int = 4, points: int = 60, up: int | None = 2, normals: bool = True) -> ArrayClouds:
    rng = np.random.default_rng(0)
    p = rng.normal(size=(n, points, 3)) * [1, 2, 3] + 5
    nu = rng.normal(size=(n, points, 3))
    return ArrayClouds(p, np.arange(n) % 2, ("a", "b"), normals=nu if normals else None, up=up)


def views(rotation: str = "none", num_points: int = 20, **options: Any) -> Views:
    return Views(stored(), num_points, rotation, **options)


def shape_of(item: dict[str, Any]) -> torch.Tensor:
    """What turns leave alone: all distances."""
    return torch.pdist(item["positions"].double())


def test_unit_sphere() -> None:
    rng = np.random.default_rng(1)
    p = rng.normal(size=(50, 3)) * 7 + [1e3, -4, 2]
    u = unit_sphere(p)
    assert np.allclose(u.mean(0), 0, atol=1e-12) and np.linalg.norm(u, axis=1).max() == pytest.approx(1)
    ratio = np.linalg.norm(p[1:] - p[:-1], axis=1) / np.linalg.norm(u[1:] - u[:-1], axis=1)
    assert np.ptp(ratio) < 1e-9 * ratio.mean()
    r = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert np.allclose(unit_sphere(3 * p @ r.T - 1), u @ r.T, atol=1e-11)
    assert np.array_equal(unit_sphere(np.full((4, 3), 0.1)), np.zeros((4, 3)))
    assert np.array_equal(unit_sphere(np.array([[3.0, 4, 5]])), np.zeros((1, 3)))


def test_training_views_depend_on_seed_epoch_and_index_alone() -> None:
    a, b = views("so3"), views("so3")
    assert torch.equal(a[3, 1]["positions"], b[3, 1]["positions"])
    kept = [a[e, k]["positions"] for e in range(2) for k in range(2)] + [
        views("so3", seed=1)[0, 0]["positions"]
    ]
    assert all(not torch.equal(x, y) for i, x in enumerate(kept) for y in kept[:i])
    assert torch.equal(a[0]["positions"], a[0, 0]["positions"])


def test_protocols_turn_the_same_points() -> None:
    """The choice of points does not depend on the protocol, so z/z and z/SO(3) see the same clouds."""
    none, z, so3 = (views(name) for name in ("none", "z", "so3"))
    for k in range(4):
        assert torch.allclose(shape_of(none[k]), shape_of(z[k]), atol=1e-5)
        assert torch.allclose(shape_of(none[k]), shape_of(so3[k]), atol=1e-5)
        assert torch.allclose(none[k]["positions"][:, 2], z[k]["positions"][:, 2], atol=1e-6)
        assert not torch.allclose(none[k]["positions"][:, 0], z[k]["positions"][:, 0], atol=1e-2)
        assert not torch.allclose(none[k]["positions"][:, 2], so3[k]["positions"][:, 2], atol=1e-2)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_turns_are_rotations_and_even(up: int) -> None:
    draw = torch.Generator().manual_seed(0)
    turns = torch.stack([draw_rotation("z", up, draw) for _ in range(400)])
    assert torch.allclose(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(400, 3, 3))
    assert torch.allclose(torch.linalg.det(turns), torch.ones(400, dtype=torch.float64))
    axis = torch.eye(3, dtype=torch.float64)[up]
    assert torch.allclose(turns @ axis, axis.expand(400, 3))
    side = turns @ torch.eye(3, dtype=torch.float64)[(up + 1) % 3]
    assert float(side.mean(0).norm()) < 0.1
    every = torch.stack([draw_rotation("so3", up, draw) for _ in range(400)])
    assert float(every.mean(0).abs().max()) < 0.12 and torch.linalg.det(every).min() > 0.999
    assert torch.equal(draw_rotation("none", up, draw), torch.eye(3, dtype=torch.float64))


def test_choices() -> None:
    data = stored()
    whole = data[0].points
    first = Views(data, 20, choose="first")
    assert torch.allclose(
        first[0]["positions"].double(), torch.from_numpy(unit_sphere(whole[:20])), atol=1e-6
    )
    far = Views(data, 20, choose="farthest")
    assert torch.equal(far[0]["positions"], far[5, 0]["positions"])
    least = [float(shape_of(v[0]).min()) for v in (far, first)]
    assert least[0] > least[1]
    everything = Views(data, 100)
    assert len(everything[0]["positions"]) == 60
    random = Views(data, 20)
    assert len(torch.unique(random[0]["positions"], dim=0)) == 20
    with pytest.raises(ValueError, match="choose is 'best'; expected one of 'random', 'first', 'farthest'"):
        Views(data, 20, choose="best")


def test_normals_turn_with_the_points() -> None:
    none, so3 = views("none", normals=True), views("so3", normals=True)
    a, b = none[1], so3[1]
    assert torch.allclose(b["features"].norm(dim=1), torch.ones(20), atol=1e-6)
    angles = [torch.nn.functional.normalize(v["positions"], dim=1) * v["features"] for v in (a, b)]
    assert torch.allclose(angles[0].sum(1), angles[1].sum(1), atol=1e-5)
    assert "features" not in views()[0]


def test_normals_are_estimated_where_the_data_have_none() -> None:
    """Once, from all points of the stored cloud; they turn and stretch with the points that are kept."""
    clouds = stored(normals=False, points=300)
    clouds.points = clouds.points / np.linalg.norm(clouds.points, axis=2, keepdims=True)
    a, b = (Views(clouds, 40, rotation, normals=True)[2] for rotation in ("none", "so3"))
    assert isinstance(a, dict) and isinstance(b, dict)
    assert torch.allclose(a["features"].norm(dim=1), torch.ones(40), atol=1e-6)
    turn = torch.linalg.lstsq(a["positions"], b["positions"]).solution
    assert torch.allclose(a["features"] @ turn, b["features"], atol=1e-4)
    whole = estimate_normals(torch.from_numpy(unit_sphere(clouds.points[2])))
    given = Views(
        ArrayClouds(clouds.points, clouds.labels, ("a", "b"), normals=np.stack([whole.numpy()] * 4)),
        40,
        normals=True,
    )
    assert torch.allclose(given[2]["features"], a["features"], atol=1e-6)  # type: ignore[call-overload]


def test_changes_of_training_clouds() -> None:
    plain = views()[0]["positions"]
    assert torch.allclose(views(augment=PointAugment())[0]["positions"], plain, atol=1e-7)
    noisy = views(augment=PointAugment(jitter=0.01))[0]["positions"]
    assert 0.003 < float((noisy - plain).std()) < 0.015 and float((noisy - plain).abs().max()) <= 0.0301
    sizes = {len(views(augment=PointAugment(dropout=0.5))[e, 0]["positions"]) for e in range(12)}
    assert min(sizes) >= 10 and max(sizes) <= 20 and len(sizes) > 3
    stretched = views(augment=PointAugment(scale=0.5), normals=True)[0]
    assert float((stretched["positions"] - plain).abs().max()) > 0.02
    assert torch.allclose(stretched["features"].norm(dim=1), torch.ones(20), atol=1e-6)
    for bad in ({"jitter": -1.0}, {"scale": -0.1}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match="expected"):
            PointAugment(**bad)


def test_stretched_normals_stay_normal_to_the_surface() -> None:
    """Of points on a sphere, which becomes an ellipsoid: x . n = |S^-1 n| ... checked on tangents."""
    rng = np.random.default_rng(3)
    sphere = rng.normal(size=(40, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    tangents = np.cross(sphere, [0.3, 0.5, 0.8])
    near = np.concatenate([sphere, sphere + 1e-5 * tangents])
    data = ArrayClouds(near[None], np.zeros(1), ("a",), normals=np.concatenate([sphere, sphere])[None])
    item = Views(data, 80, normals=True, choose="first", augment=PointAugment(scale=1.0))[0]
    moved = (item["positions"][40:] - item["positions"][:40]).double()
    direction = torch.nn.functional.normalize(moved, dim=1)
    assert (
        float((direction * item["features"][:40].double()).sum(1).abs().max()) < 0.05
    )  # float32 differences


def test_votes_begin_with_the_single_view() -> None:
    one, many = views("so3", choose="first"), views("so3", choose="first", votes=3)
    found = many[2]
    assert isinstance(found, list) and len(found) == 3
    assert torch.equal(found[0]["positions"], one[2]["positions"])
    assert not torch.allclose(shape_of(found[0]), shape_of(found[1]))
    batch = collate_clouds([many[0], many[1]])
    assert batch["votes"] == 3 and batch["batch"].max() == 5 and batch["label"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="votes is 0"):
        views(votes=0)


def test_batches_are_ragged() -> None:
    data = [{"positions": torch.randn(n, 3), "label": n, "index": 7} for n in (3, 1, 5)]
    batch = collate_clouds(data)
    assert batch["batch"].tolist() == [0] * 3 + [1] + [2] * 5 and batch["positions"].shape == (9, 3)
    assert batch["label"].tolist() == [3, 1, 5] and "votes" not in batch and "features" not in batch


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="rotation is 'SO3'; expected one of 'none', 'z', 'so3'"):
        views("SO3")
    with pytest.raises(ValueError, match="do not say which axis points upwards"):
        Views(stored(up=None), 20, "z")
    with pytest.raises(ValueError, match="num_points is 0"):
        views(num_points=0)
    with pytest.raises(IndexError, match="outside a dataset of 4 clouds"):
        views()[4]
    with pytest.raises(ValueError, match="holds no point"):
        check_cloud(np.zeros((0, 3)), None, "a file")
    with pytest.raises(ValueError, match=r"shape \(3, 2\); expected points"):
        check_cloud(np.zeros((3, 2)), None, "a file")
    with pytest.raises(ValueError, match="normals of shape"):
        check_cloud(np.zeros((3, 3)), np.zeros((2, 3)), "a file")

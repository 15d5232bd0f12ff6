"""Triangle meshes as grids: shape, frames, topology, value semantics, refusals, and batches."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

import spheregeo as sg
from spheregeo.grids import Icosahedral, clear_cache
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh, concatenate


def ellipsoid(
    level: int = 2, axes: tuple[float, float, float] = (1.0, 0.8, 0.6), **options: object
) -> TriangleMesh:
    grid = Icosahedral(level)
    return TriangleMesh(grid.points * torch.tensor(axes), grid.faces, **options)


def lattice(rows: int, columns: int, rise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of squares, each cut in two: vertices and faces."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    vertices = np.stack([x, y, rise * np.sin(x + 0.5 * y)], -1).reshape(-1, 3)
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate(
        [np.stack([i, i + 1, i + columns + 1], 1), np.stack([i, i + columns + 1, i + columns], 1)]
    )
    return vertices, faces


def torus(n: int = 24, m: int = 12) -> TriangleMesh:
    a, b = np.meshgrid(2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m, indexing="ij")
    ring = 2 + np.cos(b)
    vertices = np.stack([ring * np.cos(a), ring * np.sin(a), np.sin(b)], -1).reshape(-1, 3)
    i, j = np.divmod(np.arange(n * m), m)
    here, east, south, far = (
        ((i + di) % n) * m + (j + dj) % m for di, dj in ((0, 0), (1, 0), (0, 1), (1, 1))
    )
    return TriangleMesh(
        vertices, np.concatenate([np.stack([here, east, far], 1), np.stack([here, far, south], 1)])
    )


BOX = (
    [[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)],
    # a cube without its lid x = 1
    [
        [0, 1, 3],
        [0, 3, 2],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ],
)
MESHES = {
    "ellipsoid": ellipsoid(),
    "torus": torus(),
    "sheet": TriangleMesh(*lattice(5, 7, 0.3)),
    "box": TriangleMesh(*BOX),
    "uniform": ellipsoid(normals="uniform", frames="first"),
    "area": ellipsoid(normals="area", frames="random", seed=3),
}
every = pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES.keys())


@every
def test_a_mesh_is_a_grid(mesh: TriangleMesh) -> None:
    n = mesh.num_points
    assert (
        isinstance(mesh, sg.grids.Grid) and not mesh.is_sphere and mesh.shape == (n,) and mesh.rings is None
    )
    for name, shape in (("points", (n, 3)), ("areas", (n,)), ("frames", (n, 2, 3)), ("normals", (n, 3))):
        tensor = getattr(mesh, name)
        assert tensor.shape == shape and tensor.dtype == torch.float64 and not tensor.requires_grad, name
        assert tensor.isfinite().all()
    f = mesh.frames
    assert (f @ f.mT - torch.eye(2)).abs().max() < 1e-15 * 4
    assert (torch.linalg.cross(f[:, 0], f[:, 1]) - mesh.normals).abs().max() < 1e-15 * 4
    assert mesh.areas.sum().item() == pytest.approx(mesh.face_areas.sum().item(), rel=1e-14) == mesh.area
    assert mesh.spacing == np.median(mesh.edge_lengths.numpy())
    with pytest.raises(AttributeError, match="no colatitude"):
        _ = mesh.colatitude
    with pytest.raises(AttributeError, match="no longitude"):
        _ = mesh.longitude


def by_hand(vertices: Tensor, faces: Tensor, weights: str) -> tuple[Tensor, Tensor]:
    """Areas and normals vertex by vertex."""
    areas, normals = torch.zeros(len(vertices)).double(), torch.zeros(len(vertices), 3).double()
    for face in faces.tolist():
        p = vertices[face]
        vector = torch.linalg.cross(p[1] - p[0], p[2] - p[0])
        for k in range(3):
            u, v = p[(k + 1) % 3] - p[k], p[(k + 2) % 3] - p[k]
            angle = torch.acos(u @ v / u.norm() / v.norm())
            weight = {"angle": angle, "area": vector.norm(), "uniform": 1.0}[weights]
            areas[face[k]] += vector.norm() / 6
            normals[face[k]] += weight * vector / vector.norm()
    return areas, normals / normals.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("weights", ["angle", "area", "uniform"])
def test_areas_and_normals_by_hand(weights: str) -> None:
    mesh = ellipsoid(1, normals=weights)
    areas, normals = by_hand(mesh.points, mesh.faces, weights)
    torch.testing.assert_close(mesh.areas, areas, rtol=1e-14, atol=0)
    torch.testing.assert_close(mesh.normals, normals, rtol=0, atol=1e-14)
    others = [
        ellipsoid(1, normals=other).normals for other in ("angle", "area", "uniform") if other != weights
    ]
    assert all((mesh.normals - other).abs().max() > 1e-3 for other in others), "the choice changes nothing"
    assert (mesh.normals * mesh.points).sum(1).min() > 0, "normals point inward"


def test_angle_weights_do_not_see_how_flat_parts_are_cut() -> None:
    """The corner of a cube has normal (1, 1, 1)/√3 however its squares are cut into triangles."""
    box, corner = TriangleMesh(*BOX), -torch.ones(3).double() / math.sqrt(3)
    assert (box.normals[0] - corner).abs().max() < 1e-15
    assert (TriangleMesh(*BOX, normals="uniform").normals[0] - corner).abs().max() < 1e-15
    other = [list(f) for f in BOX[1]]
    other[:2] = [[0, 1, 2], [1, 3, 2]]
    assert (TriangleMesh(BOX[0], other).normals[0] - corner).abs().max() < 1e-15
    assert (TriangleMesh(BOX[0], other, normals="uniform").normals[0] - corner).abs().max() > 0.1


def test_face_quantities() -> None:
    mesh = TriangleMesh([[0, 0, 0], [2, 0, 0], [0, 2, 0]], [[0, 1, 2]])
    assert (
        mesh.face_normals.tolist() == [[0, 0, 1]]
        and mesh.face_areas.tolist() == [2.0]
        and mesh.num_faces == 1
    )
    expected = torch.tensor([[math.pi / 2, math.pi / 4, math.pi / 4]], dtype=torch.float64)
    torch.testing.assert_close(mesh.corner_angles, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(ellipsoid().corner_angles.sum(1), torch.full((320,), math.pi).double())


# ---- frames


def test_frames_by_choice() -> None:
    axis, first, random = (ellipsoid(frames=name) for name in ("axis", "first", "random"))
    turn = torch.linalg.vecdot(random.frames[:, 0], axis.frames[:, 0])
    assert turn.max() > 0.9 and turn.min() < -0.9, "random frames are not random"
    assert torch.equal(random.frames, ellipsoid(frames="random").frames), "a seed gives the same frames again"
    assert not torch.equal(random.frames, ellipsoid(frames="random", seed=1).frames)
    indptr, indices = first.adjacency
    towards = first.points[indices[indptr[:-1]]] - first.points
    assert torch.linalg.vecdot(towards, first.frames[:, 1]).abs().max() < 1e-15
    assert torch.linalg.vecdot(towards, first.frames[:, 0]).min() > 0
    least = axis.normals.abs().argmin(1)
    assert axis.frames[:, 0].gather(1, least[:, None]).min() > math.sqrt(2 / 3) - 1e-12
    given = axis.with_frames(random.frames)
    assert (
        torch.equal(given.frames, random.frames)
        and given != random
        and torch.equal(given.points, axis.points)
    )
    assert axis.with_frames("random", seed=1) == ellipsoid(frames="random", seed=1)


def test_turning_the_mesh_turns_its_geometry() -> None:
    mesh, turn = MESHES["uniform"], random_rotations(1)[0]
    turned = TriangleMesh(mesh.points @ turn.T, mesh.faces, normals="uniform", frames="first")
    torch.testing.assert_close(turned.areas, mesh.areas, rtol=1e-13, atol=0)
    torch.testing.assert_close(turned.normals, mesh.normals @ turn.T, rtol=0, atol=1e-14)
    torch.testing.assert_close(turned.frames, mesh.frames @ turn.T, rtol=0, atol=1e-14)


def test_an_edge_along_the_normal_gives_a_frame_all_the_same() -> None:
    """First neighbour straight above: its projection has no direction, so an axis is taken."""
    spike = [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]
    mesh = TriangleMesh(spike[1:] + spike[:1], [[0, 1, 2], [0, 2, 3], [0, 3, 4], [1, 5, 2]], frames="first")
    assert (mesh.frames @ mesh.frames.mT - torch.eye(2)).abs().max() < 1e-15


# ---- topology


@pytest.mark.parametrize(
    ("name", "chi", "parts", "border"),
    [("ellipsoid", 2, 1, 0), ("torus", 0, 1, 0), ("sheet", 1, 1, 20), ("box", 1, 1, 4)],
)
def test_topology(name: str, chi: int, parts: int, border: int) -> None:
    mesh = MESHES[name]
    assert mesh.euler_characteristic == chi and mesh.num_components == parts
    assert int(mesh.border.sum()) == border and mesh.components.unique().tolist() == list(range(parts))
    sides = {tuple(sorted((f[k], f[(k + 1) % 3]))) for f in mesh.faces.tolist() for k in range(3)}
    assert [tuple(e) for e in mesh.edges.tolist()] == sorted(sides)


def test_open_borders_are_symmetric() -> None:
    """One directed edge a face side would leave borders one-directional: 3 of 33 on an open box in a published network."""
    for mesh in MESHES.values():
        indptr, indices = mesh.adjacency
        pairs = set(
            zip(
                torch.repeat_interleave(torch.arange(mesh.num_points), indptr.diff()).tolist(),
                indices.tolist(),
            )
        )
        assert pairs == {(q, p) for p, q in pairs} and len(pairs) == 2 * len(mesh.edges)


# ---- value


@every
def test_value_semantics(mesh: TriangleMesh) -> None:
    for twin in (pickle.loads(pickle.dumps(mesh)), copy.deepcopy(mesh)):
        assert twin == mesh and hash(twin) == hash(mesh) and twin.digest == mesh.digest
        assert twin.normals.data_ptr() == mesh.normals.data_ptr(), "geometry is not shared by value"
    assert str(mesh) == repr(mesh) and repr(mesh).startswith(f"TriangleMesh({mesh.num_points} vertices, ")
    assert len(repr(mesh)) < 70
    assert mesh != "mesh" and len({*MESHES.values()}) == len(MESHES)


def test_every_argument_counts_for_the_value() -> None:
    grid = Icosahedral(1)
    p, f = grid.points, grid.faces
    base = TriangleMesh(p, f)
    assert (
        TriangleMesh(p.numpy(), f.tolist()) == base == TriangleMesh(p, f.int()) == TriangleMesh(p, f, seed=5)
    )
    moved = p.clone()
    moved[0, 0] += 1e-15
    others = [
        TriangleMesh(moved, f),
        TriangleMesh(p, f.roll(1, 1)),
        TriangleMesh(p, f.roll(1, 0)),
        TriangleMesh(p, f, normals="area"),
        TriangleMesh(p, f, frames="first"),
        TriangleMesh(p, f, frames="random"),
        TriangleMesh(p, f, frames="random", seed=1),
        TriangleMesh(p, f, normals=p),
        TriangleMesh(p, f, frames=base.frames),
    ]
    assert len({base, *others}) == 10


def test_the_mesh_does_not_share_memory_with_its_arguments() -> None:
    vertices, faces = lattice(3, 3)
    mesh = TriangleMesh(vertices, faces)
    vertices += 1
    faces[:] = 0
    assert mesh.points[0].tolist() == [0, 0, 0] and mesh.faces.max() == 8


def test_geometry_survives_the_cache() -> None:
    mesh = ellipsoid(1)
    before = mesh.normals, mesh.edges
    clear_cache()
    assert torch.equal(mesh.normals, before[0]) and torch.equal(mesh.edges, before[1])


def test_given_normals_and_frames() -> None:
    grid = Icosahedral(2)
    mesh = TriangleMesh(grid.points, grid.faces, normals=grid.points, frames=grid.frames)
    assert torch.equal(mesh.normals, grid.points) and torch.equal(mesh.frames, grid.frames)
    rounded = TriangleMesh(grid.points, grid.faces, normals=grid.points.float())
    assert (rounded.normals.norm(dim=1) - 1).abs().max() < 1e-15
    rounded = TriangleMesh(grid.points, grid.faces, normals=grid.points, frames=grid.frames.float())
    assert (rounded.frames - grid.frames).abs().max() < 1e-7
    assert (torch.linalg.cross(rounded.frames[:, 0], rounded.frames[:, 1]) - grid.points).abs().max() < 1e-15


# ---- what is tolerated, and what is not

SQUARE = [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_seams_pinches_and_parts_are_tolerated() -> None:
    seam = TriangleMesh([*SQUARE, *SQUARE[1:3], [2, 0, 0]], [[0, 1, 2], [0, 2, 3], [4, 6, 5]])
    assert seam.num_points == 7 and seam.num_components == 2, "vertices at the same place were merged"
    pinch = TriangleMesh([*SQUARE, [-1, 0, 0.5], [0, -1, 0]], [[0, 1, 2], [0, 2, 3], [0, 4, 5]])
    assert pinch.num_components == 1 and pinch.euler_characteristic == 1 and pinch.normals.isfinite().all()


@pytest.mark.parametrize(
    ("vertices", "faces", "error", "what"),
    [
        (SQUARE, [], ValueError, r"faces has shape \(0,\); expected \(F, 3\)"),
        (np.zeros((0, 3)), [[0, 1, 2]], ValueError, r"vertices has shape \(0, 3\)"),
        (np.zeros((4, 2)), [[0, 1, 2]], ValueError, r"vertices has shape \(4, 2\); expected \(V, 3\)"),
        (SQUARE, [[0, 1, 2, 3]], ValueError, r"faces has shape \(1, 4\).*split polygons"),
        (SQUARE, [[0, 1, 2], [0, 1]], ValueError, "faces is no array.*triangles"),
        (SQUARE, [[0.0, 1.0, 2.0]], TypeError, "faces are of type float64; expected integers"),
        ([["a"] * 3] * 3, [[0, 1, 2]], TypeError, "vertices are of type <U1"),
        (SQUARE, [[0, 1, 7]], ValueError, r"outside 0\.\.\.3, the first faces\[0\] = \[0, 1, 7\]"),
        (SQUARE, [[0, -1, 2]], ValueError, "outside"),
        (SQUARE, [[1, 2, 3], [1, 3, 4]], ValueError, "counted from 1"),
        ([*SQUARE[:3], [0, 1, math.nan]], [[0, 1, 2], [0, 2, 3]], ValueError, "1 vertices are NaN.*first vertex 3"),
        ([*SQUARE[:3], [math.inf, 1, 0]], [[0, 1, 2], [0, 2, 3]], ValueError, "NaN or infinite, the first vertex 3"),
        (SQUARE, [[0, 1, 2], [0, 2, 3], [3, 3, 1]], ValueError, "1 faces name a vertex twice, the first face 2"),
        ([*SQUARE, [0.5, 0, 0]], [[0, 1, 2], [0, 2, 3], [1, 0, 4]], ValueError, "1 faces have no area, the first face 2"),
        (SQUARE, [[0, 1, 2], [0, 2, 3], [2, 1, 0]], ValueError, "1 faces lie on the same vertices.*first face 2"),
        (SQUARE, [[0, 1, 2], [2, 1, 3], [1, 2, 3]], ValueError, "more than two faces, the first edge"),
        (SQUARE, [[0, 1, 2], [0, 3, 2]], ValueError, r"opposite orientation, the first edge \[0, 2\]"),
        ([*SQUARE, [5, 5, 5]], [[0, 1, 2], [0, 2, 3]], ValueError, "1 vertices belong to no face, the first vertex 4"),
    ],
)  # fmt: skip
def test_faults_are_refused_by_name(
    vertices: object, faces: object, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=f"^TriangleMesh: .*{what}"):
        TriangleMesh(vertices, faces)


def test_all_faults_are_named_at_once_with_the_way_out() -> None:
    with pytest.raises(
        ValueError, match=r"NaN.*vertex twice.*no face.*spheregeo\.mesh\.repair\(vertices, faces\)"
    ):
        TriangleMesh([*SQUARE, [math.nan] * 3], [[0, 1, 2], [0, 2, 3], [1, 1, 2]])


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"normals": "face"}, ValueError, "normals is 'face'; expected one of"),
        ({"frames": "y"}, ValueError, "frames is 'y'; expected one of"),
        ({"normals": None}, TypeError, "normals is of type NoneType"),
        ({"normals": torch.ones(3, 3)}, ValueError, r"normals has shape \(3, 3\); expected \(4, 3\)"),
        ({"normals": torch.ones(4, 3)}, ValueError, r"normals\[0\] has length 1.73205; expected unit vectors"),
        ({"normals": torch.full((4, 3), math.nan)}, ValueError, "normals has NaN"),
        ({"frames": torch.zeros(4, 3)}, ValueError, r"frames has shape \(4, 3\); expected \(4, 2, 3\)"),
        ({"frames": torch.eye(3)[:2].flip(0).expand(4, 2, 3)}, ValueError, r"frames\[0\] is off by 2; expected orthonormal"),
        ({"frames": torch.eye(3)[1:].expand(4, 2, 3)}, ValueError, r"frames\[0\] is off by 1"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, object], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        TriangleMesh(SQUARE, [[0, 1, 2], [0, 2, 3]], **options)


def test_normals_that_cancel_are_refused() -> None:
    """Two flat sheets that face opposite ways and share one vertex."""
    vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    mesh = TriangleMesh(vertices, [[0, 1, 2], [0, 4, 3]])
    with pytest.raises(ValueError, match=r"1 vertices have no normal, the first at index 0.*pass normals="):
        _ = mesh.normals
    up = torch.tensor([0.0, 0.0, 1.0]).expand(5, 3)
    assert TriangleMesh(vertices, [[0, 1, 2], [0, 4, 3]], normals=up).frames.isfinite().all()


# ---- several meshes as one


def test_concatenated_meshes_keep_their_geometry() -> None:
    parts = [MESHES["area"], MESHES["box"], MESHES["sheet"]]
    joint = concatenate(parts)
    assert joint.counts == (162, 8, 35) and joint.mesh.num_components == 3
    assert joint.batch.bincount().tolist() == [162, 8, 35] and (joint.batch.diff() >= 0).all()
    for name in ("points", "normals", "areas", "border"):
        torch.testing.assert_close(getattr(joint.mesh, name), torch.cat([getattr(m, name) for m in parts]))
    assert torch.equal(joint.mesh.frames, torch.cat([m.frames for m in parts]))
    assert joint.mesh.num_faces == sum(m.num_faces for m in parts)
    assert len(joint.mesh.edges) == sum(len(m.edges) for m in parts)
    x = torch.randn(2, 3, 205)
    assert [part.shape[-1] for part in joint.split(x)] == [162, 8, 35] and torch.equal(
        torch.cat(joint.split(x), -1), x
    )
    assert concatenate(parts) == joint


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="meshes is empty"):
        concatenate([])
    with pytest.raises(TypeError, match=r"meshes\[1\] is of type Icosahedral"):
        concatenate([MESHES["box"], Icosahedral(1)])
    with pytest.raises(ValueError, match="x has 7 points on its last axis; expected 8"):
        concatenate([MESHES["box"]]).split(torch.zeros(1, 1, 7))


# ---- hierarchy and analysis


def test_levels_of_a_hierarchy() -> None:
    mesh = ellipsoid(3, normals="area", frames="random", seed=4)
    coarse, parents = mesh.coarsen(), mesh.parents()
    assert abs(coarse.num_points - mesh.num_points / 4) <= 1 and coarse.euler_characteristic == 2
    assert mesh.coarsen() is coarse, "a level is not kept"
    assert torch.equal(parents.unique(), torch.arange(coarse.num_points)), (
        "a coarse vertex without a fine one"
    )
    assert (coarse.points[parents] - mesh.points).norm(dim=1).max() < 1.5 * coarse.spacing
    assert (coarse.normals[parents] * mesh.normals).sum(1).min() > 0.8
    again = TriangleMesh(coarse.points, coarse.faces, normals="area", frames="random", seed=4)
    assert coarse == again, "the choices of the mesh are not its levels'"
    half = mesh.coarsen(0.5)
    assert (
        abs(half.num_points - mesh.num_points / 2) <= 1 and len(mesh.parents(0.5).unique()) == half.num_points
    )
    given = TriangleMesh(mesh.points, mesh.faces, normals=mesh.normals, frames=mesh.frames)
    assert given.coarsen() == TriangleMesh(coarse.points, coarse.faces)
    with pytest.raises(ValueError, match=r"ratio is 1\.5"):
        mesh.coarsen(1.5)
    with pytest.raises(ValueError, match="no finer level"):
        mesh.refine()


def test_pooling_keeps_the_integral() -> None:
    mesh = ellipsoid(3)
    x = torch.randn(2, 3, mesh.num_points, dtype=torch.float64)
    pooled = sg.sampling.pool(x, mesh, reduce="area")
    total = torch.zeros(mesh.coarsen().num_points).double().index_add(0, mesh.parents(), mesh.areas)
    torch.testing.assert_close(pooled @ total, x @ mesh.areas)


def test_laplacians_and_heat_are_at_hand() -> None:
    mesh = ellipsoid(2, frames="random")
    for kind in ("cotangent", "robust"):
        matrix, mass = mesh.laplacian(kind)
        assert abs(matrix @ np.ones(mesh.num_points)).max() < 1e-12 and mass.sum() == pytest.approx(mesh.area)
    with pytest.raises(ValueError, match="kind is 'graph'; expected 'cotangent' or 'robust'"):
        mesh.laplacian("graph")
    heat = mesh.heat()
    assert heat.distance([0])[0].argmin() == 0 and heat.distance([0]).max() < 4
    turned = mesh.with_frames("axis").heat()
    assert abs(np.exp(1j * heat.transport([0])) - np.exp(1j * turned.transport([0]))).max() > 0.1

"""Polygons of any number of corners as triangles: fans where these are sound, else ears are cut off."""

from __future__ import annotations

import numpy as np

FLAT = 1e-12  # of the squared size of a polygon: a triangle of less area has none
MOST = 10_000  # corners of a polygon that no fan fills; cutting ears takes time by the square of it


def check_polygons(flat: np.ndarray, sizes: np.ndarray, vertices: int) -> None:
    """Raises: ValueError for polygons of less than three corners, and corners that are no vertices."""
    if len(sizes) and sizes.min() < 3:
        face = int((sizes < 3).argmax())
        raise ValueError(f"face {face} has {sizes[face]} corners; expected 3 at least")
    out = (flat < 0) | (flat >= vertices)
    if out.any():
        at = int(out.argmax())
        face = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
        raise ValueError(
            f"face {face} names vertex {flat[at]}, counted from 0, but there are {vertices} vertices"
        )


def triangulate(points: np.ndarray, flat: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Split polygons into triangles of the same total area, in the polygons' order; one of n corners gives n - 2.

    A polygon is split from its first corner where that gives triangles that all look to its side, else by cutting off ears in
    its mean plane: concave polygons keep their area.

    Args:
        points: vertices.
        flat: vertices of the polygons' corners, one polygon after another.
        sizes: number of corners of each polygon.

    Shape: (V, 3), (C,), (P,) -> (F, 3) int64.
    Raises: ValueError for corners that are no vertices, and polygons of less than three or of too many corners.
    """
    flat, sizes = np.asarray(flat, np.int64), np.asarray(sizes, np.int64)
    check_polygons(flat, sizes, len(points))
    if (sizes == 3).all():
        return flat.reshape(-1, 3)
    start = np.concatenate([[0], np.cumsum(sizes)])
    first = np.concatenate([[0], np.cumsum(sizes - 2)])  # of each polygon's triangles
    faces = np.empty((int(first[-1]), 3), np.int64)
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        corners = flat[start[which][:, None] + np.arange(size)]  # (m, n)
        places = points[corners]
        fan = _fan(int(size))
        local = np.broadcast_to(fan, (len(which), *fan.shape)).copy()  # (m, n - 2, 3)
        for k in np.flatnonzero(~_fan_is_sound(places)):
            local[k] = _ears(places[k])
        into = first[which][:, None] + np.arange(size - 2)
        faces[into] = np.take_along_axis(corners[:, None, :], local, axis=2)
    return faces


def _fan(size: int) -> np.ndarray:
    """Triangles from the first corner on; of four corners (0, 1, 2) and (2, 3, 0)."""
    if size == 4:
        return np.array([[0, 1, 2], [2, 3, 0]])
    k = np.arange(1, size - 1)
    return np.stack([np.zeros_like(k), k, k + 1], 1)


def _fan_is_sound(places: np.ndarray) -> np.ndarray:
    """Whether the triangles from the first corner look to one side and go round it less than once. Shape: (m, n, 3) -> (m,)."""
    if places.shape[1] == 3:
        return np.ones(len(places), bool)
    with np.errstate(all="ignore"):
        arm = places[:, 1:] - places[:, :1]
        cross = np.cross(arm[:, :-1], arm[:, 1:])
        normal = cross.sum(1, keepdims=True)
        length = np.linalg.norm(normal, axis=2)
        along = (cross * normal).sum(2)
        size = (arm**2).sum(2).max(1, keepdims=True)
        angle = np.arctan2(np.linalg.norm(cross, axis=2), (arm[:, :-1] * arm[:, 1:]).sum(2)).sum(1)
        sound = (along > FLAT * size * length).all(1) & (angle < 2 * np.pi)
        hopeless = ~np.isfinite(places).all((1, 2)) | ~(length[:, 0] > FLAT * size[:, 0])  # has no plane
    return np.asarray(sound | hopeless)


def _ears(places: np.ndarray) -> np.ndarray:
    """Triangles of one polygon that has a plane, as numbers of its corners. Shape: (n, 3) -> (n - 2, 3)."""
    if len(places) > MOST:
        raise ValueError(f"a polygon has {len(places)} corners; expected {MOST} at most: split it")
    plane = _in_plane(places)
    left = list(range(len(places)))
    found = []
    while len(left) > 3:
        at = _best_ear(plane[left])
        found.append([left[at - 1], left[at], left[(at + 1) % len(left)]])
        del left[at]
    return np.array([*found, left])


def _in_plane(places: np.ndarray) -> np.ndarray:
    """Coordinates in the mean plane, counter-clockwise, of size 1. Shape: (n, 3) -> (n, 2)."""
    arm = places - places[0]
    normal = np.cross(arm[:-1], arm[1:]).sum(0)
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    return np.asarray(arm @ np.stack([first, np.cross(normal, first)], 1) / np.abs(arm).max())


def _best_ear(plane: np.ndarray) -> int:
    """The corner whose triangle is the least flat of those that hold no other corner."""
    before, after = np.roll(plane, 1, 0), np.roll(plane, -1, 0)
    cross = _turn(before, plane, after)
    sides = [((a - b) ** 2).sum(1) for a, b in ((before, plane), (plane, after), (after, before))]
    shape = cross / np.maximum(np.max(sides, 0), 1e-300)
    for margin in (FLAT, -FLAT):  # corners on the border of the triangle count, unless nothing else is left
        for at in np.argsort(-shape):
            if cross[at] <= FLAT:
                break
            triangle = before[at], plane[at], after[at]
            inside = np.ones(len(plane), bool)
            for a, b in ((0, 1), (1, 2), (2, 0)):
                inside &= _turn(triangle[a], triangle[b], plane) >= -margin
            for corner in triangle:
                inside &= (plane != corner).any(1)
            if not inside.any():
                return int(at)
    return int(shape.argmax())  # the polygon crosses itself


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the area of triangles in the plane, positive where they run counter-clockwise."""
    u, v = b - a, c - a
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

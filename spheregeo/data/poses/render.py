"""Draws triangle meshes: perspective or parallel rays, a depth buffer, flat Lambert shading; all faces at once, in numpy.

The camera looks along −z from the positive z axis: x points to the right, y up, z towards the viewer.
"""

from __future__ import annotations

import numpy as np

SUBSAMPLES = 2  # samples along each side of a pixel
AMBIENT = 0.2  # share of the light that comes from everywhere
FILL = 0.92  # share of half the image that the unit sphere takes


def render(
    vertices: np.ndarray,
    faces: np.ndarray,
    rotation: np.ndarray,
    size: int,
    *,
    distance: float | None = None,
    light: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> np.ndarray:
    """Return the grey image of a turned mesh on a black ground.

    Args:
        vertices: corners, within the unit sphere.
        faces: corners of each triangle, counter-clockwise seen from outside; triangles that face away are not drawn.
        rotation: the rotation R of p ↦ R p.
        size: pixels along each side.
        distance: of the camera from the origin, above 1; parallel rays if None.
        light: direction to the light in the camera's frame; (0, 0, 1) is at the camera, and then an image of a thing that is
            turned about the view axis is the turned image.

    Shape: (V, 3), (F, 3) int, (3, 3) -> (size, size) float32 in [0, 1], rows from the top.
    """
    fine = size * SUBSAMPLES
    turned = vertices @ rotation.T
    nearness, pixel, face, brightness = _rasterise(turned, faces, fine, distance, np.asarray(light, float))
    order = np.argsort(nearness, kind="stable")
    image = np.zeros(fine * fine)
    image[pixel[order]] = brightness[face[order]]  # of several, numpy keeps the last: the nearest
    return image.reshape(size, SUBSAMPLES, size, SUBSAMPLES).mean((1, 3)).astype(np.float32)


def _rasterise(
    points: np.ndarray, faces: np.ndarray, size: int, distance: float | None, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearness, pixel and triangle of every sample inside a triangle, and the brightness of the triangles."""
    if distance is None:
        scale, near = np.ones(len(points)), points[:, 2]
    else:  # as large at the origin's silhouette as with parallel rays; 1/z is linear on the screen
        near = 1 / (distance - points[:, 2])
        scale = np.sqrt(distance**2 - 1) * near
    screen = (points[:, :2] * (FILL * scale[:, None]) * (1, -1) + 1) * (size / 2) - 0.5
    a, b, c = (screen[faces[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    faces, a, b, c = (
        part[area < -1e-12] for part in (faces, a, b, c)
    )  # rows run down: facing the camera is negative
    area = area[area < -1e-12]

    p, q, r = (points[faces[:, k]] for k in range(3))
    normal = np.cross(q - p, r - p)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    lambert = np.maximum(normal @ (light / np.linalg.norm(light)), 0)
    brightness = AMBIENT + (1 - AMBIENT) * lambert

    low = np.ceil(np.clip(np.minimum(np.minimum(a, b), c), 0, size)).astype(np.int64)
    high = np.floor(np.clip(np.maximum(np.maximum(a, b), c), -1, size - 1)).astype(np.int64)
    width, height = np.maximum(high - low + 1, 0).T
    count = width * height
    face = np.repeat(np.arange(len(faces)), count)
    step = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    x = low[face, 0] + step % np.maximum(width, 1)[face]
    y = low[face, 1] + step // np.maximum(width, 1)[face]

    def edge(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Share of the opposite corner at each sample."""
        dx, dy = (end - start).T / area
        return dx[face] * (y - start[face, 1]) - dy[face] * (x - start[face, 0])

    u, v = edge(b, c), edge(c, a)
    w = 1 - u - v
    inside = (u >= 0) & (v >= 0) & (w >= 0)
    face, u, v, w = (part[inside] for part in (face, u, v, w))
    corner = near[faces]
    nearness = u * corner[face, 0] + v * corner[face, 1] + w * corner[face, 2]
    return nearness, y[inside] * size + x[inside], face, brightness

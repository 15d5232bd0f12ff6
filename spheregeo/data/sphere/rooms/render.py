"""Casts the rays of an equirectangular camera into a room of boxes and shades what they meet.

A ray of azimuth a and elevation e is followed by its horizontal range rho: x = x0 + rho cos a, y = y0 + rho sin a,
z = z0 + rho tan e. The slab test (Kay & Kajiya 1986) then separates: the x and y slabs bound rho by column, the z slab
by row, so a box costs one maximum and one minimum a pixel, over the columns and rows that it can touch and no others.
"""

from __future__ import annotations

import numpy as np

from spheregeo.data.sphere.rooms.scene import (
    CEILING,
    CHECKS,
    FLOOR,
    STRIPES_U,
    STRIPES_V,
    WALL,
    WINDOW,
    Paint,
    Scene,
)

SUBSAMPLES = 2  # rays a pixel and direction: colours are averaged over them, labels voted
SKY, GROUND = (
    (0.75, 0.87, 1.0),
    (0.33, 0.42, 0.25),
)  # what is seen through a window, above and below the horizon


def render(
    scene: Scene, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB (H, W, 3) float32 in [0, 1], labels (H, W) uint8, depth (H, W) float32 metres along the ray.

    Columns run clockwise as seen from above, as the picture of a turning camera does.
    """
    height, width = size[0] * SUBSAMPLES, size[1] * SUBSAMPLES
    elevation = np.pi / 2 - (np.arange(height) + 0.5) * np.pi / height
    azimuth = scene.yaw - (-np.pi + (np.arange(width) + 0.5) * 2 * np.pi / width)
    rho, owner, axis = cast(scene, azimuth, elevation)
    colour = shade(scene, azimuth, elevation, rho, owner, axis, rng)
    label = np.array([FLOOR, CEILING, WALL, *scene.label], np.uint8)[owner]
    depth = rho / np.cos(elevation)[:, None]
    return vote(colour, label, depth.astype(np.float32), size)


def slab(low: np.ndarray, high: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit parameters of rays through slabs: (N,), (N,), (R,) -> (N, R) twice."""
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    a, b = low[:, None] / safe, high[:, None] / safe
    return np.minimum(a, b), np.maximum(a, b)


def cast(
    scene: Scene, azimuth: np.ndarray, elevation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Horizontal range, owner (0 floor, 1 ceiling, 2 wall, 3 + k box k) and normal's axis of the first hit, all (H, W)."""
    eye = np.array(scene.camera)
    cos, sin, tan = np.cos(azimuth), np.sin(azimuth), np.tan(elevation)
    room = np.array(scene.room)[None]
    out_x, out_y = (
        slab(-eye[:1], room[:, 0] - eye[0], cos)[1][0],
        slab(-eye[1:2], room[:, 1] - eye[1], sin)[1][0],
    )
    out_z = slab(-eye[2:], room[:, 2] - eye[2], tan)[1][0]
    side = np.minimum(out_x, out_y)
    rho = np.minimum(side[None, :], out_z[:, None])
    vertical = out_z[:, None] < side[None, :]
    axis = np.where(vertical, 2, np.where(out_x < out_y, 0, 1)[None, :]).astype(np.int8)
    owner = np.where(vertical, (tan > 0)[:, None].astype(np.int16), np.int16(2))
    if not scene.lower:
        return rho, owner, axis
    low, high = np.array(scene.lower) - eye, np.array(scene.upper) - eye
    x_in, x_out = slab(low[:, 0], high[:, 0], cos)
    y_in, y_out = slab(low[:, 1], high[:, 1], sin)
    z_in, z_out = slab(low[:, 2], high[:, 2], tan)
    side_in, side_out = np.maximum(x_in, y_in), np.minimum(x_out, y_out)
    side_axis = (y_in > x_in).astype(np.int8)
    touched = (side_out >= np.maximum(side_in, 0)) & (side_out > 1e-6)
    for k in range(len(low)):
        columns = np.flatnonzero(touched[k])
        if not len(columns):
            continue
        near, far = max(side_in[k, columns].min(), 0.0), side_out[k, columns].max()
        rows = np.flatnonzero((z_in[k] <= far) & (z_out[k] >= near))
        if not len(rows):
            continue
        rows_z = z_in[k, rows][:, None]
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        if rows[-1] - rows[0] + 1 != len(rows) or columns[-1] - columns[0] + 1 != len(columns):
            window = np.ix_(rows, columns)  # type: ignore[assignment]
        enter = np.maximum(side_in[k, columns][None, :], rows_z)
        leave = np.minimum(side_out[k, columns][None, :], z_out[k, rows][:, None])
        before = rho[window]
        hit = (enter <= leave) & (enter > 1e-6) & (enter < before)
        rho[window] = np.where(hit, enter, before)
        owner[window] = np.where(hit, np.int16(3 + k), owner[window])
        face = np.where(rows_z > side_in[k, columns][None, :], np.int8(2), side_axis[k, columns][None, :])
        axis[window] = np.where(hit, face, axis[window])
    return rho, owner, axis


def shade(
    scene: Scene,
    azimuth: np.ndarray,
    elevation: np.ndarray,
    rho: np.ndarray,
    owner: np.ndarray,
    axis: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lambert shading by the room's lamps and windows, corner darkening, shadows under furniture, camera noise."""
    f4 = np.float32
    cos, sin, tan = (a.astype(f4) for a in (np.cos(azimuth), np.sin(azimuth), np.tan(elevation)))
    rho = rho.astype(f4)
    ray = np.stack(
        np.broadcast_arrays(rho * cos[None], rho * sin[None], rho * tan[:, None])
    )  # (3, H, W) from the eye
    point = ray + np.array(scene.camera, f4)[:, None, None]
    along = np.take_along_axis(ray, axis[None].astype(np.int64), 0)[0]
    sign = np.where(along > 0, f4(-1), f4(1))  # the face's normal looks back at the camera

    paints = [*scene.shell, *scene.paint]
    albedo = (np.array([p.colour for p in paints], f4) ** f4(2.2))[owner]  # (H, W, 3), linear light
    albedo *= pattern(paints, owner, axis, point)[..., None]
    light = np.empty_like(albedo)
    light[:] = np.array(rng.uniform(0.15, 0.4) * rng.uniform(0.9, 1.1, 3), f4)
    for position, normal, power in scene.lights:
        to = np.array(position, f4)[:, None, None] - point
        square = np.einsum("ihw,ihw->hw", to, to) + f4(0.05)
        inverse = 1 / np.sqrt(square)
        facing = np.take_along_axis(to, axis[None].astype(np.int64), 0)[0] * sign * inverse
        emit = 1.0 if not any(normal) else -np.einsum("ihw,i->hw", to, np.array(normal, f4)) * inverse
        gain = np.maximum(facing, 0) * np.maximum(emit, 0) / (1 + f4(0.35) * square)
        light += gain[..., None] * np.array(power, f4)
    light *= (occlusion(scene, point, axis) * contact(scene, point, owner))[..., None]
    linear = albedo * light

    glow = np.array([p.glow for p in paints], f4)[owner]
    outside = np.array([3 + k for k, p in enumerate(scene.paint) if p.glow > 0 and scene.label[k] == WINDOW])
    shining = glow > 0
    linear[shining] = albedo[shining] * (0.5 + glow[shining, None])
    if len(outside):
        view = np.isin(owner, outside)
        horizon = 1 / (
            1 + np.exp(-40 * np.broadcast_to(elevation.astype(f4)[:, None], owner.shape)[view, None])
        )
        linear[view] = (horizon * np.array(SKY, f4) + (1 - horizon) * np.array(GROUND, f4)) * (
            0.2 + glow[view, None]
        )
    exposure = rng.uniform(0.16, 0.34) / max(float(linear[~shining].mean()), 1e-3)
    picture = np.clip(linear * f4(exposure), 0, 1) ** f4(1 / 2.2)
    picture += rng.standard_normal(picture.shape, dtype=f4) * f4(rng.uniform(0.005, 0.03))
    return np.clip(picture, 0, 1)


def pattern(paints: list[Paint], owner: np.ndarray, axis: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Stripes and checks: a factor around 1 for every pixel, from the two coordinates of the face it lies on."""
    f4 = np.float32
    u = np.where(axis == 0, point[1], point[0])
    v = np.where(axis == 2, point[1], point[2])
    period = np.array([p.period for p in paints], f4)[owner]
    a, b = np.floor(u / period).astype(np.int32), np.floor(v / period).astype(np.int32)
    kind = np.array([p.pattern for p in paints], np.int8)[owner]
    cell = np.where(kind == STRIPES_U, a, np.where(kind == STRIPES_V, b, a * 7919 + b * 104729))
    # Multiplicative hashing (Knuth), so that no two planks are alike; unsigned integers wrap, as it needs.
    mixed = cell.astype(np.uint32) * np.uint32(2654435761) + owner.astype(np.uint32) * np.uint32(40503)
    tone = (mixed >> np.uint32(13) & np.uint32(255)).astype(f4) / 255
    tone = np.where(kind == CHECKS, ((a + b) & 1).astype(f4), tone)
    contrast = np.array([p.contrast if p.pattern else 0.0 for p in paints], f4)[owner]
    return 1 + contrast * (tone - f4(0.5)) * 2 * f4(0.9)


def occlusion(scene: Scene, point: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Darkening towards the corners: the closest of the room's planes other than the face's own."""
    nearest = np.full(axis.shape, np.inf, np.float32)
    for k, extent in enumerate(scene.room):
        gap = np.minimum(point[k], np.float32(extent) - point[k])
        nearest = np.minimum(nearest, np.where(axis == k, np.float32(np.inf), gap))
    return 1 - np.float32(0.4) * np.exp(-np.maximum(nearest, 0) / np.float32(0.25))


def contact(scene: Scene, point: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Soft shadows on the floor under and around furniture."""
    factor = np.ones(owner.shape, np.float32)
    on_floor = owner == 0
    x, y = point[0][on_floor], point[1][on_floor]
    dark = np.zeros_like(x)
    for x0, x1, y0, y1 in scene.footprints:
        gap = np.maximum(
            np.maximum(np.float32(x0) - x, x - np.float32(x1)),
            np.maximum(np.float32(y0) - y, y - np.float32(y1)),
        )
        dark = np.maximum(dark, np.exp(-np.maximum(gap, 0) / np.float32(0.15)))
    factor[on_floor] = 1 - np.float32(0.45) * dark
    return factor


def vote(
    colour: np.ndarray, label: np.ndarray, depth: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subsamples to pixels: mean colour, the commonest label (ties: the nearest surface), mean depth of that label."""

    def blocks(x: np.ndarray) -> np.ndarray:  # (H s, W s, ...) -> (s s, H, W, ...)
        cut = x.reshape(size[0], SUBSAMPLES, size[1], SUBSAMPLES, *x.shape[2:])
        return np.moveaxis(cut, (1, 3), (0, 1)).reshape(SUBSAMPLES**2, *size, *x.shape[2:])

    labels, depths = blocks(label), blocks(depth)
    votes = (labels[:, None] == labels[None]).sum(0)
    score = votes - depths / np.float32(1e3)
    winner = np.take_along_axis(labels, score.argmax(0)[None], 0)[0]
    agree = labels == winner
    return blocks(colour).mean(0), winner, np.mean(depths, 0, where=agree)

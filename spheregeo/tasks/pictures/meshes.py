"""Pictures of meshes: faces painted from back to front in parallel projection, shaded, one colour a face or a vertex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.mesh import TriangleMesh
from spheregeo.tasks.pictures.fields import _figure, _write_figure

Array = NDArray[Any]
PLAIN = np.array([0.62, 0.7, 0.82])
LIGHT = np.array([0.35, 0.5, 0.8]) / np.linalg.norm([0.35, 0.5, 0.8])
SHADE = 0.45  # brightness of a face that looks away from the light


def position_colours(points: Array) -> Array:
    """One colour a point from its place in the bounding box: near points look alike. Shape: (V, 3) -> (V, 3) in [0, 1]."""
    low, high = points.min(0), points.max(0)
    return 0.1 + 0.85 * (points - low) / np.maximum(high - low, 1e-12)


def error_colours(errors: Array, limit: float) -> Array:
    """Errors from 0 (light) to ``limit`` and beyond (dark); NaN is grey. Shape: (V,) -> (V, 3) in [0, 1]."""
    import matplotlib

    colours = matplotlib.colormaps["magma_r"](np.clip(np.nan_to_num(errors) / max(limit, 1e-12), 0, 1))[:, :3]
    colours[np.isnan(errors)] = 0.75
    return colours


def view(points: Array) -> Array:
    """Points as seen from where the shape looks widest: columns right, up, towards the eye. Shape: (V, 3) -> (V, 3)."""
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    up, right = axes[0], axes[1]
    up, right = (a * np.sign(a[np.abs(a).argmax()]) for a in (up, right))
    return np.asarray(centred @ np.stack([right, up, np.cross(right, up)], 1))


def draw_mesh(axis: Any, mesh: TriangleMesh, colours: Array | None = None, seen: Array | None = None) -> None:
    """Paint a mesh into matplotlib axes.

    Args:
        axis: the axes.
        mesh: what to paint.
        colours: (V, 3) in [0, 1], of the vertices, or (F, 3), of the faces, where their number differs; one plain colour if None.
        seen: (V, 3) places as :func:`view` gives them, where several pictures are to show the same side.
    """
    from matplotlib.collections import PolyCollection

    faces = mesh.faces.numpy()
    corner = (view(mesh.points.numpy()) if seen is None else seen)[faces]  # (F, 3, 3)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    normal *= np.sign(normal[:, 2:] + 1e-12)  # open surfaces are lit on both sides
    light = SHADE + (1 - SHADE) * np.clip(normal @ LIGHT, 0, 1)
    if colours is None:
        paint: Array = np.broadcast_to(PLAIN, (len(faces), 3))
    else:
        paint = colours if len(colours) != mesh.num_points else colours[faces].mean(1)
    order = np.argsort(corner[:, :, 2].mean(1))
    shaded = np.clip(paint * light[:, None], 0, 1)[order]
    axis.add_collection(
        PolyCollection(list(corner[order, :, :2]), facecolors=shaded, edgecolors=shaded, lw=0.2)
    )
    axis.set_xlim(corner[..., 0].min(), corner[..., 0].max())
    axis.set_ylim(corner[..., 1].min(), corner[..., 1].max())
    axis.set_aspect("equal")
    axis.set_axis_off()


def meshes_picture(
    path: str | Path,
    rows: Sequence[Sequence[tuple[TriangleMesh, Array | None]]],
    titles: Sequence[str],
    heads: Sequence[str] = (),
    legend: Sequence[tuple[str, Array]] = (),
) -> Path:
    """Meshes with their colours, of vertices or faces: one a sample in two rows, or a row each where samples have several.

    Args:
        path: the PNG.
        rows: for each sample its pictures, (mesh, colours of the vertices or None).
        titles: one a sample.
        heads: what each of a sample's pictures shows, where there are several.
        legend: names of colours, below the pictures.
    """
    width = len(rows[0])
    if width == 1:
        columns = (len(rows) + 1) // 2 if len(rows) > 3 else len(rows)
        lines = -(-len(rows) // columns)
    else:
        columns, lines = width, len(rows)
    figure = _figure(2.4 * columns, 2.7 * lines)
    if legend:
        figure.subplots_adjust(bottom=0.14 / lines + 0.03)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for k, (pictures, title) in enumerate(zip(rows, titles, strict=True)):
        cells = [axes[k // columns][k % columns]] if width == 1 else axes[k]
        for j, (axis, (mesh, colours)) in enumerate(zip(cells, pictures, strict=True)):
            draw_mesh(axis, mesh, colours)
            label = title if width == 1 else f"{title}: {heads[j]}" if j == 0 else heads[j]
            axis.set_title(label, fontsize=8)
    if legend:
        from matplotlib.patches import Patch

        patches = [Patch(color=(float(r), float(g), float(b)), label=name) for name, (r, g, b) in legend]
        figure.legend(
            handles=patches, loc="lower center", ncols=min(len(patches), 2 * columns + 1), fontsize=7
        )
    return _write_figure(path, figure)

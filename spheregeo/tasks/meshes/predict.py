"""Mesh files in, classes or correspondences out: a table, pictures, and meshes whose vertices have the colours of the answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.meshes.files import MESH_SUFFIXES, read_mesh, sound_mesh
from spheregeo.files import write_bytes
from spheregeo.mesh import TriangleMesh
from spheregeo.tasks.pictures.meshes import meshes_picture
from spheregeo.tasks.predict import check_faults, find_files, predict_each, say_class, write_classes

SHOWN = 12


@torch.inference_mode()
def predict_classes(
    task: Callable[[Sequence[TriangleMesh]], Tensor], source: Path, output: Path, class_names: Sequence[str]
) -> None:
    """Classify a mesh or a folder of meshes: predictions.csv and predictions.png.

    Args:
        task: function of a list of meshes that returns their logits, (B, num_classes).
        source: mesh file or folder of mesh files.
        output: folder of the answers.
        class_names: one name per class.

    Raises: FileNotFoundError without meshes; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[TriangleMesh, str]] = []

    def predict(path: Path) -> Tensor:
        mesh = sound_mesh(path)
        probability = task([mesh])[0].float().softmax(0).cpu()
        line = say_class(path.name, probability, class_names)
        if len(shown) < SHOWN:
            shown.append((mesh, line))
        return probability

    paths = find_files(source, MESH_SUFFIXES, "mesh")
    probabilities, faults = predict_each(paths, predict)
    write_classes(output, probabilities, class_names)
    if shown:
        meshes, lines = zip(*shown, strict=True)
        print(meshes_picture(output / "predictions.png", [[(mesh, None)] for mesh in meshes], lines))
    check_faults(faults, paths, "meshes")


@torch.inference_mode()
def predict_points(
    place: Callable[[TriangleMesh], Tensor],
    source: Path,
    output: Path,
    colours_of: Callable[[Tensor], np.ndarray[Any, Any]],
) -> None:
    """Find the point of a template for each vertex of a mesh, or of the meshes of a folder: NAME.csv, NAME.ply, NAME.png.

    Args:
        place: function of a mesh that returns the template's point of each vertex, (V,).
        source: mesh file or folder of mesh files.
        output: folder of the answers.
        colours_of: function of points of the template that returns their colours, (V, 3).

    Raises: FileNotFoundError without meshes; ValueError for bad ones, after the others are done.
    """

    def predict(path: Path) -> None:
        mesh = sound_mesh(path)
        points = place(mesh).cpu()
        written = write_points(path, mesh, points, colours_of(points), output)
        print(f"{path.name}: {', '.join(p.name for p in written)} in {output}", flush=True)

    paths = find_files(source, MESH_SUFFIXES, "mesh")
    _, faults = predict_each(paths, predict)
    check_faults(faults, paths, "meshes")


def write_points(
    path: Path, mesh: TriangleMesh, points: Tensor, colours: np.ndarray[Any, Any], output: Path
) -> list[Path]:
    """Write the answer for one mesh as table, coloured mesh and picture; returns the three files.

    Args:
        path: the mesh file.
        mesh: the mesh, mended if need be.
        points: the template's point of each vertex, (V,).
        colours: colour of each vertex, (V, 3) in [0, 1].
        output: folder of the answers.
    """
    import trimesh
    from trimesh.exchange.ply import export_ply

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["vertex", "point"])
    writer.writerows(enumerate(points.tolist()))
    vertices, faces = read_mesh(path)
    if len(vertices) != mesh.num_points:
        # the file was mended: its own vertices are not those that were placed
        vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
    shell = trimesh.Trimesh(vertices, faces, vertex_colors=(255 * colours).round(), process=False)
    return [
        write_bytes(output / f"{path.stem}.csv", text.getvalue().encode()),
        write_bytes(output / f"{path.stem}.ply", export_ply(shell)),
        meshes_picture(output / f"{path.stem}.png", [[(mesh, colours)]], [path.name]),
    ]

"""Mesh files in, classes, correspondences or parts out: a table, pictures, and meshes in the colours of the answer."""

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
from spheregeo.tasks.answers import ended
from spheregeo.tasks.pictures.meshes import meshes_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files
from spheregeo.tasks.predictions import check_probability, class_columns, class_line, class_row

SHOWN = 12
PICTURE = "predictions.png"


def predict_classes(
    task: Callable[[Sequence[TriangleMesh]], Tensor],
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Classify a mesh or a folder of meshes: predictions.csv and predictions.png.

    Args:
        task: function of a list of meshes that returns their logits, (B, num_classes).
        source: mesh file or folder of mesh files.
        output: folder of the answers.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without meshes; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[TriangleMesh, str]] = []

    def ask(meshes: list[TriangleMesh], names: list[str]) -> Tensor:
        return check_probability(task(meshes))

    def write(path: Path, stem: Path, meshes: dict[int, TriangleMesh], answers: list[Tensor]) -> Written:
        line = class_line(answers[0], class_names)
        if len(shown) < SHOWN:
            shown.append((meshes[0], f"{path.name}: {line}"))
        return Written(line, [class_row(path.name, answers[0], class_names)])

    def finish() -> list[Path]:
        rows = [[(mesh, None)] for mesh, _ in shown]
        return [meshes_picture(output / PICTURE, rows, [line for _, line in shown])]

    job = Job(
        MESH_SUFFIXES, "mesh", "meshes", _read, ask, write,
        columns=class_columns(class_names), shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)


def _read(path: Path) -> list[TriangleMesh]:
    return [sound_mesh(path)]


def predict_points(
    place: Callable[[TriangleMesh], tuple[Tensor, Tensor]],
    source: Path,
    output: Path,
    colours_of: Callable[[Tensor], np.ndarray[Any, Any]],
    options: PredictOptions | None = None,
) -> None:
    """Find the point of a template for each vertex of a mesh, or of the meshes of a folder: NAME.csv, NAME.ply, NAME.png.

    Args:
        place: function of a mesh that returns the template's point of each vertex, (V,), and its probability, (V,).
        source: mesh file or folder of mesh files.
        output: folder of the answers.
        colours_of: function of points of the template that returns their colours, (V, 3).
        options: how files are predicted.

    Raises: FileNotFoundError without meshes; ValueError for bad ones, after the others are done.
    """

    def ask(meshes: list[TriangleMesh], names: list[str]) -> list[tuple[Tensor, Tensor]]:
        return [place(mesh) for mesh in meshes]

    def write(path: Path, stem: Path, meshes: dict[int, TriangleMesh], answers: list[Any]) -> Written:
        points, confidence = (part.cpu() for part in answers[0])
        written = write_points(path, meshes[0], points, confidence, colours_of(points), stem)
        return Written(
            f"{', '.join(p.name for p in written)} in {output} (mean confidence {float(confidence.mean()):.0%})",
            [[path.name, len(points), float(confidence.mean())]],
        )

    job = Job(
        MESH_SUFFIXES, "mesh", "meshes", _read, ask, write,
        endings=(".csv", ".ply", ".png"), columns=("sample", "vertices", "confidence"),
    )  # fmt: skip
    predict_files(job, source, output, options)


def predict_parts(
    label: Callable[[TriangleMesh], tuple[Tensor, Tensor]],
    source: Path,
    output: Path,
    class_names: Sequence[str],
    elements: str,
    colours_of: Callable[[Tensor], np.ndarray[Any, Any]],
    areas_of: Callable[[TriangleMesh], Tensor],
    options: PredictOptions | None = None,
) -> None:
    """Label the vertices or faces of a mesh, or of the meshes of a folder: NAME.npz, NAME.ply, NAME.png and predictions.csv.

    Args:
        label: function of a mesh that returns the class of each element and its probability.
        source: mesh file or folder of mesh files.
        output: folder of the answers.
        class_names: one name per class.
        elements: what is labelled, "vertices" or "faces".
        colours_of: function of classes that returns their colours, (n, 3).
        areas_of: function of a mesh that returns each element's share of the area.
        options: how files are predicted.

    Raises: FileNotFoundError without meshes; ValueError for bad ones, after the others are done.
    """

    def ask(meshes: list[TriangleMesh], names: list[str]) -> list[tuple[Tensor, Tensor]]:
        return [label(mesh) for mesh in meshes]

    def write(path: Path, stem: Path, meshes: dict[int, TriangleMesh], answers: list[Any]) -> Written:
        mesh = meshes[0]
        part, sure = (answer.cpu() for answer in answers[0])
        share = areas_of(mesh)
        covered = torch.zeros(len(class_names), dtype=torch.float64).index_add(0, part, share).tolist()
        confidence = float(share @ sure.double())
        written = _write_parts(path, mesh, part, sure, elements, class_names, colours_of, stem)
        most = max(zip(covered, class_names, strict=True))
        line = f"{', '.join(p.name for p in written)} in {output} (mostly {most[1]}, mean confidence {confidence:.0%})"
        return Written(line, [[path.name, len(part), confidence, *covered]])

    job = Job(
        MESH_SUFFIXES, "mesh", "meshes", _read, ask, write, endings=(".npz", ".ply", ".png"),
        columns=("sample", elements, "confidence", *(f"share({name})" for name in class_names)),
    )  # fmt: skip
    predict_files(job, source, output, options)


def _write_parts(
    path: Path, mesh: TriangleMesh, part: Tensor, sure: Tensor, elements: str, class_names: Sequence[str],
    colours_of: Callable[[Tensor], np.ndarray[Any, Any]], stem: Path,
) -> list[Path]:  # fmt: skip
    """Write labels as arrays, the coloured mesh and a picture; returns the three files."""
    import trimesh
    from trimesh.exchange.ply import export_ply

    vertices, faces = read_mesh(path)
    if (len(vertices), len(faces)) != (mesh.num_points, mesh.num_faces):
        # the file was mended: its own vertices and faces are not those that were labelled
        vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
    content = io.BytesIO()
    np.savez_compressed(
        content, labels=part.numpy(), confidence=sure.numpy().astype(np.float32), elements=np.array(elements),
        class_names=np.array(list(class_names)), vertices=vertices, faces=faces,
    )  # fmt: skip
    colours = colours_of(part)
    painted: dict[str, Any] = {
        "vertex_colors" if elements == "vertices" else "face_colors": (255 * colours).round()
    }
    shell = trimesh.Trimesh(vertices, faces, process=False, **painted)
    present = part.unique().tolist()
    legend = [(class_names[k], colours_of(torch.tensor([k]))[0]) for k in present]
    return [
        write_bytes(ended(stem, ".npz"), content.getvalue()),
        write_bytes(ended(stem, ".ply"), export_ply(shell)),
        meshes_picture(ended(stem, ".png"), [[(mesh, colours)]], [path.name], legend=legend),
    ]


def write_points(
    path: Path,
    mesh: TriangleMesh,
    points: Tensor,
    confidence: Tensor,
    colours: np.ndarray[Any, Any],
    stem: Path,
) -> list[Path]:
    """Write the answer for one mesh as table, coloured mesh and picture; returns the three files.

    Args:
        path: the mesh file.
        mesh: the mesh, mended if need be.
        points: the template's point of each vertex, (V,).
        confidence: probability of each of these points, (V,).
        colours: colour of each vertex, (V, 3) in [0, 1].
        stem: path of the answers without their endings.
    """
    import trimesh
    from trimesh.exchange.ply import export_ply

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["vertex", "point", "confidence"])
    rows = zip(points.tolist(), confidence.tolist(), strict=True)
    writer.writerows([k, point, f"{sure:.6f}"] for k, (point, sure) in enumerate(rows))
    vertices, faces = read_mesh(path)
    if len(vertices) != mesh.num_points:
        # the file was mended: its own vertices are not those that were placed
        vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
    shell = trimesh.Trimesh(vertices, faces, vertex_colors=(255 * colours).round(), process=False)
    return [
        write_bytes(ended(stem, ".csv"), text.getvalue().encode()),
        write_bytes(ended(stem, ".ply"), export_ply(shell)),
        meshes_picture(ended(stem, ".png"), [[(mesh, colours)]], [path.name]),
    ]

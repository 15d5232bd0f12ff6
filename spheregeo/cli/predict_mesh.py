"""Classes or correspondences of mesh files: a table, pictures, and meshes whose vertices have the colours of the answer."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch

from spheregeo.data.meshes.files import MESH_SUFFIXES, read_mesh, sound_mesh
from spheregeo.mesh import TriangleMesh
from spheregeo.tasks import MeshClassification, MeshCorrespondence, MeshTask, write_bytes, write_predictions
from spheregeo.tasks.pictures.meshes import meshes_picture


def find_meshes(source: Path) -> list[Path]:
    """The mesh itself, or the meshes of a folder in order of their names. Raises: FileNotFoundError when there is none."""
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in MESH_SUFFIXES)
        if not found:
            raise FileNotFoundError(
                f"{source} holds no {', '.join(MESH_SUFFIXES)} file; give a folder of meshes"
            )
        return found
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a mesh or a folder of meshes")
    return [source]


def correspond(task: MeshCorrespondence, path: Path, mesh: TriangleMesh, output: Path) -> list[Path]:
    """Write NAME.csv, NAME.ply with colours and NAME.png of one mesh."""
    import trimesh
    from trimesh.exchange.ply import export_ply

    points = task.place(task([mesh])[0].T).cpu()
    colours = task.colours_of(points)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["vertex", "point"])
    writer.writerows(enumerate(points.tolist()))
    vertices, faces = read_mesh(path)
    if (
        len(vertices) != mesh.num_points
    ):  # the file was mended: its own vertices are not those that were placed
        vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
    shell = trimesh.Trimesh(vertices, faces, vertex_colors=(255 * colours).round(), process=False)
    return [
        write_bytes(output / f"{path.stem}.csv", text.getvalue().encode()),
        write_bytes(output / f"{path.stem}.ply", export_ply(shell)),
        meshes_picture(output / f"{path.stem}.png", [[(mesh, colours)]], [path.name]),
    ]


@torch.inference_mode()
def run(task: MeshTask, source: str, output: Path) -> None:
    """Predict a mesh or a folder of meshes; a bad mesh in a folder is reported and the others are done."""
    paths = find_meshes(Path(source))
    faults, shown, probabilities = [], [], []
    for path in paths:
        try:
            mesh = sound_mesh(path)
            if isinstance(task, MeshCorrespondence):
                written = correspond(task, path, mesh, output)
                print(f"{path.name}: {', '.join(p.name for p in written)} in {output}", flush=True)
                continue
            assert isinstance(task, MeshClassification)
            probability = task([mesh])[0].float().softmax(0).cpu()
        except ValueError as error:
            if len(paths) == 1:
                raise
            faults.append(str(error))
            continue
        best = int(probability.argmax())
        line = f"{path.name}: {task.class_names[best]} ({float(probability[best]):.0%})"
        print(line, flush=True)
        probabilities.append(probability)
        shown.append((path, mesh, line))
    if shown and isinstance(task, MeshClassification):
        count = len(shown)
        table = torch.arange(count), torch.full((count,), -1), torch.stack(probabilities)
        names = [path.name for path, *_ in shown]
        print(write_predictions(output / "predictions.csv", table, task.class_names, names))
        first = shown[:12]
        print(
            meshes_picture(
                output / "predictions.png", [[(mesh, None)] for _, mesh, _ in first], [t for *_, t in first]
            )
        )
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} meshes failed: " + "; ".join(faults))

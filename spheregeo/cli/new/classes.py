"""A folder of clouds or meshes with a sub-folder for each class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from spheregeo.cli.new.survey import Survey, counted, some, spread
from spheregeo.data.class_folder import class_entries
from spheregeo.data.common import SPLITS
from spheregeo.data.meshes.files import MESH_SUFFIXES, read_mesh
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud


def look(root: Path, kind: str) -> Survey:
    """Look at a folder of labelled clouds or meshes.

    Args:
        root: the folder.
        kind: "classify-points" or "classify-mesh".

    Raises: FileNotFoundError, ValueError for a folder without classes.
    """
    points = kind == "classify-points"
    suffixes = CLOUD_SUFFIXES if points else MESH_SUFFIXES
    survey = Survey(kind, "PointFolderData" if points else "MeshFolderData", {"root": str(root)})
    per_split: dict[str, Counter[int]] = {}
    paths: list[Path] = []
    for split in SPLITS:
        names, entries = class_entries(root, split, suffixes)
        per_split[split] = Counter(label for _, label in entries)
        paths += [path for path, _ in entries]
    survey.found.append(f"files: {len(paths)}, of type {counted(Counter(p.suffix.lower() for p in paths))}")
    for index, name in enumerate(names):
        numbers = [per_split[split][index] for split in SPLITS]
        survey.found.append(
            f"class {name}: " + ", ".join(f"{s} {n}" for s, n in zip(SPLITS, numbers, strict=True))
        )
        absent = [split for split, number in zip(SPLITS, numbers, strict=True) if not number]
        if absent:
            survey.odd.append(
                f"class {name} is absent from {', '.join(absent)}; a class needs at least 10 files"
            )
    sizes, normals, bad = [], 0, []
    looked = spread(sorted(paths), 30)
    for path in looked:
        try:
            if points:
                cloud = read_cloud(path, 2048, 0)
                sizes.append(len(cloud.points))
                normals += cloud.normals is not None
            else:
                sizes.append(len(read_mesh(path)[0]))
        except (OSError, ValueError):
            bad.append(path)
    if bad:
        survey.odd.append(
            f"{len(bad)} of {len(looked)} files cannot be read: {some(bad)}; `spheregeo check` gives the reasons"
        )
    if sizes:
        survey.found.append(
            f"{'points' if points else 'vertices'}: {min(sizes)} to {max(sizes)} in {len(sizes)} files"
        )
    if points:
        fewest = min(sizes, default=256)
        survey.options["num_points"] = max(16, min(1024, 1 << (fewest.bit_length() - 1)))
        if normals:
            survey.found.append(f"normals: in {normals} of {len(sizes)} files; data.normals: true uses them")
    survey.options["batch_size"] = 16 if points else 8
    return survey

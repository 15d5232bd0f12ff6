"""A folder of panoramas: images/ with labels/ or depth/ of equal names, and classes.txt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from spheregeo.cli.new.survey import Survey, counted, some, spread
from spheregeo.data.files import read_class_table
from spheregeo.data.sphere.files import IMAGE_SUFFIXES, read_raster
from spheregeo.data.sphere.pictures.decode import image_size, open_image
from spheregeo.files import write_bytes

_LARGEST = 256  # rows of the working grid that is proposed
_VOID = (255, 65535)  # values that labels have where there is no class
_LAYOUT = "expected images/NAME.png with labels/NAME.png or depth/NAME.png, and classes.txt with one class name per line"


def look(root: Path, kind: str, classes: list[str]) -> Survey:
    """Look at a folder of panoramas.

    Args:
        root: the folder.
        kind: "segment-sphere" or "depth-sphere".
        classes: names of the classes, written to classes.txt where that is missing.

    Raises: FileNotFoundError, ValueError for a folder without images or without what the job needs.
    """
    wanted = {"segment-sphere": "labels", "depth-sphere": "depth"}[kind]
    images = _pictures(root / "images")
    if not images:
        elsewhere = _pictures(root)
        hint = f"; {root} itself holds {len(elsewhere)} images: move them to images/" if elsewhere else ""
        raise FileNotFoundError(f"{root / 'images'} holds no image{hint}; {_LAYOUT}")
    if not (root / wanted).is_dir():
        folders = some(sorted(p for p in root.iterdir() if p.is_dir())) or "none"
        raise FileNotFoundError(f"{root} has no folder {wanted}/ (folders there: {folders}); {_LAYOUT}")
    survey = Survey(
        "segment-folder" if kind == "segment-sphere" else "depth-sphere", "FolderData", {"root": str(root)}
    )
    rows = _sizes(images, survey)
    partners = {
        p.stem: p for p in sorted((root / wanted).iterdir()) if p.is_file() and not p.name.startswith(".")
    }
    without = [p for p in images if p.stem not in partners]
    extra = [p for name, p in partners.items() if name not in {image.stem for image in images}]
    survey.found.append(
        f"{wanted}: {len(partners)} files, {len(images) - len(without)} of them with an image of that name"
    )
    if without:
        survey.odd.append(
            f"{len(without)} images have no file in {wanted}/: {some(without)}; add it or remove the image"
        )
    if extra:
        survey.odd.append(f"{len(extra)} files of {wanted}/ have no image: {some(extra)}")
    if wanted == "labels":
        _classes(root, list(partners.values()), classes, survey)
    rows = min(_LARGEST, 16 * max(1, rows // 16))
    survey.options |= {"size": [rows, 2 * rows], "batch_size": 4 if rows <= 64 else 2}
    lists = (root / "train.txt").is_file()
    rule = "of the sorted names every 9th validates, every 10th tests; train.txt, val.txt, test.txt would tell another"
    survey.found.append(f"split: {'train.txt, val.txt and test.txt' if lists else rule}")
    return survey


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def _sizes(images: list[Path], survey: Survey) -> int:
    """Describe the images; returns the median number of rows."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    heights, wrong, bad = [], [], []
    for path in spread(images):
        try:
            height, width = image_size(path)  # as a viewer shows it
            with open_image(path) as image:
                modes[image.mode] += 1
        except (OSError, ValueError):
            bad.append(path)
            continue
        sizes[f"{height} x {width}"] += 1
        heights.append(height)
        if width != 2 * height:
            wrong.append(path)
    survey.found.append(
        f"images: {len(images)}, of rows x columns {counted(sizes)}, of colour mode {counted(modes)}"
    )
    if bad:
        survey.odd.append(
            f"{len(bad)} images cannot be opened: {some(bad)}; `spheregeo check` gives the reasons"
        )
    if wrong:
        survey.odd.append(
            f"{len(wrong)} images are not twice as wide as high: {some(wrong)}; they are refused"
        )
    if len(sizes) > 1:
        survey.odd.append("images differ in size; all are brought to the working grid")
    if not heights:
        raise ValueError(f"none of the images of {images[0].parent} can be opened")
    return int(np.median(heights))


def _classes(root: Path, labels: list[Path], classes: list[str], survey: Survey) -> None:
    counts: Counter[int] = Counter()
    colours = 0
    jpegs = [path for path in labels if path.suffix.lower() in (".jpg", ".jpeg")]
    if jpegs:
        survey.odd.append(
            f"{len(jpegs)} label files are JPEG, which changes label values: {some(jpegs)}; save labels as PNG"
        )
    for path in spread(sorted(set(labels) - set(jpegs))):
        try:
            array, _ = read_raster(path)
        except (OSError, ValueError):
            continue
        if array.ndim == 3:
            colours += 1
            continue
        values, numbers = np.unique(array, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    if colours:
        survey.odd.append(
            f"{colours} label files are in colour; write classes.txt as NAME R G B, one line per class"
        )
    listed = root / "classes.txt"
    if classes and not listed.exists():
        write_bytes(listed, ("\n".join(classes) + "\n").encode())
        survey.found.append(f"classes.txt: written, {len(classes)} names")
    if not listed.is_file():
        held = ", ".join(map(str, sorted(set(counts) - set(_VOID))))
        raise FileNotFoundError(
            f"{listed} does not exist; the labels hold the values {held or 'of colours'}: write one class name per line, "
            "index 0 first, or pass --classes NAME,NAME,..."
        )
    names, _ = read_class_table(listed)
    total = max(1, sum(n for value, n in counts.items() if value < len(names)))
    for index, name in enumerate(names):
        survey.found.append(
            f"class {index} {name}: {counts.get(index, 0) / total:.2%} of the labelled pixels"
        )
        if counts and not counts.get(index):
            survey.odd.append(f"class {name} is in none of the labels that were looked at")
    unknown = sorted(value for value in counts if value not in (*range(len(names)), *_VOID))
    if unknown:
        survey.odd.append(
            f"labels hold values without a name: {some(unknown)}; name them in classes.txt, or list them under void"
        )
    for value in _VOID:
        if counts.get(value):
            survey.found.append(f"void ({value}): {counts[value] / sum(counts.values()):.2%} of all pixels")
    shares = [counts.get(k, 0) / total for k in range(len(names))]
    if counts and min(shares) < 0.2 / len(names):
        survey.odd.append("classes are of very different size")
    survey.found.append("class_weights: balanced is set, which weighs each class by how rare it is")
    survey.model["class_weights"] = "balanced"

"""Labels or depths for photos: a PNG of the decision, one laid over the photo, and a picture of the sphere; or classes of whole
photos: a table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spheregeo import recipes, tasks
from spheregeo.cli.checkpoints import best_checkpoint, run_folder
from spheregeo.tasks.pictures import fields as pictures
from spheregeo.tasks.sphere.photos import classify_photo, label_photo

LARGEST = (4096, 8192)


def read_photo(path: Path) -> torch.Tensor:
    """An equirectangular photo as (3, H, W) float32 in [0, 1].

    Raises: FileNotFoundError; ValueError for a file that is no image, not 2:1, or larger than 4096 x 8192.
    """
    from PIL import Image, UnidentifiedImageError

    from spheregeo.data.sphere.files import check_panorama, read_image

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected an image file there")
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error})") from error
    check_panorama(path, height, width)
    if height > LARGEST[0]:
        raise ValueError(
            f"{path} is {height} x {width} pixels; at most {LARGEST[0]} x {LARGEST[1]}: scale it down first"
        )
    return torch.from_numpy(read_image(path))


def find_photos(source: Path) -> list[Path]:
    """The image itself, or the images of a folder in order of their names.

    Raises: FileNotFoundError when there is none.
    """
    if source.is_dir():
        found = sorted(
            p for p in source.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff")
        )
        if not found:
            raise FileNotFoundError(
                f"{source} holds no PNG, JPEG or TIFF image; give a folder of equirectangular photos"
            )
        return found
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a photo or a folder of photos")
    return [source]


def predict_photo(task: tasks.SphereTask, path: Path, output: Path) -> list[Path]:
    """Predict one photo and write its pictures; returns their paths."""
    photo = read_photo(path)
    decision = label_photo(task, photo).numpy()
    picture = np.ascontiguousarray(
        (photo * 255).round_().to(torch.uint8).permute(1, 2, 0).numpy()
    )  # (H, W, 3)
    del photo
    if isinstance(task, tasks.Segmentation):
        colours = pictures.colour(decision, task.num_classes)
        first = pictures.write_png(
            output / f"{path.stem}_labels.png", decision, pictures.palette(task.num_classes)
        )
        names = task.class_names
    else:
        colours = pictures.colour_depth(decision)
        millimetres = np.clip(np.rint(decision * 1000.0), 0, 65535).astype(np.uint16)
        first = pictures.write_png(output / f"{path.stem}_depth.png", millimetres)
        names = None
    second = pictures.write_png(output / f"{path.stem}_overlay.png", pictures.overlay(picture, colours))
    third = pictures.world_picture(output / f"{path.stem}_world.png", colours, path.name, names)
    return [first, second, third]


def predict_class(task: tasks.Classification, path: Path) -> torch.Tensor:
    """The probability of each class for one photo; prints the likeliest."""
    probability = classify_photo(task, read_photo(path))
    best = int(probability.argmax())
    print(f"{path.name}: {task.class_names[best]} ({float(probability[best]):.0%})", flush=True)
    return probability


def run(recipe: str, source: str, ckpt: str | None, output: str | None, grid: str | None) -> None:
    """Predict a photo, a mesh, a cloud, molecules, or a folder of them; a bad file in a folder is reported, others are done."""
    if not Path(recipe).suffix:
        recipes.find(recipe)
    folder = run_folder(recipe, None)
    checkpoint = ckpt if ckpt else best_checkpoint(folder)
    task = tasks.load(checkpoint, grid=grid)
    if isinstance(task, tasks.MeshTask):
        from spheregeo.cli import predict_mesh

        task = task.cuda() if torch.cuda.is_available() else task
        predict_mesh.run(task, source, Path(output) if output else folder / "predictions")
        return
    if isinstance(task, tasks.MoleculeTask):
        from spheregeo.cli import predict_molecule

        task = task.cuda() if torch.cuda.is_available() else task
        predict_molecule.run(task, source, Path(output) if output else folder / "predictions")
        return
    if isinstance(task, tasks.PointClassification):
        from spheregeo.cli import predict_points

        task = task.cuda() if torch.cuda.is_available() else task
        predict_points.run(task, source, Path(output) if output else folder / "predictions")
        return
    photos = find_photos(Path(source))
    if not isinstance(task, tasks.SphereTask):
        raise ValueError(f"{checkpoint} holds a {type(task).__name__}, which knows nothing of photos")
    if torch.cuda.is_available():
        task = task.cuda()
    target = Path(output) if output else folder / "predictions"
    faults = []
    classes: dict[str, torch.Tensor] = {}
    for path in photos:
        try:
            if isinstance(task, tasks.Classification):
                classes[path.name] = predict_class(task, path)
                continue
            written = predict_photo(task, path, target)
        except ValueError as error:
            if len(photos) == 1:
                raise
            faults.append(str(error))
            continue
        print(f"{path.name}: {', '.join(p.name for p in written)} in {target}", flush=True)
    if classes and isinstance(task, tasks.Classification):
        unknown = torch.full((len(classes),), -1)
        table = torch.arange(len(classes)), unknown, torch.stack(list(classes.values()))
        print(tasks.write_predictions(target / "predictions.csv", table, task.class_names, list(classes)))
    if faults:
        raise ValueError(f"{len(faults)} of {len(photos)} photos failed: " + "; ".join(faults))

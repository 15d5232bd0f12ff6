"""Model cards: a README.md with a YAML head as the Hugging Face hub reads it, written from a model's description."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Words of the hub for what a task does; others have none.
PIPELINES = {
    "Segmentation": "image-segmentation",
    "Depth": "depth-estimation",
    "Classification": "image-classification",
}
MEANS = {
    "miou": "mean of the classes' intersection over union",
    "macc": "mean of the classes' recall",
    "accuracy": "share that is labelled rightly",
    "macro_f1": "mean of the classes' F1",
    "rmse": "root mean square error",
    "wiener_rmse": "root mean square error of the Wiener filter",
    "median_error": "median angle between the likeliest and the true rotation",
    "acc15": "share within 15 degrees of the truth",
    "acc30": "share within 30 degrees of the truth",
    "log_likelihood": "mean logarithm of the density at the truth; −2.2895 for an even density",
    "error_ratio": "squared error over that of the Wiener filter",
}
INPUTS = {
    "Segmentation": ("photo.jpg", "an equirectangular photo (2:1)"),
    "Depth": ("photo.jpg", "an equirectangular photo (2:1)"),
    "Classification": ("photo.jpg", "an equirectangular photo (2:1)"),
    "FieldRegression": ("fields.nc", "global fields on latitudes and longitudes at one or more times"),
    "SkyRestoration": ("map.fits", "a HEALPix map, in ring or nested order"),
    "PointClassification": ("cloud.ply", "a cloud of points or a mesh"),
    "PointSegmentation": ("cloud.ply", "a cloud of points or a mesh"),
    "PointMatching": ("folder", "a folder of clouds or meshes; all are brought to the first"),
    "MoleculeRegression": ("molecule.xyz", "molecules, positions in Å"),
    "Forces": ("molecule.xyz", "molecules, positions in Å"),
    "MeshClassification": ("mesh.ply", "a mesh"),
    "MeshCorrespondence": ("mesh.ply", "a mesh"),
    "MeshSegmentation": ("mesh.ply", "a mesh"),
    "ImageClassification": ("image.png", "an image"),
    "ImageSegmentation": ("image.png", "an image"),
    "PoseEstimation": ("image.png", "an image"),
    "VoxelClassification": ("volume.npy", "a volume of voxels"),
}


def model_card(description: Mapping[str, Any], place: str, files: Mapping[str, str] | None = None) -> str:
    """Return the text of a model card.

    Args:
        description: as :func:`spheregeo.export.describe` returns it.
        place: what ``sg.load`` takes to find the model: a folder, a shipped name, or ``hf://user/name``.
        files: SHA-256 of the files beside the card, by name.

    Example:
        >>> print(model_card({"task": "Segmentation", "license": "mit"}, "room-model").splitlines()[1])
        library_name: spheregeo
    """
    title = description.get("title") or f"{description['task']} with {description.get('network')}"
    blocks = [_head(description), f"# {title}", _summary(description), "## Use", _usage(description, place)]
    for heading, lines in (
        ("What it knows", _knowledge(description)),
        ("Data and training", _data(description)),
        ("Scores", _scores(description)),
        ("Equivariance, as measured", _equivariance(description)),
        ("Versions", _versions(description)),
        ("Files", [f"- `{name}`: SHA-256 `{digest}`" for name, digest in (files or {}).items()]),
    ):
        text = list(lines)
        if text:
            blocks += [f"## {heading}", "\n".join(text)]
    return "\n\n".join(blocks) + "\n"


def _head(of: Mapping[str, Any]) -> str:
    lines = ["---", "library_name: spheregeo"]
    if of.get("license"):
        lines.append(f"license: {of['license']}")
    if of["task"] in PIPELINES:
        lines.append(f"pipeline_tag: {PIPELINES[of['task']]}")
    tags = ["spheregeo", "equivariant", "geometric-deep-learning", of.get("network"), of.get("recipe")]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in dict.fromkeys(tags) if tag), "---"])


def _summary(of: Mapping[str, Any]) -> str:
    parts = [
        of.get("about"),
        f"{of.get('parameters', 0):,} parameters",
        of.get("grid") and f"on `{of['grid']}`",
    ]
    text = "; ".join(part for part in parts if part)
    return f"{text}." if not text.endswith(".") else text


def _usage(of: Mapping[str, Any], place: str) -> str:
    name, what = INPUTS.get(of["task"], ("input", "an input"))
    recipe = of.get("recipe") or "RECIPE"
    return (
        f"From Python, for {what} or a folder of such files:\n\n"
        f"```python\nfrom pathlib import Path\n\nimport spheregeo as sg\n\nmodel = sg.load({json.dumps(place)})\n"
        f'model.predict(Path("{name}"), Path("answers"))\n```\n\n'
        f"From the command line, for the folder that holds this card:\n\n"
        f"```bash\nspheregeo predict {recipe} --ckpt . --input {name}\n```"
    )


def _knowledge(of: Mapping[str, Any]) -> Iterator[str]:
    if of.get("classes"):
        yield f"- classes: {', '.join(of['classes'])}"
    for name, unit in (of.get("targets") or {}).items():
        yield f"- target: {name}, in {unit}"
    if of.get("not_for"):
        yield f"- not for: {of['not_for']}"


def _data(of: Mapping[str, Any]) -> Iterator[str]:
    data, training = of.get("data"), of.get("training")
    if data:
        options = {name: value for name, value in data["options"].items() if value is not None}
        yield f"- data: `{data['class']}` with `{json.dumps(options)}`"
        yield f"- digest of the data, by settings, counts and files: `{data['digest']}`"
    if training:
        yield f"- training: {', '.join(f'{name} {value}' for name, value in training.items() if value is not None)}"
    for command in of.get("commands", ()):
        yield f"- made by `{command}`"


def _scores(of: Mapping[str, Any]) -> Iterator[str]:
    metrics = of.get("metrics")
    if not metrics:
        yield "Not scored. `spheregeo test` scores a run on its test split before it is exported."
        return
    yield f"On the test split of `{(of.get('data') or {}).get('class', 'the data')}`, which trained nothing:"
    yield ""
    yield "| score | value | |\n|---|---|---|"
    for name, value in metrics.items():
        if isinstance(value, (int, float)):
            yield f"| {name} | {value:.4g} | {MEANS.get(name, '')} |"
    for name in ("classes", "targets"):
        rows = metrics.get(name)
        if isinstance(rows, dict) and rows:
            columns = list(next(iter(rows.values())))
            yield ""
            yield f"| {'class' if name == 'classes' else 'target'} | {' | '.join(columns)} |"
            yield "|---" * (1 + len(columns)) + "|"
            for row, values in rows.items():
                yield f"| {row} | {' | '.join(_cell(values.get(column)) for column in columns)} |"


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _equivariance(of: Mapping[str, Any]) -> Iterator[str]:
    found = of.get("equivariance")
    if not found:
        return
    yield "Relative change of the output beside what it should be, by `spheregeo audit` at the time of the export:"
    yield ""
    yield "| motion | relative error |\n|---|---|"
    for name, error in found.items():
        yield f"| {name} | {error:.2g} |"


def _versions(of: Mapping[str, Any]) -> Iterator[str]:
    for name, version in (of.get("versions") or {}).items():
        yield f"- {name} {version}"

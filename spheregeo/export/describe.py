"""What an exported model says of itself: task, arguments, classes, data, scores, equivariance as measured, versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from spheregeo import __version__, recipes
from spheregeo.files import file_digest, reading
from spheregeo.tasks import Task, read_checkpoint
from spheregeo.tasks.base import plain
from spheregeo.tasks.files import model_file

# Facts of a description that a task by itself does not know, and that go on when a model is exported again.
KEPT = (
    "recipe",
    "title",
    "about",
    "not_for",
    "license",
    "data",
    "training",
    "metrics",
    "equivariance",
    "commands",
)

SCORED = "checkpoint_sha256"  # in a test's report: of the file that was scored
_NO_SCORES = ("recipe", "checkpoint", SCORED, "options_digest", "confusion")


def describe(
    task: Task,
    run: Path | None = None,
    *,
    recipe: str | None = None,
    checkpoint: Path | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Return the description of a task as plain types, for the header of a safetensors file and for ``config.json``.

    Args:
        task: trained task.
        run: folder of the run, whose ``recipe.yaml`` and ``metrics.json`` are read; None where there is no run.
        recipe: name of the recipe that the model serves; None where unknown.
        checkpoint: file that the task was read from, whose own scores alone are taken; the run's best, or last, if None.
        facts: further entries, such as ``license`` and ``equivariance``.

    Raises: ValueError for files of the run that cannot be read.

    Example:
        >>> from spheregeo.tasks import PointClassification
        >>> describe(PointClassification(2, network="vnn-pointnet", width=4), recipe="classify-points")["task"]
        'PointClassification'
    """
    arguments = plain(dict(task.hparams))
    found: dict[str, Any] = {
        "library_name": "spheregeo",
        "task": type(task).__name__,
        "recipe": recipe,
        "network": arguments.get("network"),
        "grid": arguments.get("grid"),
        "classes": list(getattr(task, "class_names", [])) or None,
        "targets": dict(zip(getattr(task, "targets", []), getattr(task, "units", []))) or None,
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "arguments": arguments,
        "versions": {"spheregeo": __version__, "torch": str(torch.__version__)},
        "data": None,
        "training": None,
        "metrics": None,
    }
    if run is not None:
        found |= _of_run(run, checkpoint)
    return {**found, **{name: plain(value) for name, value in facts.items()}}


def _of_run(run: Path, checkpoint: Path | None) -> dict[str, Any]:
    """Data and training by the recipe that the run recorded, and the scores of the checkpoint in its last test."""
    import yaml

    found: dict[str, Any] = {}
    record = run / "recipe.yaml"
    if record.is_file():
        with reading(record, "a recipe"):
            content = yaml.safe_load(record.read_text(encoding="utf-8")) or {}
            data = content.get("data") or {}
            options = plain(dict(data.get("init_args") or {}))
        seen = _recorded_data(run)
        facts = [data.get("class_path"), options, seen.get("counts"), seen.get("files")]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, value in options.items():  # where the files lay is nobody else's business
            if isinstance(value, str) and Path(value).is_absolute():
                options[name] = Path(value).name
        trainer = content.get("trainer") or {}
        found["data"] = {
            "class": str(data.get("class_path", "")).rpartition(".")[2],
            "options": options,
            "samples": seen.get("counts") or None,
            "digest": f"sha256:{digest.hexdigest()}",
        }
        found["training"] = {
            "seed": content.get("seed_everything"),
            "epochs": trainer.get("max_epochs"),
            "averaged_weights": content.get("ema") or None,
        }
    metrics = run / "test" / "metrics.json"  # on the run's own test split
    stored = [path for name in ("best.ckpt", "last.ckpt") if (path := run / "checkpoints" / name).is_file()]
    checkpoint = checkpoint or next(iter(stored), None)
    if metrics.is_file() and checkpoint is not None:
        with reading(metrics, "the scores of a test"):
            scores = json.loads(metrics.read_text(encoding="utf-8"))
            if scores.get(SCORED) == file_digest(checkpoint):
                found["metrics"] = {name: value for name, value in scores.items() if name not in _NO_SCORES}
    return found


def _recorded_data(run: Path) -> dict[str, Any]:
    """What the run's checkpoint recorded of its data: counts, and digests of files; nothing where there is no checkpoint."""
    path = model_file(run)
    found = read_checkpoint(path).get("data") if path is not None and path.suffix == ".ckpt" else None
    return found if isinstance(found, dict) else {}


def recipe_of(name: str) -> str | None:
    """The name of a recipe as it is, None for another word."""
    return name if name in recipes.names() else None


def equivariance_of(audit: dict[str, Any]) -> dict[str, float]:
    """Return the errors of an audit by the kind of motion; of a trained model, its own weights count.

    Args:
        audit: what :meth:`spheregeo.tasks.Task.audit` returned.

    Example:
        >>> equivariance_of({"invariance": {"as they are": {"rotations": 1e-6, "spread": 0.2}}})
        {'rotations': 1e-06}
    """
    if "equivariance" in audit:
        return {name: float(found["error"]) for name, found in audit["equivariance"].items()}
    found = audit.get("invariance", {}).get("as they are", {})
    return {name: float(value) for name, value in found.items() if name != "spread"}

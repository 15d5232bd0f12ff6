"""Export from the command line: the run is found, its recipe and scores are read, the model is measured and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spheregeo import export, recipes
from spheregeo.cli.own_task import import_task
from spheregeo.export.describe import KEPT, recipe_of
from spheregeo.export.program import ONNX, PROGRAM
from spheregeo.export.save import CARD, CONFIG, check_place
from spheregeo.tasks.exported import MODEL, is_exported, read_description
from spheregeo.tasks.molecules.dynamics.program import FORCES

DTYPES = {"safetensors": ("float32", "float16", "bfloat16"), "aot-inductor": ("float32", "float64")}
# What each kind of export writes.
FILES = {
    "safetensors": (MODEL, CONFIG, CARD),
    "torch-export": (PROGRAM, CONFIG, CARD),
    "onnx": (ONNX, CONFIG, CARD),
    "aot-inductor": (FORCES, CONFIG, CARD),
}


def run(source: str, kind: str, output: str, dtype: str | None, audit: bool, facts: dict[str, Any]) -> None:
    """Write a trained model to a folder and print what was written.

    Args:
        source: folder of a run, recipe with a run in ``runs``, checkpoint, exported model, or what else ``sg.load`` takes.
        kind: "safetensors", "torch-export", "onnx", or, of a force field, "aot-inductor".
        output: folder of the model.
        dtype: type of the weights in safetensors, as they are if None; of the computation in aot-inductor, float64 if None.
        audit: whether to measure the equivariance error for the card.
        facts: entries of the card, such as the licence.

    Raises: FileNotFoundError, ValueError for what is missing or bad, or a network that the kind of file cannot hold.
    """
    types = DTYPES.get(kind, ())
    if dtype is not None and dtype not in types:
        hint = (
            f"expected one of {', '.join(types)}" if types else "only safetensors and aot-inductor take one"
        )
        raise ValueError(f"--dtype {dtype} is given with --to {kind}; {hint}")
    named = Path("runs") / source
    if source in recipes.names() and named.is_dir():
        source = str(named)
    path = export.locate(source)
    folder = path.parent.parent if path.parent.name == "checkpoints" else None
    record = folder / "recipe.yaml" if folder is not None else None
    if record is not None and record.is_file():
        import_task(record)
    task = export.load(path)
    target = Path(output)
    check_place(target, FILES[kind])
    known = read_description(path) if is_exported(path) else {}
    kept = {name: known[name] for name in KEPT if known.get(name) is not None and name != "recipe"}
    recipe = recipe_of(folder.name) if folder is not None else None
    if audit:
        facts = {**facts, "equivariance": export.equivariance_of(task.audit())}
    description = export.describe(
        task, folder, recipe=recipe or known.get("recipe"), checkpoint=path, **{**kept, **facts}
    )
    if folder is not None and (folder / "metrics.json").is_file() and not description["metrics"]:
        print(
            f"no test in {folder} has scored {path} as it is, so the card says that the model is not scored"
        )
    if kind == "safetensors":
        export.save(task, target, description, dtype=dtype)
    elif kind == "torch-export":
        export.save_program(task, target, description)
    elif kind == "aot-inductor":
        print("compiling; this takes a minute or a few", flush=True)
        export.save_force_field(task.to(dtype=getattr(torch, dtype or "float64")), target, description)
    else:
        export.save_onnx(task, target, description)
    for name in FILES[kind]:
        print(f"{target / name}: {(target / name).stat().st_size:,} bytes")

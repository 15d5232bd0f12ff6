"""Train, score and export the models that ship with the package: ``python datasets/make_weights.py [NAME ...] [--runs DIR]``.

A run that is there already is exported as it is; without one the recipe trains for minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parents[1] / "spheregeo" / "weights"
# (recipe, options of the training, what the model does, what it is not for)
MODELS: dict[str, tuple[str, list[str], str, str]] = {
    "rooms": (
        "segment-sphere",
        ["--data.train", "800", "--trainer.max_epochs", "18", "--ema", "0.99"],
        "labels the surfaces and furniture of a level indoor panorama, trained on generated rooms of boxes",
        "photos of real rooms where labels matter, outdoor scenes, tilted cameras: it has never seen a photo",
    ),
    "primitives": (
        "classify-points",
        ["--model.network", "steerable-points", "--data.normals", "false"],
        "classifies clouds of points as one of ten generated solids, in any orientation",
        "objects other than these solids, scenes, clouds with many stray points",
    ),
    "molecules": (
        "regress-molecules",
        [],
        "predicts atomisation and zero-point energies of small neutral molecules, trained on 100 molecules of the G2 set",
        "decisions of chemistry, ions, periodic cells, molecules far from their equilibrium or of more than some ten heavy atoms",
    ),
}


def run(command: list[str]) -> None:
    print("$", shlex.join(["spheregeo", *command]), flush=True)
    subprocess.run([sys.executable, "-m", "spheregeo", *command], check=True)


def make(name: str, runs: Path) -> None:
    """Train where there is no run, score, and export to the package."""
    from spheregeo import export

    recipe, options, about, not_for = MODELS[name]
    folder = runs / recipe
    if not (folder / "checkpoints" / "best.ckpt").is_file():
        run(["fit", recipe, *options, "--output", str(folder)])
    if not (folder / "metrics.json").is_file():
        run(["test", recipe, "--output", str(folder)])
    task = export.load(folder)
    facts = {
        "title": f"{name}: {recipe}, as shipped with spheregeo",
        "license": "mit",
        "about": about,
        "not_for": not_for,
        "commands": [shlex.join(["spheregeo", "fit", recipe, *options]), f"spheregeo test {recipe}"],
        "equivariance": export.equivariance_of(task.audit()),
    }
    description = export.describe(task, folder, recipe=recipe, **facts)
    export.save(task, WEIGHTS / name, description, dtype="float16", place=name)
    print(
        *(f"{path.name}: {path.stat().st_size:,} bytes" for path in sorted((WEIGHTS / name).iterdir())),
        sep="\n",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; all if none is given"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs, by recipe")
    given = parser.parse_args()
    unknown = set(given.names) - set(MODELS)
    if unknown:
        parser.error(f"unknown {', '.join(sorted(unknown))}; expected some of {', '.join(MODELS)}")
    for name in given.names or MODELS:
        make(name, given.runs)

"""Compiling ahead: one step of each recipe in a process of its own, whose compiled code stays in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

# Recipes that generate their data, one for each kind of network.
RECIPES = ("segment-sphere", "classify-points", "regress-molecules", "classify-mesh")
STEP = """
import sys
from spheregeo.jit.progress import progress
from spheregeo.cli.main import main
progress.silent = True
code = main(["fit", sys.argv[1], "--output", sys.argv[2], "--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"])
print(f"\\n{progress.functions} {progress.seconds:.1f}")
sys.exit(code)
"""


def run(names: Sequence[str]) -> None:
    """Compile what each recipe needs, and tell how far it is.

    Args:
        names: names or paths of recipes.

    Raises: ValueError for a recipe whose first step fails, with what the recipe said.
    """
    from spheregeo.jit import cache_folder

    print(
        f"compiled code is kept in {cache_folder() or 'no folder: every process compiles anew'}", flush=True
    )
    for number, name in enumerate(names, 1):
        print(f"{number}/{len(names)} {name} ...", end="", flush=True)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", STEP, name, os.path.join(folder, "run")]
            step = subprocess.run(command, capture_output=True, text=True, check=False)
        if step.returncode:
            raise ValueError(
                f"{name} does not run: {(step.stderr.strip() or step.stdout.strip()).splitlines()[-1]}"
            )
        functions, seconds = step.stdout.split()[-2:]
        if functions == "0":
            print(" nothing left to compile", flush=True)
        else:
            took = time.monotonic() - begin
            print(
                f" {functions} functions compiled in {float(seconds):.0f} s of a processor; {took:.0f} s in all",
                flush=True,
            )

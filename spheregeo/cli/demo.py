"""The demonstration: three jobs from their recipes in small sizes, each beside a baseline; one table and one sheet of pictures.

A panorama is segmented (beside a network that sees one pixel at a time), a cloud of points classified after it was turned (beside
PointNet), a molecule's energy regressed (beside the best sum over its elements). Runs are processes of their own, two at a time.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheregeo.files import write_json


@dataclass(frozen=True)
class Run:
    """One network's training and its tests.

    Args:
        name: folder of the run and name in the progress.
        recipe: recipe of the job.
        options: what differs from the recipe.
        tests: further options of each test, by the test's name.
    """

    name: str
    recipe: str
    options: str
    tests: tuple[tuple[str, str], ...] = (("test", ""),)


ROOMS = "--data.size [48,96] --data.train 200 --data.val 8 --data.test 32"
CLOUDS = "--data.train 600 --data.val 50 --data.test 200 --data.num_points 128 --data.normals false"
TURNS = (("upright", "--data.test_rotation z"), ("turned", "--data.test_rotation so3"))
STEERABLE = "{steerable-points: {width: 16, counts: [48, 16], radii: [0.6, 1.2], k: 12}}"
# The longest first, so that two processes end at about the same time.
RUNS = (
    Run("rooms-unet", "segment-sphere", f"{ROOMS} --model.depth 3 --trainer.max_epochs 12"),
    Run(
        "molecules-steerable", "regress-molecules", "--trainer.max_epochs 120"
    ),
    Run(
        "clouds-steerable", "classify-points",
        f"{CLOUDS} --trainer.max_epochs 14 --model.network steerable-points --model.options|{STEERABLE}", TURNS,
    ),
    Run("clouds-pointnet", "classify-points", f"{CLOUDS} --trainer.max_epochs 14 --model.network pointnet", TURNS),
    Run(
        "rooms-pixel", "segment-sphere",
        f"{ROOMS} --trainer.max_epochs 8 --model.network pixel-mlp --model.width 32 --model.depth 3",
    ),
)  # fmt: skip


def _words(options: str) -> list[str]:
    """Split options at blanks; what follows a bar is one word."""
    plain, _, last = options.partition("|")
    return [*plain.split(), *([last] if last else [])]


def train(run: Run, folder: str, overrides: list[str], threads: int) -> float:
    """Train and test one network in this process; what it prints goes to ``log.txt``. Returns the seconds that it took."""
    import torch

    from spheregeo.cli import engine

    begin = time.perf_counter()
    torch.set_num_threads(threads)
    place = Path(folder) / run.name
    place.mkdir(parents=True, exist_ok=True)
    with (
        open(place / "log.txt", "w", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        cpu = ["--trainer.accelerator", "cpu"]
        engine.fit(run.recipe, str(place), False, True, [*cpu, *_words(run.options), *overrides])
        for name, options in run.tests:
            engine.score("test", run.recipe, None, str(place), [*cpu, *_words(options), *overrides])
            shutil.copy(place / "metrics.json", place / f"{name}.json")
    return time.perf_counter() - begin


def _last_epoch(log: Path) -> str:
    """Return "epoch 3/12" as the log last has it, "starting" before."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    epochs = [line for line in lines if line.startswith("epoch ")]
    return " ".join(epochs[-1].split()[:2]) if epochs else "starting"


def _watch(runs: dict[str, Future[float]], folder: Path) -> None:
    """Print the progress of the runs until all have ended: one line that changes on a terminal, a line now and then elsewhere.

    Raises: whatever a run raised.
    """
    terminal, told, begin = sys.stdout.isatty(), 0.0, time.perf_counter()
    said: set[str] = set()
    while True:
        over = all(future.done() for future in runs.values())
        clock = time.perf_counter() - begin
        for name, future in runs.items():
            if future.done() and name not in said:
                said.add(name)
                print(
                    ("\r\033[K" if terminal else "") + f"  {name:<20} done in {future.result():.0f} s",
                    flush=True,
                )
        if over:
            return
        if terminal or clock - told > 20:
            told = clock
            busy = [
                f"{name}: {_last_epoch(folder / name / 'log.txt')}"
                for name, future in runs.items()
                if future.running() and not future.done()
            ]
            line = f"  {clock:4.0f} s  {' | '.join(busy[:2])}"
            print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
        time.sleep(0.5)


def _scores(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the scores of each job: what is measured, the baseline's and ours."""

    def read(run: str, test: str = "test") -> Any:
        return json.loads((folder / run / f"{test}.json").read_text(encoding="utf-8"))

    energies = read("molecules-steerable")["targets"]
    molecules = {
        f"molecule, {name}": {
            "score": f"MAE of the energy, {energies[target]['unit']}", "better": "lower",
            "baseline": ["sum over elements", energies[target]["references_mae"]],
            "ours": ["steerable network", energies[target]["mae"]],
        }
        for name, target in (("zero-point", "zpve"), ("atomisation", "atomization_energy"))
    }  # fmt: skip
    return {
        "panorama": {
            "score": "mIoU, rooms not seen", "better": "higher",
            "baseline": ["per-pixel network", read("rooms-pixel")["miou"]],
            "ours": ["spherical U-Net", read("rooms-unet")["miou"]],
        },
        "cloud": {
            "score": "accuracy, test upright", "better": "higher",
            "baseline": ["PointNet", read("clouds-pointnet", "upright")["accuracy"]],
            "ours": ["steerable network", read("clouds-steerable", "upright")["accuracy"]],
        },
        "cloud, turned": {
            "score": "accuracy, test turned", "better": "higher",
            "baseline": ["PointNet", read("clouds-pointnet", "turned")["accuracy"]],
            "ours": ["steerable network", read("clouds-steerable", "turned")["accuracy"]],
        },
        **molecules,
    }  # fmt: skip


def table(scores: dict[str, dict[str, Any]]) -> str:
    """Return the scores as aligned text.

    Args:
        scores: as in ``scores.json``: per job what is measured, and name and value of the baseline and of ours.
    """
    rows = [("job", "score", "baseline", "", "spheregeo", "")]
    for job, found in scores.items():
        values = [
            f"{v:.3f}" if v < 1 else f"{v:.2f}" if v < 10 else f"{v:.1f}"
            for v in (found["baseline"][1], found["ours"][1])
        ]
        rows.append((job, found["score"], found["baseline"][0], values[0], found["ours"][0], values[1]))
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def run(output: str, overrides: list[str]) -> dict[str, dict[str, Any]]:
    """Train and test all networks, print the table, draw the sheet; returns the scores.

    Args:
        output: folder of the runs, of ``scores.json`` and of the sheet ``demo.png``.
        overrides: options added to every run, such as ``--trainer.max_epochs 1``.
    """
    folder, begin = Path(output), time.perf_counter()
    cores = os.cpu_count() or 1
    workers = min(2, cores)
    print(
        "Three jobs, each beside a baseline: a panorama segmented, a cloud classified after a turn, a molecule's energy "
        f"regressed.\n{len(RUNS)} networks train, {workers} at a time; the first run also compiles kernels.",
        flush=True,
    )
    # Processes of their own: each has its own torch and log; "spawn", so that none inherits threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        threads = max(1, cores // workers)
        runs = {r.name: pool.submit(train, r, str(folder), overrides, threads) for r in RUNS}
        try:
            _watch(runs, folder)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    scores = _scores(folder)
    write_json(folder / "scores.json", scores)
    print(f"\n{table(scores)}\n", flush=True)
    from spheregeo.cli.demo_sheet import draw

    sheet = draw(folder, scores)
    print(
        f"pictures: {sheet} (and in each run's folder); {time.perf_counter() - begin:.0f} s in all",
        flush=True,
    )
    return scores

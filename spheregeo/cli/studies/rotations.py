"""Which networks of images know rotations? All of them on rotated MNIST, with equally many parameters.

Each network learns upright digits, and in a second run digits that were turned once, each by an angle of its own (rotated MNIST;
with ``--augment`` turned anew in each epoch). Held-out digits are turned by any angle, interpolated by cubic splines. Widths are
found by search, so that all networks have as many parameters, or fewer where a network's cost has set a lower default width.
Reference: Larochelle, Erhan, Courville, Bergstra & Bengio 2007, ICML (the data); Cohen & Welling 2016, arXiv 1602.07576.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheregeo.checks import nearest
from spheregeo.cli.studies.cells import Cell, finished, publish, save_picture, table_of, train

SUMMARY = "rotated MNIST: all networks of images at equal parameters, learnt upright and learnt turned"
RECIPE = "classify-rotated-mnist"
CLASSES = 10
COLUMNS = (
    "name", "network", "width", "parameters", "seed", "upright_to_rotated", "rotated_to_rotated", "gap", "upright_to_upright",
    "error_any_angle", "ms_per_image", "seconds_upright", "seconds_rotated",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One network of the table.

    Args:
        network: registered name.
        options: options of the network beside the width.
        lr: peak learning rate.
        widest: largest width that the search may take; the network's own default if None, which its cost has set.
        continuous: whether the network is meant for turns by any angle rather than for quarter turns.
        epochs: share of the study's epochs, below 1 for networks that are slow.
    """

    network: str
    options: tuple[tuple[str, Any], ...] = ()
    lr: float = 0.01
    widest: int | None = None
    continuous: bool = True
    epochs: float = 1.0


CASES: dict[str, Case] = {
    "image-cnn": Case("image-cnn", widest=256, continuous=False),
    "group-cnn-C4": Case("group-cnn", (("group", "C4"),), widest=16, continuous=False),
    "group-cnn-D4": Case("group-cnn", (("group", "D4"),), continuous=False),
    "group-cnn-C8": Case("group-cnn", (("group", "C8"),)),
    "group-cnn-C16": Case("group-cnn", (("group", "C16"),), epochs=0.7),
    "harmonic-cnn": Case("harmonic-cnn", epochs=0.7),
    "steerable-cnn": Case("steerable-cnn"),
    "gmr-cnn": Case("gmr-cnn"),
    "pde-cnn": Case("pde-cnn"),
    "lie-graph-cnn": Case("lie-graph-cnn", epochs=0.7),
    "sampled-group-cnn": Case("sampled-group-cnn", epochs=0.7, continuous=False),
    "warped-cnn": Case("warped-cnn"),
}
PROTOCOLS = {"upright": "none", "rotated": "so2"}  # turns of the training digits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-rotations",
                        help="folder of runs, table and plot (default: runs/study-rotations)")  # fmt: skip
    parser.add_argument(
        "--root", metavar="DIR", default="data/mnist", help="MNIST's digits, as --data.root of the recipe"
    )
    parser.add_argument("--networks", nargs="+", metavar="NAME", default=None,
                        help=f"rows of the table (default: all that there are of {', '.join(CASES)})")  # fmt: skip
    parser.add_argument(
        "--parameters", type=int, default=20_000, metavar="N", help="of each network (default: 20000)"
    )
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of each training (default: 10)")
    parser.add_argument("--augment", action="store_true",
                        help="turn the training digits of the rotated runs anew in each epoch")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repetitions (default: 1)")


def chosen(names: Sequence[str] | None) -> list[str]:
    """Return the rows of the table whose networks there are.

    Args:
        names: rows asked for; all if None.

    Raises: ValueError for a row that is unknown or whose network is not registered.
    """
    from spheregeo import models

    there = models.names("label", "images")
    for name in names or ():
        if name not in CASES or CASES[name].network not in there:
            known = [row for row, case in CASES.items() if case.network in there]
            raise ValueError(
                f"--networks has {name!r}{nearest(name, known)}; expected some of {', '.join(known)}"
            )
    return [name for name in names or CASES if CASES[name].network in there]


def matched_width(case: Case, target: int, size: Callable[[int], int] | None = None) -> tuple[int, int]:
    """Return the width whose number of parameters is nearest to a target, in ratio, and that number.

    Args:
        case: the network.
        target: number of parameters wanted.
        size: function of a width that returns the number of parameters; that of the case's network if None.
    """
    from spheregeo import models

    def parameters(width: int) -> int:
        model = models.create(case.network, 1, CLASSES, None, width=width, **dict(case.options))
        return sum(p.numel() for p in model.parameters())

    found: dict[int, int] = {}

    def count(width: int) -> int:
        if width not in found:
            found[width] = (size or parameters)(width)
        return found[width]

    widest = case.widest or _default_width(case.network)
    low, high = 1, min(2, widest)
    while high < widest and count(high) < target:
        low, high = high, min(2 * high, widest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    best = min((low, high), key=lambda width: abs(math.log(count(width) / target)))
    return best, count(best)


def _default_width(network: str) -> int:
    from spheregeo import models

    return int(inspect.signature(models.builder_of(network)).parameters["width"].default)


def cells(options: argparse.Namespace, overrides: Sequence[str]) -> list[Cell]:
    """Return the cells of the study, two for each row of the table.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.

    Raises: ValueError for numbers that are too small and unknown networks.
    """
    for name, value, least in (
        ("seeds", options.seeds, 1),
        ("epochs", options.epochs, 1),
        ("parameters", options.parameters, 1),
    ):
        if value < least:
            raise ValueError(f"--{name} is {value}; expected {least} or more")
    made = []
    for name in chosen(options.networks):
        case = CASES[name]
        width, _ = matched_width(case, options.parameters)
        epochs = max(1, round(case.epochs * options.epochs))
        shared = [
            "--data.root", options.root, "--model.network", case.network, "--model.width", str(width),
            "--model.lr", str(case.lr), "--trainer.max_epochs", str(epochs),
        ]  # fmt: skip
        if case.options:
            shared += ["--model.options", json.dumps(dict(case.options))]
        for seed in range(options.seeds):
            for protocol, turns in PROTOCOLS.items():
                anew = str(options.augment and protocol == "rotated").lower()
                own = ["--data.train_rotation", turns, "--data.redraw", anew, "--seed_everything", str(seed)]
                made.append(Cell(
                    f"{name}-{protocol}-{seed}", RECIPE, (*shared, *own, *overrides),
                    (("on_rotated", ()), ("on_upright", ("--data.test_rotation", "none"))),
                    (("name", name), ("network", case.network), ("width", width), ("protocol", protocol), ("seed", seed)),
                    last=True,
                ))  # fmt: skip
    return made


def measure(place: Path) -> dict[str, Any]:
    """Return size, time of an image, and the error under turns by any angle of a run's network.

    Args:
        place: folder of the run.
    """
    import torch

    from spheregeo import audit, tasks
    from spheregeo.cli.checkpoints import CHECKPOINTS

    task: Any = tasks.load(place / CHECKPOINTS[1])
    network, size = task.network.eval(), tuple(task.size)
    errors = audit.measure_angles(network, size, 1, randomise=False)["errors"]
    forward = seconds_of(network, torch.randn(32, 1, *size))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "error_any_angle": math.sqrt(sum(e * e for e in errors) / len(errors)),
        "ms_per_image": forward / 32 * 1e3,
    }


def seconds_of(network: Any, x: Any) -> float:
    """Median seconds of a forward pass, after one to warm up."""
    import statistics
    import time

    import torch

    times = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            network(x)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table: the two trainings of a network side by side.

    Args:
        results: results of cells.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for result in results:
        row = found.setdefault((result["name"], result["seed"]), {name: result.get(name) for name in COLUMNS})
        protocol = result["protocol"]
        row[f"{protocol}_to_rotated"] = result["on_rotated"]["accuracy"]
        row[f"seconds_{protocol}"] = None if result["resumed"] else result["seconds"]
        if protocol == "upright":
            row["upright_to_upright"] = result["on_upright"]["accuracy"]
    for row in found.values():
        turned, upright = row["rotated_to_rotated"], row["upright_to_rotated"]
        row["gap"] = None if turned is None or upright is None else turned - upright
    return list(found.values())


def verdict(table: Sequence[dict[str, Any]]) -> str:
    """Return what the table says in a sentence or two: the best network, and what those for any angle lose without turned digits.

    Args:
        table: rows of the table.
    """
    learnt = [row for row in table if row["rotated_to_rotated"] is not None]
    if not learnt:
        return "no network has learnt turned digits yet"
    best = max(learnt, key=lambda row: row["rotated_to_rotated"])
    text = f"best, learnt turned: {best['name']}, {100 * best['rotated_to_rotated']:.1f} %"
    lost = [
        f"{row['name']} {100 * row['gap']:.1f}"
        for row in table
        if row["gap"] is not None and CASES[row["name"]].continuous
    ]
    return text + (f"; lost by learning upright, in points: {', '.join(lost)}" if lost else "")


def draw(table: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw the accuracies on turned digits of each network, learnt upright and learnt turned; return the picture's path.

    Args:
        table: rows of the table.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["name"] for row in table))
    figure = Figure(figsize=(max(5.0, 1.2 + 0.8 * len(names)), 4.4), layout="constrained")
    axis = figure.subplots()
    for k, (column, colour, label) in enumerate((
        ("upright_to_rotated", "#e69f00", "learnt upright"), ("rotated_to_rotated", "#0072b2", "learnt turned"),
    )):  # fmt: skip
        for n, name in enumerate(names):
            found = [row[column] for row in table if row["name"] == name and row[column] is not None]
            if not found:
                continue
            error = 100 * (1 - sum(found) / len(found))
            at = n + 0.4 * (k - 0.5)
            axis.bar(at, error, 0.38, color=colour, label=label if n == 0 else None)
            axis.text(at, error * 1.04, f"{error:.1f}", ha="center", va="bottom", fontsize=7)
    axis.set_yscale("log")
    axis.set_ylim(0.5, 100)
    axis.set_yticks(ticks := [0.5, 1, 2, 5, 10, 20, 50, 100], [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylabel("error on digits turned by any angle, %")
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axis.set_title("MNIST's digits turned, networks of equally many parameters", fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    return save_picture(figure, folder / "rotations.png")


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train what has no result yet, print the table, draw the plot; return the table's rows.

    A training that fails leaves its place in the table empty, and the study fails at its end with the names.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.

    Raises: ValueError at the end for trainings that failed.
    """
    import time

    folder = Path(options.output)
    made = cells(options, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(made)} trainings; one that is cut goes on when the command is given again", flush=True)
    results: list[dict[str, Any]] = []
    faults: list[str] = []
    begin = time.perf_counter()
    for number, cell in enumerate(made, 1):
        head = f"{number}/{len(made)} {cell.name:<28}"
        found = finished(cell, folder)
        kept = " (kept)" if found else ""
        try:
            found = found or train(cell, folder, measure)
        except Exception as error:
            faults.append(f"{cell.name} ({' '.join(str(error).split())[:200] or type(error).__name__})")
            print(f"{head} failed: {faults[-1]}", flush=True)
            continue
        results.append(found)
        minutes = (time.perf_counter() - begin) / 60
        print(
            f"{head} on turned digits {100 * found['on_rotated']['accuracy']:.2f} %, upright "
            f"{100 * found['on_upright']['accuracy']:.2f} %, {found['parameters']:,} parameters, "
            f"{found['seconds']:.0f} s{kept}; {minutes:.0f} min so far",
            flush=True,
        )
        table = rows(results)
        table_of(table, COLUMNS, folder / "rotations.csv")
    if results:
        publish(table, COLUMNS, folder, "rotations", draw, verdict(table))
    if faults:
        raise ValueError(f"{len(faults)} of {len(made)} trainings failed: {'; '.join(faults)}")
    return rows(results)

"""Equivariance or augmentation? An equivariant and a planar network of equal size learn from more and more rotated copies.

Pictures on the sphere are classified, or their points labelled. The training pictures stand upright (0 copies), or each is turned
by ``copies`` rotations, taken in turn epoch by epoch. Test pictures are turned: a network that is equivariant needs no copies,
and the other one learns rotations from them. All cells train for the same number of steps.
Reference: Gerken, Carlsson, Linander, Ohlsson, Petersson & Persson 2022, arXiv 2202.03990.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.studies.cells import Cell, publish, run_all, save_picture

SUMMARY = "equivariance or augmentation: an equivariant and a planar network on ever more rotated copies"
TASKS = {"classify": ("classify-sphere", "classify-mnist"), "segment": ("segment-glyphs", "segment-mnist")}
PLANAR_GRID = "Equiangular(32, 64)"
COLUMNS = (
    "task", "network", "parameters", "copies", "seed", "accuracy", "accuracy_upright", "miou", "miou_upright",
    "equivariance_untrained", "equivariance_trained", "latency_ms", "seconds", "cpu_seconds",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-augmentation",
                        help="folder of runs, table and plot (default: runs/study-augmentation)")  # fmt: skip
    parser.add_argument(
        "--root", metavar="DIR", help="folder with MNIST's digits; generated glyphs without it"
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS), help="what is learnt (default: both)"
    )
    parser.add_argument("--network", metavar="NAME", default="disco",
                        help="the equivariant network, short for its classifier and its U-Net (default: disco)")  # fmt: skip
    parser.add_argument("--copies", nargs="+", type=int, default=[0, 1, 5, 20], metavar="N",
                        help="rotations of each training picture, 0 for upright (default: 0 1 5 20)")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repetitions (default: 1)")


def matched_width(task: str, classes: int, target: int, depth: int) -> int:
    """Return the width of the planar network whose number of parameters is nearest to a target, in ratio.

    Args:
        task: "classify" or "segment".
        classes: channels of the output.
        target: number of parameters wanted.
        depth: levels of the planar network.
    """
    from spheregeo.grids import parse_grid
    from spheregeo.models import create

    def misfit(width: int) -> float:
        model = create(
            "planar-cnn" if task == "classify" else "planar-unet", 1, classes, parse_grid(PLANAR_GRID), width=width, depth=depth
        )  # fmt: skip
        return abs(math.log(sum(p.numel() for p in model.parameters()) / target))

    return min(range(2, 65), key=misfit)


def cells(options: argparse.Namespace, overrides: Sequence[str]) -> list[Cell]:
    """Return the cells of the study, in the order of the table.

    Args:
        options: arguments of the study.
        overrides: entries of the recipes, added to every run.

    Raises: ValueError for negative copies, or fewer than one seed.
    """
    from spheregeo.cli.engine import SphereCLI, quiet, recipes

    if min(options.copies) < 0:
        raise ValueError(f"--copies has {min(options.copies)}; expected 0 (upright) or more")
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; expected 1 or more")
    root = [] if options.root is None else ["--data.root", options.root]
    made = []
    for task in options.tasks:
        recipe = TASKS[task][options.root is not None]
        folder = Path(options.output)
        shared = [*root, "--data.test_rotated", "true", *overrides]
        ours = ["--model.network", options.network]
        with quiet():
            cli = SphereCLI("study", recipes.find(recipe), folder, [*shared, *ours])
        model: Any = cli.model
        _check_copies(options.copies, cli.config.trainer.max_epochs, task)
        size = sum(p.numel() for p in model.network.parameters())
        width = matched_width(task, model.num_classes, size, 3)
        flat = [
            "--model.network",
            "planar",
            "--model.width",
            str(width),
            "--model.depth",
            "3",
            "--data.grid",
            PLANAR_GRID,
        ]
        for name, extra in ((options.network, ours), ("planar", flat)):
            for copies in options.copies:
                turned = [
                    "--data.train_rotated",
                    str(copies > 0).lower(),
                    "--data.copies",
                    str(max(1, copies)),
                ]
                for seed in range(options.seeds):
                    made.append(Cell(
                        f"{task}-{name}-{copies}-{seed}", recipe, (*shared, *extra, *turned, "--seed_everything", str(seed)),
                        (("turned", ()), ("upright", ("--data.test_rotated", "false"))),
                        (("task", task), ("network", name), ("copies", copies), ("seed", seed)),
                    ))  # fmt: skip
    return made


def _check_copies(copies: Sequence[int], epochs: int | None, task: str) -> None:
    """Refuse numbers of copies that would be one training, and tell of copies that are never seen: an epoch shows one."""
    most = max(copies)
    if epochs is None or epochs < 0 or most <= epochs:
        return
    if len({min(c, epochs) for c in copies}) < len(set(copies)):
        raise ValueError(
            f"--copies has {' and '.join(str(c) for c in copies if c >= epochs)}, which are one training: {task} has {epochs} "
            f"epochs and shows one copy of a picture in each; expected --trainer.max_epochs {most}, or fewer copies"
        )
    print(
        f"{task}: {epochs} epochs show {epochs} of {most} copies; --trainer.max_epochs {most} shows all",
        flush=True,
    )


def measure(place: Path) -> dict[str, Any]:
    """Return size, latency, and the equivariance error before and after the training of a run's network.

    Args:
        place: folder of the run.
    """
    import torch

    from spheregeo import audit, tasks
    from spheregeo.audit.cost import measure_time
    from spheregeo.cli.checkpoints import best_checkpoint

    path = best_checkpoint(place)
    trained: Any = tasks.load(path)
    untrained: Any = tasks.load(path, weights=False)
    found = {
        f"equivariance_{name}": audit.equivariance_error(
            task.network.eval(), task.grid, randomise=False, channels=1
        )
        for name, task in (("untrained", untrained), ("trained", trained))
    }
    forward, _ = measure_time(trained.network.eval(), torch.randn(1, 1, *trained.grid.shape))
    return {
        "parameters": sum(p.numel() for p in trained.network.parameters()),
        "latency_ms": forward * 1e3,
        **found,
    }


def row(result: dict[str, Any]) -> dict[str, Any]:
    """Return the table's row of a result; a segmentation's mIoU is the mean over the classes without the background.

    Args:
        result: result of a cell.
    """
    out = {name: result.get(name) for name in COLUMNS}
    if result.get("resumed"):  # of the last part alone
        out["seconds"] = out["cpu_seconds"] = None
    for test, ending in (("turned", ""), ("upright", "_upright")):
        report = result[test]
        out[f"accuracy{ending}"] = report["accuracy"]
        if result["task"] == "segment":
            found = [entry["iou"] for name, entry in report["classes"].items() if name != "background"]
            known = [iou for iou in found if iou is not None and not math.isnan(iou)]
            out[f"miou{ending}"] = sum(known) / max(1, len(known))
    return out


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw the scores on turned tests against the number of rotated copies, a panel for each task; return the picture's path.

    Args:
        rows: rows of the table.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    tasks = sorted({r["task"] for r in rows})
    figure = Figure(figsize=(5.2 * len(tasks), 4.0), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        score = "accuracy" if task == "classify" else "miou"
        here = [r for r in rows if r["task"] == task]
        copies = sorted({r["copies"] for r in here})
        for network in sorted({r["network"] for r in here}, key=lambda n: n == "planar"):
            mine = [[r[score] for r in here if r["network"] == network and r["copies"] == c] for c in copies]
            mean = [sum(v) / len(v) for v in mine]
            colour = "#b0b0b0" if network == "planar" else "#0072b2"
            size = next(r["parameters"] for r in here if r["network"] == network)
            axis.plot(range(len(copies)), mean, "o-", color=colour, label=f"{network}, {size:,} parameters")
            axis.fill_between(
                range(len(copies)),
                [min(v) for v in mine],
                [max(v) for v in mine],
                color=colour,
                alpha=0.2,
                lw=0,
            )
        axis.set_xticks(range(len(copies)), ["upright" if c == 0 else str(c) for c in copies])
        axis.set_xlabel("rotations of each training picture")
        axis.set_ylabel(
            {"accuracy": "accuracy, test turned", "miou": "mIoU without background, test turned"}[score]
        )
        axis.set_ylim(0, 1)
        axis.set_title({"classify": "classify pictures", "segment": "label their points"}[task])
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return save_picture(figure, folder / "augmentation.png")


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train what has no result yet, print the table, draw the plot; return the table's rows.

    Args:
        options: arguments of the study.
        overrides: entries of the recipes, added to every run.
    """
    folder = Path(options.output)
    made = cells(options, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(made)} trainings; one that is cut goes on when the command is given again", flush=True)

    def tell(result: dict[str, Any]) -> str:
        found = row(result)
        return f"accuracy {found['accuracy']:.3f}" if found["miou"] is None else f"mIoU {found['miou']:.3f}"

    rows = [row(result) for result in run_all(made, folder, measure, tell)]
    publish(rows, COLUMNS, folder, "augmentation", draw)
    return rows

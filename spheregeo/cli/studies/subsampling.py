"""Exact or approximate? One pixel decides whether strides keep a group network equivariant; what networks make of it.

Networks of group convolutions (p4: quarter turns, p4m: reflections too) keep every second pixel between their stages. In one of
each pair the image's size suits the stride, so that the network is exactly invariant; the other gets a row and a column of zeros
more and is invariant roughly. Both learn upright images, or images turned by quarter turns, and both are tested upright and
turned: an approximate network may learn to tell turned images apart, an exact one cannot.
Reference: Edixhoven, Lengyel & van Gemert 2023, Using and Abusing Equivariance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.studies.cells import Cell, publish, run_all, save_picture

SUMMARY = "exact or approximate: group networks whose strides suit the image's size, and one pixel beside it"
GROUPS = {"p4": "C4", "p4m": "D4"}
TRAINED = {"upright": "none", "turned": "c4"}  # quarter turns of the training images
NETWORKS = {"exact": 0, "approximate": 1}  # rows and columns of zeros at one end
COLUMNS = (
    "group", "network", "trained", "seed", "parameters", "upright", "quarter_turns", "any_turns", "lost",
    "error_untrained", "error_trained", "seconds",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-subsampling",
                        help="folder of runs, table and plot (default: runs/study-subsampling)")  # fmt: skip
    parser.add_argument(
        "--root", metavar="DIR", help="folder with MNIST's digits; generated textures without it"
    )
    parser.add_argument(
        "--groups", nargs="+", choices=tuple(GROUPS), default=list(GROUPS), help="p4, p4m (default: both)"
    )
    parser.add_argument("--trained", nargs="+", choices=tuple(TRAINED), default=list(TRAINED),
                        help="on upright images, or with quarter turns (default: both)")  # fmt: skip
    parser.add_argument("--width", type=int, default=4, metavar="N", help="of p4m (default: 4), of p4 √2 times")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repetitions (default: 1)")


def cells(options: argparse.Namespace, overrides: Sequence[str]) -> list[Cell]:
    """Return the cells of the study, in the order of the table.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.

    Raises: ValueError for fewer than one seed, or a width below 1.
    """
    for name in ("seeds", "width"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}; expected 1 or more")
    recipe = "classify-image" if options.root is None else "classify-rotated-mnist"
    data = ["--data.turned", "none"] if options.root is None else ["--data.root", options.root]
    made = []
    for group in options.groups:
        width = options.width if group == "p4m" else round(2**0.5 * options.width)
        for network, extra in NETWORKS.items():
            more = json.dumps({"group": GROUPS[group], "extra": extra})
            own = [
                "--model.network",
                "strided-group-cnn",
                "--model.width",
                str(width),
                "--model.options",
                more,
            ]
            for trained in options.trained:
                for seed in range(options.seeds):
                    turns = ["--data.train_rotation", TRAINED[trained], "--data.test_rotation", "none"]
                    made.append(Cell(
                        f"{group}-{network}-{trained}-{seed}", recipe,
                        (*data, *own, *turns, "--seed_everything", str(seed), *overrides),
                        (
                            ("on_upright", ()), ("on_quarter_turns", ("--data.test_rotation", "c4")),
                            ("on_any_turns", ("--data.test_rotation", "so2")),
                        ),
                        (("group", group), ("network", network), ("trained", trained), ("seed", seed)),
                    ))  # fmt: skip
    return made


def measure(place: Path) -> dict[str, Any]:
    """Return the size of a run's network, and its error under quarter turns before and after training.

    Args:
        place: folder of the run.
    """
    from spheregeo import audit, tasks
    from spheregeo.cli.checkpoints import best_checkpoint

    path = best_checkpoint(place)
    trained: Any = tasks.load(path)
    untrained: Any = tasks.load(path, weights=False)
    size = (int(trained.size[0]), int(trained.size[1]))
    return {
        "parameters": sum(p.numel() for p in trained.network.parameters()),
        **{
            f"error_{name}": audit.equivariance_error(
                task.network.eval(), size, randomise=False, channels=trained.in_channels
            )
            for name, task in (("untrained", untrained), ("trained", trained))
        },
    }


def row(result: dict[str, Any]) -> dict[str, Any]:
    """Return the table's row of a result; ``lost`` is the accuracy that quarter turns take.

    Args:
        result: result of a cell.
    """
    out: dict[str, Any] = {name: result.get(name) for name in COLUMNS}
    for name in ("upright", "quarter_turns", "any_turns"):
        out[name] = result[f"on_{name}"]["accuracy"]
    out["lost"] = result["on_upright"]["accuracy"] - result["on_quarter_turns"]["accuracy"]
    if result.get("resumed"):  # of the last part alone
        out["seconds"] = None
    return out


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw the accuracies on upright and on turned tests, a panel for each group; return the picture's path.

    Args:
        rows: rows of the table.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(r["group"] for r in rows))
    figure = Figure(figsize=(5.8 * len(groups), 4.0), layout="constrained")
    for axis, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        here = [r for r in rows if r["group"] == group]
        kinds = list(dict.fromkeys((r["network"], r["trained"]) for r in here))
        for k, (test, colour, label) in enumerate((
            ("upright", "#b0b0b0", "upright"), ("quarter_turns", "#0072b2", "quarter turns"),
            ("any_turns", "#e69f00", "any turns"),
        )):  # fmt: skip
            for n, kind in enumerate(kinds):
                found = [r[test] for r in here if (r["network"], r["trained"]) == kind]
                mean, at = 100 * sum(found) / len(found), n + 0.27 * (k - 1)
                axis.bar(at, mean, 0.26, color=colour, label=f"test: {label}" if n == 0 else None)
                axis.text(at, mean + 1, f"{mean:.1f}", ha="center", fontsize=7)
        axis.set_xticks(range(len(kinds)), [f"{network}\nlearnt {trained}" for network, trained in kinds])
        axis.set_ylim(0, 112)
        axis.set_ylabel("accuracy, %")
        axis.set_title(group)
        axis.grid(axis="y", alpha=0.3)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return save_picture(figure, folder / "subsampling.png")


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train what has no result yet, print the table, draw the plot; return the table's rows.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.
    """
    folder = Path(options.output)
    made = cells(options, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(made)} trainings; one that is cut goes on when the command is given again", flush=True)

    def tell(result: dict[str, Any]) -> str:
        found = row(result)
        return f"upright {found['upright']:.3f}, quarter turns {found['quarter_turns']:.3f}"

    rows = [row(result) for result in run_all(made, folder, measure, tell)]
    publish(rows, COLUMNS, folder, "subsampling", draw)
    return rows

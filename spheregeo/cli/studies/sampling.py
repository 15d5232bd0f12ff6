"""How alike must poses be to share an answer? A network of group convolutions, sampled ever more coarsely in feature space.

One network learns with every pose computed (epsilon 0), or with the first epsilon given, and is then tested at each epsilon: its
accuracy, the share of poses that are computed, the time of an image and the memory of a pass.
Reference: Franzen, Filling & Wand 2026, arXiv 2605.15368 (the idea); the clusters are those of ``SampledGroupConv2d``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.checks import check_least
from spheregeo.cli.studies.cells import Cell, publish, run_all, save_picture

SUMMARY = "group convolutions at representative poses: accuracy, clusters, time and memory against epsilon"
COLUMNS = (
    "epsilon", "accuracy", "agreement", "clusters", "output_error", "ms_per_image", "megabytes_per_image",
)  # fmt: skip
MEASURED = 32  # images of which time and memory are taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-sampling",
                        help="folder of runs, table and plot (default: runs/study-sampling)")  # fmt: skip
    parser.add_argument(
        "--root", metavar="DIR", help="folder with MNIST's digits; generated textures without it"
    )
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8], metavar="E",
                        help="sides of cells (default: 0 0.02 0.05 0.1 0.2 0.4 0.8)")  # fmt: skip
    parser.add_argument(
        "--learnt", type=float, default=0.0, metavar="E", help="epsilon of the training (default: 0)"
    )
    parser.add_argument("--group", default="C4", help="group of the network (default: C4)")
    parser.add_argument("--width", type=int, default=6, metavar="N", help="width of the network (default: 6)")


def cell_of(options: argparse.Namespace, overrides: Sequence[str]) -> Cell:
    """Return the training of the study.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to the run.

    Raises: ValueError for a negative epsilon.
    """
    for epsilon in (*options.epsilons, options.learnt):
        check_least(epsilon=(epsilon, 0))
    root = [] if options.root is None else ["--data.root", options.root]
    own = {"group": options.group, "epsilon": options.learnt}
    return Cell(
        f"sampled-{options.group}-{options.width}-{options.learnt:g}",
        "classify-image" if options.root is None else "classify-rotated-mnist",
        (
            *root, "--model.network", "sampled-group-cnn", "--model.width", str(options.width),
            "--model.options", json.dumps(own), *overrides,
        ),
        (),
        (("epsilons", list(options.epsilons)),),
        last=True,
    )  # fmt: skip


def measure(place: Path, cell: Cell, epsilons: Sequence[float]) -> dict[str, Any]:
    """Return the row of each epsilon: the trained network on the held-out images, sampled with it.

    Args:
        place: folder of the run.
        cell: the training.
        epsilons: sides of cells.
    """
    import torch

    from spheregeo import tasks
    from spheregeo.audit.cost import measure_memory
    from spheregeo.cli.checkpoints import CHECKPOINTS
    from spheregeo.cli.engine import SphereCLI, quiet, recipes
    from spheregeo.cli.studies.rotations import seconds_of
    from spheregeo.nn import SampledGroupConv2d

    with quiet():
        data: Any = SphereCLI("study", recipes.find(cell.recipe), place, list(cell.options)).datamodule
    task: Any = tasks.load(place / CHECKPOINTS[1])
    network = task.network.eval()
    layers = [layer for layer in network.modules() if isinstance(layer, SampledGroupConv2d)]
    batches = list(data.test_dataloader())
    dense: list[Any] = []
    rows = []
    for epsilon in sorted({0.0, *epsilons}):
        counts = [0, 0]
        for layer in layers:
            layer.epsilon = epsilon

        def count(layer: Any, inputs: Any, counts: list[int] = counts) -> None:
            for k, n in enumerate(layer.num_clusters(inputs[0])):
                counts[k] += n

        hooks = [layer.register_forward_pre_hook(count) for layer in layers]
        with torch.inference_mode():
            answers = [network(batch["image"]) for batch in batches]
        for hook in hooks:
            hook.remove()
        dense = dense or answers
        labels = torch.cat([batch["label"] for batch in batches])
        got, full = torch.cat(answers), torch.cat(dense)
        few = batches[0]["image"][:MEASURED]
        memory, _ = measure_memory(network, few)
        rows.append({
            "epsilon": epsilon,
            "accuracy": float((got.argmax(1) == labels).float().mean()),
            "agreement": float((got.argmax(1) == full.argmax(1)).float().mean()),
            "clusters": counts[0] / counts[1],
            "output_error": float((got - full).norm() / full.norm()),
            "ms_per_image": seconds_of(network, few) / len(few) * 1e3,
            "megabytes_per_image": None if memory is None else memory / len(few) / 2**20,
        })  # fmt: skip
    return {"rows": [row for row in rows if row["epsilon"] in epsilons]}


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw the error and the share of computed poses against epsilon; return the picture's path.

    Args:
        rows: rows of the table.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axis = figure.subplots()
    at = range(len(rows))
    axis.plot(
        at,
        [100 * (1 - row["accuracy"]) for row in rows],
        "o-",
        color="#0072b2",
        label="errors on held-out images",
    )
    axis.plot(
        at, [100 * row["clusters"] for row in rows], "s--", color="#e69f00", label="poses that are computed"
    )
    axis.set_xticks(at, [f"{row['epsilon']:g}" for row in rows])
    axis.set_xlabel("epsilon: side of the cells in which poses share an answer")
    axis.set_ylabel("per cent")
    axis.set_ylim(0, 105)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return save_picture(figure, folder / "sampling.png")


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train the network unless that is done, test it at each epsilon, print the table, draw the plot; return the table's rows.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to the run.
    """
    folder = Path(options.output)
    cell = cell_of(options, overrides)
    folder.mkdir(parents=True, exist_ok=True)

    def tell(result: dict[str, Any]) -> str:
        return f"accuracy {result['rows'][0]['accuracy']:.3f} at epsilon {result['rows'][0]['epsilon']:g}"

    (result,) = run_all([cell], folder, lambda place: measure(place, cell, options.epsilons), tell)
    if result["epsilons"] != options.epsilons:  # the same training, measured at others
        result["rows"] = measure(folder / cell.name, cell, options.epsilons)["rows"]
    rows: list[dict[str, Any]] = result["rows"]
    publish(rows, COLUMNS, folder, "sampling", draw)
    return rows

"""What do linear group networks learn? Their direction is sparse in the group's Fourier basis, at equal loss.

Linear networks of functions on a finite group are trained on a few Gaussian samples with random labels until the loss has fallen
to one value: convolutions over the group, ordinary circular convolutions, and fully connected layers. All compute f(x) = <β, x>.
The table holds norms of exponent 2/L of β, of length 1 and at margin 1: each kind of network is lowest in its own norm.
Reference: Lawrence, Georgiev, Dienes & Kiani 2022, arXiv 2110.06084.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spheregeo.cli.studies.cells import save_picture
from spheregeo.files import atomic_path, reading, write_json

SUMMARY = "implicit bias: which directions linear group, cyclic and dense networks learn on separable data"
GROUPS = ("D8", "A5", "D60", "(C5xC5):Q8")
NETWORKS = ("group", "cyclic", "dense")
FACTS = ("group", "network", "depth", "seed")
COLUMNS = (
    *FACTS, "samples", "steps", "margin", "cosine", "group_norm", "cyclic_norm", "direct_norm",
    "group_at_margin", "cyclic_at_margin", "euclidean_at_margin",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-implicit-bias",
                        help="folder of results, table and plot (default: runs/study-implicit-bias)")  # fmt: skip
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), metavar="NAME",
                        help=f"finite groups such as C12, D8, T, O, A5, C5xC5 (default: {' '.join(GROUPS)})")  # fmt: skip
    parser.add_argument(
        "--depths",
        nargs="+",
        type=int,
        default=[2, 3],
        metavar="L",
        help="layers of the networks (default: 2 3)",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument(
        "--loss", type=float, default=1e-64, help="loss at which all trainings stop (default: 1e-64)"
    )
    parser.add_argument(
        "--samples", type=int, metavar="N", help="samples (default: a third of the group's elements)"
    )


def learn(group: str, network: str, depth: int, seed: int, samples: int, loss: float) -> dict[str, Any]:
    """Return the table's row of one training.

    Args:
        group: name of the group.
        network: "group", "cyclic" or "dense".
        depth: layers of the network.
        seed: seed of samples and weights.
        samples: number of samples.
        loss: loss at which the training stops.
    """
    import torch

    from spheregeo.audit import implicit_bias as bias

    x, signs = bias.separable_data(group, samples, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = bias.LinearGroupNetwork(group, depth, network).double()
    steps = bias.descend(trained, x, signs, math.log(loss))
    found = asdict(bias.bias_report(trained, x, signs))
    at_margin = {f"{name}_at_margin": found[f"{name}_norm"] / found["margin"] for name in ("group", "cyclic")}
    facts = {
        "group": group,
        "network": network,
        "depth": depth,
        "seed": seed,
        "samples": samples,
        "steps": steps,
    }
    return {**facts, **found, **at_margin, "euclidean_at_margin": 1 / found["margin"]}


def _kept(path: Path, digest: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with reading(path, "the result of a study's cell"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        return dict(stored["result"]) if stored["digest"] == digest else None


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return float(sum(r[name] for r in rows) / len(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the means over seeds as aligned text, a line for each group, depth and network.

    Args:
        rows: rows of all trainings.
    """
    names = COLUMNS[6:]
    shown: list[tuple[str, ...]] = [("group", "depth", "network", *names)]
    for group, depth, network in dict.fromkeys((r["group"], r["depth"], r["network"]) for r in rows):
        here = [r for r in rows if (r["group"], r["depth"], r["network"]) == (group, depth, network)]
        shown.append((group, str(depth), network, *(f"{_mean(here, name):.4g}" for name in names)))
    widths = [max(len(line[k]) for line in shown) for k in range(len(shown[0]))]
    return "\n".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in shown
    )


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw norms at margin 1, relative to the fully connected network's, a panel for each depth and norm; return the path.

    Args:
        rows: rows of all trainings.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    depths, groups = sorted({r["depth"] for r in rows}), list(dict.fromkeys(r["group"] for r in rows))
    norms = {"group_at_margin": "Fourier basis of the group", "cyclic_at_margin": "Fourier basis of the cyclic group",
             "euclidean_at_margin": "Euclidean"}  # fmt: skip
    figure = Figure(figsize=(4.4 * len(norms), 3.2 * len(depths)), layout="constrained")
    axes = figure.subplots(len(depths), len(norms), squeeze=False)
    for line, depth in zip(axes, depths, strict=True):
        for axis, (name, title) in zip(line, norms.items(), strict=True):
            for k, (network, colour) in enumerate(
                zip(NETWORKS, ("#0072b2", "#e69f00", "#b0b0b0"), strict=True)
            ):
                for place, group in enumerate(groups):
                    here: dict[str, list[dict[str, Any]]] = {kind: [] for kind in NETWORKS}
                    for r in rows:
                        if r["group"] == group and r["depth"] == depth:
                            here[r["network"]].append(r)
                    dense = _mean(here["dense"], name)
                    values = [r[name] / dense for r in here[network]]
                    at = place + 0.26 * (k - 1)
                    label = {
                        "group": "group convolutions",
                        "cyclic": "circular convolutions",
                        "dense": "fully connected",
                    }
                    axis.bar(
                        at,
                        sum(values) / len(values),
                        0.24,
                        color=colour,
                        label=label[network] if place == 0 else None,
                    )
                    axis.plot([at] * len(values), values, ".", color="black", ms=3)
            axis.set_xticks(range(len(groups)), groups)
            axis.set_title(f"{title}, depth {depth}", fontsize=10)
            axis.grid(axis="y", alpha=0.3)
        line[0].set_ylabel("norm at margin 1,\nfully connected = 1")
    axes[0][0].legend(frameon=False, fontsize=8)
    return save_picture(figure, folder / "implicit_bias.png")


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train what has no result yet, print the table, draw the plot; return a row for each training.

    Args:
        options: arguments of the study.
        overrides: refused, for no recipe is run.

    Raises: ValueError for overrides, unknown groups, and numbers out of range.
    """
    import csv

    from spheregeo.groups import FiniteGroup

    if overrides:
        raise ValueError(f"{overrides[0]} is an entry of a recipe; this study runs none")
    if options.seeds < 1 or min(options.depths) < 1 or not 0 < options.loss < 1:
        raise ValueError(
            f"--seeds is {options.seeds}, --depths has {min(options.depths)} and --loss is {options.loss:g}; expected 1 or more, "
            "1 or more, and a number between 0 and 1"
        )
    orders = {name: FiniteGroup.of(name).order for name in options.groups}
    cells = [
        (g, n, d, s) for g in orders for d in options.depths for n in NETWORKS for s in range(options.seeds)
    ]
    folder = Path(options.output)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    print(f"{len(cells)} trainings; one that is cut goes on when the command is given again", flush=True)
    rows, kept, begin = [], 0, time.perf_counter()
    for number, (group, network, depth, seed) in enumerate(cells, 1):
        default = min(max(2, orders[group] // 3), orders[group] - 1)
        samples = default if options.samples is None else options.samples
        arguments = (group, network, depth, seed, samples, options.loss)
        digest = hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]
        path = folder / "cells" / f"{digest}.json"
        found = _kept(path, digest)
        if found is None:
            found = learn(*arguments)
            write_json(path, {"digest": digest, "result": found})
        else:
            kept += 1
        rows.append(found)
        if seed == options.seeds - 1:
            rest = (time.perf_counter() - begin) / max(1, number - kept) * (len(cells) - number)
            told = f"{group}, depth {depth}, {network}: norm {found['group_norm']:.4g}, margin {found['margin']:.3f}"
            print(f"{number}/{len(cells)} {told}; about {rest:.0f} s left", flush=True)
    with (
        atomic_path(folder / "implicit_bias.csv") as path,
        open(path, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    if kept:
        print(f"{kept} were kept", flush=True)
    print(
        f"\n{table(rows)}\n\nmeans over {options.seeds} seeds, length of the direction 1, exponent of the norms 2/depth\n"
        f"table: {folder / 'implicit_bias.csv'}, plot: {draw(rows, folder)}",
        flush=True,
    )
    return rows

"""One sheet of pictures of the demonstration: rooms as maps, turned clouds with their classes, molecules with their energies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from spheregeo.cli import engine
from spheregeo.files import atomic_path
from spheregeo.tasks.checks import Batch
from spheregeo.tasks.pictures.fields import palette
from spheregeo.tasks.pictures.molecules import draw_molecule
from spheregeo.tasks.pictures.points import draw_cloud
from spheregeo.tasks.pictures.projections import mollweide

OURS, BASELINE, WRONG, QUIET = "#0072b2", "#b0b0b0", "#c8452d", "0.45"
CLOUDS, MOLECULES = 6, 5


@torch.inference_mode()
def _outputs(folder: Path, run: str, options: str = "") -> tuple[Any, Batch]:
    """Return a trained task and what it gives for the first batches of its test, joined."""
    task, data = engine.load_run(folder / run, ["--data.batch_size", "32", *options.split()])
    batch = next(iter(data.test_dataloader()))
    return task, task.update_metrics(task.forward_batch(batch))


def _heading(figure: Any, height: float, title: str, text: str) -> None:
    figure.text(0.025, height, title, fontsize=15, fontweight="bold", va="top")
    figure.text(0.025, height - 0.024, text, fontsize=9.5, color=QUIET, va="top")


def _rooms(figure: Any, spec: Any, folder: Path, scores: dict[str, Any]) -> None:
    """Draw a room, its classes, and what the two networks make of it."""
    from matplotlib.patches import Patch

    task, ours = _outputs(folder, "rooms-unet")
    _, plain = _outputs(folder, "rooms-pixel")
    right = (ours["prediction"] == ours["truth"]).flatten(1).float().mean(1)
    kinds = torch.tensor([len(truth.unique()) for truth in ours["truth"]])
    k = int((right + 0.05 * kinds).argmax())  # a room with many things, not the worst
    truth, said = task.colours_of(ours["truth"][k], ours["prediction"][k])
    _, guess = task.colours_of(ours["truth"][k], plain["prediction"][k])
    miou = [f"mIoU {scores['panorama'][who][1]:.2f}" for who in ("baseline", "ours")]
    panels = (
        (task.picture_of(ours["image"][k]), "panorama", "black"),
        (truth, "truth", "black"),
        (guess, f"{scores['panorama']['baseline'][0]} · {miou[0]}", QUIET),
        (said, f"{scores['panorama']['ours'][0]} · {miou[1]}", OURS),
    )
    for place, (picture, title, colour) in zip(spec.subgridspec(1, 4, wspace=0.04), panels, strict=True):
        axis = figure.add_subplot(place)
        axis.imshow(mollweide(picture, 720), interpolation="antialiased")
        axis.set_title(title, fontsize=10.5, color=colour, pad=5)
        axis.set_axis_off()
    colours = palette(task.num_classes) / 255
    present = [c for c in range(task.num_classes) if bool((ours["truth"][k] == c).any())]
    patches = [Patch(color=tuple(colours[c]), label=task.class_names[c]) for c in present]
    at = spec.get_position(figure)
    figure.legend(
        handles=patches, loc="upper center", ncols=len(patches), fontsize=9, frameon=False,
        bbox_to_anchor=(0.5, at.y0 - 0.002), handlelength=1.0, columnspacing=1.4,
    )  # fmt: skip


def _clouds(figure: Any, spec: Any, folder: Path, scores: dict[str, Any]) -> None:
    """Draw turned clouds with the classes that the two networks give, and both accuracies as bars."""
    turned = "--data.test_rotation so3"
    task, ours = _outputs(folder, "clouds-steerable", turned)
    _, plain = _outputs(folder, "clouds-pointnet", turned)
    names = task.class_names
    shown = list(dict.fromkeys(ours["truth"].tolist()))[:CLOUDS]  # one cloud of each class
    grid = spec.subgridspec(1, CLOUDS + 2, wspace=0.1)
    for column, label in enumerate(shown):
        k = int((ours["truth"] == label).nonzero()[0])
        axis = figure.add_subplot(grid[column])
        draw_cloud(axis, ours["positions"][ours["batch"] == k].numpy())
        axis.set_title(names[label], fontsize=10.5, pad=2)
        for height, who, said in ((-0.03, "PointNet", plain), (-0.14, "steerable", ours)):
            answer = int(said["prediction"][k])
            mark, colour = ("✓", OURS) if answer == label else ("✗", WRONG)
            text = f"{who}: {names[answer]} {mark}"
            axis.text(
                0.5, height, text, transform=axis.transAxes, ha="center", va="top", fontsize=9, color=colour
            )
    axis = figure.add_subplot(grid[CLOUDS:])
    kinds = ("cloud", "cloud, turned")
    for shift, who, colour in ((-0.19, "baseline", BASELINE), (0.19, "ours", OURS)):
        values = [scores[kind][who][1] for kind in kinds]
        bars = axis.bar(np.arange(2) + shift, values, 0.36, color=colour, label=scores["cloud"][who][0])
        axis.bar_label(bars, [f"{v:.0%}" for v in values], fontsize=9, padding=2)
    axis.axhline(1 / len(names), color=QUIET, lw=0.8, ls=":")
    axis.set_xticks(range(2), ["test upright", "test turned"], fontsize=9.5)
    axis.set_ylim(0, 1.22)
    axis.set_yticks([])
    axis.set_title("accuracy (dotted: chance)", fontsize=10.5)
    axis.legend(fontsize=9, frameon=False, loc="upper right", ncols=2, handlelength=1.0, borderaxespad=0.1)
    axis.spines[["left", "top", "right"]].set_visible(False)


def _molecules(figure: Any, spec: Any, folder: Path, scores: dict[str, Any]) -> None:
    """Draw molecules with their energies, and the errors of all test molecules."""
    from ase.symbols import Symbols

    task, found = _outputs(folder, "molecules-steerable")
    target = task.targets.index("zpve")
    unit = task.units[target]
    truth, said, plain = (found[name][:, target].numpy() for name in ("truth", "prediction", "base"))
    index, numbers, positions = (found[name].numpy() for name in ("batch", "numbers", "positions"))
    sizes = np.bincount(index)
    chosen = np.argsort(sizes, kind="stable")[
        np.linspace(len(sizes) // 4, len(sizes) - 1, MOLECULES).astype(int)
    ]
    # a narrow column keeps the last molecule apart from the errors
    grid = spec.subgridspec(1, MOLECULES + 2, wspace=0.12, width_ratios=[*[1] * MOLECULES, 0.12, 2.9])
    for column, k in enumerate(chosen):
        axis = figure.add_subplot(grid[column])
        draw_molecule(axis, numbers[index == k], positions[index == k])
        formula = Symbols(numbers[index == k]).get_chemical_formula()
        subscripts = "".join(f"$_{c}$" if c.isdigit() else c for c in formula)
        axis.set_title(f"{subscripts}: {truth[k]:.1f}", fontsize=10.5, pad=4)
        for height, who, value, colour in (
            (-0.03, "elements", plain[k], QUIET), (-0.14, "network", said[k], OURS),
        ):  # fmt: skip
            text = f"{who}: {value:.1f} ({value - truth[k]:+.1f})"
            axis.text(
                0.5, height, text, transform=axis.transAxes, ha="center", va="top", fontsize=9, color=colour
            )
    axis = figure.add_subplot(grid[MOLECULES + 1 :])
    axis.axhline(0, color=QUIET, lw=0.8)
    for value, who, colour in ((plain, "baseline", BASELINE), (said, "ours", OURS)):
        name, mae = scores["molecule, zero-point"][who]
        axis.vlines(truth, 0, value - truth, color=colour, lw=0.6, alpha=0.5)
        axis.plot(truth, value - truth, "o", color=colour, ms=4.5, label=f"{name}: MAE {mae:.2f}")
    axis.set_xlabel(f"true zero-point energy [{unit}]", fontsize=9)
    axis.set_title(f"error of each test molecule [{unit}]", fontsize=10.5)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=9, frameon=False, loc="upper left", ncols=2, handlelength=0.8, columnspacing=1.0)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.25 * (high - low))
    axis.spines[["top", "right"]].set_visible(False)


def draw(folder: Path, scores: dict[str, Any]) -> Path:
    """Draw ``demo.png`` from the trained runs.

    Args:
        folder: folder of the demonstration.
        scores: its scores, as in ``scores.json``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 10.4), facecolor="white")
    FigureCanvasAgg(figure)
    rows = figure.add_gridspec(
        3, 1, left=0.025, right=0.98, top=0.915, bottom=0.06, hspace=0.62, height_ratios=[1.0, 1.0, 1.0]
    )
    with engine.quiet():
        _rooms(figure, rows[0], folder, scores)
        _clouds(figure, rows[1], folder, scores)
        _molecules(figure, rows[2], folder, scores)
    texts = (
        ("A panorama, segmented", "Generated rooms, 48 × 96. Every pixel counts by its area on the sphere."),
        ("A cloud, classified", "128 points. Both networks have seen upright clouds only; these are turned at random."),
        ("A molecule's energy, regressed", "G2 set: zero-point energies in kcal/mol, of molecules that were held out."),
    )  # fmt: skip
    for k, (title, text) in enumerate(texts):
        _heading(figure, rows[k].get_position(figure).y1 + 0.071, title, text)
    path = folder / "demo.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path

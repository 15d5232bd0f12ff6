"""Pictures of what a task saw, knew and said: colours, overlays, maps, confusion matrices, sheets, training curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.pictures.projections import globe, mollweide

Array = NDArray[Any]
IGNORED = (0, 0, 0)


def palette(num_classes: int) -> Array:
    """Colours (256, 3) uint8 for label maps: one a class, black for the ignored 255.

    The first twenty are matplotlib's tab20, the strong ones first; further ones walk the hues by the golden ratio.
    """
    import matplotlib

    tab = (matplotlib.colormaps["tab20"](np.arange(20))[:, :3] * 255).round().astype(np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    colours[:20] = np.concatenate([tab[0::2], tab[1::2]])
    hues = (np.arange(20, 255) * 0.6180339887) % 1.0
    hsv = np.stack([hues, np.full_like(hues, 0.6), np.full_like(hues, 0.85)], axis=1)
    colours[20:255] = (matplotlib.colors.hsv_to_rgb(hsv) * 255).round()
    colours[max(num_classes, 0) : 255] = 128
    colours[255] = IGNORED
    return colours


def colour(labels: Array, num_classes: int) -> Array:
    """Label map (H, W) as an RGB picture (H, W, 3)."""
    return palette(num_classes)[labels.astype(np.uint8)]


def colour_depth(depth: Array, limit: float | None = None) -> Array:
    """Depth map (H, W) as an RGB picture, near is bright; points without depth are black."""
    import matplotlib

    valid = np.isfinite(depth)
    top = limit if limit is not None else (float(np.quantile(depth[valid], 0.99)) if valid.any() else 1.0)
    shade = np.clip(np.where(valid, depth, 0) / max(top, 1e-9), 0, 1)
    rgb = (matplotlib.colormaps["magma_r"](shade)[..., :3] * 255).astype(np.uint8)
    rgb[~valid] = IGNORED
    return rgb


def overlay(image: Array, colours: Array, strength: float = 0.55) -> Array:
    """Colours laid over the photo (H, W, 3), both uint8; in strips, so that memory stays small."""
    result = np.empty_like(image)
    for top in range(0, len(image), 256):
        rows = slice(top, top + 256)
        blend = (1 - strength) * image[rows].astype(np.float32) + strength * colours[rows]
        result[rows] = blend.round().astype(np.uint8)
    return result


def as_rgb(image: Array) -> Array:
    """The first three channels (or one, repeated) of (C, H, W) stretched from their 1 and 99 % quantiles to 0..255."""
    picked = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    low, high = np.quantile(picked, 0.01), np.quantile(picked, 0.99)
    scaled = np.clip((picked - low) / max(high - low, 1e-9), 0, 1)
    return (scaled * 255).round().astype(np.uint8).transpose(1, 2, 0)


def write_png(path: str | Path, picture: Array, colours: Array | None = None) -> Path:
    """Write RGB (H, W, 3), grey, 16-bit or, with ``colours`` (256, 3), a palette PNG of labels; atomically."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    if colours is not None:
        image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())


def _write_figure(path: str | Path, figure: Any) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return write_bytes(path, buffer.getvalue())


def _figure(width: float, height: float) -> Any:
    # A figure of its own, not pyplot's: no global state, and no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0.03, right=0.99, bottom=0.05, top=0.95, wspace=0.04, hspace=0.06)
    FigureCanvasAgg(figure)
    return figure


def legend_within(image: Array, class_names: Sequence[str], present: Sequence[int]) -> Array:
    """Return a picture (H, W, 3) with a legend of the classes present over its lowest rows, which show the least of the sphere.

    Pictures of less than 128 rows have no room for one and come back as they are.

    Args:
        image: the picture, uint8.
        class_names: one name per class.
        present: numbers of the classes to be named.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    if height < 128 or not present:
        return image
    colours = palette(len(class_names))
    size = max(10, height // 36)
    while True:
        font: Any = ImageFont.load_default(size)
        gap, box = size // 2, int(0.8 * size)
        places: list[tuple[int, int, int]] = []  # left edge, line, class
        x, line = gap, 0
        for c in present:
            needed = box + gap + int(font.getlength(class_names[c])) + 2 * gap
            if x + needed > width and x > gap:
                x, line = gap, line + 1
            places.append((x, line, c))
            x += needed
        step = int(1.4 * size)
        band = (line + 1) * step + gap
        if band <= height // 4 or size <= 10:
            break
        size = max(10, int(0.8 * size))
    picture = image.copy()
    picture[-band:] = (0.35 * picture[-band:].astype(np.float32)).astype(np.uint8)
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    for x, line, c in places:
        y = height - band + gap // 2 + line * step
        middle = y + step // 2
        fill = tuple(int(v) for v in colours[c])
        draw.rectangle([x, middle - box // 2, x + box, middle + box // 2], fill=fill, outline=(255, 255, 255))
        draw.text((x + box + gap, middle), class_names[c], fill=(255, 255, 255), font=font, anchor="lm")
    return np.asarray(drawn)


def _legend(figure: Any, class_names: Sequence[str], present: Sequence[int] | None = None) -> None:
    from matplotlib.patches import Patch

    colours = palette(len(class_names)) / 255
    shown = range(len(class_names)) if present is None else present
    patches = [Patch(color=tuple(colours[i]), label=class_names[i]) for i in shown]
    figure.legend(
        handles=patches, loc="upper center", ncols=7, fontsize=8, frameon=False, bbox_to_anchor=(0.5, 0.03)
    )


def world_picture(
    path: str | Path, picture: Array, title: str = "", class_names: list[str] | None = None,
    present: Sequence[int] | None = None,
) -> Path:  # fmt: skip
    """Mollweide map and two globes (front and back) of a panorama's colours (H, W, 3).

    Args:
        path: the PNG.
        picture: the colours.
        title: title of the map.
        class_names: one name per class for a legend; no legend if None.
        present: numbers of the classes that the legend names; all if None.
    """
    figure = _figure(10, 2.9)
    left, front, back = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    left.imshow(mollweide(picture))
    left.set_title(title or "Mollweide", fontsize=9)
    for axis, longitude, name in ((front, 0.0, "front"), (back, np.pi, "back")):
        axis.imshow(globe(picture, longitude=longitude))
        axis.set_title(name, fontsize=9)
    for axis in (left, front, back):
        axis.set_axis_off()
    if class_names:
        _legend(figure, class_names, present)
    return _write_figure(path, figure)


def confusion_picture(
    path: str | Path, matrix: Array, class_names: list[str], unit: str = "% of the true class's area"
) -> Path:
    """Confusion matrix (C, C), each row in percent of the true class."""
    count = len(class_names)
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-12)
    figure = _figure(2.5 + 0.5 * count, 2 + 0.45 * count)
    axis = figure.subplots()
    axis.imshow(share, vmin=0, vmax=100, cmap="Blues")
    axis.set_xticks(range(count), class_names, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(count), class_names, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("truth")
    axis.set_title(f"confusion, {unit}", fontsize=9)
    for i in range(count):
        for j in range(count):
            if share[i, j] >= 0.5:
                dark = share[i, j] > 60
                text = f"{share[i, j]:.0f}"
                axis.text(
                    j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black"
                )
    return _write_figure(path, figure)


def sheet_picture(
    path: str | Path, rows: list[tuple[Array, Array, Array]], class_names: list[str] | None = None,
    titles: Sequence[str] = (), present: Sequence[int] | None = None, width: float = 4.0,
) -> Path:  # fmt: skip
    """A row per sample: image | truth | prediction, each an RGB picture.

    Args:
        path: the PNG.
        rows: image, truth and prediction of each sample.
        class_names: one name per class for a legend; no legend if None.
        titles: what stands at the left of each row; nothing if empty.
        present: numbers of the classes that the legend names; all if None.
        width: of each picture in inches.
    """
    figure = _figure(3 * width, 2.1 * len(rows))
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
        axis.set_title(title, fontsize=10)
    for line, title in zip(axes, titles):
        line[0].text(
            -0.02, 0.5, title, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=8
        )
    if class_names:
        _legend(figure, class_names, present)
    return _write_figure(path, figure)


def label_sheet_picture(
    path: str | Path, rows: list[tuple[Array, tuple[float, float]]], titles: list[str]
) -> Path:
    """A column per sample: the globe seen from above (latitude, longitude), the panorama below it; titled."""
    figure = _figure(2.2 * max(2, len(rows)), 3.6)
    axes = figure.subplots(2, len(rows), squeeze=False, height_ratios=[2, 1])
    for column, (picture, (latitude, longitude)), title in zip(axes.T, rows, titles, strict=True):
        column[0].imshow(globe(picture, 256, latitude, longitude))
        column[0].set_title(title, fontsize=8)
        column[1].imshow(picture)
        for axis in column:
            axis.set_axis_off()
    return _write_figure(path, figure)


def curves_picture(path: str | Path, logs: list[Path]) -> Path | None:
    """Training curves from CSV logs in order of time; later logs (after a resume) overwrite their epochs.

    Epochs count from 1, as those of the printed lines. Losses are drawn on a logarithmic axis where all of them are positive.

    Args:
        path: the PNG.
        logs: the CSV files.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    series: dict[str, dict[int, float]] = {}
    for log in logs:
        with open(log, newline="") as file:
            for line in csv.DictReader(file):
                for name, value in line.items():
                    if value and "/" in name:
                        series.setdefault(name, {})[int(line["epoch"])] = float(value)
    if not series:
        return None
    losses = [n for n in series if n.endswith("loss")]
    scores = [n for n in series if not n.endswith("loss")]
    figure = _figure(10, 3.5)
    figure.subplots_adjust(wspace=0.15)
    for axis, chosen in zip(figure.subplots(1, 2), (losses, scores), strict=True):
        for name in chosen:
            epochs = sorted(series[name])
            values = [series[name][e] for e in epochs]
            axis.plot([e + 1 for e in epochs], values, label=name, marker=".", markersize=3)
        if chosen is losses and min((v for n in chosen for v in series[n].values()), default=0.0) > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if (low := axis.get_ylim())[1] < 30 * low[
                0
            ]:  # less than a decade and a half has few powers of ten
                axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
                axis.tick_params(axis="y", which="minor", labelsize=7)
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss" if chosen is losses else "score")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if chosen:
            axis.legend(fontsize=8)
    return _write_figure(path, figure)


def comparison_picture(path: str | Path, scores: dict[str, dict[str, float | None]]) -> Path:
    """Bars of IoU per class for several models: {model: {class: IoU}}."""
    classes = list(next(iter(scores.values())))
    figure = _figure(1.5 + 0.9 * len(classes), 3.5)
    axis = figure.subplots()
    width = 0.8 / len(scores)
    for k, (model, values) in enumerate(scores.items()):
        places = np.arange(len(classes)) + (k - (len(scores) - 1) / 2) * width
        axis.bar(places, [values[c] or 0.0 for c in classes], width, label=model)
    axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=8)
    axis.set_ylabel("IoU")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3, axis="y")
    axis.legend(fontsize=8)
    return _write_figure(path, figure)

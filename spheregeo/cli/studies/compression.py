"""Does coding on the sphere save bits? Rate and distortion on HEALPix beside the equirectangular twin, JPEG, WebP and others.

Two networks of equal width learn the same rooms at several weights of the error, each weight from the last one's weights: on
HEALPix, and on equirectangular images as dense at the equator. Both code test images that are twice as fine as their grids and
are averaged over their cells before. Rates are those of whole files, per steradian; errors are those on a codec's own grid
(``psnr``), and on the finer image (``ws_psnr``, ``s_psnr``).
Reference: Mahmoudian Bidgoli et al. 2021, arXiv 2107.09179; Bjøntegaard 2001, VCEG-M33.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spheregeo.checks import check_least
from spheregeo.cli.studies.cells import Cell, run_all, table_of
from spheregeo.files import atomic_path

SUMMARY = "rate and distortion of compression on HEALPix, on equirectangular images, and of JPEG, WebP, AVIF"
RECIPE = "compress-sphere"
NETWORKS = ("oslo", "oslo-planar")
BASE = "oslo-planar"  # to which differences of rates are taken
LAMBDAS = (0.01, 0.0025, 0.04)
QUALITIES = (5, 10, 20, 35, 50, 70, 85)
PICTURES = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "jpeg-xl": "JXL"}  # what Pillow calls them
SCORES = ("psnr", "ws_psnr", "s_psnr")
COLUMNS = ("images", "codec", "setting", "count", "bits_per_steradian", *SCORES)
SUFFIXES = (".png", ".jpg", ".jpeg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this study to its parser.

    Args:
        parser: parser of the study.
    """
    parser.add_argument("--output", metavar="DIR", default="runs/study-compression",
                        help="folder of runs, tables and plot (default: runs/study-compression)")  # fmt: skip
    parser.add_argument("--lambdas", nargs="+", type=float, default=list(LAMBDAS), metavar="L",
                        help=f"weights of the error, as they are trained (default: {' '.join(map(str, LAMBDAS))})")  # fmt: skip
    parser.add_argument(
        "--nside", type=int, default=16, help="of HEALPix; images have 6 times as many rows (default: 16)"
    )
    parser.add_argument("--width", type=int, default=24, metavar="N", help="of both networks (default: 24)")
    parser.add_argument(
        "--depth", type=int, default=2, metavar="N", help="halvings before the latents (default: 2)"
    )
    parser.add_argument(
        "--epochs", type=int, default=36, metavar="N", help="of the first weight (default: 36)"
    )
    parser.add_argument(
        "--more", type=int, default=12, metavar="N", help="epochs of each further weight (default: 12)"
    )
    parser.add_argument("--images", nargs="*", default=[], metavar="DIR",
                        help="folders or files of 2:1 panoramas, tested beside the rooms")  # fmt: skip


def coding_grids(nside: int) -> dict[str, Any]:
    """Return the grid of each network: HEALPix, and the equirectangular grid as dense at the equator.

    Args:
        nside: of HEALPix.

    Example:
        >>> coding_grids(16)["oslo-planar"].shape
        (48, 96)
    """
    from spheregeo.grids import Equiangular, HEALPix

    return {"oslo": HEALPix(nside, "nested"), "oslo-planar": Equiangular(3 * nside, 6 * nside)}


def cells(options: argparse.Namespace, overrides: Sequence[str]) -> list[Cell]:
    """Return the trainings of the study, by network and then by weight of the error.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.

    Raises: ValueError for numbers out of range.
    """
    check_least(nside=(options.nside, 1), width=(options.width, 1), depth=(options.depth, 1),
                epochs=(options.epochs, 1), more=(options.more, 1))  # fmt: skip
    if len(set(options.lambdas)) < len(options.lambdas) or min(options.lambdas) <= 0:
        raise ValueError(f"--lambdas is {options.lambdas}; expected different numbers above 0")
    rows = 6 * options.nside
    made = []
    for network, grid in coding_grids(options.nside).items():
        for k, lmbda in enumerate(options.lambdas):
            made.append(Cell(
                f"{network}-{lmbda:g}", RECIPE,
                (
                    "--data.size", f"[{rows}, {2 * rows}]", "--data.batch_size", "8", "--data.train", "200",
                    "--data.cache_dir", str(Path(options.output) / "rooms"),
                    "--model.network", network, "--model.coding_grid", repr(grid), "--model.width", str(options.width),
                    "--model.depth", str(options.depth), "--model.lmbda", str(lmbda),
                    "--model.lr", "0.004" if k == 0 else "0.002",
                    "--trainer.max_epochs", str(options.more if k else options.epochs), *overrides,
                ),
                (), (("network", network), ("lmbda", lmbda)), last=True,
                init=f"{network}-{options.lambdas[k - 1]:g}" if k else "",
            ))  # fmt: skip
    return made


# ---- what is coded


def panoramas(places: Sequence[str], rows: int) -> list[Any]:
    """Return images of files and folders at the study's size, (3, rows, 2 rows) each.

    Args:
        places: files and folders; images that are not about 2:1 are refused.
        rows: rows of the images.

    Raises: FileNotFoundError, ValueError for what is missing or no panorama.
    """
    import torch

    from spheregeo.data.sphere.files import read_image
    from spheregeo.data.sphere.resize import resize_image
    from spheregeo.tasks.inputs import find_files

    found = []
    for place in places:
        for path in find_files(Path(place), SUFFIXES, "panorama"):
            image = read_image(path)
            if abs(image.shape[2] / image.shape[1] - 2) > 0.02:
                raise ValueError(
                    f"{path} is {image.shape[1]} x {image.shape[2]} pixels; expected 2:1, the whole sphere"
                )
            found.append(torch.from_numpy(resize_image(image, (rows, 2 * rows))))
    return found


def score(found: Any, image: Any, grid: Any, fine: Any) -> dict[str, float]:
    """Return the errors of what a codec gives on its grid, against an image that is finer.

    Args:
        found: values in [0, 1], (3, *grid.shape).
        image: the image, (3, *fine.shape).
        grid: grid of the codec.
        fine: grid of the image.
    """
    from spheregeo.grids import Fibonacci
    from spheregeo.sampling import resample
    from spheregeo.tasks.sphere.compression import carried
    from spheregeo.tasks.sphere.fidelity import psnr, ws_weights

    truth = eight_bits(carried(image, fine, grid))
    back = eight_bits(carried(found, grid, fine))
    weights = ws_weights(*grid.shape) if len(grid.shape) == 2 else None
    spread = Fibonacci(fine.num_points)
    points = [resample(x, fine, spread) for x in (back, image)]
    return {
        "psnr": float(psnr(found[None], truth[None], weights)),
        "ws_psnr": float(psnr(back[None], image[None], ws_weights(*fine.shape))),
        "s_psnr": float(psnr(points[0][None], points[1][None])),
    }


def eight_bits(image: Any) -> Any:
    """Return values in [0, 1] as 8 bits hold them."""
    return (image.clamp(0, 1) * 255).round() / 255


def by_network(codec: Any, image: Any, fine: Any) -> dict[str, float]:
    """Return rate and errors of a network's file of an image, read back from the bytes.

    Args:
        codec: the trained network as a codec.
        image: (3, *fine.shape).
        fine: grid of the image.
    """
    from spheregeo.coding import pack, unpack

    grid = codec.task.coding_grid
    encoded = codec.encode(image, grid)
    content = pack(encoded.file)
    found = eight_bits(codec.field(unpack(content))).float()
    return {"bits_per_steradian": 8 * len(content) / (4 * math.pi), "estimate": encoded.estimate,
            "symbol_bits": encoded.symbol_bits, **score(found, image, grid, fine)}  # fmt: skip


def by_pillow(kind: str, quality: int, image: Any, grid: Any, fine: Any) -> dict[str, float] | None:
    """Return rate and errors of Pillow's file of an image at an equirectangular grid's size; None where Pillow has no such kind.

    Args:
        kind: Pillow's name, such as "JPEG".
        quality: 0 to 100.
        image: (3, *fine.shape).
        grid: equirectangular grid that is coded.
        fine: grid of the image.
    """
    import numpy as np
    import torch
    from PIL import Image

    from spheregeo.tasks.sphere.compression import carried

    small = (eight_bits(carried(image, fine, grid)) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.init()
    if kind not in Image.SAVE:
        return None
    try:
        Image.fromarray(small).save(
            buffer, kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {})
        )
    except (KeyError, OSError):
        return None
    with Image.open(buffer) as opened:
        found = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).float() / 255
    return {
        "bits_per_steradian": 8 * len(buffer.getvalue()) / (4 * math.pi),
        **score(found, image, grid, fine),
    }


# ---- tables


def measured(
    folder: Path, made: Sequence[Cell], sets: dict[str, list[Any]], fine: Any, flat: Any
) -> list[dict[str, Any]]:
    """Return a row for each set of images, codec and setting: means over the images.

    Args:
        folder: folder of the study.
        made: its trainings.
        sets: images by the name of their set.
        fine: their grid.
        flat: grid of what Pillow codes.
    """
    from spheregeo import tasks
    from spheregeo.cli.checkpoints import CHECKPOINTS

    rows: list[dict[str, Any]] = []

    def add(images: str, codec: str, setting: float, found: list[dict[str, float]]) -> None:
        mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        rows.append({"images": images, "codec": codec, "setting": setting, "count": len(found), **mean})

    for cell in made:
        task: Any = tasks.load(folder / cell.name / CHECKPOINTS[1])
        codec, facts = tasks.Codec(task), dict(cell.facts)
        for name, images in sets.items():
            add(name, facts["network"], facts["lmbda"], [by_network(codec, image, fine) for image in images])
    for codec_name, kind in PICTURES.items():
        for quality in QUALITIES:
            for name, images in sets.items():
                found = [by_pillow(kind, quality, image, flat, fine) for image in images]
                if all(one is not None for one in found):
                    add(name, codec_name, quality, [one for one in found if one is not None])
    return rows


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Bjøntegaard's differences of rates to the equirectangular twin, a row for each set of images and codec.

    Args:
        rows: rows of the table of rates.
    """
    from spheregeo.tasks.sphere.fidelity import bd_rate

    found = []
    for images in dict.fromkeys(row["images"] for row in rows):
        here = [row for row in rows if row["images"] == images]
        base = [row for row in here if row["codec"] == BASE]
        for codec in dict.fromkeys(row["codec"] for row in here):
            own = [row for row in here if row["codec"] == codec]
            line: dict[str, Any] = {"images": images, "codec": codec}
            for name in SCORES:
                curves = [[r[n] for r in part] for part in (own, base) for n in ("bits_per_steradian", name)]
                value = bd_rate(*curves) if min(len(own), len(base)) > 1 else math.nan
                line[name] = None if math.isnan(value) else 100 * value
            found.append(line)
    return found


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw the errors against the rates, a row for each set of images; return the picture's path.

    Args:
        rows: rows of the table of rates.
        folder: where the picture goes.
    """
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(row["images"] for row in rows))
    colours = {"oslo": "#0072b2", "oslo-planar": "#e69f00", "jpeg": "#999999", "webp": "#009e73", "avif": "#cc79a7",
               "jpeg-xl": "#56b4e9"}  # fmt: skip
    figure = Figure(figsize=(9.6, 3.6 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), 2, squeeze=False)
    for line, images in zip(axes, sets, strict=True):
        for axis, (name, title) in zip(
            line, (("psnr", "PSNR on the codec's grid"), ("s_psnr", "S-PSNR of the finer image"))
        ):
            for codec, colour in colours.items():
                own = sorted(
                    (r["bits_per_steradian"], r[name])
                    for r in rows
                    if r["images"] == images and r["codec"] == codec
                )
                if own:
                    axis.plot(*zip(*own, strict=True), "o-", color=colour, label=codec, ms=4)
            axis.set_xscale("log")
            axis.set_xlabel("bits per steradian")
            axis.set_ylabel(f"{title} [dB]")
            axis.set_title(images, fontsize=10)
            axis.grid(alpha=0.3, which="both")
        line[0].legend(frameon=False, fontsize=8)
    out = folder / "compression.png"
    with atomic_path(out) as path:
        figure.savefig(path, dpi=120, format="png")
    return out


def run(options: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    """Train what has no result yet, code the test images, print the tables, draw the curves; return the table of rates.

    Args:
        options: arguments of the study.
        overrides: entries of the recipe, added to every run.
    """
    from spheregeo.cli.checkpoints import CHECKPOINTS
    from spheregeo.cli.engine import SphereCLI, quiet, recipes
    from spheregeo.grids import Equiangular

    folder = Path(options.output)
    made = cells(options, overrides)
    rows = 6 * options.nside
    real = panoramas(options.images, rows)  # first, so that a fault costs no training
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(made)} trainings; one that is cut goes on when the command is given again", flush=True)
    made = [
        replace(cell, init=str(folder / cell.init / CHECKPOINTS[1]) if cell.init else "") for cell in made
    ]
    run_all(made, folder, lambda place: {}, lambda result: f"{result['cpu_seconds']:.0f} s of CPU")
    with quiet():
        data: Any = SphereCLI(
            "study", recipes.find(RECIPE), folder / made[0].name, list(made[0].options)
        ).datamodule
    rooms = data.dataset("test")
    sets = {"rooms": [rooms[k]["image"] for k in range(len(rooms))], **({"panoramas": real} if real else {})}
    begin = time.perf_counter()
    table = measured(folder, made, sets, Equiangular(rows, 2 * rows), coding_grids(options.nside)[BASE])
    print(f"\n{table_of(table, COLUMNS, folder / 'compression.csv')}", flush=True)
    saved = differences(table)
    print(
        "\nrate at equal error, difference to oslo-planar in % (Bjøntegaard), by the error that is held equal",
        flush=True,
    )
    print(table_of(saved, ("images", "codec", *SCORES), folder / "bd_rate.csv"), flush=True)
    own = [row for row in table if "estimate" in row]
    longest = max(abs(row["symbol_bits"] / row["estimate"] - 1) for row in own)
    print(
        f"\ncoded lengths are within {100 * longest:.2f} % of the estimates; coded in {time.perf_counter() - begin:.0f} s\n"
        f"tables: {folder / 'compression.csv'}, {folder / 'bd_rate.csv'}, plot: {draw(table, folder)}",
        flush=True,
    )
    return table

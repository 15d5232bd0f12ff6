"""Projections and pictures, by numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.grids import HEALPix
from spheregeo.tasks import globe, mollweide, to_panorama
from spheregeo.tasks.pictures import fields as pictures


def test_mollweide_keeps_areas() -> None:
    height = 256
    latitude = np.pi / 2 - (np.arange(height) + 0.5) * np.pi / height
    cap = np.repeat((latitude > np.pi / 6)[:, None], 2 * height, axis=1).astype(
        np.uint8
    )  # a quarter of the sphere
    picture = mollweide(cap, 1024)
    inside = picture != 255
    assert abs(inside.mean() - np.pi / 4) < 1e-3  # an ellipse in its box
    assert abs((picture[inside] == 1).mean() - 0.25) < 3e-3  # half a pixel row of 256


def test_globe_looks_at_its_centre() -> None:
    column = np.repeat(np.arange(360)[None], 180, axis=0)  # degrees from -180
    row = np.repeat(np.arange(180)[:, None], 360, axis=1)
    view = globe(
        np.stack([row, column], -1), 101, latitude=np.radians(40), longitude=np.radians(-75), outside=-1
    )
    assert abs(view[50, 50, 0] - 50) <= 1 and abs(view[50, 50, 1] - 105) <= 1
    assert view[50, 80, 1] > view[50, 50, 1]  # east is right
    assert view[20, 50, 0] < view[50, 50, 0]  # north is up
    assert (view[0, 0] == -1).all()


def test_to_panorama_of_another_grid() -> None:
    grid = HEALPix(16)
    height = to_panorama(grid.points[:, 2], grid, 32)
    latitude = np.pi / 2 - (np.arange(32) + 0.5) * np.pi / 32
    assert height.shape == (32, 64)
    assert np.abs(height - np.sin(latitude)[:, None]).max() < 0.06  # a pixel of nside 16 is 3.7 degrees


def test_label_png_keeps_the_classes(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [255, 21, 3]], np.uint8)
    path = pictures.write_png(tmp_path / "a.png", labels, pictures.palette(22))
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.asarray(image) == labels).all()
        rgb = np.asarray(image.convert("RGB"))
    assert (rgb == pictures.palette(22)[labels]).all()
    assert tuple(rgb[1, 0]) == pictures.IGNORED
    known = pictures.palette(60)[:60]
    assert len({tuple(c) for c in known.tolist()}) == 60


def test_every_picture_is_written_and_opens(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 32, 3), dtype=np.uint8)
    names = ["wall", "floor"]
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,val/miou\n0,1,,2.0,0.1\n0,1,2.5,,\n1,2,,1.0,0.2\n"
    )
    pictures.world_picture(tmp_path / "world.png", image, "world", names)
    pictures.confusion_picture(tmp_path / "confusion.png", np.array([[3.0, 1.0], [0.0, 0.0]]), names)
    pictures.sheet_picture(tmp_path / "sheet.png", [(image, image, image)] * 2, names)
    pictures.comparison_picture(
        tmp_path / "bars.png", {"a": {"x": 0.5, "y": None}, "b": {"x": 0.2, "y": 0.1}}
    )
    assert pictures.curves_picture(tmp_path / "curves.png", [tmp_path / "metrics.csv"]) is not None
    assert pictures.curves_picture(tmp_path / "none.png", []) is None
    for name in ("world", "confusion", "sheet", "bars", "curves"):
        with Image.open(tmp_path / f"{name}.png") as opened:
            pixels = np.asarray(opened.convert("RGB"))
        assert min(pixels.shape[:2]) > 100 and pixels.std() > 1


def test_overlay_and_depth_colours() -> None:
    image, colours = np.zeros((600, 4, 3), np.uint8), np.full((600, 4, 3), 200, np.uint8)
    assert (pictures.overlay(image, colours, 0.5) == 100).all()
    shades = pictures.colour_depth(np.array([[1.0, 2.0, np.nan]]))
    assert tuple(shades[0, 2]) == pictures.IGNORED
    assert shades[0, 0].sum() > shades[0, 1].sum()  # near is bright
    assert pictures.as_rgb(torch.rand(4, 5, 6).numpy()).shape == (5, 6, 3)
    assert pictures.as_rgb(torch.rand(1, 5, 6).numpy()).shape == (5, 6, 3)


def test_an_overlay_names_the_classes_present() -> None:
    image = np.full((256, 512, 3), 90, np.uint8)
    names = ["wall", "floor", "a rather long name of a class", "door"]
    legend = pictures.legend_within(image, names, [0, 2])
    assert legend.shape == image.shape and (image == 90).all(), "the picture that was given stays"
    assert (legend[: 256 * 3 // 4] == image[: 256 * 3 // 4]).all()
    shown = {tuple(c) for c in legend.reshape(-1, 3).tolist()}
    colours = [tuple(c) for c in pictures.palette(4)[:4].tolist()]
    assert [c in shown for c in colours] == [True, False, True, False]
    small = np.full((64, 128, 3), 90, np.uint8)
    assert (pictures.legend_within(small, names, [0]) == small).all()
    many = [f"class number {k}" for k in range(40)]
    assert pictures.legend_within(image, many, list(range(40))).shape == image.shape


def test_curves_count_epochs_from_one_on_a_logarithmic_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(pictures, "_write_figure", lambda path, figure: drawn.append(figure) or path)
    for losses in ((2.0, 0.1), (2.0, -0.1)):
        rows = "".join(f"{e},1,{v},0.{e}\n" for e, v in enumerate(losses))
        (tmp_path / "metrics.csv").write_text(f"epoch,step,val/loss,val/miou\n{rows}")
        pictures.curves_picture(tmp_path / "c.png", [tmp_path / "metrics.csv"])
    first, second = drawn
    assert [list(line.get_xdata()) for line in first.axes[0].lines] == [[1, 2]]
    assert [axis.get_yscale() for axis in (*first.axes, second.axes[0])] == ["log", "linear", "linear"]

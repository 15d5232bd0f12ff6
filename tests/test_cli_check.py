"""``spheregeo check`` reads everything once: every bad file is named, whatever is wrong with it, and none stops the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spheregeo.cli import main

SIZE = (16, 32)


def save(path: Path, value: int, size: tuple[int, int] = SIZE, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], value).save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere.png"))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: list[tuple[str, Callable[[Path], object]]] = [
    ("images", cut),
    ("images", lambda path: path.write_bytes(b"")),
    ("images", lambda path: path.write_text("no picture")),
    ("images", lambda path: save(path, 0, (16, 30), "RGB")),
    ("images", link),
    ("images", folder),
    ("labels", Path.unlink),
    ("labels", cut),
    ("labels", lambda path: path.write_bytes(b"")),
    ("labels", lambda path: save(path, 9)),
    ("labels", lambda path: save(path, 0, (16, 16))),
    ("labels", lambda path: save(path, 255, SIZE, "RGB")),
    ("labels", link),
]


@pytest.fixture
def panoramas(tmp_path: Path) -> Path:
    root = tmp_path / "panoramas"
    for k in range(40):
        save(root / "images" / f"{k:02d}.png", k, SIZE, "RGB")
        save(root / "labels" / f"{k:02d}.png", k // 10 % 2)
    (root / "classes.txt").write_text("floor\nwall\nsky\n")
    return root


@pytest.mark.parametrize("workers", ["0", "2"])
def test_every_bad_file_is_named(
    panoramas: Path, workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = [panoramas / kind / f"{3 * k:02d}.png" for k, (kind, _) in enumerate(FAULTS)]
    for path, (_, spoil) in zip(planted, FAULTS, strict=True):
        spoil(path)
    (panoramas / "labels" / "lonely.png").write_bytes((panoramas / "labels" / "01.png").read_bytes())
    call = ["check", "segment-folder", "--data.root", str(panoramas), "--data.size", "[8, 16]"]
    assert main([*call, "--workers", workers, "--json", str(tmp_path / "found.json")]) == 2
    out, err = capsys.readouterr()
    for path in [*planted, panoramas / "labels" / "lonely.png"]:
        assert sum(str(path) in line for line in out.splitlines()) >= 1, path
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["faults"]) == len(FAULTS) + 1 and f"{len(FAULTS) + 1} of" in err
    assert set(found["classes"]["train"]) == {"floor", "wall"}
    assert "class sky is absent" in out


def test_whole_data_pass(panoramas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["check", "segment-folder", "--data.root", str(panoramas), "--data.size", "[8, 16]"]
    assert main([*call, "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "train 32, val 4, test 4" in out and "floor" in out and "50.00%" in out
    assert main(["check", "classify-points", "--data.train", "4", "--data.val", "2", "--data.test", "2"]) == 0
    assert "train 4, val 2, test 2" in capsys.readouterr().out


def test_clouds_and_molecules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for kind in ("cone", "cube"):
        (tmp_path / "clouds" / kind).mkdir(parents=True)
        for k in range(12):
            np.savetxt(tmp_path / "clouds" / kind / f"{k:02d}.xyz", rng.standard_normal((40, 3)))
    bad = tmp_path / "clouds" / "cone" / "03.xyz"
    bad.write_text("three words here\n")
    recipe = tmp_path / "clouds.yaml"
    recipe.write_text(
        "data: {class_path: spheregeo.data.PointFolderData, init_args: {root: CLOUDS, num_points: 32}}\n"
        "model: {class_path: spheregeo.tasks.PointClassification}\n".replace(
            "CLOUDS", str(tmp_path / "clouds")
        )
    )
    assert main(["check", str(recipe), "--workers", "0"]) == 2
    assert str(bad) in capsys.readouterr().out or bad.name in capsys.readouterr().out

    frames = "2\nenergy=-1.0\nH 0 0 0\nH 0 0 0.74\n"
    (tmp_path / "frames").mkdir()
    for k in range(6):
        (tmp_path / "frames" / f"{k}.xyz").write_text(frames * 4)
    for k, text in ((1, "3\nenergy=-1.0\nH 0 0 0\n"), (4, frames + "2\nenergy=x\nH 0 0 0\nH 0 0 nan\n")):
        (tmp_path / "frames" / f"{k}.xyz").write_text(text)
    assert main(["check", "fit-md", "--data.root", str(tmp_path / "frames"), "--workers", "0"]) == 2
    out = capsys.readouterr().out
    assert all(str(tmp_path / "frames" / f"{k}.xyz") in out for k in (1, 4)) and "/0.xyz" not in out

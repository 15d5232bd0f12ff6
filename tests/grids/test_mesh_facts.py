"""Every fact in meshes/ is what its make.py writes, and has a card."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path

import numpy as np
import pytest

MESHES = Path(__file__).parents[2] / "meshes"
FOLDERS = sorted(path.parent.name for path in MESHES.glob("*/make.py"))


def test_each_folder_has_a_card_and_is_listed() -> None:
    folders = sorted(
        path.name for path in MESHES.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
    )
    assert folders == FOLDERS and {"icospheres", "quadrature", "surfaces", "transports"} <= set(folders)
    listing = (MESHES / "README.md").read_text()
    for name in folders:
        card = (MESHES / name / "README.md").read_text()
        assert f"({name}/README.md)" in listing
        for heading in ("Made by", "Used by", "Licence"):
            assert f"**{heading}**" in card, f"meshes/{name}/README.md does not say: {heading}"
    assert not list(MESHES.rglob("__init__.py"))


@pytest.mark.parametrize("name", FOLDERS)
def test_make_writes_the_stored_tables(name: str, tmp_path: Path) -> None:
    runpy.run_path(str(MESHES / name / "make.py"))["main"](tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    stored = sorted(path.name for path in (MESHES / name).iterdir() if path.suffix in (".csv", ".npz"))
    assert written == stored
    for file in written:
        new, old = tmp_path / file, MESHES / name / file
        assert old.stat().st_size < 40_000
        if file.endswith(".csv"):
            with open(new) as a, open(old) as b:
                rows, expected = list(csv.reader(a)), list(csv.reader(b))
            assert len(rows) == len(expected)
            for row, wanted in zip(rows, expected, strict=True):
                for x, y in zip(row, wanted, strict=True):
                    try:
                        assert abs(float(x) - float(y)) < 2e-9, file
                    except ValueError:
                        assert x == y
        else:
            got, wanted = np.load(new), np.load(old)
            assert got.files == wanted.files
            for key in got.files:
                np.testing.assert_allclose(got[key], wanted[key], rtol=1e-12, atol=1e-14)

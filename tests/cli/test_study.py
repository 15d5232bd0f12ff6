"""Studies in tiny: all cells are trained, none twice, and a table and a plot come out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from spheregeo.cli.commands import make_parser
from spheregeo.cli.studies import augmentation, cells

TINY = [
    "--data.train",
    "16",
    "--data.val",
    "8",
    "--data.test",
    "8",
    "--trainer.max_epochs",
    "1",
    "--data.grid",
    "HEALPix(8)",
]


def study(folder: Path, *words: str) -> list[dict[str, object]]:
    options = make_parser().parse_args(["study", "augmentation", "--output", str(folder), *words])
    return augmentation.run(options, TINY)


def test_table_and_plot_of_a_study_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = study(tmp_path, "--copies", "0", "--tasks", "segment")
    assert [(r["task"], r["network"], r["copies"]) for r in first] == [
        ("segment", "disco", 0),
        ("segment", "planar", 0),
    ]
    rows = study(tmp_path, "--copies", "0", "2", "--tasks", "segment")
    told = capsys.readouterr().out
    assert told.count("(kept)") == 2 and len(rows) == 4
    assert "segment: 1 epochs show 1 of 2 copies; --trainer.max_epochs 2 shows all" in told
    kept = {
        "task": "classify",
        "resumed": True,
        "seconds": 1.0,
        "turned": {"accuracy": 1.0},
        "upright": {"accuracy": 1.0},
    }
    assert (
        augmentation.row(kept)["seconds"] is None
        and augmentation.row({**kept, "resumed": False})["seconds"] == 1.0
    )
    assert [r for r in rows if r["copies"] == 0] == first
    for row in rows:
        assert 0 <= row["miou"] <= 1 and row["accuracy"] is not None and row["latency_ms"] > 0  # type: ignore[operator]
        assert row["equivariance_untrained"] > 0 and row["equivariance_trained"] > 0  # type: ignore[operator]
    sizes = {r["network"]: r["parameters"] for r in rows}
    assert 0.8 < sizes["disco"] / sizes["planar"] < 1.25  # type: ignore[operator]
    with open(tmp_path / "augmentation.csv", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(written) == 4 and tuple(written[0]) == augmentation.COLUMNS
    assert (tmp_path / "augmentation.png").stat().st_size > 10_000


def test_a_cell_of_other_options_is_no_result(tmp_path: Path) -> None:
    cell = cells.Cell("one", "classify-sphere", ("--data.train", "8"), ())
    cells.write_json(tmp_path / "one" / cells.RESULT, {"digest": cell.digest, "result": {"seconds": 1.0}})
    assert cells.finished(cell, tmp_path) == {"seconds": 1.0}
    assert cells.finished(cells.Cell("one", "classify-sphere", ("--data.train", "9"), ()), tmp_path) is None
    assert cells.finished(cells.Cell("two", "classify-sphere", (), ()), tmp_path) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--copies", "-1"), "--copies has -1"),
        (("--seeds", "0"), "--seeds is 0"),
        (("--copies", "0", "1", "5"), "--copies has 1 and 5, which are one training: classify has 1 epochs"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(tmp_path, *words)

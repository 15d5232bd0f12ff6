"""Studies in tiny: all cells are trained, none twice, and a table and a plot come out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spheregeo.cli.commands import make_parser
from spheregeo.cli.studies import augmentation, cells, compression, rotations, sampling, subsampling

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


# ---- networks of images on turned digits


def test_widths_match_in_ratio_and_stay_below_what_a_network_may_take() -> None:
    case = rotations.Case("image-cnn", widest=50)
    for target, expected in ((900, 30), (905, 30), (100, 10), (1, 1), (10**6, 50)):
        assert rotations.matched_width(case, target, lambda width: width * width) == (expected, expected**2)
    width, size = rotations.matched_width(rotations.CASES["image-cnn"], 20_000)
    assert 0.85 < size / 20_000 < 1.15 and width > 1
    assert rotations.matched_width(rotations.Case("image-cnn"), 10**9)[0] == 16  # its default


def test_table_of_turned_digits_goes_on_and_names_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "digits.npz", x=x, y=np.arange(40) % 10)
    monkeypatch.setitem(rotations.CASES, "broken", rotations.Case("image-cnn", lr=-1.0))
    words = [
        "--output",
        str(tmp_path / "study"),
        "--root",
        str(tmp_path / "digits.npz"),
        "--epochs",
        "1",
        "--parameters",
        "600",
    ]
    tiny = [
        "--data.train",
        "16",
        "--data.val",
        "8",
        "--data.test",
        "8",
        "--precise_bn",
        "0",
        "--trainer.accelerator",
        "cpu",
    ]

    def study(*networks: str) -> list[dict[str, object]]:
        options = make_parser().parse_args(["study", "rotations", *words, "--networks", *networks])
        return rotations.run(options, tiny)

    first = study("image-cnn")
    assert [r["name"] for r in first] == ["image-cnn"] and first[0]["error_any_angle"] > 0  # type: ignore[operator]
    for column in ("upright_to_rotated", "rotated_to_rotated", "upright_to_upright"):
        assert 0 <= first[0][column] <= 1  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"2 of 4 trainings failed: broken-upright-0 \("):
        study("image-cnn", "broken")
    assert capsys.readouterr().out.count("(kept)") == 2
    with open(tmp_path / "study" / "rotations.csv", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(written) == 1 and tuple(written[0]) == rotations.COLUMNS
    assert (tmp_path / "study" / "rotations.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="--networks has 'image-cmn'"):
        study("image-cmn")


def bias_study(folder: Path, *words: str) -> list[dict[str, object]]:
    from spheregeo.cli.studies import implicit_bias

    options = make_parser().parse_args(["study", "implicit-bias", "--output", str(folder), *words])
    return implicit_bias.run(options, [])


def test_study_of_implicit_bias_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--groups", "D3", "C5", "--loss", "1e-2", "--depths", "2"]
    first = bias_study(tmp_path, *words, "--seeds", "1")
    rows = bias_study(tmp_path, *words, "--seeds", "2")
    told = capsys.readouterr().out
    assert "6 were kept" in told and len(first) == 6 and len(rows) == 12
    assert [r for r in rows if r["seed"] == 0] == first
    for row in rows:
        assert row["group_at_margin"] == pytest.approx(row["group_norm"] / row["margin"])  # type: ignore[operator]
        if row["group"] == "C5":  # the group is the cyclic one
            assert row["group_norm"] == pytest.approx(row["cyclic_norm"])
    with open(tmp_path / "implicit_bias.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert (tmp_path / "implicit_bias.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="group is 'K4'"):
        bias_study(tmp_path, "--groups", "K4")
    with pytest.raises(ValueError, match="--seeds is 0"):
        bias_study(tmp_path, "--seeds", "0")


def test_study_of_sampling_measures_other_epsilons_of_one_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "sampling", "--output", str(tmp_path), "--width", "2", "--epsilons"]
    tiny = [
        "--data.train",
        "8",
        "--data.val",
        "8",
        "--data.test",
        "8",
        "--data.pixels",
        "13",
        "--trainer.max_epochs",
        "1",
    ]
    tiny += ["--model.depth", "2"]
    first = sampling.run(make_parser().parse_args([*words, "0", "5"]), tiny)
    rows = sampling.run(make_parser().parse_args([*words, "0", "0.5", "5"]), tiny)
    assert capsys.readouterr().out.count("(kept)") == 1 and (tmp_path / "sampling.png").is_file()
    assert [row["epsilon"] for row in rows] == [0, 0.5, 5] and [row["epsilon"] for row in first] == [0, 5]
    shares = [row["clusters"] for row in rows]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True) and shares[2] < 0.5
    assert rows[0]["output_error"] == 0 and rows[0]["agreement"] == 1 and rows[2]["output_error"] > 1e-3
    assert (
        (tmp_path / "sampling.csv")
        .read_text(encoding="utf-8")
        .startswith("epsilon,accuracy,agreement,clusters")
    )
    with pytest.raises(ValueError, match="epsilon is -1"):
        sampling.run(make_parser().parse_args([*words, "-1.0"]), tiny)


def test_exact_and_approximate_strides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "subsampling", "--groups", "p4", "--width", "3", "--output", str(tmp_path)]
    options = make_parser().parse_args(words)
    made = subsampling.cells(options, ["--data.train", "16"])
    assert [cell.name for cell in made] == [
        f"p4-{network}-{trained}-0"
        for network in ("exact", "approximate")
        for trained in ("upright", "turned")
    ]
    assert all(cell.recipe == "classify-image" and cell.options[-1] == "16" for cell in made)
    assert '{"group": "C4", "extra": 1}' in made[2].options and "4" in made[2].options
    for k, cell in enumerate(made):  # as if they had been trained
        tests = {name: {"accuracy": 0.9 - 0.1 * k * (name != "on_upright")} for name, _ in cell.tests}
        result = dict(cell.facts) | tests | {"parameters": 7, "seconds": 1.0, "resumed": k == 3}
        (tmp_path / cell.name).mkdir()
        cells.write_json(tmp_path / cell.name / cells.RESULT, {"digest": cell.digest, "result": result})
    rows = subsampling.run(options, ["--data.train", "16"])
    assert capsys.readouterr().out.count("(kept)") == 4
    assert [round(row["lost"], 6) for row in rows] == [0.0, 0.1, 0.2, 0.3]
    assert rows[2]["seconds"] == 1.0 and rows[3]["seconds"] is None
    assert len((tmp_path / "subsampling.csv").read_text().splitlines()) == 5
    assert (tmp_path / "subsampling.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="--seeds is 0"):
        subsampling.cells(make_parser().parse_args(["study", "subsampling", "--seeds", "0"]), [])


def test_rate_and_distortion_of_two_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "QUALITIES", (20, 80))
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "black.png")
    words = [
        "--output", str(tmp_path / "study"), "--nside", "8", "--width", "4", "--depth", "1", "--epochs", "1", "--more", "1",
        "--lambdas", "0.01", "--images", str(tmp_path / "black.png"),
    ]  # fmt: skip
    options = make_parser().parse_args(["study", "compression", *words])
    small = ["--data.train", "2", "--data.val", "1", "--data.test", "2"]
    rows = compression.run(options, small)
    told = capsys.readouterr().out
    ours = [r for r in rows if r["codec"] == "oslo"]
    assert [(r["images"], r["setting"], r["count"]) for r in ours] == [
        ("rooms", 0.01, 2),
        ("panoramas", 0.01, 1),
    ]
    jpeg = [r for r in rows if r["codec"] == "jpeg" and r["images"] == "rooms"]
    assert (
        jpeg[0]["bits_per_steradian"] < jpeg[1]["bits_per_steradian"]
        and jpeg[0]["s_psnr"] < jpeg[1]["s_psnr"]
    )
    assert "within" in told and "by the error that is held equal" in told
    assert {p.name for p in (tmp_path / "study").glob("*.*")} >= {
        "compression.csv",
        "bd_rate.csv",
        "compression.png",
    }
    options.lambdas = [0.01, 0.02]
    made = compression.cells(options, small)
    assert [cell.init for cell in made] == ["", "oslo-0.01", "", "oslo-planar-0.01"]
    assert "HEALPix(nside=8, order='nested')" in made[0].options
    base = [{**r, "codec": "oslo-planar"} for r in jpeg]
    saved = compression.differences(
        [*base, *({**r, "codec": "x", "bits_per_steradian": 0.8 * r["bits_per_steradian"]} for r in base)]
    )
    assert [r["psnr"] for r in saved] == pytest.approx([0, -20])
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "square.png")
    with pytest.raises(ValueError, match="expected 2:1"):
        compression.panoramas([str(tmp_path / "square.png")], 8)

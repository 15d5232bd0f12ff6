"""Prediction from files: a bad one costs its own answer alone, nothing of the user is replaced, what is done stays done."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo import tasks
from spheregeo.data import PrimitivesData, SkyMap, read_cloud, write_sky_map
from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks.answers import GrowingTable, stems
from spheregeo.tasks.inputs import Progress
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

FAULTS = (
    IndexError("list index out of range"),
    UnboundLocalError("cannot access local variable"),
    OverflowError("Python int too large"),
    RuntimeError("generator raised StopIteration"),
    AttributeError("'NoneType' object has no attribute"),
    MemoryError(),
    KeyError("vertex"),
    AssertionError(),
)


def texts(folder: Path, count: int) -> Path:
    """A folder of files t00.txt, t01.txt, ... that hold their numbers."""
    folder.mkdir()
    for k in range(count):
        (folder / f"t{k:02}.txt").write_text(str(k))
    return folder


def job(read: Callable[[Path], list[Any]] | None = None, **changes: Any) -> Job:
    """Doubles the numbers that files hold; NAME_double.txt and a table."""

    def write(path: Path, stem: Path, samples: dict[int, Any], answers: list[Any]) -> Written:
        stem.with_name(f"{stem.name}_double.txt").write_text(str(answers))
        return Written("doubled", [[path.name, float(answer)] for answer in answers])

    settings: dict[str, Any] = {"endings": ["_double.txt"], "columns": ["sample", "double"], **changes}
    ask = settings.pop("ask", lambda samples, names: [2 * s for s in samples])
    return Job([".txt"], "text", "texts", read or (lambda p: [int(p.read_text())]), ask, write, **settings)


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- one bad file


def test_a_bad_file_costs_its_own_answer_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = texts(tmp_path / "in", 20)
    (folder / "t05a.txt").symlink_to(tmp_path / "nowhere")
    (folder / "t05b.txt").mkdir()
    os.mkfifo(folder / "t05c.txt")  # opening it would never end
    (folder / ".t.txt").write_text("hidden")
    raised = {f"t06{k}.txt": error for k, error in enumerate(FAULTS)}
    for name in raised:
        (folder / name).write_text("0")

    def read(path: Path) -> list[Any]:
        if path.name in raised:
            raise raised[path.name]
        return [int(path.read_text())]

    with pytest.raises(ValueError, match=r"^11 of 31 texts failed: ") as caught:
        predict_files(job(read, batch_size=3), folder, tmp_path / "out")
    message, out = str(caught.value), capsys.readouterr().out
    for name in (*raised, "t05a.txt", "t05b.txt", "t05c.txt"):
        assert name in message and f"failed: {folder / name}" in out
    assert "leads nowhere" not in message and f"is a link to {tmp_path / 'nowhere'}" in message
    assert "IndexError: list index" in message and "is a folder; expected a file" in message
    assert isinstance(caught.value.__cause__, Exception), "--traceback shows the first one"
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert [float(r["double"]) for r in rows] == [2.0 * k for k in range(20)]
    assert len(list((tmp_path / "out").glob("*_double.txt"))) == 20
    failures = rows_of(tmp_path / "out" / "failures.csv")
    assert len(failures) == 11 and all(Path(r["sample"]).name in message for r in failures)


def test_a_bad_sample_of_a_batch_and_a_bad_frame_of_a_file(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", 7)
    asked: list[int] = []

    def ask(samples: list[Any], names: list[str]) -> list[Any]:
        asked.append(len(samples))
        if 4 in samples or 105 in samples:
            raise ValueError("of sample four or a hundred and five")
        return [2 * s for s in samples]

    def read(path: Path) -> list[Any]:
        k = int(path.read_text())
        return [k, ValueError("torn"), 100 + k] if k > 4 else [k]

    with pytest.raises(ValueError, match="3 of 7 texts failed") as caught:
        predict_files(job(read, ask=ask, batch_size=4), folder, tmp_path / "out")
    assert asked[0] == 4 and max(asked) == 4
    for part in (
        "t04.txt: of sample",
        "t05.txt, frame 1: torn",
        "t05.txt, frame 2: of sample",
        "t06.txt, frame 1: torn",
    ):
        assert part in str(caught.value)
    doubles = [float(r["double"]) for r in rows_of(tmp_path / "out" / "predictions.csv")]
    assert doubles == [0, 2, 4, 6, 10, 12, 212]
    with pytest.raises(ValueError, match=r"t04\.txt: of sample four"):  # alone, as among others
        predict_files(job(ask=ask), folder / "t04.txt", tmp_path / "alone")


# ---- what is done stays done


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_prediction_keeps_its_answers_and_goes_on(
    tmp_path: Path, stop: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = texts(tmp_path / "in", 8), tmp_path / "out"
    read_so_far: list[str] = []
    stops = [stop]

    def read(path: Path) -> list[Any]:
        read_so_far.append(path.name)
        if path.name == "t05.txt" and stops:
            on_disk = rows_of(out / "predictions.part.csv")  # what a kill at this moment would leave
            assert [r["sample"] for r in on_disk] == [f"t{k:02}.txt" for k in range(5)]
            raise stops.pop()
        return [int(path.read_text())]

    with pytest.raises(stop):
        predict_files(job(read), folder, out, PredictOptions(model="a"))
    assert "5 of 8 texts are done" in capsys.readouterr().err and not (out / "predictions.csv").exists()
    with pytest.raises(ValueError, match="were made by a, not by b"):
        predict_files(job(read), folder, out, PredictOptions(resume=True, model="b"))
    (folder / "t01.txt").write_text("11")  # changed since: done again
    (out / "t02_double.txt").unlink()  # lost since: done again
    with open(out / "predictions.part.csv", "a") as file:
        file.write("t05.txt,1")  # a row that the kill has cut, of a file that the record does not have
    read_so_far.clear()
    predict_files(job(read, batch_size=2), folder, out, PredictOptions(resume=True, model="a"))
    assert read_so_far == ["t01.txt", "t02.txt", "t05.txt", "t06.txt", "t07.txt"]
    found = {r["sample"]: float(r["double"]) for r in rows_of(out / "predictions.csv")}
    assert found == {f"t{k:02}.txt": 2.0 * (11 if k == 1 else k) for k in range(8)}
    assert len(rows_of(out / "predictions.csv")) == 8 and not (out / "predictions.part.csv").exists()
    read_so_far.clear()
    predict_files(job(read), folder, out, PredictOptions(resume=True, model="a"))
    assert not read_so_far and len(rows_of(out / "predictions.csv")) == 8


def test_a_bad_frame_is_no_less_bad_the_second_time(tmp_path: Path) -> None:
    folder, out = texts(tmp_path / "in", 3), tmp_path / "out"
    bad: list[Any] = [ValueError("torn")]
    seen: list[str] = []

    def read(path: Path) -> list[Any]:
        seen.append(path.name)
        k = int(path.read_text())
        return [k, *bad, 10] if k == 1 else [k]

    for _ in range(2):
        with pytest.raises(ValueError, match=r"t01\.txt, frame 1: torn"):
            predict_files(job(read), folder, out, PredictOptions(resume=True))
        assert len(rows_of(out / "failures.csv")) == 1
        found = sorted((r["sample"], float(r["double"])) for r in rows_of(out / "predictions.csv"))
        assert found == [("t00.txt", 0), ("t01.txt", 2), ("t01.txt", 20), ("t02.txt", 4)]
    assert seen == ["t00.txt", "t01.txt", "t02.txt", "t01.txt"]
    bad.clear()  # the file is as it was, but now it can be read
    predict_files(job(read), folder, out, PredictOptions(resume=True))
    assert not (out / "failures.csv").exists() and len(rows_of(out / "predictions.csv")) == 4


def test_an_input_is_done_only_with_every_answer_that_is_wanted_now(tmp_path: Path) -> None:
    folder, out = texts(tmp_path / "in", 2), tmp_path / "out"
    asked: list[str] = []

    def ask(samples: list[Any], names: list[str]) -> list[Any]:
        asked.extend(names)
        return [2 * s for s in samples]

    for endings, count in ((["_double.txt"], 2), (["_double.txt", "_more.txt"], 2), (["_double.txt"], 0)):
        asked.clear()
        predict_files(job(ask=ask, endings=endings), folder, out, PredictOptions(resume=True))
        for k in range(2 * (len(endings) > 1)):
            (out / f"t{k:02}_more.txt").write_text("")
        assert len(asked) == count and len(rows_of(out / "predictions.csv")) == 2


def test_a_full_disk_stops_at_once(tmp_path: Path) -> None:
    import errno

    folder = texts(tmp_path / "in", 3)
    seen: list[Path] = []

    def read(path: Path) -> list[Any]:
        seen.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        predict_files(job(read), folder, tmp_path / "out")
    assert len(seen) == 1


def test_tables_hold_any_name_and_no_nan(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a,b.txt", 'quote".txt', "new\nline.txt", "ä.txt"]
    for k, name in enumerate(names):
        (folder / name).write_text(str(k))
    predict_files(job(), folder, tmp_path / "out")
    found = {r["sample"]: float(r["double"]) for r in rows_of(tmp_path / "out" / "predictions.csv")}
    assert found == {name: 2.0 * k for k, name in enumerate(names)}
    table = GrowingTable(tmp_path / "t.csv", ["sample", "x"])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"given {bad}; expected finite"):
            table.add([["good", 1.0], ["bad", bad]])
    assert table.close().read_text() == "sample,x\n"


# ---- nothing of the user is replaced


def test_names_of_answers_are_one_for_each_input() -> None:
    names = ["a.png", "a.jpg", "a.png.tif", "A.tiff", "b.png", "b.png.png", "b.png.png.png"]
    found = stems([Path(name) for name in names])
    assert len(set(found.values())) == len(names)
    assert found[Path("a.png")] == "a.png" and stems([Path("x/c.d.png")]) == {Path("x/c.d.png"): "c.d"}


def test_no_answer_replaces_an_input_or_a_foreign_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = texts(tmp_path / "in", 2)
    (folder / "t00_double.txt").write_text("7")  # the user's own, and an input
    with pytest.raises(ValueError, match=r"replaces the input .*t00_double\.txt; choose another --output"):
        predict_files(job(), folder, folder, PredictOptions(overwrite=True))
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ValueError, match="replaces the input"):
        predict_files(job(), folder, tmp_path / "link")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("predictions.csv", "t01_double.txt"):
        (out / name).write_text("mine")
    with pytest.raises(ValueError, match="and 1 more, which no recorded prediction has written"):
        predict_files(job(), folder, out)
    assert {p.read_text() for p in out.iterdir()} == {"mine"}
    predict_files(job(), folder, out, PredictOptions(overwrite=True))
    assert len(rows_of(out / "predictions.csv")) == 3


def test_a_prediction_into_the_folder_of_inputs_takes_no_answer_for_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = texts(tmp_path / "in", 3)
    for _ in range(2):
        predict_files(job(), folder, folder)
        assert [r["sample"] for r in rows_of(folder / "predictions.csv")] == ["t00.txt", "t01.txt", "t02.txt"]
    assert "3 files of" in capsys.readouterr().out
    assert len(list(folder.glob("*_double*"))) == 3
    with pytest.raises(FileNotFoundError, match="holds only answers of earlier predictions"):
        for k in range(3):
            (folder / f"t{k:02}.txt").unlink()
        predict_files(job(), folder, tmp_path / "out")


def test_progress_says_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(8, "photos", every=0.0)
    progress.begin -= 10
    progress(2)
    assert capsys.readouterr().err.startswith("2 of 8 photos, 0.2 a second, about 30 s left")
    progress(8)
    assert not capsys.readouterr().err


# ---- every domain


def photo(path: Path, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 255, (16, 32, 3), dtype=np.uint8)
    Image.fromarray(array).save(path)


def photos(folder: Path) -> Path:
    folder.mkdir()
    for k, name in enumerate(("a.png", "a.jpg", "b.tif")):
        photo(folder / name, k)
    return folder


def clouds(folder: Path) -> Path:
    folder.mkdir()
    for k in range(3):
        np.savetxt(folder / f"c{k}.xyz", np.random.default_rng(k).normal(size=(60 + k, 3)))
    return folder


def meshes(folder: Path) -> Path:
    import trimesh

    folder.mkdir()
    source = (
        PrimitivesData(train=3, val=1, test=1, vertices=(120, 160), batch_size=1).train_dataloader().dataset
    )
    for k in range(3):
        mesh = source[k]["mesh"]
        trimesh.Trimesh(mesh.points, mesh.faces, process=False).export(folder / f"m{k}.ply")
    return folder


def molecules(folder: Path) -> Path:
    folder.mkdir()
    for k in range(3):
        frames = "".join(f"2\nname=pair{k}{j}\nC 0 0 0\nO {1.1 + 0.1 * k + 0.01 * j} 0 0\n" for j in range(2))
        (folder / f"x{k}.xyz").write_text(frames)
    return folder


def skies(folder: Path) -> Path:
    (folder / "masks").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for k in range(3):
        values = 100 * draw.normal(size=(1, 192))
        values[0, k] = np.nan
        write_sky_map(folder / f"s{k}.fits", SkyMap(values, HEALPix(4), ("T",), ("uK",), "G"))
    mask = (np.arange(192) % 5 > 0).astype(float)
    write_sky_map(folder / "masks" / "s1.fits", SkyMap(mask[None], HEALPix(4), ("MASK",)))
    return folder


def randomised(task: tasks.Task) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in task.parameters():
            p.copy_(0.3 * torch.randn(p.shape))
    return task.eval()


SMALL = {"width": 4, "depth": 2}
DOMAINS: dict[str, tuple[Callable[[], tasks.Task], Callable[[Path], Path], str]] = {
    "segmentation": (lambda: tasks.Segmentation(3, 5, HEALPix(4), network="pixel-mlp", width=8), photos, "a.png"),
    "depth": (lambda: tasks.Depth(3, Equiangular(8, 16), network="pixel-mlp", width=8), photos, "a.png"),
    "sphere": (lambda: tasks.Classification(3, 4, HEALPix(4), **SMALL), photos, "a.png"),
    "points": (
        lambda: tasks.PointClassification(
            3, num_points=40, network="vnn-dgcnn", options={"embedding": 6, "k": 5, "hidden": [8, 8]}, **SMALL
        ),
        clouds, "c0.xyz",
    ),
    "meshes": (
        lambda: tasks.MeshClassification(3, width=2, depth=1, options={"radius": 0.3, "blocks": 1}), meshes, "m0.ply",
    ),
    "parts": (
        lambda: tasks.MeshSegmentation(3, network="diffusion-net", width=2, depth=1, options={"pairs": 8}), meshes, "m0.ply",
    ),
    "molecules": (lambda: tasks.MoleculeRegression(["gap"], ["eV"], width=8, depth=1), molecules, "x0.xyz"),
    "forces": (lambda: tasks.Forces(width=8, depth=1), molecules, "x0.xyz"),
    "skies": (
        lambda: tasks.SkyRestoration(3, HEALPix(4), [[0.9] * 9], std=[100.0, 90.0, 1.0], **SMALL), skies, "s0.fits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("domain", DOMAINS)
def test_batches_give_the_answers_of_one_by_one_and_broken_weights_give_none(
    domain: str, tmp_path: Path
) -> None:
    make, files, first = DOMAINS[domain]
    task, folder = randomised(make()), files(tmp_path / "in")
    tables = []
    for size in (1, 2) if domain in ("segmentation", "depth") else (1, 2, None):
        out = tmp_path / f"out{size}"
        task.predict(folder, out, options=PredictOptions(batch_size=size))
        tables.append(rows_of(out / "predictions.csv"))
    count = 6 if domain in ("molecules", "forces") else 3
    assert all(len(rows) == count for rows in tables)
    for rows in tables[1:]:
        for one, other in zip(tables[0], rows, strict=True):
            for name, value in one.items():
                try:
                    expected = float(value)
                except ValueError:
                    assert other[name] == value
                else:
                    assert float(other[name]) == pytest.approx(expected, rel=2e-6, abs=2e-6), name
    with torch.no_grad():
        next(iter(task.parameters())).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"3 of 3 \w+ failed") as caught:
        task.predict(folder, tmp_path / "broken")
    assert str(folder / first) in str(caught.value)
    assert "NaN or infinite" in str(caught.value)
    assert not (tmp_path / "broken" / "predictions.csv").exists()


def test_photos_in_several_passes(tmp_path: Path) -> None:
    from spheregeo.tasks.sphere.passes import infer_passes
    from spheregeo.tasks.sphere.photos import enlarge_decision
    from spheregeo.tasks.sphere.predict import read_photo

    task, folder, out = randomised(DOMAINS["segmentation"][0]()), photos(tmp_path / "in"), tmp_path / "out"
    task.predict(folder, out, options=PredictOptions(tiles=2, turns=3))
    photo = read_photo(folder / "b.tif")
    decision, _ = enlarge_decision(task, infer_passes(task, photo, 2, 3), *photo.shape[1:])
    with Image.open(out / "b_labels.png") as image:
        np.testing.assert_array_equal(np.asarray(image), decision.numpy())
    with pytest.raises(ValueError, match="turns is 0"):
        PredictOptions(turns=0)
    with pytest.raises(ValueError, match="tiles is 2 and turns is 1; expected 1 and 1"):
        randomised(DOMAINS["sphere"][0]()).predict(folder, out, options=PredictOptions(tiles=2))


def test_photos_of_one_stem_have_answers_of_their_own_and_a_confidence(tmp_path: Path) -> None:
    task, folder, out = randomised(DOMAINS["segmentation"][0]()), photos(tmp_path / "in"), tmp_path / "out"
    task.predict(folder, out, options=PredictOptions(confidence=True))
    kinds = ("labels", "overlay", "world", "confidence")
    expected = {f"{stem}_{kind}.png" for stem in ("a.png", "a.jpg", "b") for kind in kinds}
    assert {p.name for p in out.glob("*.png")} == expected
    with Image.open(out / "b_confidence.png") as image:
        sure = np.asarray(image) / 255
    rows = rows_of(out / "predictions.csv")
    assert rows[2]["sample"] == "b.tif" and 1 / 5 <= float(rows[2]["confidence"]) <= 1
    from spheregeo.tasks.sphere.photos import infer
    from spheregeo.tasks.sphere.predict import read_photo, row_areas

    output = infer(task, read_photo(folder / "b.tif"))
    assert abs(sure.max() - float(output.softmax(0).amax())) < 0.1
    assert float(rows[2]["confidence"]) == pytest.approx(float(row_areas(16) @ sure.mean(1)), abs=1e-6)
    assert sum(float(v) for k, v in rows[2].items() if k.startswith("share(")) == pytest.approx(1, abs=1e-8)
    with pytest.raises(ValueError, match="decides no classes"):
        randomised(DOMAINS["depth"][0]()).predict(folder, out, options=PredictOptions(confidence=True))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((1, 3)), "1 points, all at one place"),
        (np.ones((80, 3)), "80 points, all at one place"),
        (np.repeat(np.eye(3), 20, 0), "points at 3 places"),
        (1e200 * np.random.default_rng(0).normal(size=(80, 3)), r"coordinates up to \d\.\d+e\+200"),
    ],
    ids=["one", "equal", "few", "huge"],
)
def test_clouds_without_a_shape_are_refused(points: np.ndarray, message: str, tmp_path: Path) -> None:
    task = randomised(DOMAINS["points"][0]())
    np.savetxt(tmp_path / "bad.xyz", points)
    with pytest.raises(ValueError, match=message) as caught:
        task.predict(tmp_path / "bad.xyz", tmp_path / "out")
    assert str(tmp_path / "bad.xyz") in str(caught.value)
    good = tmp_path / "good.xyz"
    np.savetxt(good, 1e6 + np.random.default_rng(0).normal(size=(5, 3)))  # far away, and as few as k
    task.predict(good, tmp_path / "out")
    assert task.classify(read_cloud(good)).shape == (3,)


BAD_FRAMES = {
    "cut": "3\n\nC 0 0 0\nO 1.1 0 0\n",
    "word": "2\n\nC 0 0 zero\nO 1.1 0 0\n",
    "element": "2\n\nC 0 0 0\nQq 1.1 0 0\n",
    "same place": "2\n\nC 0 0 0\nO 0 0 0\n",
    "nan": "2\n\nC 0 0 nan\nO 1.1 0 0\n",
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_molecule_does_not_lose_the_others(kind: str, tmp_path: Path) -> None:
    from ase.io import read

    task = randomised(DOMAINS["molecules"][0]())
    good = [f"2\nid=m{k}\nC 0 0 0\nO {1.1 + 0.1 * k} 0 0\n" for k in range(3)]
    path = tmp_path / "many.xyz"
    path.write_text(good[0] + BAD_FRAMES[kind] + good[1] + good[2])
    with pytest.raises(ValueError, match=r"many\.xyz, frame 1") as caught:
        task.predict(path, tmp_path / "out")
    assert str(caught.value).count("failed") <= 1 and "molecule 0" not in str(caught.value)
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert [r["sample"] for r in rows] == ["many.xyz:0", "many.xyz:2", "many.xyz:3"]
    assert [r["id"] for r in rows] == ["m0", "m1", "m2"] and {r["formula"] for r in rows} == {"CO"}
    assert len(read(tmp_path / "out" / "many_predicted.xyz", ":")) == 3
    path.write_text(BAD_FRAMES[kind])
    with pytest.raises(ValueError, match=r"many\.xyz"):
        task.predict(path, tmp_path / "out")


def test_a_bad_record_of_an_sdf_does_not_lose_the_others(tmp_path: Path) -> None:
    task = randomised(DOMAINS["molecules"][0]())
    atom = f"{0.0:10.4f}{0.0:10.4f}{0.0:10.4f} C   0  0"
    head = "  1  0  0  0  0  0  0  0  0  0999 V2000"
    records = [f"m{k}\n\n\n{head}\n{atom}\n$$$$\n" for k in range(3)]
    path = tmp_path / "many.sdf"
    path.write_text(records[0] + records[1].replace(" C ", " Qq") + records[2])
    with pytest.raises(ValueError, match=r"many\.sdf, frame 1"):
        task.predict(path, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert [(r["sample"], r["id"]) for r in rows] == [("many.sdf:0", "m0"), ("many.sdf:2", "m2")]

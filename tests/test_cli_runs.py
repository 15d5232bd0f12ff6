"""A run's folder: nothing of the user's is lost in it, a moved run is the same run, one process at a time, signals end it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from spheregeo.cli import main
from spheregeo.cli.checkpoints import OPTIONS, report_place
from spheregeo.cli.runs.files import EARLIER, MANIFEST, RunFiles
from spheregeo.cli.runs.lock import LOCK, locked
from spheregeo.files import file_digest
from spheregeo.tasks import AtomicCheckpointIO, read_checkpoint

RECIPE = """# tiny rooms
data:
  class_path: spheregeo.data.RoomsData
  init_args: {size: [8, 16], train: 4, val: 2, test: 2, batch_size: 2}
model:
  class_path: spheregeo.tasks.Segmentation
  init_args: {network: pixel-mlp, width: 4, depth: 1, lr: 0.01}
trainer: {max_epochs: 2, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and tested run, ``run``, and the recipe beside it."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["fit", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    assert main(["test", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder


def fit(place: Path, run: Path, *options: str) -> int:
    return main(["fit", str(place / "tiny.yaml"), "--output", str(run), *options])


def error_of(capsys: pytest.CaptureFixture[str], place: Path, run: Path, *options: str) -> str:
    capsys.readouterr()
    assert fit(place, run, *options) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("spheregeo: error: ") and "\n" not in error
    return error


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- what a run removes


def test_files_of_others_are_kept(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proj = tmp_path / "proj"
    mine = (
        "checkpoints/theirs.ckpt",
        "logs/a.log",
        "logs/version_0/notes.txt",
        "tensorboard/b",
        "predictions.csv",
        "world.png",
    )
    for name in mine:
        (proj / name).parent.mkdir(parents=True, exist_ok=True)
        (proj / name).write_text("mine")
    before = tree(proj)
    assert "holds no run of spheregeo but other files (checkpoints, logs" in error_of(capsys, place, proj)
    assert tree(proj) == before
    assert fit(place, proj, "--overwrite") == 0
    assert fit(place, proj, "--overwrite", "--trainer.max_epochs", "1") == 0
    assert {name: content for name, content in tree(proj).items() if name in before} == before
    assert read_checkpoint(proj / "checkpoints" / "last.ckpt")["epoch"] == 0
    # A test would replace a picture that no run has written.
    capsys.readouterr()
    assert main(["test", str(place / "tiny.yaml"), "--output", str(proj)]) == 2
    assert "was not written by a run" in capsys.readouterr().err
    assert {name: content for name, content in tree(proj).items() if name in before} == before


@pytest.mark.parametrize("name", ["recipe.yaml", "curves.png", "checkpoints/best.ckpt"])
def test_a_file_of_the_users_is_never_replaced(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(RECIPE)
    before = tree(tmp_path)
    assert "holds no run" in error_of(capsys, place, tmp_path)
    assert f"{name} was not written by a run" in error_of(capsys, place, tmp_path, "--overwrite")
    assert {k: v for k, v in tree(tmp_path).items() if k != MANIFEST} == before


def test_a_recipe_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    for option in ([], ["--overwrite"]):
        assert main(["fit", "recipe.yaml", "--output", ".", *option]) == 2
        assert (tmp_path / "recipe.yaml").read_text() == RECIPE


def test_a_run_of_one_checkpoint_is_a_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / "checkpoints" / "last.ckpt").unlink()
    assert "already holds a run" in error_of(capsys, place, run)
    assert (run / "checkpoints" / "best.ckpt").is_file()


def test_an_edited_record_is_kept(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    edited = (run / "recipe.yaml").read_text() + "# my note\n"
    (run / "recipe.yaml").write_text(edited)
    assert fit(place, run, "--overwrite", "--trainer.max_epochs", "1") == 0
    assert "has been edited" in capsys.readouterr().out
    assert (run / "recipe-edited-1.yaml").read_text() == edited
    assert yaml.safe_load((run / "recipe.yaml").read_text())["trainer"]["max_epochs"] == 1


def test_a_run_without_a_manifest_is_known(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of earlier versions: their record states every argument of the trainer, ``default_root_dir`` too."""
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / MANIFEST).unlink()
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    content["trainer"]["default_root_dir"] = "elsewhere"
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    (run / "checkpoints" / "mine.ckpt").write_text("mine")
    assert "already holds a run" in error_of(capsys, place, run)
    assert fit(place, run, "--overwrite", "--trainer.max_epochs", "1") == 0
    assert not (run / "metrics.json").exists() and not (run / "world.png").exists()
    assert (run / "checkpoints" / "mine.ckpt").read_text() == "mine"


# ---- an earlier run stays until its successor has a checkpoint


WILD = ("--model.lr", "1e30", "--trainer.gradient_clip_val", "null", "--model.warmup", "0")


def test_a_run_that_fails_leaves_the_earlier_one(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    before = tree(run)
    error = error_of(capsys, place, run, "--overwrite", "--data.train", "12", *WILD)
    assert (
        "the loss is" in error and "the earlier run is back in its place" in error and "intact" not in error
    )
    assert tree(run) == before
    assert fit(place, run, "--overwrite", "--trainer.max_epochs", "1") == 0
    assert not (run / EARLIER).exists() and not (run / "metrics.json").exists()


@pytest.mark.parametrize("state", ["moving", "begun", "saved", "returning"])
def test_what_a_kill_leaves_is_settled(state: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "recipe.yaml")
    files = RunFiles(run)
    files.own(*names)
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("old")
    files.set_aside()
    files.own(*names)
    if state == "moving":  # the manifest is not written yet, one file has moved
        shutil.copy(run / EARLIER / MANIFEST, run / MANIFEST)
        for name in names[1:]:
            (run / name).parent.mkdir(exist_ok=True)
            os.replace(run / EARLIER / name, run / name)
    (run / "recipe.yaml").write_text("old" if state == "moving" else "new")
    if state == "saved":
        (run / "checkpoints").mkdir()
        (run / names[0]).write_text("new")
    if state == "returning":  # a second kill, while the earlier run came back
        (run / "recipe.yaml").unlink()
        half = RunFiles(run)
        half._replaces = False
        half._save()
        (run / "checkpoints").mkdir()
        os.replace(run / EARLIER / names[0], run / names[0])
    RunFiles(run).settle()
    expected = {"saved": {names[0]: b"new", "recipe.yaml": b"new"}}.get(state, dict.fromkeys(names, b"old"))
    assert {k: v for k, v in tree(run).items() if k != MANIFEST} == expected


def test_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / MANIFEST).write_text(json.dumps({"files": ["../outside.txt", str(outside), "../*"]}))
    files = RunFiles(run)
    assert files.present() == []
    files.clear()
    assert outside.read_text() == "mine"


def test_a_linked_folder_leads_no_removal_outside(tmp_path: Path) -> None:
    """In the run, in the earlier run that waits there, on the way back from it, and where that folder is a link."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    (victim / "empty").mkdir(parents=True)
    (victim / "thesis.txt").write_text("mine")
    (run / EARLIER / "y").mkdir(parents=True)
    (run / "x").symlink_to(victim)
    (run / "y").symlink_to(victim)
    (run / EARLIER / "x").symlink_to(victim)
    (run / EARLIER / "y" / "thesis.txt").write_text("other")
    (run / "mine.ckpt").write_text("new")
    manifest = {"files": ["x/thesis.txt", "y/thesis.txt", "x/empty/*", "mine.ckpt"], "replaces": True}
    for action in ("settle", "bring_back", "set_aside", "clear"):
        for folder in (run, run / EARLIER):
            (folder / MANIFEST).write_text(json.dumps(manifest))
        (run / EARLIER / "y").mkdir(exist_ok=True)
        (run / EARLIER / "y" / "thesis.txt").write_text("other")
        getattr(RunFiles(run), action)()
        assert (victim / "thesis.txt").read_text() == "mine" and (victim / "empty").is_dir(), action
    shutil.rmtree(run)
    run.mkdir()
    (victim / MANIFEST).write_text(json.dumps({"files": ["thesis.txt"]}))
    (run / EARLIER).symlink_to(victim)
    (run / "mine.ckpt").write_text("new")
    (run / MANIFEST).write_text(json.dumps(manifest))
    RunFiles(run).drop_earlier()
    assert not RunFiles(run).bring_back() and (victim / "thesis.txt").read_text() == "mine"


def test_results_without_checkpoints_are_kept(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    before = tree(run)
    assert "holds results of a run without its checkpoints (curves.png" in error_of(capsys, place, run)
    error = error_of(capsys, place, run, "--overwrite", "--data.train", "12", *WILD)
    assert "the earlier run is back in its place" in error and tree(run) == before
    assert fit(place, run, "--overwrite", "--trainer.max_epochs", "1") == 0
    assert not (run / "metrics.json").exists()


def test_every_test_has_a_report_of_its_own(place: Path, tmp_path: Path) -> None:
    """Different tests of one name, and of one checkpoint or another; the same test again takes its own place."""
    tests: list[tuple[list[str], str | None]] = [
        (["--data.test_root", "a/scans"], None),
        (["--data.test_root", "b/scans"], None),
        (["--data.train_rotation", "so3"], None),
        (["--data.init_args.test_rotation=so3"], None),
        (["--trainer.limit_test_batches", "1"], None),
        (["--data.seed", "1"], None),
        ([], "x/other.ckpt"),
        ([], "y/other.ckpt"),
        ([], None),
    ]
    places = []
    for options, ckpt in tests:
        where, digest = report_place(tmp_path, options, ckpt)
        where.mkdir(exist_ok=True)
        (where / "metrics.json").write_text(json.dumps({OPTIONS: digest}))
        places.append(where)
    assert len(set(places)) == len(tests) and places[-1].name == "test"
    assert [report_place(tmp_path, *test)[0] for test in tests] == places
    # The report names the content of the checkpoint that was scored; the run's best by its path is the run's own.
    run, best = place / "run", place / "run" / "checkpoints" / "best.ckpt"
    report = json.loads((run / "test" / "metrics.json").read_text())
    assert report["checkpoint_sha256"] == file_digest(best)
    assert (
        report_place(run, [], str(best))[0]
        == run / "test"
        == report_place(run, ["--data.num_workers", "1"])[0]
    )


# ---- a run that lies elsewhere


def test_a_moved_run_keeps_its_best_model(place: Path, tmp_path: Path) -> None:
    first, copy = tmp_path / "first", tmp_path / "copy"
    shutil.copytree(place / "run", first)
    last, best = (Path("checkpoints") / name for name in ("last.ckpt", "best.ckpt"))
    # No epoch to come can be better: the score is raised where the callback keeps it.
    content = read_checkpoint(first / last)
    (state,) = (v for k, v in content["callbacks"].items() if k.startswith("ModelCheckpoint") and "miou" in k)
    assert state["best_model_path"] == "best.ckpt" and str(place) not in str(content["callbacks"])
    score = torch.tensor(1.0)
    state.update(best_model_score=score, kth_value=score, best_k_models={"best.ckpt": score})
    # Checkpoints of earlier versions name the folder.
    state.update(dirpath="/elsewhere/checkpoints", best_model_path="/elsewhere/checkpoints/best.ckpt")
    state.update(
        kth_best_model_path=state["best_model_path"], best_k_models={state["best_model_path"]: score}
    )
    AtomicCheckpointIO().save_checkpoint(content, first / last)
    shutil.move(first, copy)
    before = (copy / best).read_bytes()
    assert fit(place, copy, "--resume", "--trainer.max_epochs", "4") == 0
    assert (copy / best).read_bytes() == before
    assert read_checkpoint(copy / last)["epoch"] == 3
    # Where the best model was left behind, there is a new one.
    (copy / best).unlink()
    assert fit(place, copy, "--resume", "--trainer.max_epochs", "5") == 0
    assert read_checkpoint(copy / best)["epoch"] == 4
    assert str(first) not in (copy / "recipe.yaml").read_text()


# ---- one process at a time


def test_a_folder_in_use_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    code = (
        "import sys, pathlib; from spheregeo.cli.runs.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'fit'):\n    print(flush=True); input()"
    )
    call = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        who = f"in use by process {holder.pid} on {socket.gethostname()} (fit)"
        assert who in error_of(capsys, place, run, "--resume")
        capsys.readouterr()
        assert main(["test", str(place / "tiny.yaml"), "--output", str(run)]) == 2
        assert who in capsys.readouterr().err
        holder.kill()
    assert (run / LOCK).is_file(), "a killed process leaves its lock, which the next one takes over"
    assert main(["test", str(place / "tiny.yaml"), "--output", str(run)]) == 0
    assert not (run / LOCK).exists()


def test_locks_of_others(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": "1", "command": "fit"}
    path.write_text(json.dumps(mine))  # the number of a process that is gone, used again
    with (
        locked(tmp_path, "fit"),
        pytest.raises(ValueError, match=rf"in use by process {os.getpid()} "),
        locked(tmp_path, "test"),
    ):
        pass
    path.write_text(json.dumps({**mine, "host": "another-machine"}))
    with (
        pytest.raises(ValueError, match=r"process .* on another-machine .*remove .*from this machine"),
        locked(tmp_path, "fit"),
    ):
        pass
    path.write_text("")  # killed before it wrote its name
    with locked(tmp_path, "fit"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


# ---- signals


SCRIPT = """
import os, signal, sys
from spheregeo.cli import main
from spheregeo.tasks.training.callbacks import EpochSeed
number, epoch = getattr(signal, sys.argv[1]), int(sys.argv[2])
signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)  # ignored in a background job
def send(self, trainer, module, batch, index):
    if trainer.current_epoch == epoch:
        os.kill(os.getpid(), number)
EpochSeed.on_train_batch_start = send
sys.exit(main(["fit", sys.argv[3], "--trainer.max_epochs", "500", *sys.argv[4:]]))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signals_end_a_run_in_one_line(
    name: str, code: int, place: Path, tmp_path: Path, programs: Any
) -> None:
    """In the first epoch of a run that replaces another, and in a later one; with and without worker processes."""
    replacing, later = tmp_path / "replacing", tmp_path / "later"
    shutil.copytree(place / "run", replacing)
    before = tree(replacing)
    workers = 0 if name == "SIGINT" else 1
    common = ["-c", SCRIPT, name]
    calls = [
        [
            *common,
            "0",
            str(place / "tiny.yaml"),
            "--output",
            str(replacing),
            "--overwrite",
            f"--data.num_workers={workers}",
        ],
        [*common, "1", str(place / "tiny.yaml"), "--output", str(later), f"--data.num_workers={1 - workers}"],
    ]
    ended = [programs.finish(number, timeout=200) for number in [programs.start(call) for call in calls]]
    errors = [process.stderr for process in ended]
    for process, error in zip(ended, errors, strict=True):
        assert process.returncode == code, error
        assert error.startswith(f"spheregeo: stopped by {name} (") and error.count("\n") == 1
    assert "no checkpoint was written, and the earlier run is back" in errors[0] and tree(replacing) == before
    last = later / "checkpoints" / "last.ckpt"
    assert f"{last} holds epoch 1; go on with --resume" in errors[1] and read_checkpoint(last)["epoch"] == 0
    assert not (later / LOCK).exists()
    assert fit(place, later, "--resume", "--trainer.max_epochs", "2") == 0

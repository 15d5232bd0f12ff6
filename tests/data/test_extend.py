"""The guide that adds a dataset, followed to the letter in a copy of the checkout."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extend" / "dataset.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_a_dataset_is_five_files() -> None:
    assert len(FILES) == 5
    new = [name for name in FILES if not (ROOT / name).exists()]
    assert new == list(FILES), "a file that exists would have to be edited"


@pytest.mark.slow
def test_the_guide_works_as_written(tmp_path: Path, programs: Any) -> None:
    copy = tmp_path / "checkout"
    for name in ("spheregeo", "datasets", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, text in FILES.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    meant = {"python": [], "spheregeo": ["-m", "spheregeo"]}
    shown = ""
    for line in "".join(COMMANDS).splitlines():
        first, *words = shlex.split(line)
        done = programs.run([*meant[first], *words], copy, PYTHONPATH=str(copy))
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        shown += done.stdout
    assert re.search(r"^LissajousData +Generated clouds on Lissajous curves", shown, re.MULTILINE)
    assert re.search(r"epoch 1/1 +train/loss", shown)
    assert (copy / "runs" / "classify-lissajous" / "checkpoints" / "best.ckpt").is_file()
    edited = {str(p.relative_to(copy)) for p, content in before.items() if p.read_bytes() != content}
    assert edited == {
        "datasets/README.md", "spheregeo/cli/catalogue.json", "spheregeo/cli/options.json",
        "spheregeo/data/__init__.py", "spheregeo/data/registry.json",
    }  # fmt: skip
    assert "`LissajousData`" in (copy / "datasets" / "README.md").read_text(encoding="utf-8")


def test_the_files_are_as_the_linter_wants_them(tmp_path: Path) -> None:
    for name, text in FILES.items():
        if name.endswith(".py"):
            for options in (["check"], ["format", "--diff"]):
                command = [sys.executable, "-m", "ruff", *options, "--quiet", "--stdin-filename", name, "-"]
                done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
                assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"

"""Every fenced block of the README does what it says.

Python blocks run one after the other in one namespace, in an empty folder. Of the shell blocks, `spheregeo` lines run in order
in one folder that holds nothing but a panorama, training with tiny settings; `make` lines are checked against the
Makefile's targets, since they install or run these very tests; `pip install` lines are checked against the extras of
pyproject.toml. Any other command fails the test.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
# A training run of a second; the run records them, so that the commands after it use them too.
TINY = {
    "fit": [
        "--data.size=[16, 32]",
        "--data.train=4",
        "--data.val=2",
        "--data.test=2",
        "--trainer.max_epochs=1",
    ],
}


def blocks(kind: str) -> list[tuple[int, str]]:
    """Return (first line, text) of the fenced blocks of one kind."""
    found = re.finditer(rf"^```{kind}\n(.*?)^```$", README, re.M | re.S)
    return [(README[: match.start()].count("\n") + 2, match[1]) for match in found]


LINES = [line for _, text in blocks("bash") for line in text.splitlines()]
COMMANDS = [words for line in LINES if (words := shlex.split(line, comments=True))]


def ended(done: subprocess.CompletedProcess[str]) -> None:
    told = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{told}"


def test_blocks_are_of_known_kinds() -> None:
    fences = re.findall(r"^```(.*)$", README, re.M)
    assert set(fences[::2]) <= {"bash", "python"} and set(fences[1::2]) == {""}


def test_python_blocks_run(tmp_path: Path, programs: Any) -> None:
    # blank elsewhere, so that a traceback shows the README's own lines
    lines = [""] * (README.count("\n") + 1)
    for start, block in blocks("python"):
        lines[start - 1 : start - 1 + block.count("\n")] = block.splitlines()
    script = tmp_path / "README.md.py"
    script.write_text("\n".join(lines))
    ended(programs.run([str(script)], tmp_path))


def test_spheregeo_commands_run(tmp_path: Path, programs: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    image.linear_gradient("L").resize((64, 32)).save(tmp_path / "photo.jpg")
    lines = [words for words in COMMANDS if words[0] == "spheregeo"]
    assert lines
    for words in lines:
        ended(programs.run(["-m", "spheregeo", *words[1:], *TINY.get(words[1], [])], tmp_path))


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] != "spheregeo"], ids=" ".join)
def test_other_commands_exist(words: list[str]) -> None:
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = [word for word in words[1:] if "=" not in word]
        assert targets
        for target in targets:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"Makefile has no target {target}"
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.findall(r"\[([\w,]+)\]", " ".join(words))
        assert named and {extra for group in named for extra in group.split(",")} <= set(extras)
    else:
        pytest.fail(f"the README has a command that no test knows how to check: {shlex.join(words)}")


def test_local_links_lead_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*/README.md"),
    ]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken, "\n".join(broken)

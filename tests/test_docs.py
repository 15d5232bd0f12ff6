"""Every block of the documentation runs, every page can be reached, and the reference has every public name.

Python blocks of a page run one after the other in one namespace, in an empty folder. Commands of the tutorials run between
them, with tiny settings; commands of the other pages, whose data nobody has here, are parsed down to the last option.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FORKS = str(ROOT / "tests" / "testing" / "fork_server.py")
PAGES = sorted(page for page in DOCS.rglob("*.md"))
EXECUTED = sorted((DOCS / "tutorials").glob("*.md"))  # pages whose commands run, too
# Pages whose files and commands run in tests of their own, in a copy of the checkout: they add what is not here.
ELSEWHERE = {DOCS / "extend" / "dataset.md", DOCS / "extend" / "task.md"}
# Training runs of seconds, by recipe; a run records them, so that the commands after it use them too.
TINY = {
    "segment-folder": ["--data.size=[16, 32]", "--trainer.max_epochs=1", "--data.num_workers=0"],
    "classify-points": ["--trainer.max_epochs=1", "--model.network=vnn-pointnet"],
    "fit-md": ["--trainer.max_epochs=1", "--model.width=8", "--model.depth=1"],
    "regress-molecules": ["--trainer.max_epochs=1", "--model.width=8", "--model.depth=1"],
    "fit-forces": ["--trainer.max_epochs=1", "--data.train=8", "--data.val=4", "--data.test=4"],
}
# What a page's Python blocks take for granted: commands and code that come before them.
GIVEN = {
    "guides/molecules.md": (
        "spheregeo fit fit-forces",
        "from ase import Atoms; from ase.io import write; "
        "write('mine.xyz', Atoms('Cu3', positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0]]))",
    ),
}


def name(page: Path) -> str:
    return str(page.relative_to(DOCS))


def blocks(page: Path) -> list[tuple[str, int, str]]:
    """(kind, first line, text) of the fenced blocks of a page, in order."""
    text = page.read_text()
    found = re.finditer(r"^(`{3,})(\S*)[^\n]*\n(.*?)^\1\s*$", text, re.M | re.S)
    return [(match[2], text[: match.start()].count("\n") + 2, match[3]) for match in found]


def commands(text: str) -> list[list[str]]:
    """The words of each line of a shell block; lines that end with a backslash go on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def ended(done: subprocess.CompletedProcess[str]) -> None:
    told = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{told}"


def arguments(words: list[str]) -> list[str]:
    """Of a ``spheregeo`` line, with tiny settings."""
    return [*words[1:], *(TINY.get(words[2], []) if words[1] == "fit" else [])]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_of_known_kinds(page: Path) -> None:
    kinds = {kind for kind, _, _ in blocks(page) if not kind.startswith("{")}
    assert kinds <= {"", "bash", "python", "yaml", "json", "text"}, kinds


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page not in ELSEWHERE and any(kind == "python" for kind, _, _ in blocks(page))
    ],
    ids=name,
)
def test_blocks_run(page: Path, tmp_path: Path, programs: Any) -> None:
    """One process per stretch of Python between commands would lose the names: the commands are its children."""
    ahead, script = ["import runpy as _runpy", f"_later = _runpy.run_path({FORKS!r})['later']"], []
    command, code = GIVEN.get(name(page), ("", ""))
    if command:
        ended(programs.run(["-m", "spheregeo", *arguments(shlex.split(command))], tmp_path))
        script.append(code)
    for kind, first, text in blocks(page):
        if kind == "python":
            padded = "\n" * (first - 1) + textwrap.dedent(text)  # a traceback shows the page's own lines
            script.append(f"exec(compile({padded!r}, {name(page)!r}, 'exec'), globals())")
        elif kind == "bash" and page in EXECUTED:
            for words in commands(text):
                assert words[0] == "spheregeo", f"a tutorial runs {words[0]}"
                ahead.append(f"_command{len(ahead)} = _later({arguments(words)!r})")
                script.append(f"assert not _command{len(ahead) - 1}(), {shlex.join(words)!r}")
    (tmp_path / "page.py").write_text("\n".join([*ahead, *script]))
    ended(programs.run(["-W", "error::DeprecationWarning:spheregeo", "page.py"], tmp_path))


def test_commands_parse(programs: Any) -> None:
    """Every ``spheregeo`` line of every page names a recipe and options that exist."""
    lines = {
        (name(page), *words)
        for page in PAGES
        for kind, _, text in blocks(page)
        if kind == "bash" and page not in EXECUTED and page not in ELSEWHERE
        for words in commands(text)
    }
    for page, *words in sorted(lines):
        if words[0] != "spheregeo":
            assert words[0] in ("make", "pip", "python", "git"), f"{page}: {shlex.join(words)}"
    fits = sorted(
        {
            tuple(words[1:])
            for _, *words in lines
            if words[0] == "spheregeo" and words[1] in ("fit", "test", "validate")
        }
    )
    assert len(fits) > 10
    others = sorted({tuple(words[1:]) for _, *words in lines if words[0] == "spheregeo"} - set(fits))
    assert len(others) > 10
    program = (
        "import contextlib, io, sys\n"
        "from spheregeo.cli import commands, main\n"
        "parser = commands.make_parser()\n"
        f"for words in {others!r}:\n"
        "    if '--version' not in words and '--help' not in words:\n"
        "        options, more = parser.parse_known_args(words)\n"
        "        assert not more or commands.module_of(options.command).OVERRIDES, words\n"
        f"for words in {fits!r}:\n"
        "    words = ['fit' if word in ('test', 'validate') else word for word in words]\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        try:\n"
        "            code = main([*words, '--print_config'])\n"
        "        except SystemExit as end:\n"
        "            code = end.code\n"
        "    assert not code and 'trainer' in out.getvalue(), words\n"
    )
    ended(programs.run(["-c", program], ROOT))


def test_every_page_can_be_reached() -> None:
    """From the index, by tables of contents and links."""
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        text = page.read_text()
        targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
        for kind, _, inside in blocks(page):
            if kind == "{toctree}":
                targets += [line for line in inside.splitlines() if line and not line.startswith(":")]
        for target in targets:
            if "://" in target or not target:
                continue
            for file in page.parent.glob(target if target.endswith(".md") else f"{target}.md"):
                waiting.append(file.resolve())
    assert not set(PAGES) - seen, f"no way leads to {sorted(map(name, set(PAGES) - seen))}"


def test_the_reference_has_every_public_name() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import reference
    finally:
        sys.path.pop(0)
    placed = {(home, item) for items in reference.placed().values() for home, item in items}
    shown = {id(getattr(importlib.import_module(home), item)) for home, item in placed}
    modules = reference.modules()
    assert {"spheregeo.nn", "spheregeo.nn.sphere", "spheregeo.grids", "spheregeo.sparse"} <= set(modules)
    for module in modules:
        held = importlib.import_module(module)
        missing = [item for item in held.__all__ if id(getattr(held, item)) not in shown]
        assert not missing, f"{module}: {missing}"


def test_the_site_is_built_without_a_warning(tmp_path: Path, programs: Any) -> None:
    pytest.importorskip("sphinx", reason="the site's tools are the extra docs")
    pytest.importorskip("furo")
    command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", "docs"]
    ended(programs.run([*command, "-d", str(tmp_path / "doctrees"), ".", str(tmp_path / "site")], ROOT))
    assert (tmp_path / "site" / "docs" / "index.html").is_file()
    assert "DiscoConv" in (tmp_path / "site" / "docs" / "reference" / "spheregeo.nn.sphere.html").read_text()

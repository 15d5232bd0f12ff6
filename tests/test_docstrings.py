"""Examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILES = [file for file in sorted((ROOT / "spheregeo").rglob("*.py")) if " >>> " in file.read_text()]


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", [module(file) for file in FILES])
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for examples that write files
    torch.manual_seed(0)
    found = importlib.import_module(name)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    said: list[str] = []
    for example in finder.find(found, name):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries, f"{name} has >>> in its text but no example that is found"

"""The guide that adds a task, followed to the letter in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extend" / "task.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)).splitlines()


def test_the_guide_works_as_written(tmp_path: Path, programs: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    assert set(FILES) == {"room_size.py", "room-size.yaml"} and len(COMMANDS) == 3
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    image.linear_gradient("L").resize((64, 32)).save(tmp_path / "photo.png")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for line in [
        *COMMANDS,
        "spheregeo predict room-size.yaml --trust-recipe --input photo.png --output answers",
    ]:
        done = programs.run(["-m", *shlex.split(line)], tmp_path, PYTHONPATH=paths)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    run = tmp_path / "runs" / "room-size"
    assert json.loads((run / "metrics.json").read_text())["mae"] > 0
    assert len(json.loads((run / "distances.json").read_text())) > 0
    assert json.loads((tmp_path / "answers" / "photo.json").read_text())["unit"] == "m"

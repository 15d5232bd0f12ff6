"""Writes ``spheregeo/data/registry.json`` from the cards' ``entry.json`` and split files: run it after changing one.

Command: ``python datasets/make_registry.py``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REGISTRY = HERE.parent / "spheregeo" / "data" / "registry.json"
KINDS = ("generated", "manual", "download")


def collect() -> dict[str, dict[str, Any]]:
    """Every folder's entry; split files ``foldN_SPLIT.txt`` become ``folds[N][SPLIT]``."""
    entries = {}
    for path in sorted(HERE.glob("*/entry.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["kind"] not in KINDS:
            raise ValueError(f"{path} has kind {card['kind']!r}; expected one of {', '.join(KINDS)}")
        for file in sorted(path.parent.glob("splits/*.txt")):
            match = re.fullmatch(r"fold(\d+)_(\w+)", file.stem)
            if match is None:
                raise ValueError(f"{file} is no split file; expected a name such as fold1_train.txt")
            names = file.read_text(encoding="utf-8").split()
            card.setdefault("folds", {}).setdefault(match[1], {})[match[2]] = names
        entries[path.parent.name] = card
    return entries


def text() -> str:
    """The registry as it is written."""
    return json.dumps(collect(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    REGISTRY.write_text(text(), encoding="utf-8")
    print(f"{REGISTRY.name}: {', '.join(collect())}")

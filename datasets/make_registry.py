"""Writes what follows from the datasets' cards and modules; run after adding a dataset: ``python datasets/make_registry.py``.

- ``spheregeo/data/registry.json``: the cards' ``entry.json`` with their split files;
- ``spheregeo/data/__init__.py``: the public names, which are those in the ``__all__`` of the room's files;
- the table in ``datasets/README.md``;
- ``spheregeo/cli/catalogue.json``, from which ``spheregeo list`` answers.

Tests fail while any of them is out of date.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = ROOT / "spheregeo" / "data"
ACCESS = {"generated": "nothing to get", "manual": "by hand", "download": "`fetch` gets it"}  # by kind
TABLE = re.compile(r"(?<=<!-- made by make_registry.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def collect() -> dict[str, dict[str, Any]]:
    """Every folder's entry; split files ``foldN_SPLIT.txt`` become ``folds[N][SPLIT]``."""
    entries = {}
    for path in sorted(HERE.glob("*/entry.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["kind"] not in ACCESS:
            raise ValueError(f"{path} has kind {card['kind']!r}; expected one of {', '.join(ACCESS)}")
        for file in sorted(path.parent.glob("splits/*.txt")):
            match = re.fullmatch(r"fold(\d+)_(\w+)", file.stem)
            if match is None:
                raise ValueError(f"{file} is no split file; expected a name such as fold1_train.txt")
            names = file.read_text(encoding="utf-8").split()
            card.setdefault("folds", {}).setdefault(match[1], {})[match[2]] = names
        entries[path.parent.name] = card
    return entries


def registry() -> str:
    """The text of ``registry.json``."""
    return json.dumps(collect(), indent=1, ensure_ascii=False) + "\n"


def readme() -> str:
    """The text of ``datasets/README.md`` with its table made anew."""
    rows = ["| folder | what | how to get it | module |", "|---|---|---|---|"]
    for name, card in collect().items():
        modules = [card["module"], *card.get("more_modules", [])]
        named = ", ".join(f"`{module.rpartition('.')[2]}`" for module in modules)
        access = card.get("access", ACCESS[card["kind"]])
        rows.append(f"| [`{name}/`]({name}/README.md) | {card['title']} | {access} | {named} |")
    table = "\n" + "\n".join(rows) + "\n\n"
    return TABLE.sub(lambda _: table, (HERE / "README.md").read_text(encoding="utf-8"))


def public_names() -> dict[str, str]:
    """Public names of the room, each with its module below ``spheregeo.data``: what its files list in ``__all__``."""
    found: dict[str, str] = {}
    for path in sorted(DATA.rglob("*.py")):
        if path.name == "__init__.py":
            continue
        module = ".".join(path.relative_to(DATA).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                for name in ast.literal_eval(node.value):
                    if name in found or name in parts():
                        taken = found.get(name, "a file or folder")
                        raise ValueError(
                            f"{module} lists {name!r}, which is taken by {taken}; choose another name"
                        )
                    found[name] = module
    return found


def parts() -> list[str]:
    """The room's files and folders."""
    return sorted(
        path.stem
        for path in DATA.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and not path.name.startswith("_")
    )


def init() -> str:
    """The text of ``spheregeo/data/__init__.py``: imports for type checkers, and the homes of names loaded when used."""
    names = public_names()
    by_module: dict[str, list[str]] = {}
    for name in sorted(names):
        by_module.setdefault(names[name], []).append(name)
    imports = "\n".join(
        f"    from spheregeo.data.{module} import {', '.join(by_module[module])}"
        for module in sorted(by_module)
    )
    homes = "\n".join(f'    "{name}": "{names[name]}",' for name in sorted(names))
    public = "\n".join(f'    "{name}",' for name in sorted(names))
    return _format(f'''"""Data of spheres, meshes, points and molecules: generated sets, readers, modules, augmentation, batches.

Made by ``datasets/make_registry.py`` from the ``__all__`` of this room's files: edit those. Names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
{imports}

# public name: its module
_HOMES = {{
{homes}
}}
_PARTS = {json.dumps(parts())}

__all__ = [
{public}
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"spheregeo.data.{{_HOMES[name]}}"), name)
    elif name in _PARTS:
        found = importlib.import_module(f"spheregeo.data.{{name}}")
    else:
        raise AttributeError(
            f"module 'spheregeo.data' has no attribute {{name!r}}; if it is new in the __all__ of one of the files, "
            "run: python datasets/make_registry.py"
        )
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({{*globals(), *__all__, *_PARTS}})
''')


def _format(source: str) -> str:
    """The source as ``make format`` leaves it."""
    for options in (["check", "--fix", "--select", "I,RUF022"], ["format"]):
        run = [
            sys.executable,
            "-m",
            "ruff",
            *options,
            "--quiet",
            "--stdin-filename",
            str(DATA / "__init__.py"),
            "-",
        ]
        source = subprocess.run(
            run, input=source, capture_output=True, text=True, cwd=ROOT, check=True
        ).stdout
    return source


MADE = {DATA / "registry.json": registry, DATA / "__init__.py": init, HERE / "README.md": readme}

if __name__ == "__main__":
    for target, text in MADE.items():
        target.write_text(text(), encoding="utf-8")
        print(f"wrote {target.relative_to(ROOT)}")
    subprocess.run([sys.executable, "-m", "spheregeo.cli.catalogue"], cwd=ROOT, check=True)

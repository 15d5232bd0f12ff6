"""Options of recipes, checked and explained before anything heavy is imported: names, defaults and a line each lie in
``options.json``, which ``python -m spheregeo.cli.catalogue`` writes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from spheregeo.checks import nearest
from spheregeo.cli.class_paths import public_paths
from spheregeo.cli.former import FORMER
from spheregeo.cli.trust import parse_recipe
from spheregeo.files import reading

# Options that most users change, in this order; those that the recipe sets come with them.
_COMMON = {
    "data": ("root", "size", "batch_size", "num_workers", "train_size", "augment"),
    "model": ("network", "width", "depth", "lr", "class_weights", "targets"),
    "trainer": ("max_epochs", "accelerator", "devices", "precision", "max_time", "accumulate_grad_batches"),
    "run": ("seed_everything", "ema", "patience", "precise_bn"),
}
_HEADINGS = {
    "data": "data",
    "model": "model",
    "network": "network, as --model.options '{NAME: VALUE}'",
    "trainer": "training",
    "run": "run",
}
_FRONT = ("config", "c", "print_config", "seed_everything", "trainer", "model", "data", *FORMER)

Entries = Mapping[str, Any]  # (default, one line of text) by option


@cache
def table() -> dict[str, Any]:
    """Return the content of ``options.json``: options by class, by network, of the trainer and of a run."""
    text = resources.files("spheregeo.cli").joinpath("options.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found["run"] = {"seed_everything": [0, "seed of weights, order and everything drawn"], **found["run"]}
    return found


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the content of a recipe.

    Args:
        path: the YAML file.

    Raises: ValueError when the file is no recipe.
    """
    with reading(path, "a recipe"):
        text = public_paths(path.read_text(encoding="utf-8-sig"))
    return parse_recipe(text, path)


def split(overrides: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield (name, value) of options of the command line; the value is None where there is none.

    Args:
        overrides: such as ``["--model.width", "8", "--data.size=[16, 32]"]``.

    Example:
        >>> list(split(["--model.width", "8", "--data.size=[16, 32]"]))
        [('model.width', '8'), ('data.size', '[16, 32]')]
    """
    position = 0
    while position < len(overrides):
        word = overrides[position]
        position += 1
        if not word.startswith("-"):
            continue
        name, sign, value = word.lstrip("-").partition("=")
        if sign:
            yield name, value
        elif position < len(overrides) and not overrides[position].startswith("--"):
            yield name, overrides[position]
            position += 1
        else:
            yield name, None


def merged(recipe: Path, overrides: list[str]) -> dict[str, Any]:
    """Return a recipe with options of the command line put in their places.

    Args:
        recipe: the YAML file.
        overrides: options of the command line.

    Raises: ValueError for a file that is no recipe, or a value that is no YAML.
    """
    content = read_recipe(recipe)
    for name, text in split(overrides):
        keys = name.rstrip("+").split(".")
        with reading(f"--{name}", "a value"):
            value = None if text is None else yaml.safe_load(text)
        if keys[0] in ("data", "model") and len(keys) == 1 and isinstance(value, str):
            content[keys[0]] = {"class_path": _full(keys[0], value)}
            continue
        if len(keys) == 1 and keys[0] in ("data", "model", "trainer") and isinstance(value, dict):
            content[keys[0]] = {**(content.get(keys[0]) or {}), **value}
            continue
        if (
            keys[0] in ("data", "model")
            and len(keys) > 1
            and keys[1] not in ("class_path", "init_args", "help")
        ):
            keys.insert(1, "init_args")
        if len(keys) == 1 and keys[0] in ("data", "model", "trainer"):
            raise ValueError(
                f"--{keys[0]} is {text!r}; expected a class, or one of its options as --{keys[0]}.NAME VALUE"
            )
        place = content
        for key in keys[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[keys[-1]] = value
    return content


def _full(section: str, name: str) -> str:
    room = {"data": "spheregeo.data", "model": "spheregeo.tasks"}[section]
    return name if "." in name else f"{room}.{name}"


def _entries(content: Mapping[str, Any], section: str) -> Entries | None:
    """Return the options of the class that a recipe names in a section; None for classes of the user's own."""
    part = content.get(section)
    path = str(part.get("class_path", "")) if isinstance(part, dict) else ""
    return table()["classes"].get(_full(section, path))  # type: ignore[no-any-return]


def _set(content: Mapping[str, Any], section: str) -> dict[str, Any]:
    part = content.get(section)
    if section == "run":
        return {name: content[name] for name in table()["run"] if name in content}
    if not isinstance(part, dict):
        return {}
    inside = part if section == "trainer" else part.get("init_args") or {}
    return {str(name): value for name, value in inside.items()} if isinstance(inside, dict) else {}


def _network_of(content: Mapping[str, Any]) -> str | None:
    """Return the registered name of a recipe's network; None where it cannot be told."""
    given = _set(content, "model").get(
        "network", (_entries(content, "model") or {}).get("network", [None])[0]
    )
    if given in table()["networks"]:
        return str(given)
    choice = table()["aliases"].get(given) or [None]
    return choice[0] if len(choice) == 1 else None


def check(recipe: Path, overrides: list[str]) -> None:
    """Check the names of all options of a recipe and of the command line, in milliseconds.

    Args:
        recipe: the YAML file.
        overrides: options of the command line.

    Raises: ValueError for a name that does not exist, with the nearest ones that do.
    """
    known = table()
    content = merged(recipe, overrides)
    for name, _ in split(overrides):
        first = name.split(".")[0].rstrip("+")
        top = [*_FRONT, *known["run"]]
        if first not in top:
            near = nearest(first, top)
            for section in ("data", "model", "trainer"):
                if first in (known["trainer"] if section == "trainer" else _entries(content, section) or {}):
                    near = f" (did you mean '--{section}.{name}'?)"
            raise ValueError(f"there is no option --{name}{near or '; see --help'}")
    for section in ("data", "model", "trainer"):
        entries = known["trainer"] if section == "trainer" else _entries(content, section)
        part = content.get(section)
        if entries is None or not isinstance(part, dict):
            continue
        for option in _set(content, section):
            if option.split(".")[0] not in (*entries, "help") and not _linked(part, option):
                what = "the trainer" if section == "trainer" else str(part["class_path"]).rpartition(".")[2]
                raise ValueError(
                    f"{section}.{option} is no option of {what}{nearest(option, entries) or '; see --help'}"
                )
    _check_targets(content)
    network = _set(content, "model").get("network")
    choice = [*known["networks"], *known["aliases"]]
    if _entries(content, "model") is not None and isinstance(network, str) and network not in choice:
        raise ValueError(
            f"no model is named {network!r}{nearest(network, choice) or '; see `spheregeo list models`'}"
        )


def _check_targets(content: Mapping[str, Any]) -> None:
    """Raises: ValueError for the name of a target that the data, whose targets are known beforehand, do not have."""
    part = content.get("data") or {}
    path = _full("data", str(part.get("class_path", "") if isinstance(part, dict) else part))
    known = table()["targets"].get(path)
    chosen = _set(content, "data")
    for option in ("targets", "units"):
        for name in chosen.get(option) or () if known else ():
            if name not in known:
                kind = path.rpartition(".")[2]
                raise ValueError(
                    f"{option} has {name!r}, but the targets of {kind} are {', '.join(known)}{nearest(str(name), known)}"
                )


def _linked(part: Mapping[str, Any], option: str) -> bool:
    """Whether the option is a former name, or comes from the data and may stand in a recorded recipe."""
    return option in FORMER or option in table()["linked"].get(str(part.get("class_path", "")), ())


def _line(label: str, value: Any, text: str, width: int) -> str:
    shown = "" if value is None else json.dumps(value, ensure_ascii=False)
    line = f"  {(label + ' ' + shown).strip():<34} {text}".rstrip()
    return line if len(line) <= width else line[: width - 2].rstrip() + "…"


def help_text(
    command: str, recipe: Path, everything: bool, overrides: list[str], own: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the options of a recipe with their values of now and a line each.

    Args:
        command: name of the command.
        recipe: the YAML file.
        everything: all options, not only those that most users change and those that the recipe sets.
        overrides: options of the command line, which may choose another network or class.
        own: (option, text) of the command's own options.

    Raises: ValueError for a file that is no recipe.
    """
    content, width = merged(recipe, overrides), shutil.get_terminal_size((110, 40)).columns
    first = recipe.read_text(encoding="utf-8-sig").lstrip().splitlines()[0]
    lines = [f"spheregeo {command} {recipe.stem} [OPTIONS]"]
    lines += [first.lstrip("# ").strip()] if first.startswith("#") else []
    network = _network_of(content)
    for section, heading in _HEADINGS.items():
        chosen = _set(content, section)
        if section == "network":
            entries = known = table()["networks"].get(network, {})
            chosen = {k: v for k, v in _filed(content).items() if k in known}
            entries = {k: v for k, v in known.items() if k not in ("width", "depth")}
            if network:
                heading = f"{network}, as --model.options '{{NAME: VALUE}}'"
        else:
            entries = table()[section] if section in ("trainer", "run") else _entries(content, section) or {}
        common = _COMMON.get(section, ())
        names = [n for n in common if n in entries] + [n for n in chosen if n in entries and n not in common]
        names += [n for n in entries if n not in names] if everything or section == "network" else []
        if not everything:  # what the recipe sets, and common options where there is room
            spare = max(0, 9 - sum(n in chosen for n in names)) if section != "network" else 9
            others = [n for n in names if n not in chosen or section == "network"][:spare]
            names = [n for n in names if n in others or (n in chosen and section != "network")]
        prefix = {"network": "", "run": "--"}.get(section, f"--{section}.")
        rows = [
            _line(prefix + name, chosen.get(name, entries[name][0]), entries[name][1], width)
            for name in names
        ]
        lines += ["", f"{heading}:", *rows] if rows else []
    if not everything:
        lines += [
            "",
            f"`spheregeo {command} {recipe.stem} --help-all` lists every option, --print-recipe all values.",
        ]
    return "\n".join(lines)


def _filed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the recipe's network, those filed under its name or short name included."""
    options = _set(content, "model").get("options")
    network = _network_of(content)
    found: dict[str, Any] = {}
    for key, value in (options or {}).items() if isinstance(options, dict) else ():
        if key in table()["aliases"] or key in table()["networks"]:
            holds = key == network or network in table()["aliases"].get(key, ())
            found.update(value if holds and isinstance(value, dict) else {})
        else:
            found[key] = value
    return found


def recipe_text(recipe: Path, overrides: list[str]) -> str:
    """Return a whole recipe: the recipe's own values and those of the command line, then all defaults as comments.

    Args:
        recipe: the YAML file.
        overrides: options of the command line.

    Raises: ValueError for a file that is no recipe.
    """
    return render(merged(recipe, overrides))


def render(content: Mapping[str, Any], everything: bool = True) -> str:
    """Return a recipe as YAML: its values with a line of text each, then defaults as comments.

    Args:
        content: the recipe.
        everything: all defaults; of the trainer, those alone that most users change if False.
    """
    lines = []
    for name in ("data", "model"):
        part = content.get(name) or {}
        entries = _entries(content, name) or {}
        lines += [f"{name}:", f"  class_path: {_full(name, str(part.get('class_path', '')))}", "  init_args:"]
        lines += _values(_set(content, name), entries, "    ")
    trainer = {k: v for k, v in table()["trainer"].items() if everything or k in _COMMON["trainer"]}
    lines += ["trainer:", *_values(_set(content, "trainer"), trainer, "  ")]
    rest = {k: v for k, v in content.items() if k not in ("data", "model", "trainer")}
    return "\n".join([*lines, *_values(rest, table()["run"], "")]) + "\n"


def _values(chosen: Mapping[str, Any], entries: Entries, indent: str) -> list[str]:
    lines = []
    for name, value in chosen.items():
        text = entries[name][1] if name in entries else ""
        lines.append(f"{indent}{name}: {_yaml(value)}" + (f"  # {text}" if text else ""))
    for name, (default, text) in entries.items():
        if name not in chosen:
            lines.append(f"{indent}# {name}: {_yaml(default)}  # {text}")
    return lines


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()

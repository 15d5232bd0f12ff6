"""Options of every data module: those of the release before data modules had one base, with the same defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import spheregeo.data
from spheregeo.data import DataModule

jsonargparse = pytest.importorskip("jsonargparse")

REQUIRED = "<required>"
# Written down before the options that several modules have moved to common bases.
OPTIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "options.json").read_text())
ABSTRACT = {
    "DataModule",
    "MeshData",
    "MoleculeData",
    "PanoramaData",
    "PartsData",
    "PointData",
    "SeriesData",
    "SphericalImagesData",
}
# Values for the options that have to be given.
GIVEN = {
    "root": "somewhere",
    "inputs": "[{path: a.nc:u, level: [0]}, b.npz]",
    "label": "c.npz:label",
    "class_names": "[a, b]",
    "targets": "{gap: eV}",
}


def parser_of(name: str) -> Any:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(spheregeo.data, name), "data")
    return parser


def needed(name: str) -> list[str]:
    return [f"--data.{k}={GIVEN[k]}" for k, default in OPTIONS[name].items() if default == REQUIRED]


def test_the_table_has_every_data_module() -> None:
    names = {
        name
        for name in spheregeo.data.__all__
        if isinstance(found := getattr(spheregeo.data, name), type) and issubclass(found, DataModule)
    }
    new = names - set(OPTIONS) - ABSTRACT
    assert names - new == set(OPTIONS) | ABSTRACT
    for name in new:  # younger than the table: at least every option has a description
        check_descriptions(name)


def check_descriptions(name: str) -> None:
    bare = [
        action.dest
        for action in parser_of(name)._actions
        if action.dest.startswith("data.") and not re.search(r"\w{2}", (action.help or "").split("(type:")[0])
    ]
    assert not bare, f"{name}: no line in the docstring for {bare}"


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_options_and_defaults_stay(name: str) -> None:
    parser = parser_of(name)
    found = parser.get_defaults(skip_validation=True).data.as_dict()
    for option, default in OPTIONS[name].items():
        assert option in found, f"{name} lost its option {option}"
        if default != REQUIRED:
            assert json.loads(json.dumps(found[option])) == default, (
                f"{option} of {name} is {found[option]!r}, was {default!r}"
            )


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_command_line_builds_and_explains_each(name: str) -> None:
    parser = parser_of(name)
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # jsonargparse before 4.49
    made = build(parser.parse_args([*needed(name), "--data.batch_size=3", "--data.seed=5"])).data
    assert (made.batch_size, made.seed) == (3, 5)
    check_descriptions(name)
    with pytest.raises(jsonargparse.ArgumentError, match="nonsense"):
        parser.parse_args([*needed(name), "--data.nonsense=3"])


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_python_refuses_unknown_arguments(name: str) -> None:
    given = {k: GIVEN[k] for k, default in OPTIONS[name].items() if default == REQUIRED}
    if "targets" in given:
        given["targets"] = {"gap": "eV"}  # type: ignore[assignment]
    with pytest.raises(TypeError, match="nonsense"):
        getattr(spheregeo.data, name)(**given, nonsense=1)
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        getattr(spheregeo.data, name)(**given, batch_size=0)

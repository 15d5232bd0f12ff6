"""What is installed is `spheregeo` and nothing else, and neither kind of install makes `datasets` importable."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
pytest.importorskip("hatch_fancy_pypi_readme")
ROOT = Path(__file__).resolve().parents[1]


def make(hook: str, folder: Path, source: Path = ROOT) -> Path:
    """Call a hook of hatchling offline in the source folder, as pip would, and return the file that it makes."""
    code = f"from hatchling.build import {hook}; print({hook}({str(folder)!r}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return folder / run.stdout.split()[-1]


def build(hook: str, folder: Path) -> zipfile.ZipFile:
    """The wheel that a hook makes, opened."""
    return zipfile.ZipFile(make(hook, folder))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build("build_wheel", tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_only_spheregeo(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"spheregeo"}


def test_wheel_holds_all_of_spheregeo(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "spheregeo").rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and file.suffix in {".py", ".yaml", ".json", ".typed", ".safetensors"}
    }
    missing = wanted - set(wheel.namelist())
    assert not missing, f"left out of the wheel: {sorted(missing)}"
    assert "spheregeo/py.typed" in wheel.namelist(), "users' type checkers read our types where this file is"
    assert {"spheregeo/weights/rooms/model.safetensors", "spheregeo/weights/rooms/README.md"} <= set(
        wheel.namelist()
    )
    assert any(name.startswith("spheregeo/recipes/") and name.endswith(".yaml") for name in wheel.namelist())


def test_wheel_knows_its_command_and_licence(wheel: zipfile.ZipFile) -> None:
    text = {
        name.rsplit("/", 1)[-1]: wheel.read(name).decode()
        for name in wheel.namelist()
        if ".dist-info/" in name
    }
    assert "spheregeo = spheregeo.cli:main" in text["entry_points.txt"]
    assert "License-Expression: MIT" in text["METADATA"]
    assert "LICENSE" in text


def test_the_page_of_a_package_index_has_absolute_links_to_files_that_exist(wheel: zipfile.ZipFile) -> None:
    """The README's links, which are relative in the repository, in METADATA; code in it is left as it is."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    head, _, page = wheel.read(name).decode().partition("\n\n")
    for label in ("Homepage", "Documentation", "Source", "Changelog", "Issues"):
        assert f"Project-URL: {label}, {urls[label]}" in head
    assert "Description-Content-Type: text/markdown" in head
    pattern = r"(!?)\[[^\]]*\]\(([^)\s]+)\)"
    readme = (ROOT / "README.md").read_text()
    before, after = re.findall(pattern, readme), re.findall(pattern, page)
    assert len(before) == len(after) > 20
    pages, raw = (
        f"{urls['Source']}/blob/main/",
        urls["Source"].replace("github.com", "raw.githubusercontent.com") + "/main/",
    )
    for (picture, old), (_, new) in zip(before, after, strict=True):
        if "://" in old:
            assert new == old
            continue
        assert new == (raw if picture else pages) + old
        assert (ROOT / old.split("#")[0]).exists(), f"README.md links to {old}, which is not there"
    fence = re.compile(r"^```.*?^```$", re.M | re.S)
    assert fence.findall(readme) == fence.findall(page)
    own = f"{urls['Source']}/blob/main/"
    for url in (urls["Documentation"], urls["Changelog"]):
        assert (ROOT / url.removeprefix(own)).is_file()


def test_cards_of_datasets_that_the_package_names_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    cards = {f"spheregeo/{card.relative_to(ROOT)}" for card in (ROOT / "datasets").glob("*/README.md")}
    assert cards <= held and "spheregeo/datasets/README.md" in held
    assert {name for name in held if name.startswith("spheregeo/datasets/")} == cards | {
        "spheregeo/datasets/README.md"
    }, "cards alone"
    named = set()
    for name in held:
        if name.endswith((".py", ".yaml", ".json")):
            named |= set(
                re.findall(r"(?<![\w/])datasets/([a-z0-9][\w-]*)(?![\w.-])", wheel.read(name).decode())
            )
    assert "faust" in named
    missing = {name for name in named if f"spheregeo/datasets/{name}/README.md" not in held}
    assert not missing, f"named by the package, without a card: {sorted(missing)}"


def test_the_wheel_of_the_source_archive_is_the_wheel_of_the_checkout(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    with tarfile.open(make("build_sdist", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (folder for folder in tmp_path.iterdir() if folder.is_dir())
    again = zipfile.ZipFile(make("build_wheel", tmp_path, source))
    assert set(again.namelist()) == set(wheel.namelist())
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert again.read(metadata) == wheel.read(metadata)


def find(modules: list[str], site: Path, cwd: Path) -> dict[str, str | None]:
    """Return where an interpreter that knows only ``site`` and the libraries finds the modules."""
    code = (
        "import importlib.util, json, site, sys\n"
        f"sys.path.append({sysconfig.get_path('purelib')!r})\n"  # the libraries, without reading their .pth files
        f"site.addsitedir({str(site)!r})\n"
        f"specs = {{name: importlib.util.find_spec(name) for name in {modules!r}}}\n"
        "print(json.dumps({name: spec and (spec.origin or str(list(spec.submodule_search_locations)))"
        " for name, spec in specs.items()}))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, str | None] = json.loads(run.stdout)
    return found


def test_editable_install_leaks_no_fact_folder(tmp_path: Path) -> None:
    pytest.importorskip("editables")
    site = tmp_path / "site"
    build("build_editable", tmp_path).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = find(["spheregeo", "datasets", "meshes", "benchmarks", "tests", "examples"], site, elsewhere)
    assert found.pop("spheregeo") == str(ROOT / "spheregeo" / "__init__.py")
    leaked = {name: origin for name, origin in found.items() if origin and str(ROOT / name) in origin}
    assert not leaked


def test_this_interpreter_finds_no_fact_folder(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u\n"
        "for name in ('datasets', 'meshes'):\n"
        "    spec = u.find_spec(name)\n"
        "    print(spec and (spec.origin or list(spec.submodule_search_locations)))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT / "datasets") not in run.stdout and str(ROOT / "meshes") not in run.stdout

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import spheregeo.data
from spheregeo.data import ManualDownloadError, download, fetch, registry, verify

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b"a small file"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/file.bin"
        httpd.shutdown()
        thread.join()


def card(url: str, digest: str) -> dict:
    files = [{"url": url, "path": "file.bin", "sha256": digest}]
    return {"kind": "download", "licence": "CC0", "layout": ["file.bin"], "files": files}


def test_a_file_arrives_once_and_whole(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry(), "small", card(server, hashlib.sha256(CONTENT).hexdigest()))
    target = tmp_path / "data"
    assert fetch("small", target) == target
    assert (target / "file.bin").read_bytes() == CONTENT
    monkeypatch.setitem(registry(), "small", card("http://127.0.0.1:9/gone", "0" * 64))
    assert fetch("small", target) == target  # it is there: nothing is asked for again


def test_another_hash_leaves_nothing_behind(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry(), "small", card(server, "0" * 64))
    with pytest.raises(ValueError, match="hash"):
        fetch("small", tmp_path / "data")
    assert not list((tmp_path / "data").glob("*"))


def test_what_needs_a_form_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        ManualDownloadError, match=r"(?s)licence: its own agreement.*1\. Fill in the form.*area_5a"
    ):
        fetch("stanford2d3ds", tmp_path)
    for file in registry()["stanford2d3ds"]["layout"]:
        (tmp_path / file).mkdir(parents=True)
    assert fetch("stanford2d3ds", tmp_path) == tmp_path


def test_generated_data_need_nothing_and_unknown_names_are_named(tmp_path: Path) -> None:
    assert fetch("rooms", tmp_path) == tmp_path
    with pytest.raises(
        ValueError, match=r"name is 'imagenet'; expected one of adsorbate-slabs, binary-images"
    ):
        fetch("imagenet", tmp_path)


def test_verify_compares_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(registry(), "small", {"kind": "manual", "sha256": {"a": good, "b": good, "c": good}})
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(CONTENT + b"!")
    assert verify("small", tmp_path) == {"a": "ok", "b": "differs", "c": "missing"}


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_registry", ROOT / "datasets" / "make_registry.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", sorted(maker().MADE), ids=lambda file: file.name)
def test_made_files_are_up_to_date(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == maker().MADE[file](), "run: python datasets/make_registry.py"


def test_a_name_is_public_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = maker()
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "__init__.py").touch()
    monkeypatch.setattr(module, "DATA", tmp_path)
    (tmp_path / "points" / "a.py").write_text('__all__ = ["One"]\n')
    (tmp_path / "points" / "b.py").write_text('__all__ = ["Two"]\n')
    assert module.public_names() == {"One": "points.a", "Two": "points.b"}
    for name, taken in (("One", "taken by points.a"), ("points", "taken by a file or folder")):
        (tmp_path / "points" / "b.py").write_text(f'__all__ = ["{name}"]\n')
        with pytest.raises(ValueError, match=f"points.b lists '{name}', which is {taken}"):
            module.public_names()


def test_public_names_are_loaded_when_used() -> None:
    code = """
import sys
import spheregeo.data as data
from spheregeo.data import Rooms, download
assert {"Rooms", "RoomsData", "points"} <= set(dir(data)), "not listed"
assert data.meshes.__name__ == "spheregeo.data.meshes", "folders are found"
assert data.collate([{"image": __import__("torch").zeros(1)}])["image"].shape == (1, 1), "a function, no module"
assert "lightning" not in sys.modules, "lightning came along"
data.RoomsData
assert "lightning" in sys.modules
try:
    data.Nothing
except AttributeError as error:
    assert "has no attribute 'Nothing'; if it is new in the __all__" in str(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_entry_says_what_a_reader_needs(name: str) -> None:
    entry = registry()[name]
    assert entry["title"] and entry["licence"] and entry["kind"] in ("generated", "manual", "download")
    assert entry["kind"] != "manual" or (entry["steps"] and entry["layout"])
    assert entry["kind"] != "download" or all(len(file["sha256"]) == 64 for file in entry["files"])
    for module in (entry["module"], *entry.get("more_modules", [])):
        room, _, attribute = module.rpartition(".")
        assert room == "spheregeo.data" and attribute in spheregeo.data.__all__


def test_folds_part_the_areas() -> None:
    folds = registry()["stanford2d3ds"]["folds"]
    areas = {"area_1", "area_2", "area_3", "area_4", "area_5a", "area_5b", "area_6"}
    assert sorted(folds) == ["1", "2", "3"]
    assert all(
        set(f["train"]) | set(f["test"]) == areas and not set(f["train"]) & set(f["test"])
        for f in folds.values()
    )
    tested = [area for fold in folds.values() for area in fold["test"]]
    assert sorted(tested) == sorted(areas)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert (
        download.sha256(tmp_path / "empty")
        == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )

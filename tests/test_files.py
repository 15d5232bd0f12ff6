"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from spheregeo.files import ABANDONED, atomic_path, reading, write_bytes, write_json


def test_a_write_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
    assert path.read_text() == "second" and [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_no_space_is_reported_from_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_a_killed_writer_left_is_removed_in_time(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file.bin") as temporary:
        left = temporary
    left.write_bytes(b"half of someth")
    write_bytes(tmp_path / "file.bin", b"whole")
    assert left.exists()  # it may be another process's, still writing
    os.utime(left, (0, time.time() - 2 * ABANDONED))
    (tmp_path / ".file.bin.mine").write_bytes(b"not ours")
    write_bytes(tmp_path / "file.bin", b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".file.bin.mine", "file.bin"]


def test_permissions_are_those_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_each_writer_has_a_temporary_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_path(path) as slow:
        slow.write_text("slow")
        write_bytes(path, b"quick")
        assert path.read_text() == "quick"
    assert path.read_text() == "slow" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_is_strict_where_asked(tmp_path: Path) -> None:
    assert (
        write_json(tmp_path / "a.json", {"a": [1, None]}).read_text()
        == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"), allow_nan=False)
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("node"),
        IndexError("9"),
        EOFError(),
        StopIteration(),
        MemoryError(),
        OSError("torn"),
        ValueError("-1 faces"),
    ],
)
def test_every_fault_of_a_file_names_it(fault: Exception) -> None:
    with (
        pytest.raises(ValueError, match=r"^scan\.ply cannot be read as a cloud: .+"),
        reading("scan.ply", "a cloud"),
    ):
        raise fault


def test_errors_that_name_the_file_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), reading(tmp_path / "nowhere", "a cloud"):
        open(tmp_path / "nowhere").close()
    with pytest.raises(ValueError, match=r"^scan\.ply states 9 faces"), reading("scan.ply", "a cloud"):
        raise ValueError("scan.ply states 9 faces, holds 3")
    with pytest.raises(ImportError, match="laspy"), reading("scan.las", "a cloud"):
        raise ImportError("laspy")
    with pytest.raises(KeyboardInterrupt), reading("scan.ply", "a cloud"):
        raise KeyboardInterrupt


def test_a_library_s_own_number_is_no_error_of_the_system() -> None:
    with pytest.raises(ValueError, match=r"a\.nc cannot be read as NetCDF"), reading("a.nc", "NetCDF"):
        raise OSError(-101, "NetCDF: HDF error", "a.nc")


def test_another_encoding_is_named_by_its_byte() -> None:
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(byte 1"), reading("names.csv", "a table"):
        b"a\xff".decode()

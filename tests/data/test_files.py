from __future__ import annotations

from pathlib import Path

import pytest

from spheregeo.data.files import atomic_path, read_class_names


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


def test_class_names_may_have_comments(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("# two classes\nfloor\n\ndining table  # with legs\n")
    assert read_class_names(tmp_path / "classes.txt") == ("floor", "dining table")

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from spheregeo.data.files import read_array, read_class_names, read_class_table


def test_class_names_may_have_comments(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("# two classes\nfloor\n\ndining table  # with legs\n")
    assert read_class_names(tmp_path / "classes.txt") == ("floor", "dining table")


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("T\u00fcr\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"classes\.txt is not UTF-8"):
        read_class_names(tmp_path / "classes.txt")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_torn_arrays_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    whole = tmp_path / f"whole{suffix}"
    values = np.random.default_rng(0).normal(size=(20, 40))
    np.save(whole, values) if suffix == ".npy" else np.savez_compressed(whole, values=values)
    stored = read_array(whole)
    np.testing.assert_array_equal(stored["values"] if isinstance(stored, dict) else stored, values)
    content = whole.read_bytes()
    (tmp_path / f"torn{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=f"torn{suffix} cannot be read as an array"):
        read_array(tmp_path / f"torn{suffix}")


def test_arrays_of_anything_but_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(ValueError, match=r"words\.npy holds values of type <U1"):
        read_array(tmp_path / "words.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"objects\.npy cannot be read as an array"):
        read_array(tmp_path / "objects.npy")
    np.savez(tmp_path / "both.npz", name=np.array("elevation"), values=np.ones(3))
    assert list(read_array(tmp_path / "both.npz")) == ["values"]


def test_headers_of_arrays_fit_their_contents(tmp_path: Path) -> None:
    values = np.arange(40.0).reshape(4, 10)
    np.save(tmp_path / "a.npy", values)
    content = (tmp_path / "a.npy").read_bytes()
    for said in (b"(4,  9)", b"(3, 10)", b"(9**9,)", b"(-4,10)"):
        (tmp_path / "b.npy").write_bytes(content.replace(b"(4, 10)", said))
        with pytest.raises(ValueError, match=r"b\.npy cannot be read as an array"):
            read_array(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", values=values)
    packed = (tmp_path / "c.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("values.npy", content + content)
    with pytest.raises(
        ValueError, match=r"d\.npz cannot be read as an array: .*asks for 320 bytes .* but 768 follow"
    ):
        read_array(tmp_path / "d.npz")
    (tmp_path / "c.npz").write_bytes(packed.replace(b"(4, 10)", b"(4,  9)"))
    with pytest.raises(ValueError, match=r"c\.npz cannot be read as an array"):
        read_array(tmp_path / "c.npz")


def test_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbffloor\r\nwall\t\r\n")
    assert read_class_names(tmp_path / "classes.txt") == ("floor", "wall")


@pytest.mark.parametrize(
    "text",
    [
        "floor 128 64 0\ndining table 0 0 9\n",
        "\ufefffloor\t128\t64\t0  \r\ndining table\t0\t0\t9\t\r\n\r\n",
        "floor, 128, 64, 0\ndining table: (0, 0, 9)  # with legs\n",
    ],
)
def test_class_names_may_have_colours(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode())
    names, colours = read_class_table(tmp_path / "classes.txt")
    assert names == read_class_names(tmp_path / "classes.txt") == ("floor", "dining table")
    np.testing.assert_array_equal(colours, [[128, 64, 0], [0, 0, 9]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nb\n", "some classes but not to 'b'"),
        ("a 1 2 3\nb 1 2 3\n", "one for two classes"),
        ("a 1 2 999\nb 1 2 3\n", "beyond 255"),
    ],
)
def test_colours_of_classes_that_cannot_be_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"classes\.txt .*{message}"):
        read_class_names(tmp_path / "classes.txt")

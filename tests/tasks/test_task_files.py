"""Files are whole or absent, on a full disk too; checkpoints hold nothing but tensors and plain types."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spheregeo.tasks import AtomicCheckpointIO, read_checkpoint


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel refuses to let any file grow beyond 4 kB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    good = {"state_dict": {"w": torch.arange(3.0)}, "epoch": 1}
    writer.save_checkpoint(good, path)
    with pytest.raises(OSError, match=r"no space left.*is intact") as caught:
        writer.save_checkpoint({"state_dict": {"w": torch.zeros(10_000)}, "epoch": 2}, path)
    assert caught.value.filename == str(path)
    assert read_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_unreadable_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "torn.ckpt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match="no readable checkpoint"):
        read_checkpoint(tmp_path / "torn.ckpt")
    torch.save({"state_dict": {}, "code": Path}, tmp_path / "pickle.ckpt")
    with pytest.raises(ValueError, match="no readable checkpoint"):
        read_checkpoint(tmp_path / "pickle.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="no 'state_dict'"):
        read_checkpoint(tmp_path / "list.ckpt")

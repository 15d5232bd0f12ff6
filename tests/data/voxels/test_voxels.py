"""Volumes: generated, from folders, from MedMNIST3D's layout, turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import (
    MedMNIST3D,
    MedMNIST3DData,
    Solids,
    SolidsData,
    VoxelFolder,
    VoxelFolderData,
    read_volume,
)
from spheregeo.data.voxels.turns import cube_rotations, rotation_of, turn


def test_solids_depend_on_seed_split_and_number_alone() -> None:
    again = [Solids(8, size=8, seed=1)[3] for _ in range(2)]
    assert np.array_equal(*again) and again[0].dtype == np.float32
    others = [
        Solids(8, size=8, seed=2)[3],
        Solids(8, size=8, seed=1, split="test")[3],
        Solids(16, size=8, seed=1)[11],
    ]
    assert not any(np.array_equal(again[0], other) for other in others)


@pytest.mark.parametrize("index", range(8))
def test_solids_turned_are_the_upright_ones_turned(index: int) -> None:
    upright = Solids(8, size=12, noise=0.0, seed=4)
    turned = Solids(8, size=12, noise=0.0, seed=4, rotation="cube")
    key = np.random.SeedSequence(entropy=4, spawn_key=(5, 0, index))
    rng = np.random.default_rng(key)
    rng.uniform(size=3), rng.uniform(), rng.uniform(size=3)
    rotation = rotation_of("cube", rng)
    place = np.random.default_rng(key)
    place.uniform(size=3), place.uniform()
    shift = place.uniform(-0.08, 0.08, 3)
    if np.abs(rotation - np.eye(3)).max() > 0:
        assert not np.allclose(upright[index], turned[index])
    # the same solid about its own place: equal up to the voxel of the place
    assert turned[index].sum() == pytest.approx(upright[index].sum(), rel=0.05 + np.abs(shift).max())


def test_turns_of_the_cube_are_exact_and_compose() -> None:
    volume = np.random.default_rng(0).standard_normal((2, 5, 5, 5)).astype(np.float32)
    turns = cube_rotations()
    assert turns.shape == (24, 3, 3) and np.allclose(np.linalg.det(turns), 1)
    for a, b in ((turns[3], turns[7]), (turns[11], turns[20])):
        assert np.array_equal(turn(turn(volume, b), a), turn(volume, a @ b))
    # interpolation at a symmetry is the permutation
    for rotation in turns[::5]:
        slow = turn(volume, rotation + 1e-7)
        assert np.abs(slow - turn(volume, rotation)).max() < 1e-5


def test_interpolated_turns_agree_with_the_function() -> None:
    axis = np.arange(16) - 7.5
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    rotation = rotation_of("so3", np.random.default_rng(2))
    value = [np.exp(-((p - [2.0, -1.0, 0.5]) ** 2).sum(-1) / 50) for p in (points, points @ rotation)]
    assert np.abs(turn(value[0][None], rotation)[0] - value[1])[3:-3, 3:-3, 3:-3].max() < 0.02
    with pytest.raises(ValueError, match="rotation is 'all'"):
        rotation_of("all", np.random.default_rng(0))


def medmnist(path: Path, parts: tuple[str, ...] = ("train", "val", "test"), **arrays: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    content = {}
    for part in parts:
        count = 20 if part == "train" else 4
        content[f"{part}_images"] = rng.integers(0, 256, (count, 6, 6, 6), np.uint8)
        content[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(path, **{**content, **arrays})
    return path


def test_medmnist_layout(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "adrenalmnist3d_64.npz")
    stored = np.load(path)
    data = MedMNIST3D(path, "val")
    assert data.class_names == ("normal", "hyperplasia") and len(data) == 4
    assert np.allclose(data[2][0], stored["val_images"][2] / 255) and list(data.labels) == [0, 1, 0, 1]
    # without a test part, every tenth training volume is held out, and no volume is in two splits
    path = medmnist(tmp_path / "mine.npz", ("train", "val"))
    train, test = MedMNIST3D(path), MedMNIST3D(path, "test")
    assert (len(train), len(test), train.class_names) == (18, 2, ("0", "1"))
    assert not any(np.array_equal(test[0], train[k]) for k in range(len(train)))
    batch = next(iter(MedMNIST3DData(str(path), batch_size=3, train_rotation="cube").train_dataloader()))
    assert batch["volume"].shape == (3, 1, 6, 6, 6) and batch["volume"].dtype == torch.float32


def test_masks_packed_as_bits(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (20, 8, 8, 8)).astype(np.uint8)
    labels = np.arange(20)[:, None] % 2
    path = tmp_path / "packed.npz"
    np.savez(path, train_images=np.packbits(masks, axis=-1), train_labels=labels)
    data = MedMNIST3DData(str(path), packed=True, batch_size=2)
    assert data.shape == (1, 8, 8, 8)
    assert np.array_equal(MedMNIST3D(path, "test", packed=True)[1][0], masks[19])
    with pytest.raises(ValueError, match="packed is True"):
        MedMNIST3D(medmnist(tmp_path / "wide.npz", train_images=masks.astype(np.int16)), packed=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_labels": np.zeros((3, 1), np.uint8)}, "train_labels"),
        ({"train_labels": np.full((20, 1), -1)}, "no classes"),
        ({"train_images": np.zeros((20, 6), np.uint8)}, "train_images has shape"),
    ],
)
def test_other_layouts_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        MedMNIST3D(medmnist(tmp_path / "odd.npz", **arrays))
    assert "odd.npz" in str(caught.value)


def test_folders_and_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for k in range(10):
            np.save(tmp_path / name / f"{k}.npy", rng.standard_normal((5, 5, 5)))
    data = VoxelFolder(tmp_path)
    assert data.class_names == ("left", "right") and len(data) == 16 and data[0].shape == (1, 5, 5, 5)
    module = VoxelFolderData(str(tmp_path), batch_size=4)
    assert (module.num_classes, module.in_channels, module.size) == (2, 1, [5, 5, 5])
    np.save(tmp_path / "left" / "0.npy", rng.standard_normal((4, 5, 5)))
    with pytest.raises(ValueError, match="have the shapes"):
        next(iter(VoxelFolderData(str(tmp_path), batch_size=16).train_dataloader()))

    for content, message in (
        (np.zeros((5, 5)), "shape"), (np.full((3, 3, 3), np.nan), "27 NaN"), (np.zeros((0, 3, 3)), "shape"),
        (np.full((3, 3, 3), 1e300), "values up to"), (np.zeros((3, 3, 3), complex), "type complex"),
    ):  # fmt: skip
        np.save(tmp_path / "bad.npy", content)
        with pytest.raises(ValueError, match=message) as caught:
            read_volume(tmp_path / "bad.npy")
        assert "bad.npy" in str(caught.value)
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 3, 3)), b=np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match="2 arrays"):
        read_volume(tmp_path / "two.npz")
    np.save(tmp_path / "whole.npy", np.full((2, 3, 4, 5), 128, np.uint8))
    assert read_volume(tmp_path / "whole.npy") == pytest.approx(128 / 255)
    np.save(tmp_path / "deep.npy", np.full((3, 4, 5), 513, np.uint16))
    assert read_volume(tmp_path / "deep.npy") == pytest.approx(513 / 65535)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64"])
def test_masks_stay_0_and_1(tmp_path: Path, dtype: str) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    np.save(tmp_path / "mask.npy", mask)
    assert np.array_equal(read_volume(tmp_path / "mask.npy")[0], mask)


def test_hounsfield_units_stay_as_they_are(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).integers(-1000, 3000, (3, 4, 5)).astype(np.int16)
    np.save(tmp_path / "scan.npy", scan)
    assert np.array_equal(read_volume(tmp_path / "scan.npy")[0], scan)


def test_a_file_of_many_volumes_has_one_scale(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 2, (20, 6, 6, 6)).astype(np.uint8)
    held = {f"{part}_images": images[:4] for part in ("val", "test")}
    masks = MedMNIST3D(medmnist(tmp_path / "masks.npz", train_images=images, **held), "val")
    assert np.array_equal(masks[0][0], images[0])
    images[19] *= 200  # one volume of greys makes greys of them all, in every split
    greys = MedMNIST3D(medmnist(tmp_path / "greys.npz", train_images=images, **held), "val")
    assert np.allclose(greys[0][0], images[0] / 255)


def test_nifti(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).standard_normal((4, 5, 6, 2)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "brain.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "brain.nii.gz"), np.moveaxis(values, -1, 0))
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "brain.nii.gz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cut\.nii\.gz"):
        read_volume(tmp_path / "cut.nii.gz")


def test_training_turns_are_drawn_anew_and_resume() -> None:
    data = SolidsData(train=8, val=8, test=8, voxels=8, train_rotation="so3", num_workers=0)
    items = data.items("train")
    assert torch.equal(items[(1, 2)]["volume"], items[(1, 2)]["volume"])
    assert not torch.equal(items[(1, 2)]["volume"], items[(2, 2)]["volume"])
    with pytest.raises(ValueError, match="rotation is 'any'"):
        SolidsData(train_rotation="any")  # type: ignore[arg-type]

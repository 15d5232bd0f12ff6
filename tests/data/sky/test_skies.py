"""Generated skies: what a sky depends on, its spectra, and what a network is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import (
    GeneratedSkies,
    GeneratedSkiesData,
    SkyFolder,
    SkyFolderData,
    SkyMap,
    SkyPreparation,
    cmb_like_spectrum,
    deflection_like_spectrum,
    write_sky_map,
)
from spheregeo.grids import HEALPix
from spheregeo.spectral import SHT, deflection_field, power_spectrum, random_coefficients

ARCMINUTE = np.pi / 10800


def test_a_sky_depends_on_seed_split_and_index() -> None:
    skies = GeneratedSkies(4, nside=4)
    assert torch.equal(skies[2]["observed"], GeneratedSkies(9, nside=4)[2]["observed"])
    for other in (GeneratedSkies(4, nside=4, seed=1), GeneratedSkies(4, nside=4, split="test")):
        assert not torch.equal(skies[2]["observed"], other[2]["observed"])
    with pytest.raises(IndexError):
        skies[4]
    with pytest.raises(ValueError, match="masked is 1"):
        GeneratedSkies(1, masked=1)


def test_parts_of_a_sky_can_be_left_out() -> None:
    plain = {"noise": 0.0, "foreground": 0.0, "nside": 8}
    sky = GeneratedSkies(1, **plain, bands=(1.0, 2.0), deflection=0.0)[0]  # type: ignore[arg-type]
    assert torch.equal(sky["observed"], sky["truth"].expand(2, -1)) and bool((sky["mask"] == 1).all())
    lensed = GeneratedSkies(1, **plain, deflection=600.0)[0]  # type: ignore[arg-type]
    hidden = GeneratedSkies(1, **plain, deflection=600.0, unlensed=True)[0]  # type: ignore[arg-type]
    assert torch.equal(lensed["observed"], hidden["observed"]) and torch.equal(hidden["truth"], sky["truth"])
    assert 0.05 < float((lensed["truth"] - hidden["truth"]).std() / hidden["truth"].std()) < 1.5
    seen = GeneratedSkies(1, nside=8, masked=0.25)[0]
    assert float(seen["mask"].mean()) == pytest.approx(0.75, abs=0.01)
    assert bool((seen["observed"][:, seen["mask"] == 0] == 0).all())
    smooth = GeneratedSkies(1, **plain, deflection=0.0, beam=30.0)[0]  # type: ignore[arg-type]
    assert float(smooth["observed"].std()) < 0.8 * float(smooth["truth"].std())


def test_skies_have_the_spectra_that_they_are_made_with() -> None:
    spectrum = cmb_like_spectrum(16)
    skies = GeneratedSkies(60, nside=8, deflection=2.7)
    truth = torch.stack([skies[k]["truth"] for k in range(60)]).double()
    power = power_spectrum(SHT(HEALPix(8), 16)(truth)).mean(0)
    assert torch.allclose(power[2:16] / spectrum[2:16], torch.ones(14).double(), atol=0.25)
    assert float((power[2:16] / spectrum[2:16]).mean()) == pytest.approx(1, abs=0.05)
    potential = random_coefficients(
        deflection_like_spectrum(20, 0.01), (200,), torch.Generator().manual_seed(0)
    )
    size = deflection_field(potential, HEALPix(8)).square().sum(1).mean().sqrt()
    assert float(size) == pytest.approx(0.01, rel=0.03)


def test_folders_of_own_maps(tmp_path: Path) -> None:
    skies = GeneratedSkies(4, nside=8)
    for k in range(4):
        for kind, values in (("observed", skies[k]["observed"]), ("truth", skies[k]["truth"][None] + 5)):
            sky = SkyMap(values.double().numpy() / 1e3, HEALPix(8), ("T",), ("mK",), "G")
            write_sky_map(tmp_path / kind / f"s{k}.fits", sky.in_order("nested"), "float64")
    mask = SkyMap((np.arange(768) > 99)[None].astype(float), HEALPix(8), ("MASK",))
    write_sky_map(tmp_path / "observed" / "masks" / "mask.fits", mask)
    data = SkyFolderData(str(tmp_path), nside=8)
    counts = {split: len(data.skies(split)) for split in ("train", "val", "test")}
    assert counts == {"train": 2, "val": 1, "test": 1}
    folder = data.skies("val")
    number, item = int(folder.name(0)[1]), folder[0]
    assert torch.allclose(item["truth"], skies[number]["truth"] - skies[number]["truth"].mean(), atol=1e-3)
    assert torch.allclose(item["observed"], skies[number]["observed"] * item["mask"], atol=1e-3)
    assert bool((item["mask"] == (torch.arange(768) > 99)).all())
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 768)
    assert SkyFolder(tmp_path, 4, split="test")[0]["truth"].shape == (192,)
    # what is masked gets into no mean of pixels, as in prediction
    bright = SkyMap(
        np.where(np.arange(768) % 4 == 1, 1e9, 1.0)[None], HEALPix(8, "nested"), ("T",), ("uK",), "G"
    )
    source = replace(bright, values=(bright.values < 1e6).astype(float))
    name = SkyFolder(tmp_path, 4, split="test").name(0)
    write_sky_map(tmp_path / "observed" / name, bright)
    write_sky_map(tmp_path / "observed" / "masks" / name, source)
    assert bool((SkyFolder(tmp_path, 4, split="test")[0]["observed"] == 1).all())
    write_sky_map(tmp_path / "truth" / name, replace(source, frame="E"))
    with pytest.raises(ValueError, match=r"is in frame G and .* in E; expected one frame"):
        SkyFolder(tmp_path, 4, split="test")[0]
    write_sky_map(tmp_path / "truth" / name, replace(source, units=("MJy/sr",)))
    with pytest.raises(ValueError, match="T in 'MJy/sr'; expected a temperature"):
        SkyFolder(tmp_path, 4, split="test")[0]
    with pytest.raises(ValueError, match="has 1 fields at nside 8; expected at least 2 at 8"):
        SkyFolder(tmp_path, 8, bands=2)[0]
    (tmp_path / "truth" / "s1.fits").unlink()
    with pytest.raises(FileNotFoundError, match="expected the sky behind the observed"):
        SkyFolder(tmp_path, 8)


def test_batches_are_of_unit_size_and_hold_the_filters_answer() -> None:
    data = GeneratedSkiesData(nside=8, train=8, val=2, test=2, batch_size=8, bands=(1.0, 3.0), masked=0.2)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 4, 768) and batch["target"].shape == (8, 768) and data.in_channels == 4
    assert batch["image"][:, :2].square().mean((0, 2)).tolist() == pytest.approx([1, 1], abs=0.02)
    assert bool(torch.isin(batch["image"][:, 3], torch.tensor([0.0, 1.0])).all())
    assert np.array(data.wiener).shape == (2, 17) and data.std[2] == pytest.approx(
        float(batch["target"].square().mean().sqrt()), rel=0.05
    )
    again = SkyPreparation(data.grid, torch.tensor(data.wiener), data.std)
    sky = data.skies("val")[1]
    assert torch.allclose(again(sky["observed"], sky["mask"]), data.dataset("val")[1]["image"], atol=1e-5)
    lifted = again(sky["observed"] + 500.0, sky["mask"])  # a monopole is no part of the sky
    assert torch.allclose(lifted, data.dataset("val")[1]["image"], atol=2e-4)
    holes = torch.where(sky["mask"] > 0, sky["observed"], torch.nan)
    assert torch.allclose(again(holes, sky["mask"]), data.dataset("val")[1]["image"], atol=1e-5)

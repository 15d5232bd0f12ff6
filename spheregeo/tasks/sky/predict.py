"""FITS maps in, restored FITS maps out, with pictures and spectra."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spheregeo.data import SkyMap, read_sky_map, read_sky_mask, write_sky_map
from spheregeo.data.sky.files import find_mask
from spheregeo.data.sky.maps import is_unstated, temperature
from spheregeo.grids import HEALPix
from spheregeo.spectral import SHT, power_spectrum
from spheregeo.tasks.answers import ended
from spheregeo.tasks.checks import check_output
from spheregeo.tasks.pictures.sky import maps_picture, spectra_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

if TYPE_CHECKING:
    from spheregeo.tasks.sky.restoration import SkyRestoration

SUFFIXES = (".fits", ".fit")
GUESSES = {"µK": 1.0, "mK": 1e3, "K": 1e6}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sky:
    """A map that waits for its answer.

    Args:
        sky: the bands on the task's grid, in µK.
        mask: weight of each pixel.
        note: what had to be guessed.
    """

    sky: SkyMap
    mask: Array
    note: str = ""


def prepare_sky(task: SkyRestoration, sky: SkyMap, mask: SkyMap | None = None, name: str = "the map") -> Sky:
    """Return a map as the task takes it: its bands in µK, on the task's grid, with the mask of what is there.

    Args:
        task: the task that will restore.
        sky: the map; the first fields are the bands. A unit that it does not state is the one that fits the training best.
        mask: the mask; missing pixels are masked in any case.
        name: what messages call the map.

    Raises: ValueError for fewer fields than bands, coarser pixels than the task's, units of no temperature, or nothing seen.
    """
    bands = task.in_channels - 2
    if len(sky.values) < bands:
        raise ValueError(f"{name} has {len(sky.values)} fields but the model was trained on {bands} bands")
    if not isinstance(task.grid, HEALPix) or task.grid.nested:
        raise ValueError(f"the model works on {task.grid!r}; expected HEALPix in ring order to restore maps")
    nside = task.grid.nside
    if sky.grid.nside < nside:
        raise ValueError(
            f"{name} has nside {sky.grid.nside} but the model works at {nside}; load the model for coarser pixels "
            f"(--grid 'HEALPix({sky.grid.nside})')"
        )
    stated = sky.in_microkelvin()
    if mask is not None:
        stated = stated.masked(mask)
    ready = stated.select(range(bands)).in_order("ring").at_nside(nside)
    seen = np.isfinite(ready.values).all(0)
    if not seen.any():
        raise ValueError(
            f"{name} has no pixel that is seen in all bands; expected values, and a mask that is 1 somewhere"
        )
    guessed, factors = [], np.ones((bands, 1))
    for k, (field, unit) in enumerate(zip(ready.names, ready.units, strict=True)):
        if is_unstated(unit):
            spread = float(np.std(ready.values[k][seen])) or 1.0
            guess = min(GUESSES, key=lambda u: abs(np.log(GUESSES[u] * spread / float(task.image_std[k]))))
            factors[k] = GUESSES[guess]
            guessed.append(guess)
        elif temperature(unit) is None:
            raise ValueError(f"{name} has {field} in {unit!r}; expected a temperature: K, mK or µK")
    ready = replace(ready, values=ready.values * factors, units=("uK",) * bands)
    note = f"; states no unit, taken to be in {', '.join(dict.fromkeys(guessed))}" if guessed else ""
    return Sky(ready, seen.astype(np.float32), note)


def restore(task: SkyRestoration, skies: list[Sky]) -> list[torch.Tensor]:
    """Restored maps and the Wiener filter's answers in µK, (2, N) each."""
    images = []
    for sky in skies:
        observed = torch.from_numpy(np.nan_to_num(sky.sky.values, nan=0.0)).float()
        images.append(task.preparation(observed, torch.from_numpy(sky.mask)))
    image = torch.stack(images)
    with torch.no_grad():
        answers = task.decide(check_output(task.eval().network(image.to(task.device)))).cpu()
    return [torch.stack([answer, task.scale * i[-2]]) for answer, i in zip(answers, image)]


def predict_skies(
    task: SkyRestoration, source: Path, output: Path, options: PredictOptions | None = None
) -> None:
    """Restore a FITS map or a folder of FITS maps.

    Args:
        task: the task that restores.
        source: file or folder.
        output: folder of the answers.
        options: how files are predicted.

    Raises: FileNotFoundError without maps; ValueError for bad ones, after the others are done.
    """

    def read(path: Path) -> list[Sky]:
        beside = find_mask(path)
        mask = read_sky_mask(beside) if beside is not None else None
        return [prepare_sky(task, read_sky_map(path), mask, str(path))]

    def ask(skies: list[Sky], names: list[str]) -> list[torch.Tensor]:
        return restore(task, skies)

    def write(path: Path, stem: Path, skies: dict[int, Sky], answers: list[torch.Tensor]) -> Written:
        sky, found = skies[0], answers[0].numpy()
        seen = sky.mask > 0
        shown = np.where(seen, found, np.nan)
        assert isinstance(task.grid, HEALPix)
        restored = SkyMap(shown[:1].astype(np.float64), task.grid, ("RESTORED",), ("uK",), sky.sky.frame)
        files = [write_sky_map(ended(stem, "_restored.fits"), restored)]
        observed = sky.sky.values[0] - np.mean(sky.sky.values[0][seen])
        maps = [observed, shown[1], shown[0]]
        columns = ["observed", "Wiener filter", "restored"]
        files.append(maps_picture(ended(stem, "_maps.png"), [maps], columns, task.grid, "µK", [path.name]))
        analysis = SHT(task.grid, task.gains.shape[1] - 1)
        stacked = torch.from_numpy(np.where(seen, np.stack(maps), 0.0)).float()
        spectra = power_spectrum(analysis(stacked)) / float(sky.mask.mean())
        named = dict(zip(columns, spectra.numpy(), strict=True))
        files.append(spectra_picture(ended(stem, "_spectra.png"), named, {}, "µK²"))
        spread = [float(np.std(field[seen])) for field in maps]
        line = f"{', '.join(f.name for f in files)} in {output}{sky.note}"
        return Written(line, [[path.name, float(sky.mask.mean()), *spread]])

    job = Job(
        SUFFIXES, "map", "maps", read, ask, write, endings=["_restored.fits", "_maps.png", "_spectra.png"],
        columns=["sample", "seen", "observed rms [uK]", "Wiener rms [uK]", "restored rms [uK]"],
    )  # fmt: skip
    predict_files(job, source, output, options)

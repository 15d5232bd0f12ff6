"""Panoramas to compressed files and back: files are found, a checkpoint is asked, each file has a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.cli.checkpoints import run_folder, trained_model
from spheregeo.coding import read_compressed, write_compressed
from spheregeo.coding.container import SUFFIX
from spheregeo.files import atomic_path
from spheregeo.grids import parse_grid

RECIPE = "compress-sphere"
LARGE = 2_000_000  # pixels from which on each stage has a line
KINDS = (".png", ".npz")


def load_codec(checkpoint: str | None) -> Any:
    """Return the codec of a trained task of compression.

    Args:
        checkpoint: checkpoint, folder of a run, exported model; the best of runs/compress-sphere if None.

    Raises: FileNotFoundError without one; ValueError for a checkpoint of another task.
    """
    import torch

    from spheregeo import tasks

    path = trained_model(RECIPE, run_folder(RECIPE, None), checkpoint)
    task = tasks.load(path)
    if not isinstance(task, tasks.Compression):
        raise ValueError(f"{path} holds a {type(task).__name__}; expected a model of compress-sphere")
    return tasks.Codec(task.cuda() if torch.cuda.is_available() else task)


def _targets(source: Path, suffixes: Sequence[str], output: str | None, ending: str, kinds: Sequence[str], thing: str,
             overwrite: bool) -> list[tuple[Path, Path]]:  # fmt: skip
    """Files and what each becomes."""
    from spheregeo.tasks.inputs import find_files

    files = find_files(source, suffixes, thing)
    if output is None:
        pairs = [(path, path.with_suffix(ending)) for path in files]
    elif Path(output).suffix.lower() in kinds:
        if len(files) > 1:
            raise ValueError(
                f"--output is the file {output} but {source} holds {len(files)} files; name a folder"
            )
        pairs = [(files[0], Path(output))]
    else:
        pairs = [(path, Path(output) / (path.stem + ending)) for path in files]
    seen: dict[Path, Path] = {}
    for path, target in pairs:
        if target in seen:
            raise ValueError(f"{path} and {seen[target]} would both become {target}; rename one")
        seen[target] = path
        if target.exists() and not overwrite:
            raise ValueError(f"{target} exists; pass --overwrite, or name another place with --output")
    return pairs


def _each(pairs: Sequence[tuple[Path, Path]], do: Callable[[Path, Path], str]) -> None:
    """Do something with each file; a bad one costs its own answer, and the command fails at its end. Raises: ValueError."""
    from spheregeo.tasks.inputs import Progress, fault, is_full_disk

    faults, progress = [], Progress(len(pairs), "files")
    for number, (path, target) in enumerate(pairs):
        progress(number)
        begin = time.perf_counter()
        try:
            line = do(path, target)
        except Exception as error:
            if len(pairs) == 1 or is_full_disk(error):
                raise
            faults.append(fault(str(path), error))
            print(f"failed: {faults[-1]}", flush=True)
            continue
        print(f"{path.name}: {line}, {time.perf_counter() - begin:.1f} s", flush=True)
    if faults:
        raise ValueError(f"{len(faults)} of {len(pairs)} files failed: {'; '.join(faults)}")


def _teller(path: Path, pixels: int) -> Callable[[str], None]:
    """What tells the stages of a large image."""

    def tell(text: str) -> None:
        print(f"{path.name}: {text}", file=sys.stderr, flush=True)

    return tell if pixels >= LARGE else lambda text: None


def encode(
    source: str, checkpoint: str | None, output: str | None, grid: str | None, *, check: bool, overwrite: bool
) -> None:
    """Compress a panorama or a folder of them.

    Args:
        source: photo or folder of photos.
        checkpoint: as for :func:`load_codec`.
        output: file or folder; beside the photos if None.
        grid: grid of the coding; the codec's choice if None.
        check: decode each file again and print its WS-PSNR.
        overwrite: replace files that exist.

    Raises: FileNotFoundError, ValueError for what is missing or bad; of a folder, after the others are done.
    """
    import torch

    from spheregeo.tasks.sphere.fidelity import psnr, ws_weights
    from spheregeo.tasks.sphere.predict import SUFFIXES, read_photo

    pairs = _targets(Path(source), SUFFIXES, output, SUFFIX, (SUFFIX,), "photo", overwrite)
    codec = load_codec(checkpoint)
    chosen = None if grid is None else parse_grid(grid)

    def do(path: Path, target: Path) -> str:
        photo = read_photo(path)
        height, width = photo.shape[1:]
        photo = photo if codec.task.in_channels == 3 else photo.mean(0, keepdim=True)
        encoded = codec.encode(photo, chosen, _teller(path, height * width))
        write_compressed(target, encoded.file)
        line = (
            f"{height} x {width} to {target}, {encoded.bits // 8:,} bytes, {encoded.bits / (height * width):.4f} bits per pixel, "
            f"{encoded.bits_per_steradian:,.0f} per steradian"
        )
        if check:
            found = torch.from_numpy(codec.decode(read_compressed(target))).permute(2, 0, 1)[None] / 255
            line += f", WS-PSNR {float(psnr(found, photo[None], ws_weights(height, width))):.2f} dB"
        return line

    _each(pairs, do)


def decode(
    source: str,
    checkpoint: str | None,
    output: str | None,
    size: Sequence[int] | None,
    ending: str,
    *,
    overwrite: bool,
) -> None:
    """Decode a compressed panorama or a folder of them.

    Args:
        source: file or folder of files.
        checkpoint: as for :func:`load_codec`.
        output: file (PNG or npz, with the array ``image``) or folder; beside the input if None.
        size: rows and columns; those of the photos if None.
        ending: ".png" or ".npz", where ``output`` names no file.
        overwrite: replace files that exist.

    Raises: FileNotFoundError, ValueError for what is missing or bad; of a folder, after the others are done.
    """
    from spheregeo.files import reading
    from spheregeo.tasks.pictures.fields import write_png

    pairs = _targets(Path(source), (SUFFIX,), output, ending, KINDS, "compressed panorama", overwrite)
    codec = load_codec(checkpoint)

    def do(path: Path, target: Path) -> str:
        file = read_compressed(path)
        height, width = file.size if size is None else size
        with reading(path, "a compressed panorama"):
            picture = codec.decode(file, (height, width), _teller(path, height * width))
        if target.suffix.lower() == ".npz":
            with atomic_path(target) as temporary, open(temporary, "wb") as opened:
                np.savez_compressed(opened, image=picture)
        else:
            write_png(target, picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
        return f"{height} x {width} to {target}"

    _each(pairs, do)

"""FITS files of HEALPix maps, masks and spectra: what healpy, the Planck and WMAP archives write, and the way back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import need_file
from spheregeo.data.sky.maps import SkyMap
from spheregeo.files import atomic_path, reading
from spheregeo.grids import HEALPix
from spheregeo.sampling.missing import UNSEEN, is_unseen

__all__ = ["read_sky_map", "read_sky_mask", "read_spectrum", "write_sky_map", "write_spectrum"]

WHAT = "a FITS file of HEALPix maps"
LARGEST_NSIDE = 8192
LARGEST_CUT = 1 << 29  # values, 4 GB
_FRAMES = {
    "G": "G",
    "E": "E",
    "C": "C",
    "GALACTIC": "G",
    "ECLIPTIC": "E",
    "CELESTIAL": "C",
    "EQUATORIAL": "C",
    "Q": "C",
}


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    """The extensions of a FITS file; every fault of theirs is a ValueError that names the file."""
    with reading(path, what), warnings.catch_warnings():
        from astropy.io import fits
        from astropy.io.fits.verify import VerifyWarning

        warnings.simplefilter("error")  # a truncated file is only warned of
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # a file of our own: astropy leaves the one that it opens itself open when the content is damaged
        with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
            yield hdus


def _word(header: Any, key: str) -> str:
    return str(header.get(key, "")).strip().upper()


def _nside(header: Any, rows: int, explicit: bool, path: Path) -> int:
    """The resolution that a header says, or that the number of pixels implies."""
    said = header.get("NSIDE")
    if said is None and not explicit:
        said = math.isqrt(rows // 12)
    if isinstance(said, bool) or not isinstance(said, int) or not 1 <= said <= LARGEST_NSIDE:
        raise ValueError(f"{path} says NSIDE {said!r}; expected a whole number from 1 to {LARGEST_NSIDE}")
    if not explicit and rows != 12 * said**2:
        raise ValueError(f"{path} holds {rows} pixels; expected 12 NSIDE² = {12 * said**2} for NSIDE {said}")
    return said


def _column(table: Any, number: int, path: Path) -> np.ndarray:
    values = np.asarray(table.data.field(number))
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} has a column {table.columns[number].name!r} that holds no real numbers")
    column = values.astype(np.float64).ravel()
    blank = table.columns[number].null
    if blank is not None and values.dtype.kind in "iu":
        column[values.ravel() == blank] = np.nan
    bad = table.header.get("BAD_DATA")
    if isinstance(bad, (int, float)):
        column[column == float(bad)] = np.nan
    column[~np.isfinite(column) | is_unseen(column)] = np.nan
    return column


def _table(hdus: Any, extension: int | str | None, path: Path) -> Any:
    """The extension asked for, or the first that holds a HEALPix map."""
    from astropy.io.fits import BinTableHDU

    tables = [h for h in hdus if isinstance(h, BinTableHDU)]
    if extension is not None:
        names = ", ".join(f"{k} {h.name}".strip() for k, h in enumerate(hdus))
        if (isinstance(extension, int) and not 0 <= extension < len(hdus)) or (
            isinstance(extension, str) and extension not in [h.name for h in hdus]
        ):
            raise ValueError(f"extension is {extension!r} but {path} has {names}")
        found = hdus[extension]
        if found not in tables:
            raise ValueError(f"extension {extension!r} of {path} is no binary table; it has {names}")
        return found
    marked = [h for h in tables if _word(h.header, "PIXTYPE") == "HEALPIX" or "NSIDE" in h.header]
    if not (marked or tables):
        raise ValueError(f"{path} holds no binary table; expected {WHAT}")
    return (marked or tables)[0]


def read_sky_map(
    path: str | Path, fields: Sequence[int | str] | None = None, extension: int | str | None = None
) -> SkyMap:
    """Read the maps of a FITS file, or some of them.

    Full maps and cut skies (a column of pixel numbers) are read in either order. Pixels that are UNSEEN, equal to BAD_DATA or not
    finite come out as NaN, as do those that a cut sky leaves out.

    Args:
        path: .fits or .fits.gz.
        fields: numbers or names of the columns; all if None.
        extension: number or name of the extension; the first that holds a map if None.

    Raises: FileNotFoundError; ValueError for a damaged file, or one that holds no such map.
    """
    path = need_file(path, WHAT)
    with _opened(path, WHAT) as hdus:
        table = _table(hdus, extension, path)
        header, names = table.header, list(table.columns.names)
        scheme = _word(header, "INDXSCHM")
        explicit = scheme == "EXPLICIT" or _word(header, "OBJECT") == "PARTIAL"
        explicit = explicit or (not scheme and names[:1] == ["PIXEL"])
        columns = [_column(table, k, path) for k in range(len(names))]
        units = [str(column.unit or "") for column in table.columns]
        if not columns or len({len(c) for c in columns}) != 1:
            raise ValueError(f"{path} has columns of {[len(c) for c in columns]} pixels; expected one length")
        nside = _nside(header, len(columns[0]), explicit, path)
        order = "nested" if _word(header, "ORDERING").startswith("NEST") else "ring"
        if order == "nested" and nside & (nside - 1):
            raise ValueError(f"{path} is in nested order with NSIDE {nside}; expected a power of two")
        if explicit:
            columns, names, units = _spread(columns, nside, path), names[1:], units[1:]
        convention = _word(header, "POLCCONV") or _word(header, "POLCONV")
        sky = SkyMap(
            np.stack(columns), HEALPix(nside, order), tuple(names), tuple(units), _FRAMES.get(_word(header, "COORDSYS"), ""),
            convention if convention in ("COSMO", "IAU") else "",
        )  # fmt: skip
        return sky if fields is None else sky.select(fields)


def _spread(columns: list[np.ndarray], nside: int, path: Path) -> list[np.ndarray]:
    """Columns of a cut sky, of which the first numbers the pixels, as whole maps."""
    numbers = columns[0]
    if len(columns) < 2 or np.isnan(numbers).any() or (numbers != np.floor(numbers)).any():
        raise ValueError(
            f"{path} is a cut sky without whole pixel numbers in its first column, or without values"
        )
    if len(numbers) and not (0 <= numbers.min() and numbers.max() < 12 * nside**2):
        raise ValueError(
            f"{path} numbers pixels {numbers.min():g} ... {numbers.max():g}; expected 0 ... {12 * nside**2 - 1}"
        )
    if (len(columns) - 1) * 12 * nside**2 > LARGEST_CUT:
        raise ValueError(
            f"{path} is a cut sky of {len(columns) - 1} fields at NSIDE {nside}, more values than fit into 4 GB"
        )
    maps = np.full((len(columns) - 1, 12 * nside**2), np.nan)
    maps[:, numbers.astype(np.int64)] = columns[1:]
    return list(maps)


def read_sky_mask(path: str | Path, field: int | str = 0, extension: int | str | None = None) -> SkyMap:
    """Read a mask: weights of pixels from 0 (do not look) to 1; missing pixels are 0.

    Args:
        path: .fits or .fits.gz.
        field: number or name of the column.
        extension: number or name of the extension; the first that holds a map if None.

    Raises: FileNotFoundError; ValueError for a damaged file, or values outside 0 ... 1.
    """
    mask = read_sky_map(path, [field], extension)
    values = np.nan_to_num(mask.values, nan=0.0)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{path} holds values {values.min():g} ... {values.max():g}; expected a mask, 0 ... 1"
        )
    return replace(mask, values=values)


def find_mask(path: Path) -> Path | None:
    """The mask that belongs to a map: masks/NAME.fits or masks/mask.fits in the map's folder; None without one."""
    places = (path.parent / "masks" / path.name, path.parent / "masks" / "mask.fits")
    return next((place for place in places if place.is_file()), None)


def write_sky_map(path: str | Path, sky: SkyMap, dtype: str = "float32") -> Path:
    """Write maps as a FITS file that healpy reads: UNSEEN where missing, with frame, units and polarisation convention.

    Args:
        path: the file; replaced as a whole.
        sky: the maps.
        dtype: "float32" or "float64".

    Raises: ValueError for another dtype; OSError from the disk.
    """
    import healpy

    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is {dtype!r}; expected 'float32' or 'float64'")
    path = Path(path)
    maps = [np.where(np.isnan(values), UNSEEN, values).astype(dtype) for values in sky.values]
    extra = [("POLCCONV", sky.convention or "COSMO")] if sky.polarisation() is not None else []
    with atomic_path(path) as temporary:
        healpy.write_map(
            str(temporary), maps, nest=sky.grid.nested, coord=sky.frame or None, column_names=list(sky.names),
            column_units=list(sky.units), extra_header=extra, dtype=[np.dtype(dtype).type] * len(maps), overwrite=True,
        )  # fmt: skip
    return path


def read_spectrum(path: str | Path) -> dict[str, np.ndarray]:
    """Read the power spectra of a FITS file by the names of their columns, from l = 0.

    Args:
        path: a file as anafast or healpy's write_cl writes it.

    Raises: FileNotFoundError; ValueError for a damaged file, or one that holds no table.
    """
    what = "a FITS file of power spectra"
    path = need_file(path, what)
    with _opened(path, what) as hdus:
        table = next((h for h in hdus[1:] if hasattr(h, "columns")), None)
        if table is None:
            raise ValueError(f"{path} holds no table; expected {what}")
        spectra = {}
        for number, name in enumerate(table.columns.names):
            values = np.asarray(table.data.field(number))
            if values.dtype.kind not in "iuf":
                raise ValueError(f"{path} has a column {name!r} that holds no real numbers")
            spectra[name] = values.astype(np.float64).ravel()
    return spectra


def write_spectrum(path: str | Path, spectra: dict[str, np.ndarray]) -> Path:
    """Write power spectra as a FITS table, a column each, from l = 0.

    Args:
        path: the file; replaced as a whole.
        spectra: spectra of one length by name.

    Raises: OSError from the disk.
    """
    from astropy.io import fits

    columns = [
        fits.Column(name=name, format="D", array=np.asarray(values)) for name, values in spectra.items()
    ]
    table = fits.BinTableHDU.from_columns(columns)
    with atomic_path(path) as temporary:
        table.writeto(temporary, overwrite=True)
    return Path(path)

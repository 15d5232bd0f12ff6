"""Fields in time from your own files: scalars and vectors of NetCDF, GRIB, Zarr and npz, split by time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spheregeo.data.common import check_split
from spheregeo.data.fields.files import Frames, read_frames, read_vector_frames
from spheregeo.data.fields.layout import FieldInfo
from spheregeo.data.fields.module import SeriesData
from spheregeo.data.fields.series import FieldSeries
from spheregeo.data.sphere.field import FieldSource, _split_path
from spheregeo.grids import Equiangular
from spheregeo.lazy import cached_property

__all__ = ["FieldSeriesData", "read_field_series"]

PAIR = re.compile(r"(?i)^(u|ua|uo|uwnd|us|u10m?|u100|u_.*|water_u|ugrd.*|vozocrtx)$")
PARTNER = {"u": "v", "U": "V"}
NEAR = 1e-3  # hours by which two times of one moment may differ


def _name(source: FieldSource | str) -> str:
    path = source if isinstance(source, str) else source.path
    file, variable = _split_path(path)
    return (variable or Path(file).stem).rpartition("/")[2]


def _undeclared(names: Sequence[str], standard: dict[str, str]) -> tuple[str, str] | None:
    """Two scalars that look like the components of a vector."""
    by_standard = {standard[name]: name for name in names if standard.get(name)}
    for name, partner in by_standard.items():
        other = by_standard.get(name.replace("eastward", "northward"))
        if "eastward" in name and other is not None and other != partner:
            return partner, other
    for name in names:
        if PAIR.match(name):
            other = PARTNER[name[0]] + name[1:] if name[0] in PARTNER else None
            if other in names:
                return name, str(other)
    return None


def read_field_series(
    fields: Sequence[FieldSource | str],
    root: str | Path,
    grid: Equiangular,
    vectors: Sequence[Sequence[str]] | None = None,
) -> FieldSeries:
    """Read aligned fields at all times that they share.

    Args:
        fields: ``PATH:VARIABLE`` or :class:`FieldSource` of each variable; those without time are the same always.
        root: folder of the files, or the one file.
        grid: the working grid.
        vectors: pairs of names of the variables along east and north that are one vector.

    Raises: FileNotFoundError; ImportError; ValueError for files and names that do not fit, and for two variables that look like
        components of a vector when ``vectors`` is None.
    """
    sources = {_name(source): source for source in fields}
    if len(sources) < len(fields):
        raise ValueError(
            f"fields has {len(fields)} entries with {len(sources)} different names; expected each variable once"
        )
    pairs = [tuple(pair) for pair in vectors or ()]
    for pair in pairs:
        unknown = [name for name in pair if name not in sources]
        if len(pair) != 2 or unknown:
            raise ValueError(
                f"vectors has {list(pair)}; expected two names of fields, along east and along north, of {', '.join(sources)}"
            )
    partner = {u: v for u, v in pairs}
    second = {v for _, v in pairs}
    infos: list[FieldInfo] = []
    found: list[Frames] = []
    for name, source in sources.items():
        if name in second:
            continue
        if name in partner:
            frames = read_vector_frames([source, sources[partner[name]]], root, grid)
            info = FieldInfo(
                f"{name}_{partner[name]}", (name, partner[name]), frames.units, frames.standard_names
            )
        else:
            frames = read_frames(source, root, grid)
            info = FieldInfo(name, units=frames.units, standard_names=frames.standard_names)
        infos.append(info)
        found.append(frames)
    scalars = {i.name: "".join(i.standard_names) for i in infos if not i.components}
    if vectors is None and (looks := _undeclared(list(scalars), scalars)) is not None:
        raise ValueError(
            f"{looks[0]} and {looks[1]} look like components of a vector; declare them, "
            f"--data.vectors '[[{looks[0]}, {looks[1]}]]', "
            "or say that all fields are scalars by --data.vectors '[]'"
        )
    return _aligned(infos, found)


def _aligned(infos: Sequence[FieldInfo], found: Sequence[Frames]) -> FieldSeries:
    times = [np.rint(one.hours / NEAR).astype(np.int64) for one in found if one.hours is not None]
    if times:
        common = times[0]
        for other in times[1:]:
            common = np.intersect1d(common, other)
        if not len(common):
            raise ValueError("the fields have no time in common; expected files of one period")
        hours = common * NEAR
    else:
        common, hours = np.zeros(1, np.int64), np.zeros(1)
    parts, named = [], []
    for info, one in zip(infos, found, strict=True):
        values = torch.from_numpy(np.ascontiguousarray(one.values))
        if one.hours is None:
            parts.append(values.expand(len(common), *values.shape[1:]))
        else:
            stamps = np.rint(one.hours / NEAR).astype(np.int64)
            parts.append(values[torch.from_numpy(np.searchsorted(stamps, common))])
        static = one.hours is None and bool(times)
        named.append(replace(info, static=static))
    return FieldSeries(tuple(named), torch.cat(parts, 1), hours)


def _gridded(path: Path, fields: Sequence[FieldSource | str]) -> list[FieldSource | str]:
    """All variables of one file that lie on latitude and longitude, where none are named."""
    if fields:
        return list(fields)
    if path.is_dir() and path.suffix != ".zarr":
        raise ValueError(
            f"fields is empty and root {path} is a folder; expected PATH:VARIABLE of each field, or one file as root"
        )
    from spheregeo.data.fields.files import gridded_variables

    return list(gridded_variables(path))


class FieldSeriesData(SeriesData):
    """Fields in time from your own files, split by time: the first part trains, then comes validation, the last part is the test.

    Args:
        root: folder of the files; or one NetCDF, GRIB, npz file or Zarr store that holds all fields.
        fields: PATH:VARIABLE of each field, where PATH may be a pattern such as z_*.nc; VARIABLE alone where root is a file; all
            fields of the file if empty. Descriptions (path, level, missing, units) as :class:`FieldSource` has them.
        vectors: pairs [u, v] of the names of variables along east and north that are one vector; [] for none.
        val: share of the time that validates.
        test: share of the time that tests.
        val_from: date at which validation begins, in place of ``val``.
        test_from: date at which the test begins, in place of ``test``.
        **kwargs: arguments of :class:`SeriesData`.

    Units: as in the files; times in hours.
    Raises: FileNotFoundError, ImportError and ValueError, as :func:`read_field_series`, when the data are first read.
    """

    def __init__(
        self,
        root: str,
        fields: list[FieldSource | str] = [],  # noqa: B006
        vectors: list[list[str]] | None = None,
        *,
        val: float = 0.1,
        test: float = 0.2,
        val_from: str | None = None,
        test_from: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
            raise ValueError(
                f"val is {val} and test {test}; expected shares of the time that leave some for training"
            )
        self.root, self.sources, self.vectors = root, list(fields), vectors
        self.shares, self.begins = (val, test), (val_from, test_from)

    @cached_property
    def whole(self) -> FieldSeries:
        """The fields at all times."""
        path = Path(self.root)
        if not path.exists():
            raise FileNotFoundError(
                f"root {path} does not exist; expected a file or folder of fields (--data.root)"
            )
        return read_field_series(_gridded(path, self.sources), path, self.grid, self.vectors)

    def series(self, split: str) -> Sequence[FieldSeries]:
        first, last = self.bounds[check_split(split)]
        part = slice(first, last)
        return [FieldSeries(self.whole.fields, self.whole.values[part], self.whole.hours[part])]

    @cached_property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """First frame of each split, and the one behind its last."""
        hours = self.whole.hours
        frames = len(hours)
        cuts = [round(frames * (1 - sum(self.shares))), round(frames * (1 - self.shares[1]))]
        for k, date in enumerate(self.begins):
            if date is not None:
                cuts[k] = int(np.searchsorted(hours, _hours_of_date(date) - NEAR))
        if not 0 < cuts[0] <= cuts[1] <= frames:
            raise ValueError(
                f"validation begins with frame {cuts[0]} and the test with frame {cuts[1]} of {frames}; expected training first, "
                "then validation, then the test"
            )
        return {"train": (0, cuts[0]), "val": (cuts[0], cuts[1]), "test": (cuts[1], frames)}


def _hours_of_date(text: str) -> float:
    try:
        moment = np.datetime64(text, "s")
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no date; expected one such as 2019-01-01 or 2019-01-01T06:00"
        ) from error
    return float(moment.astype(np.int64)) / 3600

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

LONE_U = re.compile(
    r"(?i)(?<![a-z])u"
)  # begins the name or a word of it: u10, uas, water_u, 10m_u_component_of_wind
WORDS = (
    ("eastward", "northward"),
    ("zonal", "meridional"),
    ("vozocrtx", "vomecrty"),
    ("sozotaux", "sometauy"),
)
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
        others = [
            f"{name[: m.start()]}{'V' if m[0] == 'U' else 'v'}{name[m.end() :]}"
            for m in LONE_U.finditer(name)
        ]
        others += [name.replace(a, b) for a, b in WORDS if a in name]
        for other in others:
            if other in names:
                return name, other
    return None


def read_field_series(
    fields: Sequence[FieldSource | str],
    root: str | Path,
    grid: Equiangular,
    vectors: Sequence[Sequence[str]] | None = None,
) -> FieldSeries:
    """Read aligned fields at all times that they share.

    Args:
        fields: ``PATH:VARIABLE`` or :class:`FieldSource` of each variable; those without time, or
            with a single one beside others with more, are the same always.
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
        said = [s for s in (source, sources.get(partner.get(name, ""))) if isinstance(s, FieldSource)]
        if said:  # files of predictions are read likewise
            level, gone = said[0].level, dict.fromkeys(m for s in said for m in s.missing)
            info = replace(info, level=tuple(level), missing=tuple(gone), degrees=said[0].units or "")
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
    if any(one.hours is not None and len(one.hours) > 1 for one in found):
        # masks and orographies come with one time as often as with none
        found = [
            replace(one, hours=None) if one.hours is not None and len(one.hours) == 1 else one
            for one in found
        ]
    times = [np.rint(one.hours / NEAR).astype(np.int64) for one in found if one.hours is not None]
    if times:
        common = times[0]
        for other in times[1:]:
            common = np.intersect1d(common, other)
        if not len(common):
            periods = (
                f"{info.name} {np.datetime64(0, 's') + np.timedelta64(round(3600 * one.hours[0]), 's')} ... "
                f"{np.datetime64(0, 's') + np.timedelta64(round(3600 * one.hours[-1]), 's')}"
                for info, one in zip(infos, found, strict=True) if one.hours is not None
            )  # fmt: skip
            raise ValueError(
                f"the fields have no time in common ({', '.join(periods)}); expected files of one period"
            )
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
        val_from: date (standard calendar) at which validation begins, in place of ``val``.
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

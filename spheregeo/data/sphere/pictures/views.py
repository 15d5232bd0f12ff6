"""Pictures that are no whole panorama (cube maps, partial panoramas, perspective and fisheye photos) as panoramas with gaps.

The camera looks at longitude 0, the panorama's centre, with north up. A picture's direction right is east. The upper face of a
cube adjoins the front face with its lower edge, the lower face with its upper edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch.nn import functional

__all__ = ["View"]

PROJECTIONS = ("equirectangular", "cube", "perspective", "fisheye")
FACES = ("front", "right", "back", "left", "up", "down")
# Endings of the six files of a cube map, in the order of FACES.
ENDINGS = (
    FACES,
    ("front", "right", "back", "left", "top", "bottom"),
    ("f", "r", "b", "l", "u", "d"),
)
WIDEST_FLAT = 175.0  # degrees; beyond it a perspective picture has almost all of its pixels at the border


@dataclass(frozen=True)
class View:
    """How a picture lies on the sphere.

    Args:
        projection: "equirectangular", "cube" (a cross of 4 x 3 or 3 x 4 faces, a strip of six, or six files), "perspective" or
            "fisheye" (equidistant, the circle's diameter is the width).
        hfov: width of the field of view; 360 for a whole panorama. Needed for perspective and fisheye.
        vfov: height of the field of view; by the picture's shape if None.
        faces: the faces of a strip from its beginning, each by its first letter.

    Shape: (C, h, w) -> (C, H, 2 H) with NaN where the picture shows nothing, (h, w) -> (H, 2 H) for labels.
    Units: degrees.
    Raises: ValueError for fields of view, faces and shapes that do not fit the projection.

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import View
        >>> View(hfov=90.0, vfov=90.0).panorama(np.ones((3, 8, 8), np.float32)).shape
        (3, 16, 32)
    """

    projection: str = "equirectangular"
    hfov: float | None = None
    vfov: float | None = None
    faces: str = "frblud"

    def __post_init__(self) -> None:
        if self.projection not in PROJECTIONS:
            raise ValueError(f"projection is {self.projection!r}; expected one of {', '.join(PROJECTIONS)}")
        if sorted(self.faces) != sorted(name[0] for name in FACES):
            raise ValueError(
                f"faces is {self.faces!r}; expected f, r, b, l, u, d (front, right, back, left, up, down) in any order"
            )
        largest = {
            "equirectangular": (360.0, 180.0),
            "perspective": (WIDEST_FLAT,) * 2,
            "fisheye": (360.0,) * 2,
        }
        for name, value, limit in zip(
            ("hfov", "vfov"), (self.hfov, self.vfov), largest.get(self.projection, (0.0, 0.0)), strict=True
        ):
            if value is not None and not 0 < value <= limit:
                raise ValueError(
                    f"{name} is {value} for projection {self.projection!r}; expected degrees above 0"
                    + (f", at most {limit:g}" if limit else ", but a cube has no field of view to be told")
                )
        if self.hfov is None and self.projection in ("perspective", "fisheye"):
            raise ValueError(
                f"projection {self.projection!r} needs hfov, the width of the field of view in degrees"
            )

    @property
    def is_whole(self) -> bool:
        """Whether pictures are whole panoramas as they are."""
        return (
            self.projection == "equirectangular" and self.hfov in (None, 360.0) and self.vfov in (None, 180.0)
        )

    def panorama(self, picture: np.ndarray, most: int | None = None) -> np.ndarray:
        """Return the panorama of a picture with floating-point values, bilinearly; NaN where it shows nothing.

        The panorama has the picture's resolution, or ``most`` rows, for which the picture is averaged beforehand.
        """
        whole = height, width = picture.shape[-2:]
        size, natural = _rows(self, height, width, most), _rows(self, height, width, None)
        if size < natural:
            small = [max(1, round(n * size / natural)) for n in whole]
            copy = torch.from_numpy(
                np.array(picture, np.float32, order="C")
            )  # turned pictures have strides below 0
            picture = functional.interpolate(copy[None], small, mode="area")[0].numpy()
        rows, columns, inside = _places(self, whole, picture.shape[-2:], size)
        planes = [map_coordinates(p, (rows, columns), order=1, mode="nearest") for p in picture]
        return np.where(inside, np.stack(planes), np.float32(np.nan)).astype(np.float32)

    def nearest(self, values: np.ndarray, outside: float, most: int | None = None) -> np.ndarray:
        """Return the panorama of labels or depths by the nearest pixel; ``outside`` where the picture shows nothing.

        The panorama has the picture's resolution, or ``most`` rows.
        """
        whole = height, width = values.shape
        rows, columns, inside = _places(self, whole, whole, _rows(self, height, width, most))
        at = np.rint(rows).astype(np.int64), np.rint(columns).astype(np.int64)
        return np.where(inside, values[at], np.asarray(outside, values.dtype))


def six_faces(faces: Sequence[np.ndarray]) -> np.ndarray:
    """The six faces of a cube map, in the order of ``FACES``, as one strip from top to bottom.

    Raises: ValueError for faces that are no squares of one size.
    """
    shapes = {face.shape for face in faces}
    if len(shapes) > 1 or len({*faces[0].shape[-2:]}) > 1:
        raise ValueError(
            f"faces have shapes {', '.join(sorted(map(str, shapes)))}; expected six squares of one size"
        )
    return np.concatenate(faces, axis=-2)


SIX_FILES = View("cube")


def face_files(path: Path) -> list[Path] | None:
    """The six files of a cube map, in the order of ``FACES``, by the front's name; None for a file that is no front.

    A file without any of the other five is no front, whatever its name.

    Raises: FileNotFoundError when some of the six are missing.
    """
    front = next((e for e in ENDINGS if path.stem.lower().endswith(f"_{e[0]}")), None)
    if front is None:
        return None
    base = path.stem[: -len(front[0])]
    sets = [[path.with_name(f"{base}{end}{path.suffix}") for end in ends] for ends in ENDINGS]
    sets = [six for ends, six in zip(ENDINGS, sets, strict=True) if ends[0] == front[0] and len({*six}) == 6]
    complete = next((six for six in sets if all(file.is_file() for file in six)), None)
    if complete is None and not any(file.is_file() for six in sets for file in six[1:]):
        return None
    if complete is None:
        missing = next(file for file in sets[0] if not file.is_file())
        raise FileNotFoundError(
            f"{missing} does not exist; expected six files {base}{', '.join(front)} of a cube map"
        )
    return complete


def is_front(path: Path) -> bool:
    """Whether a file is no face of a cube map but the front, which stands for all six.

    A file that is named as another face is one only where the front's file is beside it.
    """
    for ends in ENDINGS:
        own = next((end for end in ends[1:] if path.stem.lower().endswith(f"_{end}")), None)
        if own is not None and path.with_name(f"{path.stem[: -len(own)]}{ends[0]}{path.suffix}").is_file():
            return False
    return True


def _rows(view: View, height: int, width: int, most: int | None) -> int:
    """Rows of the panorama of a picture: those of its resolution, or ``most`` (at least 2, even for a cube)."""
    if view.projection == "cube":
        rows = 2 * _layout(view, height, width)[0]
    else:
        hfov, vfov = _fields(view, height, width)
        rows = max(2, round(height * 180 / vfov), round(width * 90 / hfov))
    return rows if most is None else min(rows, max(2, most - most % 2))


@lru_cache(maxsize=2)
def _places(
    view: View, whole: tuple[int, int], shape: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column in the picture for each pixel of the panorama, and whether the picture shows it.

    Args:
        view: how the picture lies on the sphere.
        whole: height and width of the picture as it is stored, which tell the fields of view.
        shape: height and width of the picture, shrunk or not.
        size: rows of the panorama.
    """
    height, width = shape
    if view.projection == "cube":
        return _on_cube(view, height, width, size)
    hfov, vfov = _fields(view, *whole)
    latitude, longitude = _angles(size)
    if view.projection == "equirectangular":
        u = np.broadcast_to(longitude / np.radians(hfov / 2), (size, 2 * size))
        v = np.broadcast_to(-latitude / np.radians(vfov / 2), (size, 2 * size))
        inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    else:
        forward, right, up = _directions(size)
        across = np.hypot(right, up)
        if view.projection == "perspective":
            seen = forward > 0
            scale = 1 / np.where(seen, forward, 1)
            u, v = (s * scale / np.tan(np.radians(fov / 2)) for s, fov in ((right, hfov), (-up, vfov)))
            inside = seen & (np.abs(u) <= 1) & (np.abs(v) <= 1)
        else:
            angle = np.arctan2(across, forward)
            scale = angle / np.where(across > 0, across, 1)
            u, v = (s * scale / np.radians(fov / 2) for s, fov in ((right, hfov), (-up, vfov)))
            inside = (angle <= np.radians(max(hfov, vfov) / 2)) & (np.abs(u) <= 1) & (np.abs(v) <= 1)
    rows, columns = ((t + 1) / 2 * n - 0.5 for t, n in ((v, height), (u, width)))
    if view.projection == "equirectangular" and hfov == 360.0:
        columns = columns % width  # the seam is no border
    return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1), inside


def _fields(view: View, height: int, width: int) -> tuple[float, float]:
    """Width and height of the field of view, one by the other and the picture's square pixels where it is not told."""
    hfov, vfov = view.hfov, view.vfov
    if view.projection == "perspective":
        assert hfov is not None
        flat = np.degrees(2 * np.arctan(np.tan(np.radians(hfov / 2)) * height / width))
        return hfov, float(flat) if vfov is None else vfov
    if hfov is None:
        hfov = 360.0 if vfov is None else vfov * width / height
    vfov = hfov * height / width if vfov is None else vfov
    limit = (360.0, 180.0) if view.projection == "equirectangular" else (360.0, 360.0)
    if hfov > limit[0] + 1e-6 or vfov > limit[1] + 1e-6:
        raise ValueError(
            f"a picture of {height} x {width} pixels would cover {hfov:g} x {vfov:g} degrees; expected at most "
            f"{limit[0]:g} x {limit[1]:g}: say both hfov and vfov"
        )
    return hfov, vfov


def _angles(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes (H, 1) and longitudes (1, 2 H) of a panorama's pixels in radians."""
    step = np.pi / size
    return (
        (np.pi / 2 - (np.arange(size) + 0.5) * step)[:, None],
        (-np.pi + (np.arange(2 * size) + 0.5) * step)[None],
    )


def _directions(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    latitude, longitude = _angles(size)
    up = np.broadcast_to(np.sin(latitude), (size, 2 * size))
    return np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), up


def _on_cube(view: View, height: int, width: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    side, at = _layout(view, height, width)
    forward, right, up = _directions(size)
    a, b, c = np.abs(forward), np.abs(right), np.abs(up)
    ahead, aside = (a >= b) & (a >= c), (b > a) & (b >= c)
    face = np.select([ahead & (forward > 0), aside & (right > 0), ahead, aside, up > 0], range(5), default=5)
    # across and down on each face, in units of the distance to it
    across = np.choose(face, [right, -forward, -right, forward, right, right])
    down = np.choose(face, [-up, -up, -up, -up, forward, -forward])
    depth = np.maximum(np.maximum(a, b), c)
    u, v = ((t / depth + 1) / 2 * side - 0.5 for t in (across, down))
    u, v = np.clip(u, 0, side - 1), np.clip(v, 0, side - 1)
    turned = np.array([half for _, _, half in at])[face]
    u, v = np.where(turned, side - 1 - u, u), np.where(turned, side - 1 - v, v)
    rows, columns = (np.array([place[k] for place in at])[face] * side for k in (0, 1))
    return rows + v, columns + u, np.ones(face.shape, bool)


def _layout(view: View, height: int, width: int) -> tuple[int, list[tuple[int, int, bool]]]:
    """Length of a face's side, and for each face its row and column in the sheet, and whether it stands on its head."""
    if 3 * width == 4 * height:
        return height // 3, [
            (1, 1, False),
            (1, 2, False),
            (1, 3, False),
            (1, 0, False),
            (0, 1, False),
            (2, 1, False),
        ]
    if 4 * width == 3 * height:
        return width // 3, [
            (1, 1, False),
            (1, 2, False),
            (3, 1, True),
            (1, 0, False),
            (0, 1, False),
            (2, 1, False),
        ]
    place = [view.faces.index(name[0]) for name in FACES]
    if width == 6 * height:
        return height, [(0, k, False) for k in place]
    if height == 6 * width:
        return width, [(k, 0, False) for k in place]
    raise ValueError(
        f"a cube map of {height} x {width} pixels (height x width) has no known layout; expected a cross of 3 x 4 or 4 x 3 "
        "faces, a strip of 6, or six files NAME_front, NAME_right, NAME_back, NAME_left, NAME_up, NAME_down"
    )

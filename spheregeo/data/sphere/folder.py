"""A folder of equirectangular images with labels, depth, or both.

::

    root/classes.txt          one class name a line, index 0 first (needed with labels); NAME R G B where labels are colours
    root/images/NAME.png      or .jpg, .tif, .webp, .bmp; as a viewer shows it; grey becomes three channels, alpha is dropped
    root/labels/NAME.png      grey (8 or 16 bits) or palette: the value or index is the class, 255 and values of void are void
    root/depth/NAME.png       16 bits, millimetres, 0 = missing; or .npy / .npz / .tif, metres, 0 or NaN = missing; or depth_unit
    root/train.txt            names (with or without suffix), one a line; val.txt, test.txt likewise; all three or none

Without lists, of the sorted names the 9th, 19th ... are for validation and the 10th, 20th ... for the test; with groups,
whole groups that hold a tenth of the images each. A picture that two splits share is warned of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from spheregeo.data.common import IGNORE, SPLITS, Item, check_split
from spheregeo.data.files import read_class_table, read_lines
from spheregeo.data.readings import reads_one_by_one
from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.files import IMAGE_SUFFIXES, check_panorama, read_image
from spheregeo.data.sphere.pictures.depth import read_depth, unit_in_metres
from spheregeo.data.sphere.pictures.labels import read_labels, void_values
from spheregeo.data.sphere.pictures.views import SIX_FILES, View, face_files, is_front, six_faces
from spheregeo.data.sphere.resize import resize_depth, resize_image, resize_labels
from spheregeo.data.splits import groups_of, split_by_group, warn_of_shared
from spheregeo.files import reading

__all__ = ["PanoramaFolder"]

LABEL_SUFFIXES = (
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".jpg",
    ".jpeg",
)  # JPEGs are found, and refused with the reason
FINER = 4  # times the rows of the working grid, at most, has the panorama of a picture before it is shrunk
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


class PanoramaFolder(PanoramaDataset):
    """Images of a folder with what the folder has of ``labels/`` and ``depth/``, on one working grid.

    Args:
        root: the folder.
        size: (nlat, nlon) of the working grid, 2:1.
        split: train, val or test.
        targets: what to read, of "label" and "depth"; None for what there is, empty for images only.
        cache: keep items in memory.
        depth_unit: unit of stored depths: "mm", "cm", "m" or metres per step; detected if None, see :func:`read_depth`.
        void: label values that are not counted, beside 255 and, at 16 bits, 65535; and colours as "#RRGGBB".
        group: what keeps images together in one split: "folder" (images/ROOM/NAME.png), or a regular expression that finds the
            group, or has it in its first bracket, in an image's name: "^([^_]+)_" for ROOM_1.png, ROOM_2.png.
        view: how pictures lie on the sphere, where they are no whole panoramas; what they do not show is void and has no depth,
            and the image has its mean colour there.

    Shape: image (3, nlat, nlon) in [0, 1]; label (nlat, nlon); depth (nlat, nlon). Shrunk images and depths are averaged
        by solid angle, labels take the majority.
    Units: depth in metres, 0 = missing.
    Raises: FileNotFoundError and ValueError naming the file, what it holds, what was expected and what to do.
    """

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (256, 512),
        split: str = "train",
        targets: tuple[str, ...] | None = None,
        cache: bool = True,
        depth_unit: float | str | None = None,
        void: Sequence[int | str] = (),
        group: str | None = None,
        view: View | None = None,
    ) -> None:
        super().__init__(size, cache)
        self.depth_unit = None if depth_unit is None else unit_in_metres(depth_unit)
        self.root, self.split = Path(root), check_split(split)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with images/ (see --data.root)"
            )
        folders = {"label": self.root / "labels", "depth": self.root / "depth"}
        if targets is None:
            targets = tuple(kind for kind, folder in folders.items() if folder.is_dir())
            if not targets:
                raise FileNotFoundError(
                    f"root {self.root} has neither labels/ nor depth/; expected at least one of them"
                )
        unknown = set(targets) - set(folders)
        if unknown:
            raise ValueError(f"targets has {sorted(unknown)}; expected 'label', 'depth' or both")
        self.targets = tuple(targets)
        self.void, self.view = tuple(void), view or View()
        void_values(self.void)
        self.class_names, self.colours = (
            read_class_table(self.root / "classes.txt") if "label" in self.targets else ((), None)
        )
        by_name = self._found(nested=group == "folder")
        names = sorted(by_name)
        groups = groups_of(names, group) if group else None
        splits = self._splits(names, groups)
        if self.split == "train":
            files = {split: [by_name[name] for name in chosen] for split, chosen in splits.items()}
            warn_of_shared(self.root, files, {by_name[n]: g for n, g in (groups or {}).items()})
        self.names = splits[self.split]
        if not self.names:
            raise ValueError(
                f"the {self.split} split of {self.root} is empty ({len(names)} images); "
                "add images, or write train.txt, val.txt and test.txt with names"
            )
        self.images = [by_name[name] for name in self.names]
        self.partners = {
            kind: [self._partner(folders[kind], name) for name in self.names] for kind in self.targets
        }

    @property
    def pictures(self) -> Path:
        """Folder of the images: ``images/``, or the folder itself where images only are read and it has none."""
        inner = self.root / "images"
        return inner if self.targets or inner.is_dir() else self.root

    def _found(self, nested: bool) -> dict[str, Path]:
        """Images by their names: paths below images/ without suffix."""
        images = self.pictures
        found = sorted(
            p for p in (images.rglob("*") if nested else images.glob("*"))
            if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and not p.is_dir()
        )  # fmt: skip
        if not found:
            raise FileNotFoundError(
                f"{images} holds no {', '.join(IMAGE_SUFFIXES)} file; put the panoramas there"
            )
        if self.view.projection == "cube":  # of six files, the front stands for all
            found = [path for path in found if is_front(path)]
        by_name = {path.relative_to(images).with_suffix("").as_posix(): path for path in found}
        if len(by_name) < len(found):
            raise ValueError(f"{images} has two images of one name with different suffixes; rename one")
        return by_name

    def _splits(self, names: list[str], groups: dict[str, str] | None) -> dict[str, list[str]]:
        lists = {split: self.root / f"{split}.txt" for split in SPLITS}
        missing = ", ".join(path.name for path in lists.values() if not path.is_file())
        if not missing:
            return {split: self._listed(path, names) for split, path in lists.items()}
        if any(path.is_file() for path in lists.values()):
            raise FileNotFoundError(
                f"{self.root} has some split lists but not {missing}; give all three or none"
            )
        if groups is not None:
            of_name = split_by_group(groups)
        else:
            of_name = {n: SPLITS[(k % 10 == 8) + 2 * (k % 10 == 9)] for k, n in enumerate(names)}
        return {split: [name for name in names if of_name[name] == split] for split in SPLITS}

    @staticmethod
    def _listed(path: Path, names: list[str]) -> list[str]:
        wanted = [
            name.rsplit(".", 1)[0] if name.lower().endswith(IMAGE_SUFFIXES) else name
            for name in read_lines(path)
            if name
        ]
        absent = sorted(set(wanted) - set(names))
        if absent:
            raise FileNotFoundError(
                f"{path} names {absent[0]!r}, which images/ does not hold ({len(absent)} such names)"
            )
        return wanted

    @staticmethod
    def _partner(folder: Path, name: str) -> Path:
        suffixes = LABEL_SUFFIXES if folder.name == "labels" else DEPTH_SUFFIXES
        for suffix in suffixes:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
        if reads_one_by_one():
            return folder / f"{name}{suffixes[0]}"
        raise FileNotFoundError(
            f"{folder / name}{suffixes[0]} is missing; every image of images/ needs a file of its name in "
            f"{folder.name}/ (one of {', '.join(suffixes)}): add it, or leave {name} out of the split list"
        )

    def unmatched(self) -> list[str]:
        """Return a message for every entry of the folder that belongs to no image, and for folders that are named as images."""
        images = self.pictures
        odd = [
            f"{p} is a folder; expected an image file"
            for p in sorted(images.glob("*"))
            if p.is_dir() and _is_image(p)
        ]
        known = {
            path.relative_to(images).with_suffix("").as_posix()
            for path in images.rglob("*")
            if _is_image(path)
        }
        for folder, suffixes in (
            (self.root / "labels", LABEL_SUFFIXES),
            (self.root / "depth", DEPTH_SUFFIXES),
        ):
            for path in sorted(folder.rglob("*")):
                if (
                    path.suffix.lower() in suffixes
                    and path.relative_to(folder).with_suffix("").as_posix() not in known
                ):
                    odd.append(f"{path} belongs to no image of {images}; add the image or remove the file")
        return odd

    def __len__(self) -> int:
        return len(self.images)

    def stamp(self, index: int) -> tuple[tuple[int, int, int], ...]:
        paths = [self.images[index], *(files[index] for files in self.partners.values())]
        if self.view.projection == "cube":
            paths = [file for path in paths for file in face_files(path) or [path]]
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in (path.stat() for path in paths))

    def load(self, index: int) -> Item:
        image = self._whole(self.images[index], read_image)
        seen = np.isfinite(image).all(0)
        if not seen.all():
            image = np.where(seen, image, image[:, seen].mean(1)[:, None, None])
        item = {"image": torch.from_numpy(image)}
        if "label" in self.targets:
            label = self._whole(self.partners["label"][index], self._labels)
            item["label"] = torch.from_numpy(np.where(seen, label, IGNORE))
        if "depth" in self.targets:
            depth = self._whole(self.partners["depth"][index], lambda path: read_depth(path, self.depth_unit))
            item["depth"] = torch.from_numpy(np.where(seen, depth, np.float32(0)))
        return item

    def _labels(self, path: Path) -> np.ndarray:
        return read_labels(path, len(self.class_names), colours=self.colours, void=self.void)

    def _whole(self, path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        """What a file, or the six of a cube map, holds, as a panorama of the working size."""
        if self.view.projection == "cube" and (six := face_files(path)):
            with reading(path, "the front of a cube map"):
                array = six_faces([read(face) for face in six])
            view = SIX_FILES
        else:
            array, view = read(path), self.view
        if view.is_whole:
            check_panorama(path, *array.shape[-2:])
        elif array.ndim == 3:
            with reading(path, "a picture of this projection"):
                array = view.panorama(array, FINER * self.size[0])
        else:
            with reading(path, "a picture of this projection"):
                array = view.nearest(array, IGNORE if read == self._labels else 0, FINER * self.size[0])
        if array.ndim == 3:
            return resize_image(array, self.size)
        return (resize_labels if read == self._labels else resize_depth)(array, self.size)

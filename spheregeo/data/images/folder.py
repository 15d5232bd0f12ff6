"""Folders of images: a sub-folder for each class, or images with masks.

::

    root/CLASS/NAME.png                   one class for each image; see :mod:`spheregeo.data.class_folder` for the splits

    root/images/NAME.png                  or .jpg, .webp, .bmp, .npy, .tif, with all bands
    root/masks/NAME.png                   grey (8 or 16 bits) or palette: the value or index is the class, 255 is void; or colours
    root/classes.txt                      one class name a line, index 0 first; NAME R G B where masks are colours
    root/train.txt, val.txt, test.txt     names (with or without suffix), one a line; all three or none
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import class_entries, files_in, listed
from spheregeo.data.common import IGNORE, SPLITS, check_split
from spheregeo.data.files import read_class_table
from spheregeo.data.images.dataset import ImageDataset, MaskDataset
from spheregeo.data.images.files import PICTURE_SUFFIXES, read_picture, resized
from spheregeo.data.readings import reads_one_by_one
from spheregeo.data.sphere.pictures.labels import read_labels
from spheregeo.data.splits import warn_of_shared

__all__ = ["ImageFolder", "MaskFolder"]

MASK_SUFFIXES = (
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".jpg",
    ".jpeg",
)  # JPEGs are refused with the reason


def _need_folder(root: Path, what: str) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"root {root} is not a folder; expected one with {what} (see --data.root)")


class ImageFolder(ImageDataset):
    """A folder with a sub-folder of images for each class; classes are the sub-folders' sorted names.

    Args:
        root: the folder: CLASS/NAME.png, .jpg, .webp, .bmp, .npy or .tif, and optionally train.txt, val.txt, test.txt.
        split: train, val or test.
        channels: 1 for grey images, 3 for colours; as the files have them if None.
        size: rows and columns to which images are resized; as they are if None.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self, root: str | Path, split: str = "train", channels: int | None = None, size: Sequence[int] | None = None
    ) -> None:  # fmt: skip
        self.root, self.split, self.channels = Path(root), check_split(split), channels
        self.size = None if size is None else list(size)
        _need_folder(self.root, "a folder of images for each class")
        self.class_names, self.entries = class_entries(self.root, split, PICTURE_SUFFIXES)
        if not self.entries:
            raise ValueError(
                f"the {split} split of {self.root} is empty; add images, or list paths in train.txt, val.txt and test.txt"
            )
        self.labels = [label for _, label in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> np.ndarray:
        image = read_picture(self.entries[index][0], self.channels)
        return image if self.size is None else resized(image, self.size)


class MaskFolder(MaskDataset):
    """A folder of images and one of their masks.

    Without lists, of the sorted names the 9th, 19th ... are for validation and the 10th, 20th ... for the test.

    Args:
        root: the folder: images/NAME.png, masks/NAME.png, classes.txt, and optionally train.txt, val.txt, test.txt.
        split: train, val or test.
        channels: 1 for grey images, 3 for colours; as the files have them if None.
        size: rows and columns to which images and masks are resized; as they are if None.
        void: values of masks that do not count, beside 255 and, at 16 bits, 65535; and colours as "#RRGGBB".

    Raises: FileNotFoundError and ValueError naming the file, what it holds, what was expected and what to do.
    """

    def __init__(
        self, root: str | Path, split: str = "train", channels: int | None = None, size: Sequence[int] | None = None,
        void: Sequence[int | str] = (),
    ) -> None:  # fmt: skip
        self.root, self.split, self.channels = Path(root), check_split(split), channels
        self.size, self.void = None if size is None else list(size), tuple(void)
        _need_folder(self.root / "images", "images/ and masks/")
        self.class_names, self.colours = read_class_table(self.root / "classes.txt")
        found = {path.stem: path for path in files_in(self.root / "images", PICTURE_SUFFIXES)}
        if len(found) < len(files_in(self.root / "images", PICTURE_SUFFIXES)):
            raise ValueError(
                f"{self.root / 'images'} has two images of one name with different suffixes; rename one"
            )
        splits = {name: self._names(name, sorted(found)) for name in SPLITS}
        if self.split == "train":
            warn_of_shared(self.root, {name: [found[n] for n in names] for name, names in splits.items()})
        if not splits[split]:
            raise ValueError(
                f"the {split} split of {self.root} is empty ({len(found)} images); add images, or write train.txt, val.txt "
                "and test.txt with names"
            )
        self.entries = [(found[name], self._partner(name)) for name in splits[split]]

    def _names(self, split: str, names: list[str]) -> list[str]:
        lines = listed(self.root, split, SPLITS)
        if lines is None:
            return [n for k, n in enumerate(names) if SPLITS[(k % 10 == 8) + 2 * (k % 10 == 9)] == split]
        wanted = [
            Path(line).stem if line.lower().endswith(PICTURE_SUFFIXES) else line for line in lines if line
        ]
        absent = sorted(set(wanted) - set(names))
        if absent:
            raise FileNotFoundError(
                f"{self.root / f'{split}.txt'} names {absent[0]!r}, which images/ does not hold ({len(absent)} such names)"
            )
        return wanted

    def _partner(self, name: str) -> Path:
        places = [self.root / "masks" / f"{name}{suffix}" for suffix in MASK_SUFFIXES]
        for place in places:
            if place.is_file():
                return place
        if reads_one_by_one():
            return places[0]
        raise FileNotFoundError(
            f"{places[0]} is missing; every image needs a file of its name in masks/ (one of {', '.join(MASK_SUFFIXES)}): add "
            f"it, or leave {name} out of the split list"
        )

    def unmatched(self) -> list[str]:
        """Return a message for every mask that belongs to no image."""
        known = {path.stem for path in files_in(self.root / "images", PICTURE_SUFFIXES)}
        return [
            f"{path} belongs to no image of {self.root / 'images'}; add the image or remove the file"
            for path in files_in(self.root / "masks", MASK_SUFFIXES)
            if path.stem not in known
        ]

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return self.entries[index][0].name

    def load(self, index: int) -> np.ndarray:
        image = read_picture(self.entries[index][0], self.channels)
        return image if self.size is None else resized(image, self.size)

    def mask(self, index: int) -> np.ndarray:
        path, image = self.entries[index][1], self.entries[index][0]
        mask = read_labels(path, len(self.class_names), IGNORE, colours=self.colours, void=self.void)
        shape = read_picture(image, self.channels).shape[-2:]
        if mask.shape != shape:
            raise ValueError(
                f"{path} is {mask.shape[0]} x {mask.shape[1]} pixels; expected {shape[0]} x {shape[1]}, those of {image}"
            )
        return mask if self.size is None else resized(mask, self.size, nearest=True)

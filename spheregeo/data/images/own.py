"""Data modules of your own images and of archives: folders, MedMNIST, CIFAR, STL-10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spheregeo.data.images.binary import BinaryImages
from spheregeo.data.images.folder import ImageFolder, MaskFolder
from spheregeo.data.images.medmnist import MedMNIST
from spheregeo.data.images.modules import ImageData

__all__ = ["BinaryImagesData", "ImageFolderData", "MaskFolderData", "MedMNISTData"]


class ImageFolderData(ImageData):
    """A folder of labelled images, a sub-folder for each class.

    Args:
        root: the folder: CLASS/NAME.png, .jpg, .webp, .bmp, .npy or .tif, and optionally train.txt, val.txt, test.txt.
        channels: 1 for grey images, 3 for colours; as the files have them if null.
        resize: rows and columns to which images are resized; as they are if null.
        **kwargs: arguments of :class:`ImageData`.

    Raises: FileNotFoundError and ValueError, as :class:`ImageFolder`, when a split is first read.
    """

    def __init__(
        self, root: str, channels: int | None = None, resize: list[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.channels, self.resize = Path(root), channels, check_resize(resize)

    def make(self, split: str) -> ImageFolder:
        return ImageFolder(self.root, split, self.channels, self.resize)


class MaskFolderData(ImageData):
    """A folder of images and one of their masks.

    Args:
        root: the folder: images/NAME.png, masks/NAME.png, classes.txt, and optionally train.txt, val.txt, test.txt.
        channels: 1 for grey images, 3 for colours; as the files have them if null.
        resize: rows and columns to which images and masks are resized; as they are if null.
        void: values of masks that do not count, beside 255; and colours as "#RRGGBB".
        batch_size: images in a batch.
        **kwargs: arguments of :class:`ImageData`.

    Raises: FileNotFoundError and ValueError, as :class:`MaskFolder`, when a split is first read.
    """

    def __init__(
        self, root: str, channels: int | None = None, resize: list[int] | None = None, void: list[int | str] | None = None,
        batch_size: int = 8, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(batch_size=batch_size, **kwargs)
        self.root, self.channels, self.resize = Path(root), channels, check_resize(resize)
        self.void = tuple(void or ())

    def make(self, split: str) -> MaskFolder:
        return MaskFolder(self.root, split, self.channels, self.resize, self.void)


class MedMNISTData(ImageData):
    """MedMNIST of images, or any .npz of its layout.

    Args:
        root: the file, such as bloodmnist.npz.
        **kwargs: arguments of :class:`ImageData`.

    Raises: FileNotFoundError and ValueError, as :class:`MedMNIST`, when a split is first read.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    def make(self, split: str) -> MedMNIST:
        return MedMNIST(self.root, split)


class BinaryImagesData(ImageData):
    """CIFAR-10, CIFAR-100 or STL-10 in their binary layouts.

    Args:
        root: the folder of the .bin files.
        **kwargs: arguments of :class:`ImageData`.

    Raises: FileNotFoundError and ValueError, as :class:`BinaryImages`, when a split is first read.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    def make(self, split: str) -> BinaryImages:
        return BinaryImages(self.root, split)


def check_resize(size: list[int] | None) -> list[int] | None:
    """Return rows and columns wanted, checked. Raises: ValueError unless they are two whole numbers of at least 1, or None."""
    if size is not None and (len(size) != 2 or not all(type(n) is int and n >= 1 for n in size)):
        raise ValueError(f"resize is {size}; expected rows and columns, such as [64, 64]")
    return size

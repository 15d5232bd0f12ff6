"""Stanford 2D-3D-S panoramas (Armeni, Sax, Zamir, Savarese 2017, arXiv 1702.01105): colours, 13 classes, depth.

A semantic pixel's colour is an index R 65536 + G 256 + B into ``assets/semantic_labels.json``, whose entries read
``class_instance_room_roomnumber_area``; #0D0D0D, which lies beyond the list, is missing, as is class ``<UNK>``. Depth is the
distance from the camera in 1/512 m, 65535 where missing. The black caps above and below are pixels of class ``<UNK>``.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

from spheregeo.data.common import IGNORE, Item, check_split
from spheregeo.data.download import registry
from spheregeo.data.files import need_file, read_text
from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.files import check_panorama, read_image, read_raster
from spheregeo.data.sphere.pictures.depth import read_depth
from spheregeo.data.sphere.resize import resize_depth, resize_image, resize_labels
from spheregeo.files import reading

__all__ = ["Stanford2D3DS", "stanford_classes"]

NAME = "stanford2d3ds"
DEPTH_UNIT, DEPTH_MISSING = 1 / 512, 65535
VALIDATION_SHARE = 10  # one room in ten


def stanford_classes() -> tuple[str, ...]:
    """The 13 classes in the order of their indices (alphabetical)."""
    return tuple(registry()[NAME]["classes"])


def read_label_table(path: str | Path) -> np.ndarray:
    """Class index of every entry of ``semantic_labels.json``, IGNORE for ``<UNK>``. Raises: FileNotFoundError, ValueError."""
    path = need_file(path, "the list of labels from the dataset's repository, folder assets/,")
    with reading(path, "a JSON list of labels"):
        entries = json.loads(read_text(path, "a JSON list of labels"))
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list; expected a JSON list of labels such as 'chair_1_office_3_1'")
    index = {name: k for k, name in enumerate(stanford_classes())} | {"<UNK>": IGNORE}
    names = [str(entry).split("_")[0] for entry in entries]
    unknown = sorted(set(names) - set(index))
    if unknown:
        raise ValueError(f"{path} has class {unknown[0]!r}; expected one of {', '.join(index)}")
    return np.array([index[name] for name in names], np.int64)


def read_semantic(path: str | Path, table: np.ndarray) -> np.ndarray:
    """A semantic PNG as class indices (H, W) int64, IGNORE where missing or unknown. Raises: ValueError for other files."""
    array, mode = read_raster(path)
    if array.ndim != 3 or array.shape[-1] < 3 or array.dtype != np.uint8:
        raise ValueError(
            f"{path} has mode {mode}; expected 8-bit RGB holding indices, the file of the folder semantic/"
        )
    rgb = array[..., :3].astype(np.int64)
    entry = rgb[..., 0] * 65536 + rgb[..., 1] * 256 + rgb[..., 2]
    return np.where(entry < len(table), table[np.minimum(entry, len(table) - 1)], IGNORE)


class Stanford2D3DS(PanoramaDataset):
    """The panoramas of one of the three official folds.

    Args:
        root: folder that holds ``area_1`` ... ``area_6`` and ``assets``.
        fold: 1, 2 or 3.
        size: (nlat, nlon) of the working grid, 2:1.
        split: "test" is the fold's held-out areas; "val" is one room in ten of the training areas, drawn by name (the official
            lists have none), and "train" the others.
        depth: read the depth images too.
        areas: areas that replace the fold's, for a machine that holds some of them only.
        cache: keep items in memory.

    Shape: image (3, nlat, nlon) in [0, 1]; label (nlat, nlon) of 13 classes; depth (nlat, nlon), if ``depth``.
    Units: depth in metres along the ray, 0 = missing.
    Raises: FileNotFoundError, ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self,
        root: str | Path,
        fold: int = 1,
        size: tuple[int, int] = (256, 512),
        split: str = "train",
        depth: bool = False,
        areas: tuple[str, ...] | None = None,
        cache: bool = True,
    ) -> None:
        super().__init__(size, cache)
        self.root, self.fold, self.split, self.depth = Path(root), fold, check_split(split), depth
        folds = registry()[NAME]["folds"]
        if str(fold) not in folds:
            raise ValueError(f"fold is {fold}; expected one of {', '.join(folds)}")
        if areas is None:
            areas = tuple(folds[str(fold)]["test" if split == "test" else "train"])
        self.class_names = stanford_classes()
        self.table = read_label_table(self.root / "assets" / "semantic_labels.json")
        self.images = [path for area in areas for path in self._panoramas(area)]
        self.labels = [self._partner(path, "semantic") for path in self.images]
        self.depths = [self._partner(path, "depth") for path in self.images] if depth else []
        if not self.images:
            raise ValueError(
                f"the {split} split of fold {fold} is empty under {self.root}; too few rooms are there"
            )

    def _panoramas(self, area: str) -> list[Path]:
        folder = self.root / area / "pano" / "rgb"
        found = sorted(folder.glob("camera_*_rgb.png"))
        if not found:
            raise FileNotFoundError(
                f"{folder} holds no camera_*_rgb.png; expected {area} unpacked under {self.root} "
                "(its archive holds area_N/pano/rgb, semantic, depth ...)"
            )
        return (
            found
            if self.split == "test"
            else [p for p in found if self._held_out(area, p) == (self.split == "val")]
        )

    @staticmethod
    def _held_out(area: str, path: Path) -> bool:
        # camera_{uuid}_{room}_{number}_frame_equirectangular_domain_rgb: by room, for its panoramas show the same things.
        room = path.name.split("_frame_")[0].split("_", 2)[-1].strip("_")
        return zlib.crc32(f"{area}/{room}".encode()) % VALIDATION_SHARE == 0

    def _partner(self, path: Path, kind: str) -> Path:
        partner = path.parents[1] / kind / f"{path.name.removesuffix('rgb.png')}{kind}.png"
        if not partner.is_file():
            raise FileNotFoundError(
                f"{partner} is missing, the {kind} image of {path.name}; unpack the area's archive again"
            )
        return partner

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> Item:
        image = read_image(self.images[index])
        label = read_semantic(self.labels[index], self.table)
        check_panorama(self.images[index], *image.shape[-2:])
        check_panorama(self.labels[index], *label.shape)
        item = {
            "image": torch.from_numpy(resize_image(image, self.size)),
            "label": torch.from_numpy(resize_labels(label, self.size)),
        }
        if self.depth:
            metres = read_depth(self.depths[index], DEPTH_UNIT, DEPTH_MISSING)
            check_panorama(self.depths[index], *metres.shape)
            item["depth"] = torch.from_numpy(resize_depth(metres, self.size))
        return item

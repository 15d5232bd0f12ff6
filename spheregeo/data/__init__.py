"""Datasets of panoramas and planets: generated rooms, folders, Stanford 2D-3D-S, global fields; augmentation; downloads.

The Lightning data modules live in ``spheregeo.data.modules`` and are loaded when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spheregeo.data.augment import AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation
from spheregeo.data.base import IGNORE, Augmented, EpochSampler, PanoramaDataset
from spheregeo.data.download import ManualDownloadError, fetch, registry, verify
from spheregeo.data.field import Field, FieldSource, read_field
from spheregeo.data.fields import Fields
from spheregeo.data.files import read_class_names, read_image, read_labels
from spheregeo.data.folder import PanoramaFolder, read_depth
from spheregeo.data.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.panorama import panorama_grid, resize_depth, resize_image, resize_labels
from spheregeo.data.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.stanford2d3ds import Stanford2D3DS, stanford_classes

if TYPE_CHECKING:
    from spheregeo.data.modules import (
        FieldsData,
        FolderData,
        KoppenData,
        PanoramaData,
        RoomsData,
        Stanford2D3DSData,
    )

_MODULES = ("FieldsData", "FolderData", "KoppenData", "PanoramaData", "RoomsData", "Stanford2D3DSData")

__all__ = [
    "IGNORE",
    "KOPPEN_CLASSES",
    "ROOM_CLASSES",
    "Augmented",
    "AzimuthalShift",
    "ColourJitter",
    "EpochSampler",
    "Field",
    "FieldJitter",
    "FieldSource",
    "Fields",
    "FieldsData",
    "FolderData",
    "Koppen",
    "KoppenData",
    "ManualDownloadError",
    "Normalize",
    "PanoramaData",
    "PanoramaDataset",
    "PanoramaFolder",
    "RandomRotation",
    "Rooms",
    "RoomsData",
    "Stanford2D3DS",
    "Stanford2D3DSData",
    "fetch",
    "panorama_grid",
    "read_class_names",
    "read_depth",
    "read_field",
    "read_image",
    "read_labels",
    "registry",
    "resize_depth",
    "resize_image",
    "resize_labels",
    "stanford_classes",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module("spheregeo.data.modules"), name)
    raise AttributeError(f"module 'spheregeo.data' has no attribute {name!r}")

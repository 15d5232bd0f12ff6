"""Datasets on spheres: generated rooms and glyphs, folders, Stanford 2D-3D-S, global fields, digits; augmentation; downloads.

The Lightning data modules are loaded when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spheregeo.data.augment import AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation
from spheregeo.data.base import IGNORE, Augmented, EpochSampler, PanoramaDataset
from spheregeo.data.download import ManualDownloadError, fetch, registry, verify
from spheregeo.data.faust import Faust
from spheregeo.data.field import Field, FieldSource, read_field
from spheregeo.data.fields import Fields
from spheregeo.data.files import read_class_names, read_image, read_labels
from spheregeo.data.folder import PanoramaFolder, read_depth
from spheregeo.data.generated_meshes import Creatures, Primitives
from spheregeo.data.glyphs import GLYPHS
from spheregeo.data.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.mesh_base import MeshDataset, Template, collate
from spheregeo.data.mesh_folder import MeshFolder, Shrec11
from spheregeo.data.panorama import panorama_grid, resize_depth, resize_image, resize_labels
from spheregeo.data.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.stanford2d3ds import Stanford2D3DS, stanford_classes

if TYPE_CHECKING:
    from spheregeo.data.mesh_modules import (
        CreaturesData,
        FaustData,
        MeshData,
        MeshFolderData,
        PrimitivesData,
        Shrec11Data,
    )
    from spheregeo.data.modules import (
        FieldsData,
        FolderData,
        KoppenData,
        PanoramaData,
        RoomsData,
        Stanford2D3DSData,
    )
    from spheregeo.data.spherical_images import SphericalImages, SphericalImagesData
    from spheregeo.data.spherical_mnist import SphericalGlyphsData, SphericalMNISTData

# public name: its module, which needs Lightning
_LATE = {
    **dict.fromkeys(
        ("CreaturesData", "FaustData", "MeshData", "MeshFolderData", "PrimitivesData", "Shrec11Data"),
        "mesh_modules",
    ),
    **dict.fromkeys(
        ("FieldsData", "FolderData", "KoppenData", "PanoramaData", "RoomsData", "Stanford2D3DSData"),
        "modules",
    ),
    **dict.fromkeys(("SphericalImages", "SphericalImagesData"), "spherical_images"),
    **dict.fromkeys(("SphericalGlyphsData", "SphericalMNISTData"), "spherical_mnist"),
}

__all__ = [
    "GLYPHS",
    "IGNORE",
    "KOPPEN_CLASSES",
    "ROOM_CLASSES",
    "Augmented",
    "AzimuthalShift",
    "ColourJitter",
    "Creatures",
    "CreaturesData",
    "EpochSampler",
    "Faust",
    "FaustData",
    "Field",
    "FieldJitter",
    "FieldSource",
    "Fields",
    "FieldsData",
    "FolderData",
    "Koppen",
    "KoppenData",
    "ManualDownloadError",
    "MeshData",
    "MeshDataset",
    "MeshFolder",
    "MeshFolderData",
    "Normalize",
    "PanoramaData",
    "PanoramaDataset",
    "PanoramaFolder",
    "Primitives",
    "PrimitivesData",
    "RandomRotation",
    "Rooms",
    "RoomsData",
    "Shrec11",
    "Shrec11Data",
    "SphericalGlyphsData",
    "SphericalImages",
    "SphericalImagesData",
    "SphericalMNISTData",
    "Stanford2D3DS",
    "Stanford2D3DSData",
    "Template",
    "collate",
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
    if name in _LATE:
        return getattr(importlib.import_module(f"spheregeo.data.{_LATE[name]}"), name)
    raise AttributeError(f"module 'spheregeo.data' has no attribute {name!r}")

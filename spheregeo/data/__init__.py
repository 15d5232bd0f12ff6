"""Datasets on spheres: generated rooms and glyphs, folders, Stanford 2D-3D-S, global fields, digits; augmentation; downloads.

The Lightning data modules are loaded when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spheregeo.data.collate import collate, collate_clouds, collate_meshes, collate_molecules
from spheregeo.data.common import IGNORE, Augmented, EpochSampler
from spheregeo.data.download import ManualDownloadError, fetch, registry, verify
from spheregeo.data.meshes.dataset import MeshDataset, Template
from spheregeo.data.meshes.faust import Faust
from spheregeo.data.meshes.folder import MeshFolder, Shrec11
from spheregeo.data.meshes.generated import Creatures, Primitives
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.points.dataset import Cloud, PointDataset, unit_sphere
from spheregeo.data.points.files import read_cloud
from spheregeo.data.points.folder import PointFolder
from spheregeo.data.points.generated import PrimitiveClouds
from spheregeo.data.points.modelnet import read_modelnet, read_scanobjectnn
from spheregeo.data.points.views import PointAugment, Views
from spheregeo.data.sphere.augment import AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation
from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.field import Field, FieldSource, read_field
from spheregeo.data.sphere.fields import Fields
from spheregeo.data.sphere.files import read_class_names, read_image, read_labels
from spheregeo.data.sphere.folder import PanoramaFolder, read_depth
from spheregeo.data.sphere.glyphs import GLYPHS
from spheregeo.data.sphere.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.sphere.resize import panorama_grid, resize_depth, resize_image, resize_labels
from spheregeo.data.sphere.rooms.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.sphere.stanford2d3ds import Stanford2D3DS, stanford_classes

if TYPE_CHECKING:
    from spheregeo.data.meshes.modules import (
        CreaturesData,
        FaustData,
        MeshData,
        MeshFolderData,
        PrimitivesData,
        Shrec11Data,
    )
    from spheregeo.data.module import DataModule
    from spheregeo.data.molecules.forces import ClustersData, ForcesData
    from spheregeo.data.molecules.module import MoleculeData
    from spheregeo.data.molecules.modules import G2Data, QM7Data, QM9Data
    from spheregeo.data.molecules.own import ExtXYZData, SDFData
    from spheregeo.data.points.modelnet_modules import ModelNetData, ScanObjectNNData
    from spheregeo.data.points.modules import PointData, PointFolderData, PrimitiveCloudsData
    from spheregeo.data.sphere.images import SphericalImages, SphericalImagesData
    from spheregeo.data.sphere.mnist import SphericalGlyphsData, SphericalMNISTData
    from spheregeo.data.sphere.modules import (
        FieldsData,
        FolderData,
        KoppenData,
        PanoramaData,
        RoomsData,
        Stanford2D3DSData,
    )

# public name: its module, which needs Lightning
_LATE = {
    **dict.fromkeys(
        ("CreaturesData", "FaustData", "MeshData", "MeshFolderData", "PrimitivesData", "Shrec11Data"),
        "meshes.modules",
    ),
    **dict.fromkeys(
        ("FieldsData", "FolderData", "KoppenData", "PanoramaData", "RoomsData", "Stanford2D3DSData"),
        "sphere.modules",
    ),
    **dict.fromkeys(("ClustersData", "ForcesData"), "molecules.forces"),
    **dict.fromkeys(("G2Data", "QM7Data", "QM9Data"), "molecules.modules"),
    **dict.fromkeys(("ExtXYZData", "SDFData"), "molecules.own"),
    "DataModule": "module",
    "MoleculeData": "molecules.module",
    **dict.fromkeys(("ModelNetData", "ScanObjectNNData"), "points.modelnet_modules"),
    **dict.fromkeys(("PointData", "PointFolderData", "PrimitiveCloudsData"), "points.modules"),
    **dict.fromkeys(("SphericalImages", "SphericalImagesData"), "sphere.images"),
    **dict.fromkeys(("SphericalGlyphsData", "SphericalMNISTData"), "sphere.mnist"),
}

__all__ = [
    "GLYPHS",
    "IGNORE",
    "KOPPEN_CLASSES",
    "ROOM_CLASSES",
    "Augmented",
    "AzimuthalShift",
    "Cloud",
    "ClustersData",
    "ColourJitter",
    "Creatures",
    "CreaturesData",
    "DataModule",
    "EpochSampler",
    "ExtXYZData",
    "Faust",
    "FaustData",
    "Field",
    "FieldJitter",
    "FieldSource",
    "Fields",
    "FieldsData",
    "FolderData",
    "ForcesData",
    "G2Data",
    "Koppen",
    "KoppenData",
    "ManualDownloadError",
    "MeshData",
    "MeshDataset",
    "MeshFolder",
    "MeshFolderData",
    "ModelNetData",
    "MoleculeData",
    "Molecules",
    "Normalize",
    "PanoramaData",
    "PanoramaDataset",
    "PanoramaFolder",
    "PointAugment",
    "PointData",
    "PointDataset",
    "PointFolder",
    "PointFolderData",
    "PrimitiveClouds",
    "PrimitiveCloudsData",
    "Primitives",
    "PrimitivesData",
    "QM7Data",
    "QM9Data",
    "RandomRotation",
    "Rooms",
    "RoomsData",
    "SDFData",
    "ScanObjectNNData",
    "Shrec11",
    "Shrec11Data",
    "SphericalGlyphsData",
    "SphericalImages",
    "SphericalImagesData",
    "SphericalMNISTData",
    "Stanford2D3DS",
    "Stanford2D3DSData",
    "Template",
    "Views",
    "collate",
    "collate_clouds",
    "collate_meshes",
    "collate_molecules",
    "fetch",
    "panorama_grid",
    "read_class_names",
    "read_cloud",
    "read_depth",
    "read_field",
    "read_image",
    "read_labels",
    "read_modelnet",
    "read_scanobjectnn",
    "registry",
    "resize_depth",
    "resize_image",
    "resize_labels",
    "stanford_classes",
    "unit_sphere",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"spheregeo.data.{_LATE[name]}"), name)
    raise AttributeError(f"module 'spheregeo.data' has no attribute {name!r}")

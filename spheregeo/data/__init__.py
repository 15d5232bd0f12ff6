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
from spheregeo.data.generated_points import PrimitiveClouds
from spheregeo.data.glyphs import GLYPHS
from spheregeo.data.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.mesh_base import MeshDataset, Template, collate
from spheregeo.data.mesh_folder import MeshFolder, Shrec11
from spheregeo.data.modelnet import read_modelnet, read_scanobjectnn
from spheregeo.data.molecules import Molecules
from spheregeo.data.panorama import panorama_grid, resize_depth, resize_image, resize_labels
from spheregeo.data.point_base import Cloud, PointDataset, unit_sphere
from spheregeo.data.point_files import read_cloud
from spheregeo.data.point_folder import PointFolder
from spheregeo.data.point_views import PointAugment, Views
from spheregeo.data.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.stanford2d3ds import Stanford2D3DS, stanford_classes

if TYPE_CHECKING:
    from spheregeo.data.force_modules import ClustersData, ForcesData
    from spheregeo.data.mesh_modules import (
        CreaturesData,
        FaustData,
        MeshData,
        MeshFolderData,
        PrimitivesData,
        Shrec11Data,
    )
    from spheregeo.data.modelnet_modules import ModelNetData, ScanObjectNNData
    from spheregeo.data.modules import (
        FieldsData,
        FolderData,
        KoppenData,
        PanoramaData,
        RoomsData,
        Stanford2D3DSData,
    )
    from spheregeo.data.molecule_modules import G2Data, QM7Data, QM9Data
    from spheregeo.data.molecule_own import ExtXYZData, SDFData
    from spheregeo.data.molecule_splits import MoleculeData
    from spheregeo.data.point_modules import PointData, PointFolderData, PrimitiveCloudsData
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
    **dict.fromkeys(("ClustersData", "ForcesData"), "force_modules"),
    **dict.fromkeys(("G2Data", "QM7Data", "QM9Data"), "molecule_modules"),
    **dict.fromkeys(("ExtXYZData", "SDFData"), "molecule_own"),
    "MoleculeData": "molecule_splits",
    **dict.fromkeys(("ModelNetData", "ScanObjectNNData"), "modelnet_modules"),
    **dict.fromkeys(("PointData", "PointFolderData", "PrimitiveCloudsData"), "point_modules"),
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
    "Cloud",
    "ClustersData",
    "ColourJitter",
    "Creatures",
    "CreaturesData",
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

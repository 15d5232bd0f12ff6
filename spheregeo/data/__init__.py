"""Data of spheres, meshes, points and molecules: generated sets, readers, modules, augmentation, batches.

Made by ``datasets/make_registry.py`` from the ``__all__`` of this room's files: edit those. Names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spheregeo.data.batches import collate, collate_clouds, collate_meshes, collate_molecules
    from spheregeo.data.common import IGNORE, Augmented, EpochSampler
    from spheregeo.data.download import ManualDownloadError, fetch, registry, verify
    from spheregeo.data.fields.generated import ShallowWaterData
    from spheregeo.data.fields.gradients import GlyphGradientData
    from spheregeo.data.fields.layout import FieldInfo, FieldLayout
    from spheregeo.data.fields.module import SeriesData
    from spheregeo.data.fields.own import FieldSeriesData, read_field_series
    from spheregeo.data.fields.series import FieldSeries, FieldWindows
    from spheregeo.data.fields.shallow_water import BarotropicVorticity, ShallowWater
    from spheregeo.data.files import read_class_names
    from spheregeo.data.images.binary import BinaryImages
    from spheregeo.data.images.dataset import ImageDataset, MaskDataset
    from spheregeo.data.images.files import read_picture
    from spheregeo.data.images.folder import ImageFolder, MaskFolder
    from spheregeo.data.images.generated import Textures
    from spheregeo.data.images.medmnist import MedMNIST
    from spheregeo.data.images.mnist import MNISTData
    from spheregeo.data.images.modules import ImageData, TexturesData
    from spheregeo.data.images.own import BinaryImagesData, ImageFolderData, MaskFolderData, MedMNISTData
    from spheregeo.data.meshes.dataset import MeshDataset, Template
    from spheregeo.data.meshes.faust import Faust
    from spheregeo.data.meshes.folder import MeshFolder, Shrec11
    from spheregeo.data.meshes.generated import CreatureParts, Creatures, Primitives
    from spheregeo.data.meshes.modules import (
        CreaturesData,
        FaustData,
        MeshData,
        MeshFolderData,
        PrimitivesData,
        Shrec11Data,
    )
    from spheregeo.data.meshes.part_modules import CreaturePartsData, HumanPartsData, MeshPartsData, PartsData
    from spheregeo.data.meshes.parts import HumanParts, MeshParts
    from spheregeo.data.module import DataModule
    from spheregeo.data.molecules.completion import (
        CompletionData,
        G2CompletionData,
        MissingAtoms,
        MoleculeCompletionData,
        QM7CompletionData,
    )
    from spheregeo.data.molecules.files import (
        ENERGY_KEYS,
        FORCE_KEYS,
        STRESS_KEYS,
        atomic_number,
        from_frames,
        isolated_atoms,
        need_file,
        read_extxyz,
        read_frames,
        xyz_files,
    )
    from spheregeo.data.molecules.forces import ClustersData, ForcesData
    from spheregeo.data.molecules.module import MoleculeData
    from spheregeo.data.molecules.modules import G2Data, QM7Data, QM9Data
    from spheregeo.data.molecules.molecules import Molecules
    from spheregeo.data.molecules.own import ExtXYZData, SDFData
    from spheregeo.data.molecules.periodic.databases import read_ase_db
    from spheregeo.data.molecules.periodic.modules import SlabsData
    from spheregeo.data.molecules.periodic.oc20 import OC20Data, read_oc20
    from spheregeo.data.molecules.tables import numeric, read_npz, read_sdf, read_sdf_csv, read_table, unpad
    from spheregeo.data.points.balanced import BalancedDraws
    from spheregeo.data.points.dataset import Cloud, PartDataset, PointDataset, unit_sphere
    from spheregeo.data.points.files import read_cloud
    from spheregeo.data.points.folder import PointFolder
    from spheregeo.data.points.generated import PrimitiveClouds
    from spheregeo.data.points.modelnet import read_modelnet, read_scanobjectnn
    from spheregeo.data.points.modelnet_modules import ModelNetData, ScanObjectNNData
    from spheregeo.data.points.modules import PointData, PointFolderData, PrimitiveCloudsData
    from spheregeo.data.points.pair_module import CloudPairsData
    from spheregeo.data.points.pairs import CloudFiles, CloudPairs, CreatureClouds, collate_pairs
    from spheregeo.data.points.part_files import PartFiles, PartFolder, ShapeNetPart
    from spheregeo.data.points.part_modules import PartData, PartFolderData, PartShapesData, ShapeNetPartData
    from spheregeo.data.points.part_shapes import PartShapes
    from spheregeo.data.points.pcd import read_pcd
    from spheregeo.data.points.views import PointAugment, Views
    from spheregeo.data.poses.dataset import PoseDataset
    from spheregeo.data.poses.folder import PoseFolder
    from spheregeo.data.poses.generated import ShadedViews
    from spheregeo.data.poses.layouts import PoseArrays
    from spheregeo.data.poses.modules import (
        Pascal3DData,
        PoseArraysData,
        PoseData,
        PoseFolderData,
        ShadedViewsData,
    )
    from spheregeo.data.poses.pascal3d import Pascal3D
    from spheregeo.data.pyg import from_pyg, to_pyg
    from spheregeo.data.readings import Reading, read_all
    from spheregeo.data.sky.files import (
        read_sky_map,
        read_sky_mask,
        read_spectrum,
        write_sky_map,
        write_spectrum,
    )
    from spheregeo.data.sky.folder import SkyFolder, SkyFolderData
    from spheregeo.data.sky.generated import GeneratedSkies
    from spheregeo.data.sky.maps import SkyMap
    from spheregeo.data.sky.module import GeneratedSkiesData, PreparedSkies, SkyData
    from spheregeo.data.sky.prepare import SkyPreparation
    from spheregeo.data.sky.spectra import cmb_like_spectrum, deflection_like_spectrum
    from spheregeo.data.sphere.augment import (
        AzimuthalShift,
        ColourJitter,
        FieldJitter,
        Normalize,
        RandomRotation,
    )
    from spheregeo.data.sphere.dataset import PanoramaDataset
    from spheregeo.data.sphere.field import Field, FieldSource, read_field
    from spheregeo.data.sphere.fields import Fields
    from spheregeo.data.sphere.files import read_image
    from spheregeo.data.sphere.folder import PanoramaFolder
    from spheregeo.data.sphere.glyphs import GLYPHS
    from spheregeo.data.sphere.gridded.points import PointField
    from spheregeo.data.sphere.images import SphericalImages, SphericalImagesData
    from spheregeo.data.sphere.koppen import KOPPEN_CLASSES, Koppen
    from spheregeo.data.sphere.mnist import SphericalGlyphsData, SphericalMNISTData
    from spheregeo.data.sphere.module import PanoramaData
    from spheregeo.data.sphere.modules import (
        FieldsData,
        FolderData,
        KoppenData,
        PanoramasData,
        RoomsData,
        Stanford2D3DSData,
    )
    from spheregeo.data.sphere.pictures.depth import read_depth
    from spheregeo.data.sphere.pictures.labels import read_labels
    from spheregeo.data.sphere.pictures.views import View
    from spheregeo.data.sphere.resize import panorama_grid, resize_depth, resize_image, resize_labels
    from spheregeo.data.sphere.rooms.rooms import ROOM_CLASSES, Rooms
    from spheregeo.data.sphere.stanford2d3ds import Stanford2D3DS, stanford_classes
    from spheregeo.data.voxels.dataset import VoxelDataset
    from spheregeo.data.voxels.files import read_volume
    from spheregeo.data.voxels.folder import VoxelFolder
    from spheregeo.data.voxels.generated import Solids
    from spheregeo.data.voxels.medmnist import MedMNIST3D
    from spheregeo.data.voxels.modules import MedMNIST3DData, SolidsData, VoxelData, VoxelFolderData

# public name: its module
_HOMES = {
    "Augmented": "common",
    "AzimuthalShift": "sphere.augment",
    "BalancedDraws": "points.balanced",
    "BarotropicVorticity": "fields.shallow_water",
    "BinaryImages": "images.binary",
    "BinaryImagesData": "images.own",
    "Cloud": "points.dataset",
    "CloudFiles": "points.pairs",
    "CloudPairs": "points.pairs",
    "CloudPairsData": "points.pair_module",
    "ClustersData": "molecules.forces",
    "ColourJitter": "sphere.augment",
    "CompletionData": "molecules.completion",
    "CreatureClouds": "points.pairs",
    "CreatureParts": "meshes.generated",
    "CreaturePartsData": "meshes.part_modules",
    "Creatures": "meshes.generated",
    "CreaturesData": "meshes.modules",
    "DataModule": "module",
    "ENERGY_KEYS": "molecules.files",
    "EpochSampler": "common",
    "ExtXYZData": "molecules.own",
    "FORCE_KEYS": "molecules.files",
    "Faust": "meshes.faust",
    "FaustData": "meshes.modules",
    "Field": "sphere.field",
    "FieldInfo": "fields.layout",
    "FieldJitter": "sphere.augment",
    "FieldLayout": "fields.layout",
    "FieldSeries": "fields.series",
    "FieldSeriesData": "fields.own",
    "FieldSource": "sphere.field",
    "FieldWindows": "fields.series",
    "Fields": "sphere.fields",
    "FieldsData": "sphere.modules",
    "FolderData": "sphere.modules",
    "ForcesData": "molecules.forces",
    "G2CompletionData": "molecules.completion",
    "G2Data": "molecules.modules",
    "GLYPHS": "sphere.glyphs",
    "GeneratedSkies": "sky.generated",
    "GeneratedSkiesData": "sky.module",
    "GlyphGradientData": "fields.gradients",
    "HumanParts": "meshes.parts",
    "HumanPartsData": "meshes.part_modules",
    "IGNORE": "common",
    "ImageData": "images.modules",
    "ImageDataset": "images.dataset",
    "ImageFolder": "images.folder",
    "ImageFolderData": "images.own",
    "KOPPEN_CLASSES": "sphere.koppen",
    "Koppen": "sphere.koppen",
    "KoppenData": "sphere.modules",
    "MNISTData": "images.mnist",
    "ManualDownloadError": "download",
    "MaskDataset": "images.dataset",
    "MaskFolder": "images.folder",
    "MaskFolderData": "images.own",
    "MedMNIST": "images.medmnist",
    "MedMNIST3D": "voxels.medmnist",
    "MedMNIST3DData": "voxels.modules",
    "MedMNISTData": "images.own",
    "MeshData": "meshes.modules",
    "MeshDataset": "meshes.dataset",
    "MeshFolder": "meshes.folder",
    "MeshFolderData": "meshes.modules",
    "MeshParts": "meshes.parts",
    "MeshPartsData": "meshes.part_modules",
    "MissingAtoms": "molecules.completion",
    "ModelNetData": "points.modelnet_modules",
    "MoleculeCompletionData": "molecules.completion",
    "MoleculeData": "molecules.module",
    "Molecules": "molecules.molecules",
    "Normalize": "sphere.augment",
    "OC20Data": "molecules.periodic.oc20",
    "PanoramaData": "sphere.module",
    "PanoramaDataset": "sphere.dataset",
    "PanoramaFolder": "sphere.folder",
    "PanoramasData": "sphere.modules",
    "PartData": "points.part_modules",
    "PartDataset": "points.dataset",
    "PartFiles": "points.part_files",
    "PartFolder": "points.part_files",
    "PartFolderData": "points.part_modules",
    "PartShapes": "points.part_shapes",
    "PartShapesData": "points.part_modules",
    "PartsData": "meshes.part_modules",
    "Pascal3D": "poses.pascal3d",
    "Pascal3DData": "poses.modules",
    "PointAugment": "points.views",
    "PointData": "points.modules",
    "PointDataset": "points.dataset",
    "PointField": "sphere.gridded.points",
    "PointFolder": "points.folder",
    "PointFolderData": "points.modules",
    "PoseArrays": "poses.layouts",
    "PoseArraysData": "poses.modules",
    "PoseData": "poses.modules",
    "PoseDataset": "poses.dataset",
    "PoseFolder": "poses.folder",
    "PoseFolderData": "poses.modules",
    "PreparedSkies": "sky.module",
    "PrimitiveClouds": "points.generated",
    "PrimitiveCloudsData": "points.modules",
    "Primitives": "meshes.generated",
    "PrimitivesData": "meshes.modules",
    "QM7CompletionData": "molecules.completion",
    "QM7Data": "molecules.modules",
    "QM9Data": "molecules.modules",
    "ROOM_CLASSES": "sphere.rooms.rooms",
    "RandomRotation": "sphere.augment",
    "Reading": "readings",
    "Rooms": "sphere.rooms.rooms",
    "RoomsData": "sphere.modules",
    "SDFData": "molecules.own",
    "STRESS_KEYS": "molecules.files",
    "ScanObjectNNData": "points.modelnet_modules",
    "SeriesData": "fields.module",
    "ShadedViews": "poses.generated",
    "ShadedViewsData": "poses.modules",
    "ShallowWater": "fields.shallow_water",
    "ShallowWaterData": "fields.generated",
    "ShapeNetPart": "points.part_files",
    "ShapeNetPartData": "points.part_modules",
    "Shrec11": "meshes.folder",
    "Shrec11Data": "meshes.modules",
    "SkyData": "sky.module",
    "SkyFolder": "sky.folder",
    "SkyFolderData": "sky.folder",
    "SkyMap": "sky.maps",
    "SkyPreparation": "sky.prepare",
    "SlabsData": "molecules.periodic.modules",
    "Solids": "voxels.generated",
    "SolidsData": "voxels.modules",
    "SphericalGlyphsData": "sphere.mnist",
    "SphericalImages": "sphere.images",
    "SphericalImagesData": "sphere.images",
    "SphericalMNISTData": "sphere.mnist",
    "Stanford2D3DS": "sphere.stanford2d3ds",
    "Stanford2D3DSData": "sphere.modules",
    "Template": "meshes.dataset",
    "Textures": "images.generated",
    "TexturesData": "images.modules",
    "View": "sphere.pictures.views",
    "Views": "points.views",
    "VoxelData": "voxels.modules",
    "VoxelDataset": "voxels.dataset",
    "VoxelFolder": "voxels.folder",
    "VoxelFolderData": "voxels.modules",
    "atomic_number": "molecules.files",
    "cmb_like_spectrum": "sky.spectra",
    "collate": "batches",
    "collate_clouds": "batches",
    "collate_meshes": "batches",
    "collate_molecules": "batches",
    "collate_pairs": "points.pairs",
    "deflection_like_spectrum": "sky.spectra",
    "fetch": "download",
    "from_frames": "molecules.files",
    "from_pyg": "pyg",
    "isolated_atoms": "molecules.files",
    "need_file": "molecules.files",
    "numeric": "molecules.tables",
    "panorama_grid": "sphere.resize",
    "read_all": "readings",
    "read_ase_db": "molecules.periodic.databases",
    "read_class_names": "files",
    "read_cloud": "points.files",
    "read_depth": "sphere.pictures.depth",
    "read_extxyz": "molecules.files",
    "read_field": "sphere.field",
    "read_field_series": "fields.own",
    "read_frames": "molecules.files",
    "read_image": "sphere.files",
    "read_labels": "sphere.pictures.labels",
    "read_modelnet": "points.modelnet",
    "read_npz": "molecules.tables",
    "read_oc20": "molecules.periodic.oc20",
    "read_pcd": "points.pcd",
    "read_picture": "images.files",
    "read_scanobjectnn": "points.modelnet",
    "read_sdf": "molecules.tables",
    "read_sdf_csv": "molecules.tables",
    "read_sky_map": "sky.files",
    "read_sky_mask": "sky.files",
    "read_spectrum": "sky.files",
    "read_table": "molecules.tables",
    "read_volume": "voxels.files",
    "registry": "download",
    "resize_depth": "sphere.resize",
    "resize_image": "sphere.resize",
    "resize_labels": "sphere.resize",
    "stanford_classes": "sphere.stanford2d3ds",
    "to_pyg": "pyg",
    "unit_sphere": "points.dataset",
    "unpad": "molecules.tables",
    "verify": "download",
    "write_sky_map": "sky.files",
    "write_spectrum": "sky.files",
    "xyz_files": "molecules.files",
}
_PARTS = [
    "batches",
    "class_folder",
    "common",
    "digits",
    "download",
    "fields",
    "files",
    "images",
    "medmnist",
    "meshes",
    "module",
    "molecules",
    "points",
    "poses",
    "pyg",
    "readings",
    "record",
    "samples",
    "sky",
    "sphere",
    "splits",
    "voxels",
]

__all__ = [
    "ENERGY_KEYS",
    "FORCE_KEYS",
    "GLYPHS",
    "IGNORE",
    "KOPPEN_CLASSES",
    "ROOM_CLASSES",
    "STRESS_KEYS",
    "Augmented",
    "AzimuthalShift",
    "BalancedDraws",
    "BarotropicVorticity",
    "BinaryImages",
    "BinaryImagesData",
    "Cloud",
    "CloudFiles",
    "CloudPairs",
    "CloudPairsData",
    "ClustersData",
    "ColourJitter",
    "CompletionData",
    "CreatureClouds",
    "CreatureParts",
    "CreaturePartsData",
    "Creatures",
    "CreaturesData",
    "DataModule",
    "EpochSampler",
    "ExtXYZData",
    "Faust",
    "FaustData",
    "Field",
    "FieldInfo",
    "FieldJitter",
    "FieldLayout",
    "FieldSeries",
    "FieldSeriesData",
    "FieldSource",
    "FieldWindows",
    "Fields",
    "FieldsData",
    "FolderData",
    "ForcesData",
    "G2CompletionData",
    "G2Data",
    "GeneratedSkies",
    "GeneratedSkiesData",
    "GlyphGradientData",
    "HumanParts",
    "HumanPartsData",
    "ImageData",
    "ImageDataset",
    "ImageFolder",
    "ImageFolderData",
    "Koppen",
    "KoppenData",
    "MNISTData",
    "ManualDownloadError",
    "MaskDataset",
    "MaskFolder",
    "MaskFolderData",
    "MedMNIST",
    "MedMNIST3D",
    "MedMNIST3DData",
    "MedMNISTData",
    "MeshData",
    "MeshDataset",
    "MeshFolder",
    "MeshFolderData",
    "MeshParts",
    "MeshPartsData",
    "MissingAtoms",
    "ModelNetData",
    "MoleculeCompletionData",
    "MoleculeData",
    "Molecules",
    "Normalize",
    "OC20Data",
    "PanoramaData",
    "PanoramaDataset",
    "PanoramaFolder",
    "PanoramasData",
    "PartData",
    "PartDataset",
    "PartFiles",
    "PartFolder",
    "PartFolderData",
    "PartShapes",
    "PartShapesData",
    "PartsData",
    "Pascal3D",
    "Pascal3DData",
    "PointAugment",
    "PointData",
    "PointDataset",
    "PointField",
    "PointFolder",
    "PointFolderData",
    "PoseArrays",
    "PoseArraysData",
    "PoseData",
    "PoseDataset",
    "PoseFolder",
    "PoseFolderData",
    "PreparedSkies",
    "PrimitiveClouds",
    "PrimitiveCloudsData",
    "Primitives",
    "PrimitivesData",
    "QM7CompletionData",
    "QM7Data",
    "QM9Data",
    "RandomRotation",
    "Reading",
    "Rooms",
    "RoomsData",
    "SDFData",
    "ScanObjectNNData",
    "SeriesData",
    "ShadedViews",
    "ShadedViewsData",
    "ShallowWater",
    "ShallowWaterData",
    "ShapeNetPart",
    "ShapeNetPartData",
    "Shrec11",
    "Shrec11Data",
    "SkyData",
    "SkyFolder",
    "SkyFolderData",
    "SkyMap",
    "SkyPreparation",
    "SlabsData",
    "Solids",
    "SolidsData",
    "SphericalGlyphsData",
    "SphericalImages",
    "SphericalImagesData",
    "SphericalMNISTData",
    "Stanford2D3DS",
    "Stanford2D3DSData",
    "Template",
    "Textures",
    "TexturesData",
    "View",
    "Views",
    "VoxelData",
    "VoxelDataset",
    "VoxelFolder",
    "VoxelFolderData",
    "atomic_number",
    "cmb_like_spectrum",
    "collate",
    "collate_clouds",
    "collate_meshes",
    "collate_molecules",
    "collate_pairs",
    "deflection_like_spectrum",
    "fetch",
    "from_frames",
    "from_pyg",
    "isolated_atoms",
    "need_file",
    "numeric",
    "panorama_grid",
    "read_all",
    "read_ase_db",
    "read_class_names",
    "read_cloud",
    "read_depth",
    "read_extxyz",
    "read_field",
    "read_field_series",
    "read_frames",
    "read_image",
    "read_labels",
    "read_modelnet",
    "read_npz",
    "read_oc20",
    "read_pcd",
    "read_picture",
    "read_scanobjectnn",
    "read_sdf",
    "read_sdf_csv",
    "read_sky_map",
    "read_sky_mask",
    "read_spectrum",
    "read_table",
    "read_volume",
    "registry",
    "resize_depth",
    "resize_image",
    "resize_labels",
    "stanford_classes",
    "to_pyg",
    "unit_sphere",
    "unpad",
    "verify",
    "write_sky_map",
    "write_spectrum",
    "xyz_files",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"spheregeo.data.{_HOMES[name]}"), name)
    elif name in _PARTS:
        found = importlib.import_module(f"spheregeo.data.{name}")
    else:
        raise AttributeError(
            f"module 'spheregeo.data' has no attribute {name!r}; if it is new in the __all__ of one of the files, "
            "run: python datasets/make_registry.py"
        )
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})

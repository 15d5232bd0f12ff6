"""Tasks: Lightning modules, area-weighted losses and metrics, pictures, whole-or-absent files."""

from __future__ import annotations

from spheregeo.grids import parse_grid
from spheregeo.kernels import parse_kernel
from spheregeo.tasks.base import Task, kinds, load
from spheregeo.tasks.fields.regression import FieldRegression
from spheregeo.tasks.files import AtomicCheckpointIO, read_checkpoint, write_bytes, write_json
from spheregeo.tasks.images.base import ImageTask
from spheregeo.tasks.images.classification import ImageClassification
from spheregeo.tasks.images.density import ImageDensity
from spheregeo.tasks.images.segmentation import ImageSegmentation
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.losses import balanced_weights, cross_entropy, depth_berhu, depth_l1
from spheregeo.tasks.meshes.base import MeshTask
from spheregeo.tasks.meshes.classification import MeshClassification
from spheregeo.tasks.meshes.correspondence import MeshCorrespondence
from spheregeo.tasks.meshes.segmentation import MeshSegmentation
from spheregeo.tasks.metrics import (
    ConfusionMatrix,
    DepthScores,
    class_iou,
    class_recall,
    classification_scores,
    segmentation_scores,
)
from spheregeo.tasks.molecules.base import MoleculeTask
from spheregeo.tasks.molecules.completion import MoleculeCompletion
from spheregeo.tasks.molecules.forces import Forces, ForceScores
from spheregeo.tasks.molecules.regression import MoleculeRegression, regression_scores
from spheregeo.tasks.pictures.projections import globe, mollweide, to_panorama
from spheregeo.tasks.points.classification import PointClassification
from spheregeo.tasks.points.matching import PointMatching
from spheregeo.tasks.points.segmentation import PointSegmentation
from spheregeo.tasks.poses.estimation import PoseEstimation
from spheregeo.tasks.predictions import Predictions, write_predictions
from spheregeo.tasks.sky.restoration import SkyRestoration
from spheregeo.tasks.sphere.base import SphereTask
from spheregeo.tasks.sphere.classification import Classification
from spheregeo.tasks.sphere.codec import Codec, EncodedPanorama
from spheregeo.tasks.sphere.compression import Compression
from spheregeo.tasks.sphere.depth import Depth
from spheregeo.tasks.sphere.segmentation import Segmentation
from spheregeo.tasks.voxels.classification import VoxelClassification

__all__ = [
    "AtomicCheckpointIO",
    "Classification",
    "Codec",
    "Compression",
    "ConfusionMatrix",
    "Depth",
    "DepthScores",
    "EncodedPanorama",
    "FieldRegression",
    "ForceScores",
    "Forces",
    "ImageClassification",
    "ImageDensity",
    "ImageSegmentation",
    "ImageTask",
    "LabelTask",
    "MeshClassification",
    "MeshCorrespondence",
    "MeshSegmentation",
    "MeshTask",
    "MoleculeCompletion",
    "MoleculeRegression",
    "MoleculeTask",
    "PointClassification",
    "PointMatching",
    "PointSegmentation",
    "PoseEstimation",
    "Predictions",
    "Segmentation",
    "SkyRestoration",
    "SphereTask",
    "Task",
    "VoxelClassification",
    "balanced_weights",
    "class_iou",
    "class_recall",
    "classification_scores",
    "cross_entropy",
    "depth_berhu",
    "depth_l1",
    "globe",
    "kinds",
    "load",
    "mollweide",
    "parse_grid",
    "parse_kernel",
    "read_checkpoint",
    "regression_scores",
    "segmentation_scores",
    "to_panorama",
    "write_bytes",
    "write_json",
    "write_predictions",
]

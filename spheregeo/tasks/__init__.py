"""Segmentation and depth: Lightning modules, area-weighted losses and metrics, pictures, whole-or-absent files."""

from __future__ import annotations

from spheregeo.tasks.base import SphereTask, load
from spheregeo.tasks.depth import Depth
from spheregeo.tasks.files import AtomicCheckpointIO, read_checkpoint, write_bytes, write_json
from spheregeo.tasks.losses import balanced_weights, cross_entropy, depth_berhu, depth_l1
from spheregeo.tasks.metrics import ConfusionMatrix, DepthScores, class_iou, class_recall, segmentation_scores
from spheregeo.tasks.plain import parse_grid, parse_kernel
from spheregeo.tasks.projections import globe, mollweide, to_panorama
from spheregeo.tasks.segmentation import Segmentation

__all__ = [
    "AtomicCheckpointIO",
    "ConfusionMatrix",
    "Depth",
    "DepthScores",
    "Segmentation",
    "SphereTask",
    "balanced_weights",
    "class_iou",
    "class_recall",
    "cross_entropy",
    "depth_berhu",
    "depth_l1",
    "globe",
    "load",
    "mollweide",
    "parse_grid",
    "parse_kernel",
    "read_checkpoint",
    "segmentation_scores",
    "to_panorama",
    "write_bytes",
    "write_json",
]

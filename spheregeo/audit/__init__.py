"""Measured equivariance error, cost and memory of any layer or model."""

from __future__ import annotations

from spheregeo.audit.cost import count_flops, count_parameters, measure_memory, measure_time
from spheregeo.audit.equivariance import EquivarianceReport, equivariance_error, measure_equivariance
from spheregeo.audit.lattice.subsampling import (
    ExactSize,
    SubsamplingReport,
    crop_to_exact,
    pad_to_exact,
    subsampling,
)
from spheregeo.audit.on_meshes import measure_mesh_invariance, print_meshes, report_meshes
from spheregeo.audit.plane import measure_angles, plot_angles, print_images, report_images
from spheregeo.audit.plot import plot_equivariance
from spheregeo.audit.points import measure_invariance, print_points, report_points
from spheregeo.audit.poses import measure_poses, print_poses, report_poses
from spheregeo.audit.randomise import randomise
from spheregeo.audit.report import print_table, report, save_json
from spheregeo.audit.voxels import measure_turns, print_voxels, report_voxels

__all__ = [
    "EquivarianceReport",
    "ExactSize",
    "SubsamplingReport",
    "count_flops",
    "count_parameters",
    "crop_to_exact",
    "equivariance_error",
    "measure_angles",
    "measure_equivariance",
    "measure_invariance",
    "measure_memory",
    "measure_mesh_invariance",
    "measure_poses",
    "measure_time",
    "measure_turns",
    "pad_to_exact",
    "plot_angles",
    "plot_equivariance",
    "print_images",
    "print_meshes",
    "print_points",
    "print_poses",
    "print_table",
    "print_voxels",
    "randomise",
    "report",
    "report_images",
    "report_meshes",
    "report_points",
    "report_poses",
    "report_voxels",
    "save_json",
    "subsampling",
]

"""Operators of surfaces as sparse matrices, on meshes and clouds: eigenbases, heat kernel signatures, gradients, divergences."""

from spheregeo.mesh.operators.clouds import cloud_laplacian, cloud_normals
from spheregeo.mesh.operators.gradients import VectorCalculus, edge_gradient, vector_calculus
from spheregeo.mesh.operators.patches import (
    Patches,
    QuadraticFit,
    edge_patches,
    metric_map,
    nearest_patches,
    quadratic_fit,
)
from spheregeo.mesh.operators.spectrum import Eigenbasis, eigenbasis, heat_kernel_signature, whole_eigenspaces

__all__ = [
    "Eigenbasis",
    "Patches",
    "QuadraticFit",
    "VectorCalculus",
    "cloud_laplacian",
    "cloud_normals",
    "edge_gradient",
    "edge_patches",
    "eigenbasis",
    "heat_kernel_signature",
    "metric_map",
    "nearest_patches",
    "quadratic_fit",
    "vector_calculus",
    "whole_eigenspaces",
]

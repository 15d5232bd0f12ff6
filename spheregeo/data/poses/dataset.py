"""Images and the rotations of what they show: what every dataset of poses shares.

A rotation R takes the thing's own frame to the camera's: x to the right, y up, z towards the viewer. An image that is turned
by an angle, counter-clockwise, shows the thing at R_z(angle) R.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from spheregeo.data.samples import LabelledArrays
from spheregeo.groups import rotation_matrix

__all__ = ["PoseDataset"]

# What takes a camera's axes to ours: those of OpenCV are x to the right, y down, z forward.
CAMERAS = {"opengl": np.diag([1.0, 1.0, 1.0]), "opencv": np.diag([1.0, -1.0, -1.0])}


def check_camera(camera: str) -> str:
    """Return the name of a camera's axes, checked. Raises: ValueError."""
    if camera not in CAMERAS:
        raise ValueError(f"camera is {camera!r}; expected one of {', '.join(CAMERAS)}")
    return camera


def as_rotations(values: np.ndarray, camera: str, names: Sequence[str]) -> np.ndarray:
    """Return rotations in our camera's frame, checked.

    Args:
        values: matrices (N, 3, 3) or (N, 9) row by row, or quaternions (w, x, y, z) of any length (N, 4).
        camera: axes of their camera, "opengl" or "opencv".
        names: what the rotations are called in messages.

    Shape: -> (N, 3, 3) float64.
    Raises: ValueError naming the first that is no rotation.
    """
    values = np.asarray(values, np.float64)
    if values.shape[1:] == (9,):
        values = values.reshape(-1, 3, 3)
    if values.shape[1:] not in ((3, 3), (4,)):
        raise ValueError(
            f"rotations have shape {values.shape}; expected (N, 3, 3), (N, 9) or quaternions (N, 4) as (w, x, y, z)"
        )
    if values.ndim == 2:
        length = np.linalg.norm(values, axis=1, keepdims=True)
        values = np.divide(values, length, out=np.full_like(values, np.nan), where=length > 1e-6)
    found = np.empty((len(values), 3, 3))
    for k, value in enumerate(values):
        try:
            found[k] = rotation_matrix(torch.from_numpy(value)).numpy()
        except ValueError as error:
            raise ValueError(f"{names[k]}: {error}") from error
    return CAMERAS[camera] @ found


class PoseDataset(LabelledArrays):
    """Base class of datasets of images with a rotation each; ``load`` returns the image, (C, H, W) float32.

    A subclass implements ``__len__``, ``load`` and ``rotation``, and sets ``labels`` (class of each image), ``class_names`` and
    ``symmetric``, the names of the classes whose things some rotation takes to themselves.

    Raises: IndexError for an index outside the dataset.
    """

    things = "images"
    symmetric: tuple[str, ...] = ()

    @abstractmethod
    def rotation(self, index: int) -> np.ndarray:
        """Return the rotation of what an image shows. Shape: -> (3, 3) float64."""


def check_symmetric(symmetric: Sequence[str] | None, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of symmetric classes, checked. Raises: ValueError for a name that is no class."""
    names = tuple(symmetric or ())
    unknown = [name for name in names if name not in class_names]
    if unknown:
        raise ValueError(
            f"symmetric names {unknown[0]!r}, which is no class; the classes are {', '.join(class_names)}"
        )
    return names

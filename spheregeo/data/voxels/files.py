"""Files of one volume each: .npy, .npz with one array, NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import need_file, read_array
from spheregeo.data.voxels.dataset import check_volume
from spheregeo.files import reading

__all__ = ["read_volume"]

VOXEL_SUFFIXES = (".npy", ".npz", ".nii", ".gz")
_MOST = 2**31  # voxels of a volume


def read_volume(path: str | Path) -> np.ndarray:
    """Read a volume.

    Args:
        path: .npy; .npz with one array of three or four axes; .nii or .nii.gz (package nibabel), whose fourth axis becomes the
            channels.

    Shape: (C, D, H, W) float32; uint8 is divided by 255 and uint16 by 65535 where the largest value is above 1. Other whole
        numbers, and all of NIfTI, which has a scale of its own, stay as they are.
    Raises: FileNotFoundError; ImportError for NIfTI without nibabel; ValueError for anything that is no volume.
    """
    path = Path(path)
    need_file(path, "a volume")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return check_volume(_nifti(path), str(path))
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"{path} is of no known type; expected .npy, .npz, .nii or .nii.gz")
    stored = read_array(path)
    if isinstance(stored, dict):
        volumes = {name: array for name, array in stored.items() if array.ndim in (3, 4)}
        if len(volumes) != 1:
            raise ValueError(f"{path} holds {len(volumes)} arrays of three or four axes; expected one")
        stored = next(iter(volumes.values()))
    return check_volume(stored, str(path))


def _nifti(path: Path) -> np.ndarray:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(f"{path} needs the package nibabel: pip install 'spheregeo[nifti]'") from error
    with reading(path, "a NIfTI volume"):
        image: Any = nibabel.load(path)
        if len(image.shape) not in (3, 4) or 0 in image.shape or np.prod(image.shape, dtype=float) > _MOST:
            raise ValueError(f"{path} states the shape {image.shape}; expected (D, H, W) or (D, H, W, C)")
        values = np.asarray(image.get_fdata(dtype=np.float32))
    return np.moveaxis(values, -1, 0) if values.ndim == 4 else values

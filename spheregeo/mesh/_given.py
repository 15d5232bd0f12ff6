"""Normals and frames that a user gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.mesh.shape import tangent_frames

UNIT = 1e-5  # float32 rounding of a unit vector stays well below; a wrong unit does not


def tensor(value: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray, list, tuple)):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected a choice by name or a tensor")
    given = torch.as_tensor(value).detach().to("cpu", torch.float64, copy=True).contiguous()
    if tuple(given.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {shape}")
    if not bool(given.isfinite().all()):
        raise ValueError(f"{name} has NaN or infinite entries; expected finite numbers")
    return given


def given_normals(value: Any, count: int) -> Tensor:
    normals = tensor(value, "normals", (count, 3))
    length = normals.norm(dim=1)
    off = (length - 1).abs()
    if bool((off > UNIT).any()):
        worst = int(off.argmax())
        raise ValueError(f"normals[{worst}] has length {float(length[worst]):.6g}; expected unit vectors")
    # not all: normalising exact vectors again could change their last bit, and so the mesh's value
    inexact = off > 1e-14
    normals[inexact] /= length[inexact, None]
    return normals


def given_frames(value: Any, normals: Tensor) -> Tensor:
    frames = tensor(value, "frames", (len(normals), 2, 3))
    off = (frames @ frames.mT - torch.eye(2, dtype=torch.float64)).abs().amax((1, 2))
    off = torch.maximum(off, (torch.linalg.cross(frames[:, 0], frames[:, 1]) - normals).abs().amax(1))
    if bool((off > UNIT).any()):
        worst = int(off.argmax())
        raise ValueError(
            f"frames[{worst}] is off by {float(off[worst]):.2g}; expected orthonormal (e_1, e_2) with e_1 × e_2 = normals"
        )
    inexact = off > 1e-14
    frames[inexact] = torch.from_numpy(tangent_frames(normals[inexact].numpy(), frames[inexact, 0].numpy()))
    return frames

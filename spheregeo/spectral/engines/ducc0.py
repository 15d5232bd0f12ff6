"""The Legendre stage by the library ducc0, where a user has installed it: the engine "ducc0", on CPUs.

ducc0 is under the GNU General Public License 2 or later. It is imported here and nowhere else, never installed or shipped with
this library, and never chosen by "auto": programs that use it come under its licence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.spectral.legendre import Legendre


def synthesis(structure: Legendre, a: Tensor) -> Tensor:
    """Ring values of coefficients. Shape: (T, K) -> (M, R, K)."""
    import ducc0

    z = _complex(a)  # (T, B)
    sign, options = _options(structure)
    columns = np.ascontiguousarray(z.T)
    out = np.empty((structure.lmax + 1, structure.num_rings, len(columns)), dtype=z.dtype)
    for k, column in enumerate(columns):
        if structure.spin:  # of E = a alone, of whose two fields Λ^s a is a sum
            south, east = ducc0.sht.alm2leg(alm=np.stack([column, 0 * column]), **options)
            leg = 1j * east - south
        else:
            leg = ducc0.sht.alm2leg(alm=column[None], **options)[0]
        out[..., k] = (leg * sign).T
    return torch.view_as_real(torch.from_numpy(out)).flatten(2)


def analysis(structure: Legendre, values: Tensor) -> Tensor:
    """Sums over rings, the transpose of synthesis. Shape: (M, R, K) -> (T, K)."""
    import ducc0

    z = _complex(values)  # (M, R, B)
    sign, options = _options(structure)
    out = np.empty((structure.size, z.shape[2]), dtype=z.dtype)
    for k in range(z.shape[2]):
        leg = np.ascontiguousarray(z[..., k].T) * sign
        given = np.stack([-leg, -1j * leg]) if structure.spin else leg[None]
        out[:, k] = ducc0.sht.leg2alm(leg=given, **options)[0]
    return torch.view_as_real(torch.from_numpy(out)).flatten(1)


def _complex(x: Tensor) -> np.ndarray:
    """Pairs of columns as complex numbers."""
    z: np.ndarray = torch.view_as_complex(x.contiguous().view(*x.shape[:-1], -1, 2)).numpy()
    return z


def _options(structure: Legendre) -> tuple[np.ndarray, dict[str, Any]]:
    """The sign (−1)^m between ducc0's functions and ours, and arguments of its calls."""
    m = np.arange(structure.lmax + 1)
    return (1 - 2 * (m % 2)).astype(np.float32), {
        "lmax": structure.lmax,
        "spin": structure.spin,
        "theta": structure.colatitude.numpy(),
        "mval": m.astype(np.uintp),
        "mstart": (m * (2 * structure.lmax + 1 - m) // 2).astype(np.uintp),
        "nthreads": torch.get_num_threads(),
    }

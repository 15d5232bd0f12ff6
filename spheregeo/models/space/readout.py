"""From numbers of atoms to numbers of molecules: sums, means, and heads that know what a dipole or an extent is."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.nn.irreps import working_dtype

READOUTS = ("sum", "mean", "dipole", "extent")
_SMALLEST = 1e-12  # added to a squared dipole, so that the norm of a vanishing one has a gradient


def check_readout(readout: str) -> str:
    """The readout itself. Raises: ValueError for an unknown one."""
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}; expected one of {', '.join(map(repr, READOUTS))}")
    return readout


def pooled(
    values: Tensor,
    batch: Tensor,
    num_graphs: int | None,
    readout: str,
    positions: Tensor | None = None,
    numbers: Tensor | None = None,
) -> Tensor:
    """Numbers of molecules from those v of their atoms, each channel for itself.

    "sum" Σ v_i; "mean" Σ v_i / n; "dipole" |Σ (v_i - v̄) x_i|, the moment of a neutral molecule with charges v; "extent"
    Σ v_i |x_i - c|² about the centre c of the nuclear charges.

    Shape: values (P, C), batch (P,), positions (P, 3), numbers (P,); returns (B, C). The last two need positions
        and numbers.
    Equivariance: invariant to motions and reflections if the values are. Sums are in float32 at least.
    Raises: ValueError for an unknown readout, or one that lacks positions.
    """
    count = num_graphs if num_graphs is not None else (int(batch[-1]) + 1 if len(batch) else 0)

    values = values.to(working_dtype(values))  # bfloat16 counts to 256

    def over(parts: Tensor) -> Tensor:
        return parts.new_zeros(count, *parts.shape[1:]).index_add(0, batch, parts)

    if check_readout(readout) == "sum":
        return over(values)
    atoms = over(torch.ones_like(values[:, :1])).clamp_min(1.0)
    mean = over(values) / atoms
    if readout == "mean":
        return mean
    if positions is None or numbers is None:
        raise ValueError(f"readout is {readout!r}, which needs the positions and numbers of the atoms")
    positions = positions.to(values.dtype)
    if readout == "dipole":
        x = positions - (over(positions) / atoms).index_select(0, batch)  # near 0: no digits are lost
        moment = over((values - mean.index_select(0, batch))[:, :, None] * x[:, None])  # (B, C, 3)
        return (moment.square().sum(2) + _SMALLEST).sqrt()
    charge = numbers.to(positions)[:, None]
    centre = over(charge * positions) / over(charge)
    squared = (positions - centre.index_select(0, batch)).square().sum(1, keepdim=True)
    return over(values * squared)

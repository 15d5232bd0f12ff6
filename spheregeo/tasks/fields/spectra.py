"""Coefficients of fields of several kinds, for power spectra and for losses that count degrees apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.data.fields.layout import FieldInfo
from spheregeo.grids import Grid
from spheregeo.spectral import SHT, VectorSHT, resolved_degree


class FieldSpectra(nn.Module):
    """Power of each degree of scalars and vectors on a grid.

    Args:
        fields: the fields, in the order of the channels.
        grid: the grid.
        lmax: largest degree; as far as a lat-lon grid resolves if None.

    Shape: (..., channels, *grid.shape) -> (..., fields, lmax + 1): the sum over orders of the squared coefficients, over 4π, so
        that the sum over degrees is the mean of the squared field; of a vector both kinds of coefficients.
    Equivariance: invariant, exact where the grid's transform is.

    Example:
        >>> from spheregeo.data import FieldInfo
        >>> from spheregeo.grids import GaussLegendre
        >>> spectra = FieldSpectra((FieldInfo("h"), FieldInfo("wind", ("u", "v"))), GaussLegendre(6, 12))
        >>> spectra(torch.randn(2, 3, 6, 12)).shape
        torch.Size([2, 2, 6])
    """

    def __init__(self, fields: tuple[FieldInfo, ...], grid: Grid, lmax: int | None = None) -> None:
        super().__init__()
        self.fields, self.grid = fields, grid
        self.lmax = lmax = resolved_degree(grid) if lmax is None else lmax
        self.scalars = SHT(grid, lmax) if any(not one.components for one in fields) else None
        self.vectors = VectorSHT(grid, lmax) if any(one.components for one in fields) else None

    def forward(self, x: Tensor) -> Tensor:
        powers, start = [], 0
        axis = x.ndim - len(self.grid.shape) - 1
        for one in self.fields:
            part = x.narrow(axis, start, one.width)
            start += one.width
            if one.components:
                assert self.vectors is not None
                squared = self.vectors(part).square().sum(-2)
            else:
                assert self.scalars is not None
                squared = self.scalars(part.squeeze(axis)).square()
            degrees = [squared[..., d * d : (d + 1) ** 2].sum(-1) for d in range(self.lmax + 1)]
            powers.append(torch.stack(degrees, -1) / (4 * math.pi))
        return torch.stack(powers, -2)

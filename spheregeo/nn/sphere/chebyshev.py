r"""Chebyshev convolution on the graph of a grid's nearest neighbors, as in DeepSphere.

    y_o = b_o + sum_c sum_{k=0}^{K-1} W_ock T_k(L~) x_c,      L~ = 2 L / lambda_max - 1,     L = D - A

with A_pq = exp(-|p - q|² / 4t) between neighbors and D its row sums; T_0 = 1, T_1 = L~, T_k = 2 L~ T_{k-1} - T_{k-2}. A filter
of K terms reaches K - 1 steps far, and is isotropic.
Reference: Defferrard, Bresson & Vandergheynst 2016, arXiv:1606.09375, eq. 4; Defferrard, Milani, Gusset & Perraudin 2020
(DeepSphere), arXiv:2012.15000.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.nn.chebyshev import filter_rows, from_rows, nearest, to_rows
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.sparse import SparseMap

WIDTH = 0.8  # 4t is WIDTH / sqrt(neighbors) of the mean squared reach; least equivariance error on HEALPix, measured
BOUND = 1.01  # lambda_max is found to 1 %, and must not be exceeded
_FEW = 64  # points below which all eigenvalues are computed


def laplacian(grid: Grid, neighbors: int) -> csr_array:
    """L = D - A of the grid's graph: an edge joins two points if either is among the other's nearest ones."""
    row, column, length, reach = nearest(grid.points.numpy(), neighbors)
    four_t = WIDTH / math.sqrt(neighbors) * np.mean(reach**2)
    n = grid.num_points
    half = coo_array((np.exp(-(length**2) / four_t), (row, column)), shape=(n, n)).tocsr()
    adjacency = half.maximum(half.T)
    return (diags_array(adjacency.sum(1)) - adjacency).tocsr()


def largest_eigenvalue(matrix: csr_array, points: np.ndarray) -> float:
    """Largest eigenvalue of a grid's Laplacian, by Lanczos iterations to half a per cent.

    They start from values that depend on a point's place alone, so that its number does not matter.
    """
    if len(points) <= _FEW:
        return float(np.linalg.eigvalsh(matrix.toarray())[-1])
    start = np.sin(points @ np.array([917.0, 1123.0, 1361.0]))  # nearly white on any grid
    return float(eigsh(matrix, k=1, which="LA", v0=start, tol=5e-3, return_eigenvectors=False)[0])


def scaled_laplacian(grid: Grid, neighbors: int, dtype: torch.dtype) -> SparseMap:
    """L~ = 2 L / lambda_max - 1 as a sparse map."""

    def build() -> SparseMap:
        matrix = laplacian(grid, neighbors)
        scale = 2 / (BOUND * largest_eigenvalue(matrix, grid.points.numpy()))
        scaled = (scale * matrix - diags_array(np.ones(grid.num_points))).tocsr()
        scaled.sort_indices()
        rows, columns = torch.from_numpy(scaled.indptr), torch.from_numpy(scaled.indices)
        return SparseMap(rows, columns, torch.from_numpy(scaled.data), grid.num_points).to(dtype)

    return geometry.get(("chebyshev", grid, neighbors, dtype), build).shared()


class ChebConv(ExactBuffers):
    """Graph convolution by Chebyshev polynomials of the Laplacian of nearest neighbors.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: any grid on the sphere.
        order: number K of polynomials, so that filters reach K - 1 steps of the graph; 1 mixes channels alone.
        neighbors: how many nearest points each point is joined to, 8 or 20 as a rule; ties are all taken.
        bias: whether a constant is added to every channel.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape); weight (out, in, K).
    Equivariance: SO(3), approximate; exact under the rotations that permute the grid. Measured relative error of order 3 for
        signals of degree < 8 on HEALPix of nside 16 / 32 / 64: 0.8 / 0.3 / 0.1 % with 8 neighbors and 0.4 / 0.1 / 0.03 %
        with 20. On grids of uneven density the graph is no Laplacian of the sphere: 2 % on 32x64 and 4 % on
        icosahedral level 4, with 20; :class:`~spheregeo.nn.DiscoConv` weighs points by their areas.
    Raises: ValueError for sizes, a grid or an input that do not fit.
    Reference: Defferrard et al. 2020, arXiv:2012.15000.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import ChebConv
        >>> ChebConv(3, 8, HEALPix(4), order=3, neighbors=8)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 8, 192])
    """

    map: SparseMap

    @renamed_arguments(neighbours="neighbors")
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        order: int = 3,
        *,
        neighbors: int = 20,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "order": order}
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a positive integer")
        if not isinstance(grid, Grid) or not grid.is_sphere:
            raise ValueError(f"grid is {grid!r}; expected a grid on the sphere")
        if not isinstance(neighbors, int) or not 1 <= neighbors < grid.num_points:
            raise ValueError(
                f"neighbors is {neighbors!r}; expected 1 to {grid.num_points - 1}, the other points of {grid!r}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.order, self.neighbors = order, neighbors
        self.source = self.target = grid
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, order))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        if order > 1:
            self.keep("map")
        self.reset_parameters()

    def _build(self, name: str, dtype: torch.dtype) -> SparseMap:
        return scaled_laplacian(self.source, self.neighbors, dtype)

    def reset_parameters(self) -> None:
        """Weights of variance 2 / (in K), biases 0.01, as DeepSphere starts."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.in_channels * self.order)))
        if self.bias is not None:
            nn.init.constant_(self.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        shape = tuple(self.source.shape)
        if x.ndim != 2 + len(shape) or x.shape[1] != self.in_channels or tuple(x.shape[2:]) != shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {', '.join(map(str, shape))}), "
                f"the fields of {self.source!r}"
            )
        matrix = self.map if self.order > 1 else None
        rows = filter_rows(to_rows(x.flatten(2)), matrix, self.weight, self.bias)
        return from_rows(rows).unflatten(2, shape)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.source!r}, order={self.order}, "
            f"neighbors={self.neighbors}, bias={self.bias is not None}"
        )

"""Means over the sphere of a network that acts on the values of functions there: invariants, and vectors."""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.sample_grids import Signal, sampling_matrices, sphere_grid
from spheregeo.nn.irreps.stacks import Stacks


class SphereMean(ExactBuffers):
    """Mean over the sphere of f(x(p)), f a perceptron from the C values at p; or of 3 p f(x(p)), which is a vector.

    The samples are a quadrature (Gauss–Legendre rings), with weights that count.

    Args:
        channels: C, copies of each degree.
        lmax: largest degree.
        hidden: width of the perceptron's hidden layer.
        out_channels: numbers, or vectors.
        vectors: whether vectors are wanted.
        resolution: (rings, points per ring) of the samples; None for (2L + 1, 4L + 1).

    Shape: stacks "Cx0e + Cx1o + ..." of N points -> (N, out_channels), or (N, out_channels, 3).
    Equivariance: O(3) up to the samples; the error falls exponentially with their number.
    Raises: ValueError for sizes below 1 or a grid that loses the input itself.
    Reference: Zitnick et al. 2022, arXiv:2206.14331, section 3.4, with a quadrature in place of weighted points.

    Example:
        >>> mean = SphereMean(4, lmax=1, hidden=8, out_channels=2)
        >>> mean(Stacks.from_mul_ir(torch.randn(5, 16), "4x0e + 4x1o")).shape
        torch.Size([5, 2])
    """

    sample: Tensor
    weights: Tensor

    def __init__(
        self,
        channels: int,
        lmax: int,
        hidden: int,
        out_channels: int,
        *,
        vectors: bool = False,
        resolution: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_least(
            channels=(channels, 1), lmax=(lmax, 0), hidden=(hidden, 1), out_channels=(out_channels, 1)
        )
        self.vectors = vectors
        self.resolution = tuple(resolution or (2 * lmax + 1, 4 * lmax + 1))
        least = (lmax + 1, 2 * lmax + 1)
        if len(self.resolution) != 2 or any(n < m for n, m in zip(self.resolution, least)):
            raise ValueError(f"resolution is {self.resolution}; expected at least {least} for degree {lmax}")
        signal = Signal(tuple(Irrep(l, (-1) ** l) for l in range(lmax + 1)), (0,) * (lmax + 1))
        points, weights = sphere_grid(*self.resolution)
        self.keep("sample", sampling_matrices(signal, self.resolution)[0])  # type: ignore[arg-type]
        self.keep("weights", 3 * weights[:, None] * points if vectors else weights[:, None])
        self.network = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, out_channels))

    def forward(self, x: Stacks) -> Tensor:
        coefficients = torch.cat(x.parts, 1)  # (N, K, C)
        values = in_dtype(self.network, self.sample.to(coefficients) @ coefficients)  # (N, samples, out)
        found = torch.einsum("npo,pd->nod", values, self.weights.to(values))
        return found if self.vectors else found[..., 0]

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}, vectors={self.vectors}"

"""A network that acts on the values of functions on the sphere, all channels of a point together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.activations import Activation
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.activations import NormalizedActivation
from spheregeo.nn.irreps.layout import as_irreps, check_features
from spheregeo.nn.irreps.sample_grids import grid_shape, sampling_matrices
from spheregeo.nn.irreps.sphere_activation import sphere_channels
from spheregeo.nn.irreps.stacks import ByRows, Features, Stacks


class SphereMLP(ExactBuffers):
    """Functional nonlinearity that mixes channels: a small network from C to C' values, applied alike at every sample of the
    sphere.

    For one activation and no mixing, :class:`~spheregeo.nn.irreps.SphereActivation` is faster.

    Args:
        irreps: C copies of each natural irrep (0e, 1o, 2e, ...) up to some degree, read as C functions on the sphere.
        hidden: widths of the network between C and C'.
        out_channels: C'; None for C. The output is C' copies of each irrep.
        act: activation after each hidden layer.
        resolution: (rings, points per ring) of samples, see :class:`~spheregeo.nn.irreps.SphereActivation`; None for (2L +
            1, 4L + 1).

    Shape: (..., irreps_in.dim) in mul_ir -> (..., irreps_out.dim), or stacks -> stacks.
    Equivariance: O(3), approximate; relative RMS error measured with random weights, biases and unit components, one
        hidden SiLU layer, default grid: up to 6e-3 (L = 2), 5e-3 (L = 4). Exact (1e-15) for polynomial activations of degree ≤ 3.
    Raises: ValueError for irreps with unequal copies or pseudo ones, widths below 1, a grid that loses the input itself.
    Reference: Poulenard & Guibas 2021, "A functional approach to rotation equivariant non-linearities for tensor field networks".

    Example:
        >>> mlp = SphereMLP("4x0e + 4x1o", hidden=[16], out_channels=6)
        >>> mlp(torch.randn(10, 16)).shape
        torch.Size([10, 24])
    """

    order: Tensor
    sample: Tensor
    project: Tensor
    out_order: Tensor

    def __init__(
        self,
        irreps: str | Irreps,
        hidden: Sequence[int],
        out_channels: int | None = None,
        act: str | Activation = "silu",
        *,
        resolution: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in = as_irreps(irreps)
        channels = sphere_channels(self.irreps_in)
        if len(channels) != 1 or channels[0].odd:
            raise ValueError(
                f"irreps is {self.irreps_in}; expected the same number of copies of natural irreps, as in '8x0e + 8x1o + 8x2e'"
            )
        signal, self.channels = channels[0].signal, len(channels[0].places)
        self.out_channels = self.channels if out_channels is None else out_channels
        widths = [self.channels, *hidden, self.out_channels]
        if any(width < 1 for width in widths):
            raise ValueError(
                f"hidden is {tuple(hidden)} and out_channels {out_channels}; expected positive widths"
            )
        self.irreps_out = Irreps([(self.out_channels, ir) for ir in signal.irreps])
        least = grid_shape(signal, 2 * signal.degree, False)
        self.resolution = tuple(resolution or grid_shape(signal, 4 * signal.degree, False))
        if len(self.resolution) != 2 or any(n < m for n, m in zip(self.resolution, least, strict=True)):
            raise ValueError(
                f"resolution is {self.resolution}; expected at least {least} for degree {signal.degree}"
            )
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), NormalizedActivation(act)]
            nn.init.normal_(layers[-2].weight, std=fan_in**-0.5)  # type: ignore[arg-type]
            nn.init.zeros_(layers[-2].bias)  # type: ignore[arg-type]
        self.network = nn.Sequential(*layers[:-1])
        for name, matrix in zip(
            ("sample", "project"), sampling_matrices(signal, self.resolution), strict=True
        ):
            self.keep(name, matrix)
        self.register_buffer("order", channels[0].places.T.flatten(), persistent=False)
        out = sphere_channels(self.irreps_out)[0].places.T.flatten()
        self.register_buffer("out_order", torch.argsort(out), persistent=False)
        self.by_rows = ByRows(self.irreps_in, irreps_out=self.irreps_out)
        self.dim_in, self.dim_out = self.irreps_in.dim, self.irreps_out.dim

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            return self.by_rows(self.forward, x)
        check_features(x, self.irreps_in)
        rows = x.reshape(-1, self.dim_in).index_select(1, self.order)
        samples = self.sample.to(x.dtype) @ rows.unflatten(
            1, (-1, self.channels)
        )  # (rows, samples, channels)
        y = (
            (self.project.to(x.dtype) @ in_dtype(self.network, samples))
            .flatten(1)
            .index_select(1, self.out_order)
        )
        return y.reshape(*x.shape[:-1], self.dim_out)

    def extra_repr(self) -> str:
        return f"'{self.irreps_in}' -> '{self.irreps_out}', grid={'×'.join(map(str, self.resolution))}"

r"""Attention between the points of two spherical grids, over the whole sphere or a neighbourhood.

    y(p) = sum_q softmax_q( < Q(p), K(q) > / sqrt(d) + b(r_pq) + log a_q ) V(q)

The areas a_q inside the softmax make sums over points integrals over the sphere: numerator and denominator are both quadratures,
so the layer means the same on every grid and at every resolution. Reference: Bonev et al. 2025, "Attention on the sphere",
arXiv:2505.11157.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.kernels import Kernel, Rings
from spheregeo.nn.coefficients import areas_at
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.sampling.relation import relation
from spheregeo.sparse import AttentionMap

DEFAULT_POSITION = Rings(5)


class SphereAttention(ExactBuffers):
    """Multi-head attention with area weights, from a field on one grid to a field on another, global or within a radius.

    Args:
        channels: of the input, the query and the output.
        source: grid of the input, which gives keys and values.
        target: grid of the query and the output; None for the source.
        radius: only points within this distance attend to one another; None for all.
        spacings: ``radius`` in spacings of the coarser grid, in its place.
        heads: softmaxes side by side.
        head_channels: channels of each head's queries, keys and values; None for channels / heads.
        position: functions of the relative position whose learned mixture, one for each head, is added to the scores; it begins
            at zero. "auto" takes ``Rings(5)``, functions of the distance, where a radius is given and none where it is not. A
            directional kernel such as ``PiecewiseLinear(5, 4)`` depends on the angle too, and costs the equivariance.
        bias: whether queries, values and outputs have learned constants; in keys a constant would change nothing.
        engine: of the sparse backend, see :func:`spheregeo.sparse.engines`; None for the default.

    Shape: (B, channels, *source.shape) -> (B, channels, *target.shape). ``layer(x, query)`` takes queries from a second field
        (B, channels, *target.shape), as it must where the grids differ; without it x attends to itself.
    Units: radius in radians.
    Equivariance: SO(3), approximate, for ``position`` of the distance alone. Relative errors of one layer with random weights,
        signals of degree < 8, global: 2.2e-3 on 32x64, 8.7e-4 on HEALPix(16), 1.1e-3 on Icosahedral(4), 4.6e-4 on 64x128; within
        0.4 rad: 2.0e-2, 1.1e-2, 1.4e-2, 6.0e-3. Exact under rotations that permute both grids. With a directional ``position``
        only turns about z by whole columns remain.
    Raises: ValueError for sizes, radius or input that do not fit.
    Reference: Bonev et al. 2025, arXiv:2505.11157; Vaswani et al. 2017, arXiv:1706.03762.

    Nothing of a size points x points or points x neighbors is kept for the backward pass: scores are computed again. Global
    attention without ``position`` is torch's ``scaled_dot_product_attention``, whose fused kernels have no second derivatives;
    all else is the sparse backend's, which lists the pairs of points once for all heads.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SphereAttention
        >>> layer = SphereAttention(8, HEALPix(4), radius=0.5, heads=2)
        >>> layer(torch.randn(2, 8, 192)).shape
        torch.Size([2, 8, 192])
    """

    map: AttentionMap | None

    def __init__(
        self,
        channels: int,
        source: Grid,
        target: Grid | None = None,
        *,
        radius: float | None = None,
        spacings: float | None = None,
        heads: int = 1,
        head_channels: int | None = None,
        position: Kernel | str | None = "auto",
        bias: bool = True,
        engine: str | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.heads = check_count("channels", channels), check_count("heads", heads)
        if head_channels is None and channels % heads:
            raise ValueError(
                f"heads is {heads} but channels is {channels}; expected a divisor, or give head_channels"
            )
        self.head_channels = check_count(
            "head_channels", channels // heads if head_channels is None else head_channels
        )
        self.source, self.target = source, source if target is None else target
        for name, grid in (("source", self.source), ("target", self.target)):
            if not isinstance(grid, Grid):
                raise TypeError(f"{name} is {grid!r}; expected a grid of spheregeo.grids on the sphere")
            if not grid.is_sphere:
                raise ValueError(f"{name} is {grid!r}, which is not a sphere; expected a spherical grid")
        if radius is not None and spacings is not None:
            raise ValueError(f"radius is {radius} and spacings {spacings}; give the cutoff one way only")
        if spacings is not None:
            radius = min(spacings * max(self.source.spacing, self.target.spacing), math.pi)
        if isinstance(position, str):
            if position != "auto":
                raise ValueError(f"position is {position!r}; expected 'auto', None or a kernel")
            position = None if radius is None else DEFAULT_POSITION
        self.radius, self.position, self.engine = radius, position, engine
        inner = self.heads * self.head_channels
        self.query, self.value = (nn.Linear(channels, inner, bias=bias) for _ in range(2))
        self.key = nn.Linear(
            channels, inner, bias=False
        )  # a constant in all keys leaves each softmax as it is
        self.mix = nn.Linear(inner, channels, bias=bias)
        for linear in (self.query, self.key, self.value, self.mix):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        functions = 0 if position is None else position.num_functions
        self.position_weight = None if position is None else nn.Parameter(torch.zeros(self.heads, functions))
        if radius is None and position is None:
            self.map = None
            areas = self.source.areas
            equal = bool((areas - areas.mean()).abs().max() <= 1e-9 * areas.mean())
            self.log_area: Tensor | None
            if equal:
                self.log_area = None
            else:
                self.keep("log_area", (areas / areas.mean()).log())
        else:
            self.keep("map")

    def _build(self, name: str, dtype: torch.dtype) -> AttentionMap:
        return attention_map(self.source, self.target, self.radius, self.position, dtype).shared(self.engine)

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        self._check("x", x, self.source)
        if query is None:
            if self.target != self.source:
                raise ValueError(
                    f"query is None; expected a field on the target {self.target!r}, which is not the source"
                )
            query = x
        else:
            self._check("query", query, self.target)
            if len(query) != len(x) or query.dtype != x.dtype:
                raise ValueError(
                    f"query has {len(query)} samples of {query.dtype}; expected {len(x)} of {x.dtype}, as x has"
                )
        rows = x.flatten(2).transpose(1, 2)  # (B, N, channels)
        asking = rows if query is x else query.flatten(2).transpose(1, 2)
        q = in_dtype(self.query, asking) * self.head_channels**-0.5
        k, v = in_dtype(self.key, rows), in_dtype(self.value, rows)
        if self.map is None:
            y = self._everywhere(q, k, v)
        else:
            weight = self.position_weight
            y = self.map(q, k, v, self.heads, weight)
        return in_dtype(self.mix, y).transpose(1, 2).unflatten(2, self.target.shape)

    def _everywhere(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Global attention without positions; half precision is computed in float32."""
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        a, b, c = (t.to(dtype).unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mask = None if self.log_area is None else self.log_area.to(dtype)[None, None, None]
        with torch.autocast(q.device.type, enabled=False):
            y = nn.functional.scaled_dot_product_attention(a, b, c, attn_mask=mask, scale=1.0)
        return y.transpose(1, 2).flatten(2).to(q.dtype)

    def _check(self, name: str, x: Tensor, grid: Grid) -> None:
        check_tensor(x, name)
        shape = tuple(grid.shape)
        if x.ndim != 2 + len(shape) or x.shape[1] != self.channels or tuple(x.shape[2:]) != shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (batch, {self.channels}, {', '.join(map(str, shape))}), "
                f"the fields of {grid!r}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, source={self.source!r}, target={self.target!r}, radius={self.radius}, "
            f"heads={self.heads}, head_channels={self.head_channels}, position={self.position!r}"
        )

    def flops(self) -> int:
        """Multiplications and additions of one forward pass of one sample."""
        points = self.target.num_points, self.source.num_points
        pairs = points[0] * points[1] if self.map is None else self.map.num_nonzeros
        inner = self.heads * self.head_channels
        return 4 * inner * pairs + 4 * inner * self.channels * sum(points)

    def memory_bytes(self) -> int:
        """Bytes of geometry this layer holds; layers over equal grids, radii and positions share one copy."""
        if self.map is not None:
            return self.map.memory_bytes()
        return 0 if self.log_area is None else self.log_area.numel() * self.log_area.element_size()


def attention_map(
    source: Grid, target: Grid, radius: float | None, position: Kernel | None, dtype: torch.dtype
) -> AttentionMap:
    """The pairs within a radius (None for all), with their areas and the functions of their positions; shared by value."""
    reach = math.pi if radius is None else float(radius)

    def build() -> AttentionMap:
        found = relation(source, target, reach, isotropic=position is None or position.isotropic)
        near = found.neighborhood
        areas = areas_at(source, near.indices) / source.areas.mean()
        basis = None if position is None else position(near.distance, near.angle, reach)
        return AttentionMap(found.pattern, areas.log(), basis).to(dtype)

    return geometry.get(("attention", source, target, reach, position, dtype), build)

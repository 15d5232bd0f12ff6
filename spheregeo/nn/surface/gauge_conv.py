r"""``GaugeConv``: convolution of tangent fields on spheres and meshes, the same in whatever frames they are given.

    y(p) = sum_q rho_out(theta_pq) K(r_pq) rho_in(g_qp - theta_pq) x(q) + S x(p) + b

Every kernel that does not depend on the choice of frames has this form, with any matrix K(r) for each pair of fields
(Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, eq. 3; de Haan, Weiler, Cohen & Welling 2021,
arXiv:2003.05425, eq. 2). It is evaluated by frequency: sum neighbours first, mix channels once a point.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.grids import Grid
from spheregeo.groups import FieldType, reflection_mask
from spheregeo.kernels import Kernel
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.surface.geometry import GaugeGeometry
from spheregeo.nn.surface.linear import FieldLinear


class GaugeConv(ExactBuffers):
    """Gauge-equivariant convolution between tangent fields, on a sphere grid, a mesh, or a geometry given with each call.

    Args:
        in_type, out_type: such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        source, target: grids of input and output; ``target=None`` keeps the source. Without a source the geometry
            comes with each call, as for batches of different meshes.
        radius, spacings: cutoff of the filters, see :meth:`GaugeGeometry.of`. Without a source the geometry of the call decides.
        num_rings: radial profiles of the filters.
        kernel: isotropic kernel with other radial profiles than ``num_rings`` gives.
        smooth, moments: see :meth:`GaugeGeometry.of`.
        log_map, transport: how directions and frames are carried between points, see :meth:`GaugeGeometry.of`.
        engine: of the sparse backend, see :func:`spheregeo.sparse.engines`; None for the default.
        bias: True for a constant on the (even) scalars; "edge" for a free bias inside the frame of every edge, which adds
            what the layer would make of a constant scalar field; False for none.
        self_interaction: whether the point itself acts through weights of its own (only where target is source).
        reflections: whether frames may be reflected: filters then keep to what O(2) permits.

    Shape:
        (B, in_type.dim, *source.shape) -> (B, out_type.dim, *target.shape); weight (out, in, R).
    Units: those of the geometry.
    Equivariance: frames turned by any angles: exact (1e-15 relative in float64). On spheres SO(3), approximate: scalar to
        order 1 to scalar, degree < 8, default radius and moments: 1.7e-4 at nside 32, 2.1e-5 at nside 64, 2.7e-4 on
        64x128; 3 to 8e-3 without moments at 8 spacings (docs/guides/equivariance.md).
    Raises: ValueError for types, sizes or input that do not fit.
    Reference: Cohen et al. 2019, eq. 3; de Haan et al. 2021, eq. 2; evaluation order and moment correction are this library's.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import GaugeConv
        >>> GaugeConv("2x0 + 1x1", "2x0 + 1x1", HEALPix(4))(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    geometry: GaugeGeometry | None
    scalars: Tensor
    mask: Tensor | None

    def __init__(
        self,
        in_type: str | FieldType,
        out_type: str | FieldType,
        source: Grid | None = None,
        target: Grid | None = None,
        *,
        radius: float | None = None,
        spacings: float | None = None,
        num_rings: int = 2,
        kernel: Kernel | None = None,
        smooth: bool = True,
        moments: int | str | None = "auto",
        log_map: str = "chord",
        transport: str = "normals",
        bias: bool | str = True,
        self_interaction: bool = True,
        reflections: bool = False,
        engine: str | None = None,
    ) -> None:
        super().__init__()
        self.in_type, self.out_type = FieldType.of(in_type), FieldType.of(out_type)
        if not isinstance(bias, bool) and bias != "edge":
            raise ValueError(f"bias is {bias!r}; expected True, False or 'edge'")
        if source is None and target is not None:
            raise ValueError("target is given without a source; give both or neither")
        self.source, self.target = source, source if target is None else target
        if kernel is not None and not isinstance(kernel, Kernel):
            raise TypeError(f"kernel is {kernel!r}; expected an isotropic kernel such as Rings(5)")
        check_count("num_rings", num_rings, 1)
        self.rings = num_rings if kernel is None else kernel.num_functions
        self.bias_kind, self.reflections = bias, reflections
        self.frequency = self.in_type.max_order + self.out_type.max_order
        self._settings: dict[str, Any] = {
            "radius": radius,
            "spacings": spacings,
            "num_rings": num_rings,
            "kernel": kernel,
            "smooth": smooth,
            "moments": moments,
            "log_map": log_map,
            "transport": transport,
            "engine": engine,
        }
        self._in_terms = [(t.multiplicity, t.order) for t in self.in_type.terms]
        self._out_terms = [(t.multiplicity, t.order) for t in self.out_type.terms]
        columns = self.in_type.dim
        if bias == "edge":  # a constant scalar field is one input more
            self._in_terms.append((1, 0))
            columns += 1
        self.weight = nn.Parameter(torch.empty(self.out_type.dim, columns, self.rings))
        scalars = torch.zeros(self.out_type.dim, dtype=torch.bool)
        for term, (channels, _, order) in zip(self.out_type.terms, self.out_type.blocks, strict=True):
            scalars[channels] = order == 0 and term.parity == 1
        self.register_buffer("scalars", scalars.nonzero()[:, 0], persistent=False)
        count = int(scalars.sum())
        self.bias = nn.Parameter(torch.zeros(count)) if bias is not False and count else None
        self.same_points = source is None or self.target == source
        self.self_interaction = (
            FieldLinear(self.in_type, self.out_type, reflections=reflections)
            if self_interaction
            and self.same_points
            and _share_orders(self.in_type, self.out_type, reflections)
            else None
        )
        mask = reflection_mask(self.in_type, self.out_type) if reflections else None
        if mask is not None and bias == "edge":
            even = torch.tensor(self.out_type.signs)[:, None] == 1
            mask = torch.cat([mask, even], 1)
        self.register_buffer("mask", mask, persistent=False)
        self.geometry = None
        if source is not None:
            self.keep("geometry")
        self.reset_parameters()

    def _build(self, name: str, dtype: torch.dtype) -> GaugeGeometry:
        assert self.source is not None
        return GaugeGeometry.of(
            self.source, self.target, frequency=self.frequency, dtype=dtype, **self._settings
        )

    def reset_parameters(self) -> None:
        """Draw weights so that fields which hardly vary within the radius keep their variance, half of it from the point."""
        with torch.no_grad():
            share = 1.0 if self.self_interaction is None else 0.5
            fan_in = self.weight.shape[1] * self.rings if self.mask is None else self.mask.sum(1) * self.rings
            scale = torch.as_tensor(share / torch.as_tensor(fan_in).clamp(min=1).double()).sqrt()
            self.weight.normal_().mul_(scale.to(self.weight).reshape(-1, 1, 1))
            if self.bias_kind == "edge":
                self.weight[:, -1].zero_()
            if self.self_interaction is not None:
                self.self_interaction.reset_parameters()
                for parameter in self.self_interaction.parameters():
                    parameter.mul_(share**0.5)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: Tensor, geometry: GaugeGeometry | None = None) -> Tensor:
        if (geometry is None) == (self.geometry is None):
            raise ValueError(
                "geometry must be given with the call where the layer was built without a source, and only there"
            )
        geometry = self.geometry if geometry is None else geometry
        if not isinstance(geometry, GaugeGeometry):
            raise TypeError(
                f"geometry is {type(geometry).__name__}; expected a GaugeGeometry, as GaugeGeometry.of(mesh) makes it"
            )
        if self.self_interaction is not None and not geometry.same_points:
            raise ValueError(
                "geometry joins two different sets of points; build the layer with self_interaction=False for it"
            )
        if geometry.rings != self.rings:
            raise ValueError(
                f"geometry has {geometry.rings} rings but the layer {self.rings}; build them alike"
            )
        check_tensor(x)
        shape = x.shape[2:] if self.source is None else self.source.shape
        if x.ndim < 3 or x.shape[1] != self.in_type.dim or x.shape[2:] != tuple(shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_type.dim}, "
                f"{', '.join(map(str, shape)) if self.source is not None else 'points'}), fields of type '{self.in_type}'"
            )
        flat = x.flatten(2)
        features = flat
        if self.bias_kind == "edge":
            features = torch.cat([flat, flat.new_ones(flat.shape[0], 1, flat.shape[2])], 1)
        weight = self.weight if self.mask is None else self.weight * self.mask[..., None]
        y: Tensor = geometry.map(features, weight, self._in_terms, self._out_terms)
        if self.self_interaction is not None:
            y = y + self.self_interaction(flat)
        if self.bias is not None:
            constant = self.bias.new_zeros(self.out_type.dim).index_copy(0, self.scalars, self.bias)
            y = y + constant.to(y.dtype)[:, None]
        return y if self.target is None else y.unflatten(2, self.target.shape)

    def extra_repr(self) -> str:
        where = "geometry with each call" if self.source is None else f"{self.source!r} -> {self.target!r}"
        return f"{self.in_type} -> {self.out_type}, {where}, rings={self.rings}, frequency={self.frequency}"

    def flops(self, pairs: int | None = None, points: int | None = None) -> int:
        """Multiplications and additions of one forward pass of one sample.

        ``pairs`` and ``points`` are those of a geometry given with each call.
        """
        if self.geometry is not None:
            pairs, points = self.geometry.map.num_nonzeros, self.geometry.map.num_target
        if pairs is None or points is None:
            raise ValueError("pairs and points must be given where the layer was built without a source")
        top, contract, mixed = self.out_type.max_order, 0, 0
        for count, m in self._in_terms:
            width = 1 if m == 0 else 2
            contract += 2 * self.rings * (2 * (top + m) + 1) * count * width * pairs
            for out, n in self._out_terms:
                rows = self.rings * count * width * (1 if n == 0 else 2)
                mixed += 2 * rows * out * (1 if n == 0 else 2) * points
        return contract + mixed

    def memory_bytes(self) -> int:
        """Bytes of geometry this layer holds; layers over equal grids share one copy."""
        return 0 if self.geometry is None else self.geometry.memory_bytes()


def _share_orders(in_type: FieldType, out_type: FieldType, reflections: bool) -> bool:
    """Whether some field of the input may be mapped to one of the output without leaving the point."""
    kinds = [{(t.order, t.parity if reflections else 1) for t in kind.terms} for kind in (in_type, out_type)]
    return bool(kinds[0] & kinds[1])

r"""``DeltaConv``: a stream of scalars and one of tangent vectors, which meet through the operators of vector calculus.

    x' = max_q h(x_q) + MLP([x, div v, curl v, |v|]),   v' = VMLP([v, 𝓛 v, grad x'] and all of these turned by 90°)

with curl v = −div J v and the Hodge Laplacian 𝓛 = −(grad div + J grad curl). Maps of vectors at a point are complex-linear, so
that the choice of frames has no effect.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.groups import FieldType
from spheregeo.nn.activations import Activation, activation
from spheregeo.nn.surface.diffusion.base import OnOperators, working
from spheregeo.nn.surface.diffusion.vectors import VectorMix, components, from_field, joined, to_field
from spheregeo.nn.surface.linear import FieldLinear
from spheregeo.nn.surface.norm import FieldBatchNorm
from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators

LENGTH = 0.05  # over which derivatives are counted, on a surface of area 1


def lengths(v: Tensor, eps: float = 1e-6) -> Tensor:
    """√(|v|² + eps) of vectors. Shape: (B, C, 2 P) -> (B, C, P)."""
    first, second = components(v)
    return torch.addcmul(first * first, second, second).add(eps).sqrt()


def turned(v: Tensor) -> Tensor:
    """J v = (−v_2, v_1). Shape: (B, C, 2 P) -> the same."""
    first, second = components(v)
    return joined(-second, first)


class VectorOperators:
    """Gradient, divergence, curl and Hodge Laplacian of features, by a surface's operators.

    Vectors are (B, C, 2 P), with the components at point p in places 2 p and 2 p + 1.

    Args:
        operators: with "slope" and "divergence".
    """

    def __init__(self, operators: SurfaceOperators) -> None:
        self._slope, self._divergence = operators.map("slope"), operators.map("divergence")

    def grad(self, x: Tensor) -> Tensor:
        """Shape: (B, C, P) -> (B, C, 2 P)."""
        result: Tensor = LENGTH * self._slope(x)
        return result

    def div(self, v: Tensor) -> Tensor:
        """Shape: (B, C, 2 P) -> (B, C, P)."""
        result: Tensor = LENGTH * self._divergence(v)
        return result

    def curl(self, v: Tensor) -> Tensor:
        """−div J v. Shape: (B, C, 2 P) -> (B, C, P)."""
        return -self.div(turned(v))

    def hodge(self, v: Tensor) -> Tensor:
        """−(grad div v + J grad curl v). Shape: (B, C, 2 P) -> the same."""
        return self.hodge_of(self.div(v), self.curl(v))

    def hodge_of(self, div: Tensor, curl: Tensor) -> Tensor:
        """The Hodge Laplacian of a field whose divergence and curl are known. Shape: (B, C, P) twice -> (B, C, 2 P)."""
        x0, y0 = components(self.grad(div))
        x1, y1 = components(self.grad(curl))
        return joined(y1 - x0, -y0 - x1)


class DeltaConv(OnOperators):
    """Convolution of scalars and tangent vectors by gradient, divergence, curl and Hodge Laplacian.

    Args:
        in_type, out_type: scalars and vectors of input and output, such as ``"16x0 + 16x1"``; types without vectors have none.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        hops: edges that a point's neighbours are away at most.
        act: activation of scalars and of vectors' lengths, a name or a pointwise function.

    Shape: (B, in_type.dim, *grid.shape) -> (B, out_type.dim, *grid.shape); without a grid (B, in_type.dim, P) and operators.
    Equivariance: frames turned by any angles: exact (1e-14 in float64); all motions and scalings.
    Raises: ValueError for types with other orders or without scalars, input that does not fit.
    Reference: Wiersma, Nasikun, Eisemann & Hildebrandt 2022, arXiv:2111.08799, section 5.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import DeltaConv
        >>> DeltaConv("3x0", "4x0 + 4x1", Icosahedral(2))(torch.randn(2, 3, 162)).shape
        torch.Size([2, 12, 162])
    """

    def __init__(
        self,
        in_type: str | FieldType,
        out_type: str | FieldType,
        grid: Grid | None = None,
        *,
        hops: int = 2,
        act: str | Activation = "relu",
    ) -> None:
        self_in, self_out = FieldType.of(in_type), FieldType.of(out_type)
        counts = [_counts(kind, name) for kind, name in ((self_in, "in_type"), (self_out, "out_type"))]
        if hops < 1:
            raise ValueError(f"hops is {hops}; expected at least 1 edge")
        super().__init__(self_in.dim, grid, OperatorSettings(hops=hops))
        self.in_type, self.out_type, self.hops = self_in, self_out, hops
        (scalars, vectors), (self.scalars, self.vectors) = counts
        self.in_scalars, self.in_vectors = scalars, vectors
        self.act = activation(act)
        kind = f"{self.scalars}x0"
        self.near, self.near_norm = FieldLinear(f"{scalars}x0", kind), FieldBatchNorm(kind)
        self.here, self.here_norm = FieldLinear(f"{scalars + 3 * vectors}x0", kind), FieldBatchNorm(kind)
        if self.vectors:
            self.along = VectorMix(2 * vectors + self.scalars, self.vectors)
            self.along_norm = FieldBatchNorm(f"{self.vectors}x0")  # of lengths

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        flat, held = self._enter(x, operators)
        flat = flat.to(working(x))
        v = from_field(flat[:, self.in_scalars :]) if self.in_vectors else None
        s, v = self.streams(flat[:, : self.in_scalars], v, held)
        return self._leave((s if v is None else torch.cat([s, to_field(v)], 1)).to(x.dtype))

    def streams(
        self, x: Tensor, v: Tensor | None, operators: SurfaceOperators
    ) -> tuple[Tensor, Tensor | None]:
        """Scalars and vectors as layers hand them to each other: (B, C, P) and (B, C, 2 P), channels last in memory."""
        calculus, areas = VectorOperators(operators), operators.areas
        with torch.autocast(x.device.type, enabled=False):
            parts = [x]
            if v is not None:
                div, curl = calculus.div(v), calculus.curl(v)
                parts += [div, curl, lengths(v)]
            here = self.act(self.here_norm(self.here(torch.cat(parts, 1)), areas))
            near = self.act(self.near_norm(self.near(x), areas))
            s = here + operators.largest(near)
            if not self.vectors:
                return s, None
            arrows = [calculus.grad(s)]
            if v is not None:
                arrows = [v, calculus.hodge_of(div, curl), *arrows]
            moved = self.along(torch.cat(arrows, 1))
            size = lengths(moved)
            factor = self.act(self.along_norm(size, areas)) / size
            return s, joined(*(part * factor for part in components(moved)))

    def extra_repr(self) -> str:
        return f"{self.in_type} -> {self.out_type}, hops={self.hops}"


def _counts(kind: FieldType, name: str) -> tuple[int, int]:
    """Numbers of scalars and of vectors; scalars come first. Raises: ValueError for other types."""
    orders = [term.order for term in kind.terms]
    odd = any(term.parity < 0 for term in kind.terms)
    if orders not in ([0], [0, 1]) or odd:
        raise ValueError(f"{name} is '{kind}'; expected scalars and perhaps vectors, such as '16x0 + 16x1'")
    return kind.terms[0].multiplicity, kind.terms[1].multiplicity if len(orders) > 1 else 0

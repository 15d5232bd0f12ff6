r"""Convolution of spin-weighted fields: tangent fields of several orders mixed degree by degree.

The gradient and curl coefficients of a field of order s ≥ 1, like a scalar field's, are turned by the real matrices D^l alone.
The linear maps that commute with rotations so mix a degree's coefficients of one m, scalars', gradients' and curls', by one real
matrix for each degree: 2 × 2 blocks between fields of orders s, s' ≥ 1, of which reflections keep the diagonal.
Reference: Esteves, Makadia & Daniilidis 2020, arXiv:2006.10731, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType
from spheregeo.nn.sphere.spectral.base import draw, make_analysis
from spheregeo.nn.sphere.spectral.degrees import mix
from spheregeo.nn.sphere.spectral.degreewise import BetweenGrids
from spheregeo.nn.surface.stacks import even_scalars
from spheregeo.spectral import InverseSHT


def _parities(kind: FieldType) -> Tensor:
    """+1 for coefficients that a reflection treats as a scalar's, −1 for the others. Shape: (dim,)."""
    signs: list[int] = []
    for term in kind.terms:
        signs += term.multiplicity * ([term.parity] if term.order == 0 else [1, -1])
    return torch.tensor(signs)


class SpinConv(BetweenGrids):
    """Spin-weighted convolution between tangent fields, by coefficients: directional filters that commute with every rotation.

    Args:
        in_type, out_type: field types such as ``"8x0 + 8x1"``: 8 scalars and 8 vector fields.
        source: grid of the input; a whole number lmax for ``Equiangular(2b, 2b)`` with b = lmax + 1.
        target: grid of the output; that of the input if None.
        lmax: largest degree kept; None for the largest that both grids hold.
        anchors: degrees, evenly from 0 to lmax, at which weights are learned, linear between them; None for all of them.
        reflections: whether the layer commutes with reflections as well: gradients and curls then stay apart.
        bias: whether to add a learned constant to every even scalar.

    Shape: (B, in_type.dim, *source.shape) -> (B, out_type.dim, *target.shape), pairs (south, east); weight
        (out_type.dim, in_type.dim, anchors or lmax + 1).
    Equivariance: SO(3), and reflections where asked for, exact for band-limited fields on grids whose transform is exact.
    Raises: ValueError for degrees or input that do not fit.
    Reference: Esteves, Makadia & Daniilidis 2020, arXiv:2006.10731.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.nn import SpinConv
        >>> SpinConv("2x0", "1x0 + 2x1", GaussLegendre(8, 16))(torch.randn(1, 2, 8, 16)).shape
        torch.Size([1, 5, 8, 16])
    """

    table: Tensor | None
    mask: Tensor | None

    def __init__(
        self,
        in_type: str | FieldType,
        out_type: str | FieldType,
        source: Grid | int,
        target: Grid | int | None = None,
        *,
        lmax: int | None = None,
        anchors: int | None = None,
        reflections: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_type, self.out_type = FieldType.of(in_type), FieldType.of(out_type)
        self.reflections = reflections
        self._between(source, target, lmax)
        orders = sorted({term.order for term in (*self.in_type.terms, *self.out_type.terms)})
        if orders[-1] > self.lmax:
            raise ValueError(
                f"lmax is {self.lmax} and the types '{self.in_type}' and '{self.out_type}'; expected lmax >= {orders[-1]}"
            )
        into, out = ({term.order for term in kind.terms} for kind in (self.in_type, self.out_type))
        self.analyses = nn.ModuleDict(
            {str(s): make_analysis(self.source, self.lmax, s) for s in orders if s in into}
        )
        self.syntheses = nn.ModuleDict(
            {str(s): InverseSHT(self.target, self.lmax, spin=s) for s in orders if s in out}
        )
        self.anchors = self._anchor(anchors)
        count = self.lmax + 1 if self.anchors is None else self.anchors
        self.mask = None
        if reflections:
            same = _parities(self.out_type)[:, None] == _parities(self.in_type)
            self.keep("mask", same.double()[..., None])
        self.weight = nn.Parameter(torch.empty(self.out_type.dim, self.in_type.dim, count))
        even = even_scalars(self.out_type)
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(even))) if bias and even else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that each degree keeps its variance, on average over filters."""
        draw(self.weight, self.in_type.dim)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_type.dim, self.source)
        return self._compute(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        parts = []
        for channels, _, order in self.in_type.blocks:
            part = x[:, channels] if order == 0 else x[:, channels].unflatten(1, (-1, 2))
            c = self.analyses[str(order)](part)
            parts.append(c if order == 0 else c.flatten(1, 2))
        weight = self.weight.to(x.dtype)
        if self.mask is not None:
            weight = weight * self.mask.to(x.dtype)
        if self.table is not None:
            weight = weight @ self.table.to(x.dtype)
        c = mix(torch.cat(parts, 1), weight.permute(2, 0, 1), self.lmax)
        fields = []
        for channels, _, order in self.out_type.blocks:
            part = c[:, channels] if order == 0 else c[:, channels].unflatten(1, (-1, 2))
            y = self.syntheses[str(order)](part)
            fields.append(y if order == 0 else y.flatten(1, 2))
        y = torch.cat(fields, 1)
        if self.bias is None:
            return y
        bias = y.new_zeros(y.shape[1]).index_copy(0, self.even, self.bias.to(y.dtype))  # type: ignore[arg-type]
        return self._with_bias(y, bias)

    def extra_repr(self) -> str:
        return (
            f"'{self.in_type}', '{self.out_type}', {self.source!r}, {self.target!r}, lmax={self.lmax}, "
            f"anchors={self.anchors}, reflections={self.reflections}, bias={self.bias is not None}"
        )

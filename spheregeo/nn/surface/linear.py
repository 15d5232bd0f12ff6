r"""Maps of the fields at one point: linear, bias, dropout, each as far as a change of frame permits.

A linear map commutes with every turn of the frame iff it maps order n to order n alone, scalars by any matrix and, with
F = c + i s, fields of order n >= 1 by complex numbers: span{1, J}, J = [[0, -1], [1, 0]]. Reflections leave real numbers,
and keep even scalars apart from odd ones. A bias is legal on even scalars only.
Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425 (the self-interaction); the orders of Schur's lemma.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType, check_field
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.surface.stacks import even_scalars, fields


class FieldLinear(ExactBuffers):
    """Linear map at each point between field types; the self-interaction of a gauge convolution.

    Parameters lie in one vector, ordered by output field, input field, and for orders ≥ 1 (real, imaginary); ``matrix`` is the
    map they make. Outputs of an order that the input lacks are zero.
    Drawn at first so that unit inputs give unit outputs.

    Args:
        in_type, out_type: of input and output, such as ``"16x0 + 8x1"``.
        bias: whether to add learned constants to the even scalars.
        reflections: whether to keep to what O(2) permits, so that mirrored frames give mirrored outputs.

    Shape: (B, in_type.dim, *points) -> (B, out_type.dim, *points).
    Equivariance: SO(2) gauge, exact (1e-15 measured in float64); reflections too with ``reflections=True``.
    Raises: ValueError where no output field has a counterpart in the input, or for input of another type.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldLinear
        >>> FieldLinear("2x0 + 1x1", "4x0 + 2x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 8, 192])
    """

    index: Tensor
    sign: Tensor

    def __init__(
        self,
        in_type: str | FieldType,
        out_type: str | FieldType,
        *,
        bias: bool = False,
        reflections: bool = False,
    ) -> None:
        super().__init__()
        self.in_type, self.out_type, self.reflections = (
            FieldType.of(in_type),
            FieldType.of(out_type),
            reflections,
        )
        index = torch.zeros(self.out_type.dim, self.in_type.dim, dtype=torch.int64)
        sign = torch.zeros(self.out_type.dim, self.in_type.dim)
        deviations: list[float] = []
        sources = _kinds(self.in_type, reflections)
        for kind, row in _kinds(self.out_type, reflections):
            partners = [column for other, column in sources if other == kind]
            scalar = kind[0] == 0
            both = not scalar and not reflections
            for column in partners:
                number = len(deviations)
                for i in range(len(row)):
                    index[row[i], column[i]], sign[row[i], column[i]] = number, 1
                if both:
                    index[row[0], column[1]], sign[row[0], column[1]] = number + 1, -1
                    index[row[1], column[0]], sign[row[1], column[0]] = number + 1, 1
                deviations += [1 / math.sqrt(len(partners) * (1 + both))] * (1 + both)
        if not deviations:
            raise ValueError(
                f"in_type is '{self.in_type}' and out_type '{self.out_type}'; a map at one point keeps the order"
                f"{' and the parity' if reflections else ''}, and the two share none"
            )
        self.register_buffer("index", index, persistent=False)
        self.keep("sign", sign)
        self._deviations = deviations
        self.weight = nn.Parameter(torch.empty(len(deviations)))
        self.bias = FieldBias(self.out_type) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of variance 1/fan-in; zero bias."""
        deviations = torch.tensor(self._deviations).to(self.weight)
        self.weight.copy_(torch.randn_like(self.weight) * deviations)
        if self.bias is not None:
            self.bias.bias.zero_()

    def matrix(self) -> Tensor:
        """The map as a matrix, block-sparse by order. Shape: (out_type.dim, in_type.dim)."""
        return self.weight[self.index] * self.sign.to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_type)
        matrix = self.matrix()
        if matrix.dtype is not x.dtype:
            matrix = matrix.to(x.dtype)
        y = (x.movedim(1, -1) @ matrix.T).movedim(-1, 1)
        return y if self.bias is None else self.bias(y)

    def extra_repr(self) -> str:
        return f"'{self.in_type}', '{self.out_type}', reflections={self.reflections}"


class FieldBias(nn.Module):
    """Learned constants on the even scalars; other fields have no constant that all frames agree on.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.

    Shape: (B, dim, *points) -> the same.
    Equivariance: SO(2) gauge and reflections, exact.
    Raises: ValueError for a type without even scalars, or input of another type.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425; a bias on every component breaks the symmetry.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldBias
        >>> FieldBias("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    even: Tensor

    def __init__(self, field_type: str | FieldType) -> None:
        super().__init__()
        self.field_type = FieldType.of(field_type)
        even = even_scalars(self.field_type)
        if not even:
            raise ValueError(
                f"field type is '{self.field_type}'; expected even scalars, which alone take a bias"
            )
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(even)))

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.field_type)
        full = self.bias.new_zeros(self.field_type.dim).index_copy(0, self.even, self.bias)
        return x + full.to(x.dtype).view(-1, *[1] * (x.ndim - 2))

    def extra_repr(self) -> str:
        return f"'{self.field_type}'"


class FieldDropout(nn.Module):
    """Dropout of whole fields: both components of a pair at a point go, or stay, together.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        p: probability with which a field is dropped.

    Shape: (B, dim, *points) -> the same.
    Equivariance: SO(2) gauge and reflections, exact for one draw.
    Raises: ValueError for p outside [0, 1), or input of another type.
    Reference: Srivastava et al. 2014, Journal of Machine Learning Research 15.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldDropout
        >>> FieldDropout("2x0 + 1x1", 0.1)(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    field_of: Tensor

    def __init__(self, field_type: str | FieldType, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; expected a share in [0, 1) of fields to drop")
        self.field_type, self.p = FieldType.of(field_type), p
        field_of = torch.zeros(self.field_type.dim, dtype=torch.int64)
        for i, channels in enumerate(fields(self.field_type)):
            field_of[channels] = i
        self.register_buffer("field_of", field_of, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.field_type)
        if not self.training or self.p == 0:
            return x
        shape = (x.shape[0], self.field_type.num_fields, *x.shape[2:])
        kept = torch.rand(shape, device=x.device) >= self.p
        return x * (kept.to(x.dtype) / (1 - self.p)).index_select(1, self.field_of)

    def extra_repr(self) -> str:
        return f"'{self.field_type}', p={self.p}"


def _kinds(field_type: FieldType, reflections: bool) -> list[tuple[tuple[int, int], list[int]]]:
    """((order, parity), channels) of each field; parity 1 throughout where reflections do not count."""
    kinds = [
        (term.order, term.parity if reflections else 1)
        for term in field_type.terms
        for _ in range(term.multiplicity)
    ]
    return list(zip(kinds, fields(field_type), strict=True))

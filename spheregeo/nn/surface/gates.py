r"""Nonlinearities that rescale whole fields, by their own size or by scalars: no frame, no samples, no gauge error."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType, Term, check_field
from spheregeo.nn.activations import Activation, activation, activation_name
from spheregeo.nn.surface.stacks import even_scalars, fields


class NormNonlinearity(nn.Module):
    """Acts on the size of each field and keeps its direction: y = x f(n + b)/n, n = √(|x|² + eps²).

    With eps > 0 the map is as smooth as f, at zero too, where its slope is f(eps + b)/eps. Even scalars are acted on as
    usual, y = f(x + b); odd ones as fields are. The layer for irreps of O(3) is
    :class:`~spheregeo.nn.NormActivation`.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        act: activation, a name or a pointwise function f.
        bias: whether to learn the constants b.
        eps: smallest size n, above 0.

    Shape: (B, dim, *points) -> the same.
    Equivariance: SO(2) gauge and reflections, exact (1e-15 measured in float64).
    Raises: ValueError for eps that is not positive, or input of another type.
    Reference: Worrall, Garbin, Turmukhambetov & Brostow 2017, arXiv:1612.04642; smoothed at zero here.

    Example:
        >>> import torch
        >>> from spheregeo.nn import NormNonlinearity
        >>> NormNonlinearity("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self,
        field_type: str | FieldType,
        act: str | Activation = "silu",
        *,
        bias: bool = True,
        eps: float = 0.1,
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(
                f"eps is {eps}; expected a positive size below which a field's direction fades out"
            )
        self.field_type, self.eps = FieldType.of(field_type), eps
        self.act_name, self.act = activation_name(act), activation(act)
        self._terms = [
            (channels.start, channels.stop, order == 0 and term.parity > 0)
            for term, (channels, _, order) in zip(self.field_type.terms, self.field_type.blocks, strict=True)
        ]
        self.bias = nn.Parameter(torch.zeros(self.field_type.num_fields)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.field_type)
        parts, first = [], 0
        for (start, stop, even), term in zip(self._terms, self.field_type.terms, strict=True):
            part = x.narrow(1, start, stop - start)
            b: Tensor | float = 0.0
            if self.bias is not None:
                shape = (-1, *[1] * (x.ndim - 2))
                b = self.bias.narrow(0, first, term.multiplicity).to(x.dtype).view(shape)
            first += term.multiplicity
            if even:
                parts.append(self.act(part + b))
                continue
            components = [part[:, i :: term.width] for i in range(term.width)]
            square = torch.full_like(components[0], self.eps**2)
            for component in components:
                square = torch.addcmul(square, component, component)
            n = torch.sqrt(square)
            factor = self.act(n + b) / n
            parts.append(torch.stack([component * factor for component in components], 2).flatten(1, 2))
        return torch.cat(parts, 1)

    def extra_repr(self) -> str:
        return f"'{self.field_type}', {self.act_name}, bias={self.bias is not None}, eps={self.eps}"


class GatedNonlinearity(nn.Module):
    """Scalars are acted on; every other field is multiplied by a gate in (0, 1) that scalars decide.

    Odd scalars are gated as fields are. The layer for irreps of O(3) is :class:`~spheregeo.nn.IrrepsGate`, whose gates
    always come as channels of the input.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        act: activation of the even scalars, a name or a pointwise function.
        gate: activation of the gates, a name or a pointwise function.
        gates: "linear" for gates that are a learned affine map of the even scalars; "channels" for an input with one more
            even scalar, in front, for each field to be gated (``in_type``).

    Shape: (B, in_type.dim, *points) -> (B, dim, *points).
    Equivariance: SO(2) gauge and reflections, exact (1e-15 measured in float64).
    Raises: ValueError for another choice of gates, a type without even scalars to make gates of, or input of another type.
    Reference: Weiler, Geiger, Welling, Boomsma & Cohen 2018, arXiv:1807.02547.

    Example:
        >>> import torch
        >>> from spheregeo.nn import GatedNonlinearity
        >>> GatedNonlinearity("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    even: Tensor
    rest: Tensor
    gate_of: Tensor
    inverse: Tensor

    def __init__(
        self,
        field_type: str | FieldType,
        act: str | Activation = "silu",
        *,
        gate: str | Activation = "sigmoid",
        gates: str = "linear",
    ) -> None:
        super().__init__()
        self.field_type = self.in_type = FieldType.of(field_type)
        if gates not in ("linear", "channels"):
            raise ValueError(f"gates is {gates!r}; expected 'linear' or 'channels'")
        even = even_scalars(self.field_type)
        gated = [field for field in fields(self.field_type) if field[0] not in set(even)]
        self.num_gates = len(gated)
        if gates == "linear" and gated and not even:
            raise ValueError(
                f"field type is '{self.field_type}'; expected even scalars, from which gates are made. "
                "Use gates='channels' or NormNonlinearity"
            )
        if gates == "channels" and gated:
            self.in_type = FieldType([Term(len(gated), 0), *self.field_type.terms])
        self.gates = gates
        self.act_names = activation_name(act), activation_name(gate)
        self.act, self.gate = activation(act), activation(gate)
        gate_of = torch.zeros(self.field_type.dim, dtype=torch.int64)
        for i, field in enumerate(gated):
            gate_of[field] = i
        is_even = torch.zeros(self.field_type.dim, dtype=torch.bool)
        is_even[even] = True
        rest = torch.tensor([c for c in range(self.field_type.dim) if not is_even[c]], dtype=torch.int64)
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.register_buffer("rest", rest, persistent=False)
        self.register_buffer("gate_of", gate_of[rest], persistent=False)
        self.register_buffer(
            "inverse",
            torch.argsort(torch.cat([torch.tensor(even, dtype=torch.int64), rest])),
            persistent=False,
        )
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if gates == "linear" and gated:
            self.weight = nn.Parameter(torch.empty(len(gated), len(even)))
            self.bias = nn.Parameter(torch.zeros(len(gated)))
            nn.init.normal_(self.weight, std=1 / math.sqrt(len(even)))

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_type)
        values = x
        if self.gates == "channels" and self.num_gates:
            values = x.narrow(1, self.num_gates, self.field_type.dim)
        scalars = values.index_select(1, self.even)
        if not self.num_gates:
            return self.act(scalars)
        if self.weight is not None and self.bias is not None:
            gates = torch.einsum("gc,bc...->bg...", self.weight.to(x.dtype), scalars)
            gates = gates + self.bias.to(x.dtype).view(-1, *[1] * (x.ndim - 2))
        else:
            gates = x.narrow(1, 0, self.num_gates)
        rest = values.index_select(1, self.rest) * self.gate(gates).index_select(1, self.gate_of)
        return torch.cat([self.act(scalars), rest], 1).index_select(1, self.inverse)

    def extra_repr(self) -> str:
        return f"'{self.field_type}', {self.act_names[0]}, gate={self.act_names[1]}, gates={self.gates!r}"

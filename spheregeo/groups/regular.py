r"""Regular fields of the cyclic group C_N, and their change to and from orders of SO(2).

A regular field holds N samples f[j] = f(2 pi j/N) of a function of the direction in the tangent plane. A frame turned by
+2 pi k/N shifts them, f[j] -> f[j + k]; a reflected frame reverses them, f[j] -> f[-j]. The rows

    1/sqrt(N),   sqrt(2/N) cos(n 2 pi j/N),   sqrt(2/N) sin(n 2 pi j/N),   (-1)^j/sqrt(N)  (N even, n = N/2)

are orthonormal; they take the shift to the rotation of (c, s) that orders 0, 1, ... have, and the last to a change of sign.
Reference: Cohen & Welling 2016, arXiv:1602.07576; Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.groups.fields import FieldType, Term

_TEXT = re.compile(r"(\d+)\s*[x×]\s*C(\d+)")


def fourier_rows(size: int, max_order: int | None = None) -> Tensor:
    """Rows of the real orthonormal Fourier matrix: [0, c1, s1, c2, s2, …] on ``size`` samples 2πj/size.

    With ``max_order`` left out all orders 0 … ⌊size/2⌋ are there, the matrix is square and orthogonal, and for even size its
    last row is (−1)^j/√size. With it, each order ≥ 1 has two rows, whether or not the samples can tell them apart.

    Shape: (size, size), or (2 max_order + 1, size); float64. Raises: ValueError for size below 1 or a negative order.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected at least 1")
    top = (size - 1) // 2 if max_order is None else max_order
    if top < 0:
        raise ValueError(f"max_order is {max_order}; expected 0 or more")
    j = torch.arange(size)
    rows = [torch.full((size,), 1 / math.sqrt(size), dtype=torch.float64)]
    for n in range(1, top + 1):
        angle = (n * j % size).double() * (2 * math.pi / size)  # reduced first: digits kept at high orders
        rows += [math.sqrt(2 / size) * torch.cos(angle), math.sqrt(2 / size) * torch.sin(angle)]
    if max_order is None and size % 2 == 0:
        rows.append((1 - 2 * (j % 2)).double() / math.sqrt(size))
    return torch.stack(rows)


@dataclass(frozen=True, repr=False)
class RegularType:
    """``multiplicity`` regular fields of C_``size``, N channels each, one after another.

    Text ``"4xC6"`` is read by ``RegularType.of``; ``str`` writes it.

    Shape: ``dim`` = multiplicity · size channels.
    Raises: ValueError for numbers below 1, or text of another form.
    """

    multiplicity: int
    size: int

    def __post_init__(self) -> None:
        if self.multiplicity < 1 or self.size < 1:
            raise ValueError(
                f"multiplicity is {self.multiplicity} and size {self.size}; expected at least 1 each"
            )

    @classmethod
    def of(cls, spec: str | RegularType) -> RegularType:
        """The type itself, or the one that text such as ``"4xC6"`` describes."""
        if isinstance(spec, RegularType):
            return spec
        match = _TEXT.fullmatch(spec.strip())
        if match is None:
            raise ValueError(f"regular type is {spec!r}; expected text such as '4xC6': 4 fields of C_6")
        return cls(int(match[1]), int(match[2]))

    @property
    def dim(self) -> int:
        """Number of channels."""
        return self.multiplicity * self.size

    @property
    def field_type(self) -> FieldType:
        """The SO(2) type that holds these fields: ``multiplicity`` fields of each order 0 … ⌊size/2⌋."""
        return FieldType.full(self.multiplicity, self.size // 2)

    def turn(self, x: Tensor, steps: int | Tensor, axis: int = 1) -> Tensor:
        """Components of the same fields in frames turned by +2π steps/size, at all points or at each its own.

        Shape: dim channels on ``axis`` of x; steps an integer, or (*points) integers for the axes behind ``axis``.
        Raises: ValueError where x or steps do not fit.
        """
        axis = self._axis(x, axis)
        fields = x.unflatten(axis, (self.multiplicity, self.size))
        if isinstance(steps, int):
            return fields.roll(-steps, axis + 1).flatten(axis, axis + 1)
        if steps.shape != x.shape[axis + 1 :] or steps.is_floating_point():
            raise ValueError(
                f"steps are {steps.dtype} of shape {tuple(steps.shape)}; expected integers of shape "
                f"{tuple(x.shape[axis + 1 :])}, one for each point of x"
            )
        j = torch.arange(self.size, device=x.device).view(-1, *[1] * steps.ndim)
        index = ((j + steps) % self.size).expand_as(fields)
        return fields.gather(axis + 1, index).flatten(axis, axis + 1)

    def representation(self, steps: int) -> Tensor:
        """The matrix of ``turn(..., -steps)``, a permutation. Shape: (dim, dim) float64."""
        return self.turn(torch.eye(self.dim, dtype=torch.float64), -steps, axis=0)

    def reflect(self, x: Tensor, axis: int = 1) -> Tensor:
        """Components of the same fields in frames whose second vector is reversed. Shape: dim channels on ``axis``."""
        axis = self._axis(x, axis)
        back = -torch.arange(self.size, device=x.device) % self.size
        return (
            x.unflatten(axis, (self.multiplicity, self.size))
            .index_select(axis + 1, back)
            .flatten(axis, axis + 1)
        )

    def to_field_matrix(self) -> Tensor:
        """Q with Q ρ_regular(k) = ρ(2πk/size) Q: samples to :attr:`field_type`. float64.

        Orthogonal for odd size. For even size the Nyquist order size/2 has one sample pattern for its two components: it goes
        into the cosine, the sine is zero, and Qᵀ Q = 1 still holds.

        Shape: (field_type.dim, dim).
        """
        rows = fourier_rows(self.size)
        if self.size % 2 == 0:
            rows = torch.cat([rows, torch.zeros(1, self.size, dtype=torch.float64)])
        identity = torch.eye(self.multiplicity, dtype=torch.float64)
        start, parts = 0, []
        for order in range(self.size // 2 + 1):
            width = 1 if order == 0 else 2
            parts.append(torch.kron(identity, rows[start : start + width].contiguous()))
            start += width
        return torch.cat(parts)

    def to_field(self, x: Tensor, axis: int = 1) -> Tensor:
        """Fourier change of basis, samples to orders. Shape: dim channels on ``axis`` -> field_type.dim channels."""
        axis = self._axis(x, axis)
        return (x.movedim(axis, -1) @ self.to_field_matrix().T.to(x)).movedim(-1, axis)

    def from_field(self, x: Tensor, axis: int = 1) -> Tensor:
        """Orders to samples, the transpose of :meth:`to_field`. Shape: field_type.dim channels on ``axis`` -> dim channels.

        For even size the sine of the Nyquist order is dropped. Raises: ValueError for another number of channels.
        """
        if x.shape[axis] != self.field_type.dim:
            raise ValueError(
                f"x has {x.shape[axis]} channels on axis {axis}; expected {self.field_type.dim} for type '{self.field_type}'"
            )
        return (x.movedim(axis, -1) @ self.to_field_matrix().to(x)).movedim(-1, axis)

    def _axis(self, x: Tensor, axis: int) -> int:
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != self.dim:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected {self.dim} channels on axis {axis} for '{self}'"
            )
        return axis % x.ndim

    def __str__(self) -> str:
        return f"{self.multiplicity}xC{self.size}"

    def __repr__(self) -> str:
        return f"RegularType({self.multiplicity}, {self.size})"


def restrict(field_type: str | FieldType, size: int) -> tuple[FieldType, Tensor]:
    """What an SO(2) type is under the turns by multiples of 2π/size alone: orders modulo ``size``, from 0 to ⌊size/2⌋.

    Order n and order n' ≡ ±n turn alike there, the minus with s negated: with D = diag(signs),
    ρ_restricted(2πk/size) D = D ρ(2πk/size). A multiple of ``size`` becomes two scalars; order size/2 stays a pair, on which
    the group acts by signs. Parities are those of C_N's turns: the sine of a multiple of ``size`` is an odd scalar.

    Shape: (restricted type, signs (dim,) float64).
    Raises: ValueError for size below 1.
    Reference: branching of SO(2) to C_N, e.g. Weiler & Cesa 2019, arXiv:1911.08251.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected at least 1")
    terms: list[Term] = []
    signs: list[float] = []
    for term in FieldType.of(field_type).terms:
        order = term.order % size
        if term.order == 0:
            terms.append(term)
            signs += [1.0] * term.multiplicity
        elif order == 0:
            terms += [Term(1, 0), Term(1, 0, -1)] * term.multiplicity
            signs += [1.0, 1.0] * term.multiplicity
        else:
            conjugate = order > size - order
            terms.append(Term(term.multiplicity, size - order if conjugate else order))
            signs += [1.0, -1.0 if conjugate else 1.0] * term.multiplicity
    return FieldType(terms), torch.tensor(signs, dtype=torch.float64)

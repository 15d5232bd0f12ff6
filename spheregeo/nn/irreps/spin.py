r"""Fields on the sphere by way of SO(3): spin fields as functions on the group, maps between them, and activations there.

A field of order k on the sphere, S^2 = SO(3)/SO(2) about the y axis, has a value in a frame at each point; as a function of the
frame R it obeys F(R R_y(g)) = rho_k(-g) F(R), so that of its Fourier matrices, F(R) = sum sqrt(2l+1) x^l_mn D^l_mn(R), only the
columns n = k and n = -k are there (one column for k = 0, where F is f(R y) and x its coefficients in component harmonics).
Rotations act on m alone, so each column is an irrep of degree l >= k. With inversion acting as F -> F(R h), h the rotation by pi
about x, columns n >= 0 are natural (0e, 1o, 2e, ...) and columns n < 0 pseudo (0o, 1e, 2o, ...).
Reference: Xu, Lei, Dobriban & Daniilidis 2022, "Unified Fourier-based kernel and nonlinearity design for equivariant networks on
homogeneous spaces", arXiv:2206.08362; Kondor & Trivedi 2018, arXiv:1802.03690, on linear maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.deprecation import renamed_arguments
from spheregeo.nn.activations import Activation
from spheregeo.nn.irreps.layout import check_features
from spheregeo.nn.irreps.linear import IrrepsLinear
from spheregeo.nn.irreps.sample_grids import Signal
from spheregeo.nn.irreps.sampled import Channels, FunctionalActivation


class _Column(NamedTuple):
    term: int
    order: int  # of the term
    n: int
    degree: int
    start: int  # in the features; copies follow one another, 2l + 1 components each
    copies: int


class SpinType:
    """Type of spin fields of some orders up to a degree; a value, equal where its parts are.

    Features are irreps, term by term, degree by degree from k, columns n = k and then n = -k, copies side by side. Irreps carry
    parity as the module's text says; without ``reflections`` all are even, and only rotations are respected.

    Args:
        fields: copies times order, such as "8x0 + 4x1".
        lmax: largest degree.
        reflections: whether irreps carry parity.

    Raises: ValueError for text that is no such list, no fields, or an order above lmax.

    Example:
        >>> spin = SpinType("8x0 + 4x1", lmax=2)
        >>> spin.irreps
        8x0e+8x1o+8x2e+4x1o+4x1e+4x2e+4x2o
    """

    def __init__(self, fields: str, lmax: int, *, reflections: bool = True) -> None:
        self.terms: tuple[tuple[int, int], ...] = tuple(_parse(fields))
        self.lmax, self.reflections = int(lmax), bool(reflections)
        largest = max(order for _, order in self.terms)
        if largest > lmax:
            raise ValueError(
                f"fields is {fields!r} and lmax {lmax}; a field of order k has degrees from k, so lmax ≥ {largest}"
            )
        self.columns: list[_Column] = []
        terms, start = [], 0
        for t, (copies, order) in enumerate(self.terms):
            for degree in range(order, self.lmax + 1):
                for n in (order, -order) if order else (0,):
                    natural = (-1) ** degree
                    terms.append(
                        (copies, Irrep(degree, 1 if not reflections else natural if n >= 0 else -natural))
                    )
                    self.columns.append(_Column(t, order, n, degree, start, copies))
                    start += copies * (2 * degree + 1)
        self.irreps = Irreps(terms)

    @classmethod
    def of(cls, spin: SpinType) -> SpinType:
        """The type itself. Raises: ValueError for anything else."""
        if not isinstance(spin, SpinType):
            raise ValueError(
                f"spin type is {spin!r}; expected a SpinType such as SpinType('8x0 + 4x1', lmax=3)"
            )
        return spin

    def channels(self) -> list[Channels]:
        """Functions on SO(3): the i-th field of every order, so that an activation mixes orders of one channel."""
        rows: dict[int, list[tuple[Tensor, _Column]]] = {}
        used: dict[int, int] = {}
        for t, (copies, order) in enumerate(self.terms):
            first = used.get(order, 0)
            used[order] = first + copies
            for column in self.columns:
                if column.term == t:
                    width = 2 * column.degree + 1
                    index = column.start + torch.arange(copies * width).view(copies, width)
                    for i in range(copies):
                        rows.setdefault(first + i, []).append((index[i], column))
        groups: dict[Signal, list[Tensor]] = {}
        irs = {column: term.ir for column, term in zip(self.columns, self.irreps, strict=True)}
        for i in sorted(rows):
            signal = Signal(tuple(irs[c] for _, c in rows[i]), tuple(c.n for _, c in rows[i]))
            groups.setdefault(signal, []).append(torch.cat([index for index, _ in rows[i]]))
        return [Channels(torch.stack(index), signal, False) for signal, index in groups.items()]

    @property
    def dim(self) -> int:
        return int(self.irreps.dim)

    def _key(self) -> tuple[object, ...]:
        return self.terms, self.lmax, self.reflections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpinType) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return " + ".join(f"{copies}x{order}" for copies, order in self.terms)

    def __repr__(self) -> str:
        return f"SpinType('{self}', lmax={self.lmax}, reflections={self.reflections})"


def _parse(fields: str) -> Iterator[tuple[int, int]]:
    for text in str(fields).split("+"):
        match = re.fullmatch(r"\s*(?:(\d+)\s*x\s*)?(\d+)\s*", text)
        if match is None or match[1] == "0":
            raise ValueError(f"fields is {fields!r}; expected terms such as '8x0 + 4x1', copies times order")
        yield int(match[1] or 1), int(match[2])


def lift(x: Tensor, spin: SpinType) -> Tensor:
    """Spin fields to Fourier matrices of functions on SO(3), one function a field: columns n = ±k are filled, others zero.

    Shape: (..., spin.dim) -> (..., fields, Σ (2l+1)²), degree by degree, entries (m, n) of √(2l+1) D^l_mn, n last.
    Equivariance: exact; rotations act on m.
    Raises: ValueError for features of another type.
    """
    check_features(x, spin.irreps)
    out = x.new_zeros(
        *x.shape[:-1], sum(c for c, _ in spin.terms), sum((2 * l + 1) ** 2 for l in range(spin.lmax + 1))
    )
    for column, fields, at in _places(spin):
        part = x[..., column.start : column.start + column.copies * (2 * column.degree + 1)]
        out[..., fields, at] = part.unflatten(-1, (column.copies, 2 * column.degree + 1))
    return out


def project(matrices: Tensor, spin: SpinType) -> Tensor:
    """Fourier matrices to spin fields: the columns n = ±k of each; the adjoint of :func:`lift`, and its left inverse.

    Shape: (..., fields, Σ (2l+1)²) -> (..., spin.dim).
    Raises: ValueError for another number of fields or entries.
    """
    expected = (sum(c for c, _ in spin.terms), sum((2 * l + 1) ** 2 for l in range(spin.lmax + 1)))
    if tuple(matrices.shape[-2:]) != expected:
        raise ValueError(
            f"matrices has shape {tuple(matrices.shape)}; expected (..., {expected[0]}, {expected[1]}) for {spin!r}"
        )
    return torch.cat([matrices[..., fields, at].flatten(-2) for _, fields, at in _places(spin)], -1)


def _places(spin: SpinType) -> Iterator[tuple[_Column, slice, slice]]:
    """Each column with its fields and its entries among the matrices."""
    for column in spin.columns:
        first = sum(copies for copies, _ in spin.terms[: column.term])
        before = sum((2 * l + 1) ** 2 for l in range(column.degree))
        width = 2 * column.degree + 1
        start = before + column.degree + column.n
        yield column, slice(first, first + column.copies), slice(start, before + width**2, width)


class SpinLinear(nn.Module):
    """The general linear map between spin fields: for each degree and pair of fields a real block, columns to columns.

    Blocks are 1 × 1, 1 × 2, 2 × 1 or 2 × 2 for orders k → k' (one column for order 0, two else), from degree max(k, k')
    on; with reflections natural columns go to natural ones alone, which halves a 2 × 2 block. A bias is added to the mean (l = 0)
    of fields of order 0. The same as a convolution over the sphere with the most general filter of that band limit.

    Args:
        in_type, out_type: spin fields before and after.
        bias: whether a learned number is added to the mean of each field of order 0.

    Shape: (..., in_type.dim) -> (..., out_type.dim).
    Equivariance: SO(3), and O(3) where both types have reflections; exact (2e-16 measured in float64).
    Raises: ValueError for types that disagree about reflections or have no degree in common.
    Reference: Kondor & Trivedi 2018, arXiv:1802.03690; Xu et al. 2022, arXiv:2206.08362.

    Example:
        >>> spin = SpinType("8x0 + 4x1", lmax=2)
        >>> SpinLinear(spin, spin)(torch.randn(10, spin.dim)).shape
        torch.Size([10, 136])
    """

    def __init__(self, in_type: SpinType, out_type: SpinType, bias: bool = True) -> None:
        super().__init__()
        self.in_type, self.out_type = SpinType.of(in_type), SpinType.of(out_type)
        if in_type.reflections != out_type.reflections:
            raise ValueError(
                f"in_type is {in_type!r} and out_type {out_type!r}; expected both with reflections or both without"
            )
        self.linear = IrrepsLinear(in_type.irreps, out_type.irreps, bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y

    def extra_repr(self) -> str:
        return f"{self.in_type!r}, {self.out_type!r}"


class SpinActivation(FunctionalActivation):
    """Pointwise activation of spin fields on SO(3): lift, sample, act, project on the columns that the type has.

    Channel i is the i-th field of every order of the type, so ``"8x0 + 8x1"`` is 8 functions with columns −1, 0, 1, whose orders
    the activation mixes. A field of order k > 0 alone meets only the odd part of the activation, which for SiLU is linear: give
    channels a field of order 0, too.

    Args:
        spin: the fields' type.
        act: a name or a pointwise function; a module with parameters is trained.
        resolution: (β, α, γ) samples; None for (2L + 1, 4L + 1, min(4L, 6k) + 1), k the channel's largest order, hence one
            sample of γ for fields of order 0, where the layer is the activation on the sphere.
        tolerance: a bound of the measured equivariance error, for normal coefficients of standard deviation ``amplitude``, which
            chooses the smallest tried grid below it; None to take ``resolution``.
        amplitude: see tolerance.
        normalize: whether the activation is rescaled to unit second moment.

    Shape: (..., spin.dim) -> the same.
    Equivariance: SO(3), with reflections O(3), approximate. Measured relative RMS error of SiLU at the default grid for unit
        components, orders 0 and 1 together: 2.8e-3 (L = 2), 2.4e-3 (L = 4). Exact (2e-15) for x² and x³.
    Raises: as for ``SphereActivation``.
    Reference: Xu et al. 2022, arXiv:2206.08362.

    Example:
        >>> spin = SpinType("4x0 + 4x1", lmax=1)
        >>> SpinActivation(spin)(torch.randn(10, spin.dim)).shape
        torch.Size([10, 40])
    """

    @renamed_arguments(normalise="normalize")
    def __init__(
        self,
        spin: SpinType,
        act: str | Activation = "silu",
        *,
        resolution: tuple[int, int, int] | None = None,
        tolerance: float | None = None,
        amplitude: float = 1.0,
        normalize: bool = True,
    ) -> None:
        self.spin = SpinType.of(spin)
        super().__init__(
            spin.irreps,
            spin.channels(),
            act,
            None,
            on_group=True,
            resolution=resolution,
            tolerance=tolerance,
            amplitude=amplitude,
            normalize=normalize,
            layout="mul_ir",
        )


def sphere_correlation(f: Tensor, psi: Tensor, lmax: int) -> Tensor:
    r"""F(R) = ∫ f(p) ψ(R⁻¹p) dp, the mean over the sphere, as Fourier matrices: F^l_mn = f^l_m ψ^l_n, F = Σ F^l_mn D^l_mn.

    f and ψ are coefficients in component harmonics. All columns of F are filled unless ψ is symmetric about y.

    Shape: (..., (lmax+1)²), (..., (lmax+1)²), broadcast -> (..., Σ (2l+1)²), degree by degree, entries (m, n), n last.
    Equivariance: rotating f multiplies each F^l by D^l from the left; exact.
    Raises: ValueError for another number of coefficients.
    Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, eq. 7.
    """
    for name, t in (("f", f), ("psi", psi)):
        if t.ndim < 1 or t.shape[-1] != (lmax + 1) ** 2:
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}; expected (..., {(lmax + 1) ** 2}) for lmax {lmax}"
            )
    parts = []
    for l in range(lmax + 1):
        at = slice(l * l, (l + 1) ** 2)
        parts.append((f[..., at, None] * psi[..., None, at]).flatten(-2))
    return torch.cat(parts, -1)

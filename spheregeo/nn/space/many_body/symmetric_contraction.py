"""The product basis of the atomic cluster expansion: polynomials of a point's features, with weights for each kind of point."""

from __future__ import annotations

import math

import numpy as np
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps import Stacks, as_irreps, terms_of, working_dtype
from spheregeo.nn.irreps.layout import check_features, join_rows, places_of, split_rows
from spheregeo.nn.irreps.stacks import check_stacks
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.space.many_body.basis import product_basis
from spheregeo.nn.space.many_body.kinds import Kinds, as_kinds
from spheregeo.nn.space.many_body.polynomial import (
    Plan,
    PolynomialTables,
    is_compiled,
    plain_polynomial,
    polynomial,
)

MOST = 4  # factors of a product


class SymmetricContraction(KeptInEvaluation, ExactBuffers):
    """Products of up to ν of a point's features, channel by channel, contracted to irreps: ACE's product basis.

    With A_lm the features of one channel, B_LM = Σ_ν Σ_η w(kind, η) Σ U^η_{M, (lm)...} A_{l1 m1} ... A_{lν mν}, where η runs over
    a basis of all equivariant polynomials of degree ν. Weights are multiplied with the tables U once for each kind that occurs; a
    point's monomials are then visited once, each only where some U has a coefficient. Nothing is kept between forward and
    backward but the arguments.

    Args:
        irreps_in: C copies of each degree 0 ... lmax, of the harmonics' parity, as in ``"8x0e + 8x1o + 8x2e"``.
        irreps_out: C copies of each degree L that is wanted, of the harmonics' parity.
        correlation: ν, the largest number of factors, 1 to 4.
        num_kinds: number of kinds of points, such as elements; 1 for weights that all share.

    Shape: x (N, irreps_in.dim) in mul_ir or stacks, kinds (N,) int64 or :class:`Kinds` -> (N, irreps_out.dim), or stacks.
    Equivariance: O(3), exact (relative error 1e-15 measured in float64); derivatives of every order exist.
    Raises: ValueError for other irreps, correlation outside 1 to 4, kinds or features that do not fit.
    Reference: Batatia, Kovács, Simm, Ortner & Csányi 2022, arXiv:2206.07697, equations 10 and 11; Drautz 2019,
        doi:10.1103/PhysRevB.99.014104.

    Example:
        >>> layer = SymmetricContraction("4x0e + 4x1o + 4x2e", "4x0e + 4x1o", correlation=3, num_kinds=10)
        >>> layer(torch.randn(3, 36), torch.tensor([8, 1, 1])).shape
        torch.Size([3, 16])
    """

    def __init__(
        self, irreps_in: str | Irreps, irreps_out: str | Irreps, correlation: int = 3, num_kinds: int = 1
    ) -> None:
        super().__init__()
        check_least(correlation=(correlation, 1), num_kinds=(num_kinds, 1))
        if correlation > MOST:
            raise ValueError(f"correlation is {correlation}; expected 1 to {MOST}")
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self.correlation, self.num_kinds = correlation, num_kinds
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self._places = places_of(self.irreps_in), places_of(self.irreps_out)
        self.channels = _check_natural(self.irreps_in, self.irreps_out)
        lmax, targets = len(self._terms[0]) - 1, [l for l, _, _ in self._terms[1]]
        found: dict[tuple[tuple[int, ...], int], list[tuple[int, float]]] = {}
        self.blocks: list[
            tuple[int, int, int, int]
        ] = []  # target L, degree ν, first path and number of paths
        paths = first = 0
        for target in targets:
            for degree in range(1, correlation + 1):
                basis = product_basis(lmax, target, degree)
                self.blocks.append((target, degree, paths, basis.size))
                lines = zip(basis.monomials.tolist(), basis.rows, basis.paths, basis.values, strict=True)
                for name, row, path, value in lines:
                    entry = found.setdefault((tuple(name), first + int(row)), [])
                    entry.append((paths + int(path), float(value)))
                paths += basis.size
            first += 2 * target + 1
        terms = sorted(found)
        self.tables = PolynomialTables.of(range(lmax + 1), targets, terms)
        mixing = np.zeros((len(terms), paths))
        for k, term in enumerate(terms):
            for path, value in found[term]:
                mixing[k, path] = value
        self.keep("mixing", torch.from_numpy(mixing))
        self.weight = nn.Parameter(torch.empty(num_kinds, paths, self.channels))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights anew: features of unit variance give outputs of about unit variance, in equal parts from each degree."""
        for _, degree, first, count in self.blocks:
            scale = math.sqrt(max(count, 1) * math.factorial(degree) * self.correlation)
            self.weight[:, first : first + count].normal_(std=1 / scale)

    def coefficients(self, kinds: Kinds, dtype: torch.dtype) -> Tensor:
        """Coefficients of the monomials for each kind that occurs, (K, terms, C)."""

        def make() -> Tensor:
            weight: Tensor = self.weight
            if kinds.present is not None and len(kinds.present) < self.num_kinds:
                weight = weight.index_select(0, kinds.present)
            return self.get_buffer("mixing").to(dtype) @ weight.to(dtype)

        name = None if kinds.present is None else (dtype, tuple(kinds.present.tolist()))
        return make() if name is None else self.kept(name, make, [self.weight])

    def forward(self, x: Tensor | Stacks, kinds: Tensor | Kinds) -> Tensor | Stacks:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            stacks = x
        else:
            check_features(x, self.irreps_in)
            stacks = Stacks.of(split_rows(x, self._places[0]), self._terms[0])
        if stacks.parts[0].ndim != 3:
            raise ValueError(f"x has leading axes {tuple(stacks.shape)}; expected one, (points,)")
        made = as_kinds(kinds, self.num_kinds, stacks.shape[0])
        dtype = stacks.parts[0].dtype
        compute = working_dtype(stacks.parts[0])
        given = stacks.planar().to(compute)
        kind = given.device.type
        with torch.autocast(kind, enabled=False):
            table = self.coefficients(made, compute)
            if made.present is not None and is_compiled(given):
                y = polynomial(Plan.make(self.tables, made.which), given, table)
            else:
                y = plain_polynomial(self.tables, given, table, made.which)
        result = Stacks.from_planar(y.to(dtype), self._terms[1], stacks.shape[0])
        return result if isinstance(x, Stacks) else join_rows(result.parts, self._places[1])

    def extra_repr(self) -> str:
        return f"'{self.irreps_in}', '{self.irreps_out}', correlation={self.correlation}, num_kinds={self.num_kinds}"


def _check_natural(irreps_in: Irreps, irreps_out: Irreps) -> int:
    """The number of channels. Raises: ValueError for other irreps than C copies of degrees with the harmonics' parity."""
    terms, targets = terms_of(irreps_in), terms_of(irreps_out)
    channels = terms[0][2] if terms else 0
    expected = [(l, (-1) ** l, channels) for l in range(len(terms))]
    if not terms or list(terms) != expected:
        raise ValueError(
            f"irreps_in is {irreps_in}; expected as many copies of each degree from 0 on, of parity (-1)^l, as in "
            "'8x0e + 8x1o + 8x2e'"
        )
    if not targets or any((p, mul) != ((-1) ** l, channels) for l, p, mul in targets):
        raise ValueError(
            f"irreps_out is {irreps_out}; expected {channels} copies of each degree, of parity (-1)^l"
        )
    return channels

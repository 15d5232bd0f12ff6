r"""Networks on edges, all of whose layers see one frame: a rotation in, products and gates in the frame, a rotation out.

A product with the harmonics of an edge commutes with rotations about it, so in the frame where the edge is ŷ it is one matrix
for each order m (see :mod:`spheregeo.nn.space.steerable.so2`), and a gate multiplies whole copies in any frame.
Features in frames are held by order: one array (E, rows) for m = 0 and one (E, 2, rows) for each ±m, copies of all
degrees l >= m side by side; those of unnatural parity are multiplied by i, and for m = 0 stand apart. So a layer is one
matrix product per order. The arrays follow one another in one vector: "planar by order".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import FullyConnectedTensorProduct, Irrep, Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.layout import EVEN, as_irreps, distinct_irreps
from spheregeo.nn.irreps.stacks import Stacks, check_stacks, terms_of
from spheregeo.nn.space.edge_frame.dense import Job, Mixing
from spheregeo.nn.space.steerable.paths import CGPath, path_table, row_maps_of, transposed_row_maps_of
from spheregeo.nn.space.steerable.so2 import natural
from spheregeo.sparse import Path, RowMaps, Rows


class Order(NamedTuple):
    """One array of features in frames: an order m and the irreps, by their place among the distinct irreps, that have it."""

    m: int
    members: tuple[int, ...]

    @property
    def components(self) -> int:
        return 2 if self.m else 1


def orders_of(irs: Sequence[Irrep], mmax: int | None = None) -> list[Order]:
    """How features of these irreps lie in frames; orders beyond mmax are left out."""
    found = []
    for is_natural in (True, False):
        members = tuple(i for i, ir in enumerate(irs) if natural(ir) == is_natural)
        if members:
            found.append(Order(0, members))
    top = max(ir.l for ir in irs)
    for m in range(1, (top if mmax is None else min(top, mmax)) + 1):
        found.append(Order(m, tuple(i for i, ir in enumerate(irs) if ir.l >= m)))
    return found


def packed_size(lmax: int) -> int:
    """Entries of the Wigner matrices of degrees 0 ... lmax."""
    return sum((2 * degree + 1) ** 2 for degree in range(lmax + 1))


def _rows(ir: Irrep, m: int, size: int) -> Tensor:
    """(1 or 2, 2 l + 1, size): components ±m in the frame from those outside, as sums over packed Wigner matrices."""
    first, d = packed_size(ir.l - 1), ir.dim
    rows = [(ir.l, 1.0)]
    if m:
        rows = [(ir.l + m, 1.0), (ir.l - m, 1.0)] if natural(ir) else [(ir.l - m, -1.0), (ir.l + m, 1.0)]
    found = torch.zeros(len(rows), d, size, dtype=torch.float64)
    for i, (row, sign) in enumerate(rows):
        for k in range(d):
            found[i, k, first + row * d + k] = sign
    return found


class FrameRotation(nn.Module):
    """Features of points into the frames of edges, and messages out of them, summed over the edges of each target.

    Args:
        irreps: of the features.
        mmax: orders beyond it are left out, and are zero on the way back; None keeps all.

    Shape: ``coefficients``: packed Wigner matrices (E, S) -> (E, K), alike for all layers of these irreps; ``inward``: stacks
        of N points, or their :meth:`~spheregeo.nn.irreps.Stacks.planar` vector, coefficients, the points that edges take
        features from -> planar by order; ``outward``: planar by order, coefficients, the points that edges lead to -> stacks.
    Equivariance: exact; the two are adjoint.

    Example:
        >>> from spheregeo.harmonics import wigner_to_y
        >>> irreps, source = Irreps("8x0e + 4x1o"), Rows.of(torch.tensor([0, 1, 1]), 2)
        >>> rotation = FrameRotation(irreps)
        >>> coefficients = rotation.coefficients(wigner_to_y(torch.randn(3, 3), 1))
        >>> rotation.inward(torch.randn(2 * 20), coefficients, source).shape
        torch.Size([60])
    """

    def __init__(self, irreps: Irreps, mmax: int | None = None) -> None:
        super().__init__()
        irs = distinct_irreps(irreps)
        sizes, self._terms = [(int(ir.dim), irreps.count(ir)) for ir in irs], terms_of(irreps)
        size = packed_size(max(ir.l for ir in irs))
        orders = orders_of(irs, mmax)
        self.maps = RowMaps(
            sizes,
            [order.components for order in orders],
            [Path(i, g, _rows(irs[i], o.m, size)) for g, o in enumerate(orders) for i in o.members],
            size,
        )

    def coefficients(self, packed: Tensor) -> Tensor:
        return self.maps.coefficients(packed)

    def inward(self, x: Stacks | Tensor, coefficients: Tensor, rows: Rows) -> Tensor:
        result: Tensor = self.maps(x.planar() if isinstance(x, Stacks) else x, coefficients, rows)
        return result

    def outward(self, z: Tensor, coefficients: Tensor, rows: Rows) -> Stacks:
        return Stacks.from_planar(self.maps.adjoint(z, coefficients, rows), self._terms, rows.points)


class ProductWeights(nn.Module):
    """Weights of a tensor product with harmonics up to a degree, and a bias on even scalars.

    Base of :class:`PointProduct` (attributes of points) and
    :class:`~spheregeo.nn.space.edge_frame.FrameProduct` (harmonics of edges, in the edges' frames).

    ``weights`` are used as they stand: out = Σ W √(2 l₃ + 1) C (x ⊗ Y), drawn from U(±1/√rows) as the bias is.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: str | Irreps, lmax: int) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.lmax = irreps_in, as_irreps(irreps_out, "irreps_out"), lmax
        self.table = path_table(self.irreps_in, self.irreps_out, lmax)
        lacking = [str(ir) for t, ir in enumerate(self.table.targets) if not self.table.rows[t]]
        if lacking:
            raise ValueError(
                f"irreps_out is {self.irreps_out}, of which {', '.join(lacking)} cannot be reached from {self.irreps_in} with "
                f"harmonics up to degree {lmax}"
            )
        self.weights = nn.ParameterList(
            torch.empty(1, rows, count)
            for rows, count in zip(self.table.rows, self.table.target_copies, strict=True)
        )
        scalars = self.irreps_out.count(EVEN)
        self.bias = nn.Parameter(torch.empty(scalars)) if scalars else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights and bias anew, U(±1/√fan-in)."""
        for weight, ir in zip(self.weights, self.table.targets, strict=True):
            bound = 1 / math.sqrt(weight.shape[1])
            weight.uniform_(-bound, bound)
            if self.bias is not None and ir == EVEN:
                self.bias.uniform_(-bound, bound)

    @torch.no_grad()
    def load_e3nn(self, product: FullyConnectedTensorProduct) -> ProductWeights:
        """Take the weights of an e3nn product of the same features (terms in any number and order) with harmonics; returns self.

        Raises: ValueError for other irreps.
        """
        given = [Irreps(p) for p in (product.irreps_in1, product.irreps_in2, product.irreps_out)]
        expected = [self.irreps_in, Irreps.spherical_harmonics(self.lmax), self.irreps_out]
        if [g.sort().irreps.simplify() for g in given] != [e.sort().irreps.simplify() for e in expected]:
            raise ValueError(f"product is of {given}; expected {expected}")
        row = {(p.source, p.degree, p.target): p.row for p in self.table.paths}
        read = 0
        for ins in product.instructions:
            ir_in, ir_out = given[0][ins.i_in1].ir, given[2][ins.i_out].ir
            rows, columns = ins.path_shape[0], ins.path_shape[2]
            theirs = product.weight[read : read + rows * columns].view(rows, columns)
            read += rows * columns
            s, t = self.table.sources.index(ir_in), self.table.targets.index(ir_out)
            first = row[s, given[1][ins.i_in2].ir.l, t] + sum(
                m for m, ir in given[0][: ins.i_in1] if ir == ir_in
            )
            column = sum(m for m, ir in given[2][: ins.i_out] if ir == ir_out)
            factor = ins.path_weight / math.sqrt(ir_out.dim)
            self.weights[t][0, first : first + rows, column : column + columns] = factor * theirs
        return self

    def extra_repr(self) -> str:
        return f"'{self.irreps_in}' -> '{self.irreps_out}', lmax={self.lmax}"


class PointProduct(ProductWeights):
    """Tensor product of features with attributes of points, which have the irreps of harmonics up to a degree.

    A product from few components to many is cheaper mixed first, the others are mixed last.

    Args:
        irreps_in: of the features.
        irreps_out: of the result.
        lmax: largest degree of the attributes.

    Shape: stacks of ``irreps_in`` at N points; attributes (N, (lmax + 1)²), and what ``coefficients`` makes of
        them, alike for all layers with these irreps, whatever their copies -> stacks of ``irreps_out``.
    Equivariance: O(3), exact.
    Raises: ValueError for irreps that nothing reaches.
    Reference: Brandstetter et al. 2022, arXiv:2110.02905, equation 7; e3nn's ``FullyConnectedTensorProduct`` and a bias.

    Example:
        >>> product = PointProduct("8x0e + 4x1o", "4x0e + 2x1o", lmax=1)
        >>> product(Stacks.from_mul_ir(torch.randn(5, 20), "8x0e + 4x1o"), torch.randn(5, 4))
        Stacks('4x0e+2x1o', (5,))
    """

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps, lmax: int) -> None:
        super().__init__(as_irreps(irreps_in, "irreps_in"), irreps_out, lmax)
        table, self._terms = self.table, (terms_of(self.irreps_in), terms_of(self.irreps_out))
        self.first = [p for p in table.paths if table.sources[p.source].dim < table.targets[p.target].dim]
        self.last = [p for p in table.paths if p not in self.first]
        self.after, self.before = transposed_row_maps_of(table, self.first), row_maps_of(table, self.last)
        self.mix_first, self.mix_last = _Mix(), _Mix()
        column = 0
        for s, ir in enumerate(table.sources):
            width = sum(table.target_copies[p.target] for p in self.first if p.source == s)
            if width:
                self.mix_first.add(int(ir.dim), width, False, (0, column, table.source_copies[s]))
            column += int(ir.dim) * table.source_copies[s]
        column = 0
        for t, ir in enumerate(table.targets):
            rows = sum(p.copies for p in self.last if p.target == t)
            biased = ir == EVEN and self.bias is not None
            self.mix_last.add(
                int(ir.dim), table.target_copies[t], biased, (0, column, rows) if rows else None
            )
            column += int(ir.dim) * rows
        self.mix_first.partial = True  # not all that comes in goes this way

    def _weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Matrices of the products that are mixed first, a source's side by side, and last, a target's one below the other."""
        sources, targets = range(len(self.table.sources)), range(len(self.table.targets))
        first = [[self._weight(p) for p in self.first if p.source == s] for s in sources]
        last = [[self._weight(p) for p in self.last if p.target == t] for t in targets]
        return [torch.cat(w, 1) for w in first if w], [torch.cat(w) for w in last if w]

    def _weight(self, path: CGPath) -> Tensor:
        weight: Tensor = self.weights[path.target][0, path.row : path.row + path.copies]
        return weight

    def coefficients(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        return self.after.coefficients(attributes), self.before.coefficients(attributes)

    def forward(
        self, stacks: Stacks, attributes: Tensor, coefficients: tuple[Tensor, Tensor] | None = None
    ) -> Stacks:
        check_stacks(stacks, self._terms[0], "stacks")
        points = stacks.shape[0]
        every = torch.arange(points + 1, device=attributes.device)
        rows = Rows(every[:points], every, every[:points], points)
        after, before = self.coefficients(attributes) if coefficients is None else coefficients
        x = stacks.planar()
        first, last = self._weights()
        y = self.mix_last.mixed(points, self.before(x, before, rows), None, self.bias, *last)
        if first:
            y = y + self.after.adjoint(self.mix_first.mixed(points, x, None, None, *first), after, rows)
        return Stacks.from_planar(y, self._terms[1], points)


class _Mix(Mixing):
    """Matrix products of one part, one after another."""

    def __init__(self) -> None:
        self.jobs, self.outputs, self.num_parts, self.partial = [], 0, 1, False

    def add(self, components: int, width: int, biased: bool, piece: tuple[int, int, int] | None) -> None:
        matrix = sum(job.matrix >= 0 for job in self.jobs) if piece else -1
        self.jobs.append(Job(components, width, self.outputs, biased, matrix, (piece,) if piece else ()))
        self.outputs += components * width

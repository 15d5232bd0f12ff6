r"""Gated networks on edges, all of whose layers see one frame: a rotation in, products and gates in the frame, a rotation out.

A product with the harmonics of an edge commutes with rotations about it, so in the frame where the edge is ŷ it is one matrix for each
order m (see :mod:`spheregeo.nn.space.so2`), and a gate multiplies whole copies in any frame. Features in frames are
held by order: one array (E, rows) for m = 0 and one (E, 2, rows) for each ±m, copies of all degrees l >= m side by side;
those of unnatural parity are multiplied by i, and for m = 0 stand apart. So a layer is one matrix product an order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import FullyConnectedTensorProduct, Irrep, Irreps
from torch import Tensor, nn

from spheregeo.nn.space.activations import NormalisedActivation
from spheregeo.nn.space.coupling_paths import path_table, row_maps_of
from spheregeo.nn.space.irreps import EVEN, as_irreps, kinds
from spheregeo.nn.space.so2 import SO2Maps, natural
from spheregeo.sparse import Path, RowMaps, Rows


class Order(NamedTuple):
    """One array of features in frames: an order m and the irreps, by their place among the kinds, that have it."""

    m: int
    members: tuple[int, ...]

    @property
    def components(self) -> int:
        return 2 if self.m else 1


def orders_of(irs: Sequence[Irrep]) -> list[Order]:
    """How features of these irreps lie in frames."""
    found = []
    for is_natural in (True, False):
        members = tuple(i for i, ir in enumerate(irs) if natural(ir) == is_natural)
        if members:
            found.append(Order(0, members))
    for m in range(1, max(ir.l for ir in irs) + 1):
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

    Shape: ``coefficients``: packed Wigner matrices (E, S) -> (E, K), the same for all layers of these irreps; ``inward``: x planar (stack
        after stack, each (N, 2 l + 1, copies)), coefficients, the points that edges take it from -> list of arrays by order;
        ``outward``: such a list, coefficients, the points that edges lead to -> list of stacks (N, 2 l + 1, copies).
    Equivariance: exact; the two are adjoint.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irs = kinds(irreps)
        self.copies = [irreps.count(ir) for ir in self.irs]
        self.orders = orders_of(self.irs)
        size = packed_size(max(ir.l for ir in self.irs))
        self.maps = RowMaps(
            [(ir.dim, count) for ir, count in zip(self.irs, self.copies, strict=True)],
            [order.components for order in self.orders],
            [Path(i, g, _rows(self.irs[i], o.m, size)) for g, o in enumerate(self.orders) for i in o.members],
            size,
        )

    def coefficients(self, packed: Tensor) -> Tensor:
        return self.maps.coefficients(packed)

    def inward(self, x: Tensor, coefficients: Tensor, rows: Rows) -> list[Tensor]:
        parts = self.maps.split(self.maps(x, coefficients, rows), rows.index.shape[0])
        return [part if order.m else part.squeeze(1) for part, order in zip(parts, self.orders, strict=True)]

    def outward(self, parts: Sequence[Tensor], coefficients: Tensor, rows: Rows) -> list[Tensor]:
        planar = self.maps.adjoint(torch.cat([part.flatten() for part in parts]), coefficients, rows)
        widths = [rows.points * ir.dim * count for ir, count in zip(self.irs, self.copies, strict=True)]
        return [
            part.view(rows.points, ir.dim, count)
            for part, ir, count in zip(planar.split(widths), self.irs, self.copies, strict=True)
        ]


class ProductWeights(nn.Module):
    """Weights of a tensor product with harmonics up to a degree, and a bias on even scalars; see its two ways of evaluation.

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


class FrameProduct(ProductWeights):
    """Tensor product of features with the harmonics of edges, in the edges' frames.

    Args:
        parts: irreps of the features that are taken side by side, such as those of both ends.
        irreps_out: features of the result.
        lmax: highest degree of the harmonics.
        scalars: further even scalars of each edge.

    Shape: a list of arrays by order for each part, scalars (E, scalars) or None -> list of arrays by order.
    Equivariance: commutes with rotations about ŷ and reflections in planes that hold it.
    Raises: ValueError for irreps that nothing reaches.
    """

    def __init__(
        self, parts: Sequence[str | Irreps], irreps_out: str | Irreps, lmax: int, scalars: int = 0
    ) -> None:
        every = [as_irreps(part, "parts") for part in parts]
        irreps_in = Irreps([term for part in every for term in part]) + Irreps(
            [(scalars, EVEN)] if scalars else []
        )
        super().__init__(irreps_in, irreps_out, lmax)
        self.maps = SO2Maps(self.table)
        irs = self.table.sources
        self.source_orders, self.orders = orders_of(irs), orders_of(self.table.targets)
        # where each part's array of that order and parity is; rows of a matrix go part after part, the further scalars last
        self.where: list[list[int | None]] = []
        self.sizes: list[list[int]] = []
        for g, order in enumerate(self.source_orders):
            rows: dict[int, list[Tensor]] = {p: [] for p in range(len(every) + 1)}
            first = 0
            for i in order.members:
                at = first
                for p, part in enumerate([*every, Irreps([(scalars, EVEN)])]):
                    count = part.count(irs[i])
                    if count:
                        rows[p].append(torch.arange(at, at + count))
                    at += count
                first += self.table.source_copies[i]
            index = torch.cat([piece for pieces in rows.values() for piece in pieces])
            self.register_buffer(f"rows{g}", index, persistent=False)
            self.sizes.append([sum(len(piece) for piece in pieces) for pieces in rows.values()])
            places: list[int | None] = []
            for part in every:
                theirs = kinds(part)
                names = {
                    (o.m, natural(theirs[o.members[0]]) or o.m > 0): k
                    for k, o in enumerate(orders_of(theirs))
                }
                places.append(names.get((order.m, natural(irs[order.members[0]]) or order.m > 0)))
            self.where.append(places)

    def _matrix(self, blocks: dict[tuple[int, int], Tensor], source: Order, target: Order) -> Tensor:
        table, columns = self.table, []
        for k in target.members:
            like, copies = self.weights[k], table.target_copies[k]
            columns.append(
                torch.cat(
                    [
                        blocks[s, k][0]
                        if (s, k) in blocks
                        else like.new_zeros(table.source_copies[s], copies)
                        for s in source.members
                    ]
                )
            )
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)

    def forward(self, parts: Sequence[Sequence[Tensor]], scalars: Tensor | None = None) -> list[Tensor]:
        blocks = self.maps.matrices(list(self.weights))
        irs, targets = self.table.sources, self.table.targets
        edges = parts[0][0].shape[0]
        out = []
        for order in self.orders:
            is_natural = natural(targets[order.members[0]])
            width = sum(self.table.target_copies[k] for k in order.members)
            shape = (edges, 2, width) if order.m else (edges, width)
            total = None
            if order.m == 0 and is_natural and self.bias is not None:
                total = torch.cat([self.bias, self.bias.new_zeros(width - len(self.bias))])
            for g, source in enumerate(self.source_orders):
                if source.m != order.m or (order.m == 0 and natural(irs[source.members[0]]) != is_natural):
                    continue
                matrix = self._matrix(blocks[order.m], source, order)
                matrix = matrix.index_select(0, self.get_buffer(f"rows{g}"))
                for k, piece in enumerate(matrix.split(self.sizes[g])):
                    if not len(piece):
                        continue
                    z: Tensor | None = scalars
                    if k < len(parts):
                        place = self.where[g][k]
                        assert place is not None
                        z = parts[k][place].reshape(-1, len(piece))
                    assert z is not None
                    total = z @ piece if total is None else torch.addmm(total, z, piece)
            if total is None or total.ndim == 1:
                fill = parts[0][0].new_zeros(shape)
                out.append(fill if total is None else fill + total)
            else:
                out.append(total.view(shape))
        return out


class FrameGate(nn.Module):
    """:class:`~spheregeo.nn.space.IrrepsGate` for features in frames: scalars acted on, other copies multiplied by a gate each.

    ``irreps_in`` is even scalars, gates, and the rest of ``irreps_out``; odd scalars are gated.

    Shape: list of arrays by order of ``irreps_in`` -> the same of ``irreps_out``.
    Raises: ValueError where even scalars do not come first, in one term.
    """

    def __init__(self, irreps_out: str | Irreps) -> None:
        super().__init__()
        self.irreps_out = as_irreps(irreps_out, "irreps_out")
        irs = kinds(self.irreps_out)
        self.copies = [self.irreps_out.count(ir) for ir in irs]
        if irs[0] != EVEN or len(irs) != len(self.irreps_out):
            raise ValueError(
                f"irreps_out is {self.irreps_out}; expected distinct irreps, 0e first, as in '16x0e + 8x1o'"
            )
        self.scalars, self.gates = self.copies[0], sum(self.copies[1:])
        self.irreps_in = Irreps([(self.scalars + self.gates, EVEN), *self.irreps_out[1:]])
        self.orders = orders_of(irs)
        self.act, self.gate = NormalisedActivation("silu"), NormalisedActivation("sigmoid")

    def forward(self, parts: Sequence[Tensor]) -> list[Tensor]:
        scalars, gates, first = parts[0].split(
            [self.scalars, self.gates, parts[0].shape[1] - self.scalars - self.gates], 1
        )
        if not self.gates:
            return [self.act(scalars)]
        each = self.gate(gates).split(self.copies[1:], 1)
        found = []
        for g, (part, order) in enumerate(zip(parts, self.orders, strict=True)):
            members = [i for i in order.members if i]
            factor = torch.cat([each[i - 1] for i in members], 1) if members else None
            if g == 0:
                pieces = [self.act(scalars)] if factor is None else [self.act(scalars), first * factor]
                found.append(torch.cat(pieces, 1))
            else:
                assert factor is not None
                found.append(part * (factor.unsqueeze(1) if order.m else factor))
        return found

    def of_stacks(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """The same for features outside frames, stacks (N, 2 l + 1, copies)."""
        scalars, gates = stacks[0].split([self.scalars, self.gates], 2)
        if not self.gates:
            return [self.act(scalars)]
        each = self.gate(gates).split(self.copies[1:], 2)
        return [self.act(scalars), *[stack * factor for stack, factor in zip(stacks[1:], each, strict=True)]]


class PointProduct(ProductWeights):
    """Tensor product of features with attributes of points, which have the irreps of harmonics up to a degree.

    Shape: list of stacks (N, 2 l + 1, copies) of ``irreps_in``; attributes (N, (lmax + 1)²), or what ``coefficients`` makes of them, the
        same for all layers with these kinds of irreps -> list of stacks of ``irreps_out``.
    Equivariance: O(3), exact.
    Raises: ValueError for irreps that nothing reaches.
    Reference: Brandstetter et al. 2022, arXiv:2110.02905, equation 7; e3nn's ``FullyConnectedTensorProduct`` and a bias.
    """

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps, lmax: int) -> None:
        super().__init__(as_irreps(irreps_in, "irreps_in"), irreps_out, lmax)
        self.maps = row_maps_of(self.table)

    def coefficients(self, attributes: Tensor) -> Tensor:
        return self.maps.coefficients(attributes)

    def forward(
        self, stacks: Sequence[Tensor], attributes: Tensor, coefficients: Tensor | None = None
    ) -> list[Tensor]:
        points = stacks[0].shape[0]
        every = torch.arange(points + 1, device=stacks[0].device)
        rows = Rows(every[:points], every, every[:points], points)
        k = self.coefficients(attributes) if coefficients is None else coefficients
        z = self.maps(torch.cat([stack.flatten() for stack in stacks]), k, rows)
        found = []
        for part, weight, ir in zip(
            self.maps.split(z, points), self.weights, self.table.targets, strict=True
        ):
            flat = part.flatten(0, 1)
            if ir == EVEN and self.bias is not None:
                found.append(torch.addmm(self.bias, flat, weight[0]).view(points, ir.dim, -1))
            else:
                found.append((flat @ weight[0]).view(points, ir.dim, -1))
        return found

r"""Steerable convolutions in the frame of each edge, where they are a small matrix for each order m.

With R r̂ = ŷ only the harmonics' m = 0 components are left, so the tensor product with Clebsch–Gordan coefficients C becomes, for
features z = D(R) x written as complex numbers z_m + i z_{-m}, a product with a_m + i b_m:
a_m = sum over even l1 + l2 + l3 of √(2 l2 + 1) C[m, 0, m] w_{l2}, b_m the same over odd sums with C[m, 0, -m].
Parity leaves a alone between features of like naturality p (-1)^l, and b alone otherwise; multiplying the unnatural ones by i
makes every matrix real. Frames differ by rotations about ŷ, with which all this commutes.
Reference: Passaro & Zitnick 2023, arXiv:2302.03655.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.checks import check_tensor
from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import as_irreps
from spheregeo.nn.irreps.stacks import Stacks
from spheregeo.nn.space.steerable.paths import PathTable, path_table
from spheregeo.sparse import Path, RowMaps

if TYPE_CHECKING:
    from e3nn.o3 import Irrep, Irreps

    from spheregeo.nn.space.geometry import EdgeGeometry


def natural(ir: Irrep) -> bool:
    """Whether the parity is that of the harmonics of the same degree."""
    return bool(ir.p == (-1) ** ir.l)


class SO2Maps(ExactBuffers):
    """The products of a path table as real matrices of each order m, applied to features in the edges' frames.

    Args:
        table: products and sizes.
        mmax: orders beyond it give nothing; None keeps all.

    Shape: ``maps(stacks, weights, edge_features)``: stacks (E, 2 l + 1, copies) of the sources, weights (H, rows, copies) of the
        reached output stacks, edge features (E, H) or None -> stacks of the reached outputs.
    Equivariance: commutes with rotations about ŷ and reflections in planes that hold it.

    Example:
        >>> from e3nn.o3 import Irreps
        >>> table = path_table(Irreps("8x0e"), Irreps("4x0e + 2x1o"), lmax=1)
        >>> [part.shape for part in SO2Maps(table)([torch.randn(10, 1, 8)], [torch.randn(1, 8, 4), torch.randn(1, 8, 2)])]
        [torch.Size([10, 1, 4]), torch.Size([10, 3, 2])]
    """

    def __init__(self, table: PathTable, mmax: int | None = None) -> None:
        super().__init__()
        self.table = table
        self.pairs: list[tuple[int, int, int, int]] = []  # source, target, first row, products
        for k, t in enumerate(table.reached):
            for s in range(len(table.sources)):
                own = [p for p in table.paths if p.target == t and p.source == s]
                if own:
                    matrix = _orders(table.sources[s], [p.degree for p in own], table.targets[t])
                    self.keep(f"orders{len(self.pairs)}", matrix)
                    self.pairs.append((s, k, own[0].row, len(own)))
        degrees = [ir.l for ir in table.sources], [table.targets[t].l for t in table.reached]
        top = min(max(degrees[0]), max(degrees[1]))
        self.top = top if mmax is None else min(top, mmax)
        # plain numbers, which compilers can guard: parity like that of the harmonics, degrees and copies of the stacks
        self._natural = (
            tuple(natural(ir) for ir in table.sources),
            tuple(natural(table.targets[t]) for t in table.reached),
        )
        self._degrees = tuple(int(table.targets[t].l) for t in table.reached)
        self._copies = (
            tuple(map(int, table.source_copies)),
            tuple(int(table.target_copies[t]) for t in table.reached),
        )

    def matrices(self, weights: Sequence[Tensor]) -> list[dict[tuple[int, int], Tensor]]:
        """For each order the blocks (H, copies in, copies out) by source and reached output."""
        found: list[dict[tuple[int, int], Tensor]] = [{} for _ in range(self.top + 1)]
        for i, (s, k, row, count) in enumerate(self.pairs):
            copies = self._copies[0][s]
            part = weights[k][:, row : row + count * copies].unflatten(1, (count, copies))
            orders = self.get_buffer(f"orders{i}").to(part.dtype)  # (M + 1, products)
            blocks = torch.einsum("mp,hpuv->mhuv", orders, part)
            for m in range(min(len(blocks), self.top + 1)):
                if m or self._natural[0][s] == self._natural[1][k]:
                    found[m][s, k] = blocks[m]
        return found

    def forward(
        self, stacks: Sequence[Tensor], weights: Sequence[Tensor], edge_features: Tensor | None = None
    ) -> list[Tensor]:
        edges, (into, onto), copies = stacks[0].shape[0], self._natural, self._copies
        out: list[list[Tensor]] = [[] for _ in self._degrees]  # rows by order: 0, then ±1, ...
        for m, blocks in enumerate(self.matrices(weights)):
            sources = sorted({s for s, _ in blocks})
            targets = sorted({k for _, k in blocks})
            if not blocks:
                continue
            z = torch.cat([_read(stacks[s], m, into[s]) for s in sources], -1)  # (E, 1 or 2, rows)
            columns = []
            for k in targets:
                rows = [
                    blocks[s, k]
                    if (s, k) in blocks
                    else z.new_zeros(len(weights[k]), copies[0][s], copies[1][k])
                    for s in sources
                ]
                columns.append(torch.cat(rows, 1))
            u = _mix(z, torch.cat(columns, 2), edge_features)
            sizes = [copies[1][k] for k in targets]
            for k, part in zip(targets, u.split(sizes, -1), strict=True):
                out[k].append(_turned(part, onto[k]) if m else part)
            for k in set(range(len(out))) - set(targets):
                out[k].append(z.new_zeros(edges, z.shape[1], copies[1][k]))
        return [_component_order(parts, degree) for degree, parts in zip(self._degrees, out, strict=True)]


def _orders(source: Irrep, degrees: list[int], target: Irrep) -> Tensor:
    """(M + 1, products): what each product adds to a_m or b_m.

    With z' = i z of unnatural sources and u' = i u of unnatural outputs the matrices are a, b, -b and a: the sign is for
    natural sources of unnatural outputs.
    """
    top = min(source.l, target.l)
    like = natural(source) == natural(target)
    sign = -1 if natural(source) and not like else 1
    values = torch.zeros(top + 1, len(degrees), dtype=torch.float64)
    for p, degree in enumerate(degrees):
        c = clebsch_gordan(source.l, degree, target.l) * math.sqrt((2 * degree + 1) * (2 * target.l + 1))
        for m in range(top + 1):
            values[m, p] = sign * c[source.l + m, degree, target.l + (m if like else -m)]
    return values


def _read(x: Tensor, m: int, is_natural: bool) -> Tensor:
    """Rows m and -m (E, 2, C) of a stack, times i where the features are unnatural; row 0 for m = 0."""
    centre = x.shape[1] // 2
    if m == 0:
        return x[:, centre : centre + 1]
    plus, minus = x[:, centre + m], x[:, centre - m]
    return torch.stack([plus, minus] if is_natural else [-minus, plus], 1)


def _turned(u: Tensor, is_natural: bool) -> Tensor:
    """Undo the factor i that outputs of parity -(-1)^l were multiplied by."""
    if is_natural:
        return u
    return torch.stack([u[:, 1], -u[:, 0]], 1)


def _mix(z: Tensor, matrix: Tensor, edge_features: Tensor | None) -> Tensor:
    """z (E, n, rows) times (H, rows, columns), weighted by edge features (E, H)."""
    heads, rows, columns = matrix.shape
    matrix = matrix.to(z.dtype)
    if edge_features is None:
        return z @ matrix[0]
    edge_features = edge_features.to(z.dtype)
    if rows <= columns:
        spread = edge_features[:, None, :, None] * z[:, :, None]
        return spread.flatten(2) @ matrix.reshape(heads * rows, columns)
    u = (z @ matrix.transpose(0, 1).reshape(rows, heads * columns)).unflatten(-1, (heads, columns))
    return torch.einsum("enhc,eh->enc", u, edge_features)


def _component_order(parts: list[Tensor], degree: int) -> Tensor:
    """Orders 0, ±1, ... of (E, 1 or 2, C) to (E, 2 l + 1, C), m = -l ... l; missing orders are zero."""
    parts = parts[: degree + 1]
    missing = degree + 1 - len(parts)
    empty = [torch.zeros_like(parts[0])] * missing
    minus = [*empty, *[p[:, 1:] for p in reversed(parts[1:])]]
    return torch.cat([*minus, parts[0], *[p[:, :1] for p in parts[1:]], *empty], 1)


def rotate(
    stacks: Sequence[Tensor], matrices: Sequence[Tensor], degrees: Sequence[int], back: bool = False
) -> list[Tensor]:
    """Stacks (E, 2 l + 1, C) times D^l (E, 2 l + 1, 2 l + 1) of each edge, or its transpose."""
    found = []
    for x, degree in zip(stacks, degrees, strict=True):
        d = matrices[degree]
        found.append(x if degree == 0 else torch.bmm(d.transpose(1, 2) if back else d, x))
    return found


class FrameRotations(nn.Module):
    """Features of sources turned into the frames of edges, and messages turned back and summed over the edges of each target.

    Args:
        table: products and sizes of a convolution.
        engine: name of an engine of the sparse backend; None for the first that runs.

    Shape:
        ``inward(x, geometry)``: x planar, stack after stack, -> stacks (E, 2 l + 1, copies) of the sources;
        ``outward(stacks, geometry)``: stacks of the reached outputs -> stacks (N_t, 2 l + 1, copies).

    Equivariance: exact.
    """

    def __init__(self, table: PathTable, engine: str | None = None) -> None:
        super().__init__()
        targets = [(table.targets[t], table.target_copies[t]) for t in table.reached]
        self.degrees = [ir.l for ir in table.sources], [ir.l for ir, _ in targets]
        self.top = max(*self.degrees[0], *self.degrees[1])
        self.sources = _rotation(list(zip(table.sources, table.source_copies, strict=True)), engine)
        self.targets = _rotation(targets, engine)

    def _matrices(self, geometry: EdgeGeometry, degrees: Sequence[int]) -> Tensor:
        frames = geometry.frames(self.top)
        return torch.cat([frames[degree].flatten(1) for degree in degrees], 1)

    def inward(self, x: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        turned = self.sources(x, self._matrices(geometry, self.degrees[0]), geometry.rows[0])
        return self.sources.split(turned, geometry.num_edges)

    def outward(self, stacks: Sequence[Tensor], geometry: EdgeGeometry) -> list[Tensor]:
        flat = torch.cat([stack.reshape(-1) for stack in stacks])
        summed = self.targets.adjoint(flat, self._matrices(geometry, self.degrees[1]), geometry.rows[1])
        number = geometry.num_target
        sizes = [stack.shape[1] * stack.shape[2] for stack in stacks]
        parts = summed.split([number * size for size in sizes])
        return [part.view(number, *stack.shape[1:]) for part, stack in zip(parts, stacks, strict=True)]


def _rotation(stacks: Sequence[tuple[Irrep, int]], engine: str | None) -> RowMaps:
    """A matrix for each row and stack, D^l; the rows' matrices are given as they are."""
    paths = [
        Path(i, i, torch.zeros(ir.dim, ir.dim, 0, dtype=torch.float64)) for i, (ir, _) in enumerate(stacks)
    ]
    sizes = [(int(ir.dim), copies) for ir, copies in stacks]
    return RowMaps(sizes, [d for d, _ in sizes], paths, 0, engine=engine)


def so2_convolution(
    maps: SO2Maps,
    rotations: FrameRotations,
    weights: Sequence[Tensor],
    x: Stacks,
    geometry: EdgeGeometry,
    edge_features: Tensor | None,
) -> list[Tensor]:
    """Sum over each target's edges of products with the edges' harmonics, worked out in the frames of the edges.

    Args:
        maps: the products.
        rotations: into the frames of edges and back.
        weights: (H, rows, copies) of each reached output stack, scaled as they are to be used.
        x: stacks (N_s, 2 l + 1, copies) of the sources.
        geometry: the edges.
        edge_features: (E, H), or None where H is 1 and each edge counts once.

    Shape: returns the reached output stacks, (N_t, 2 l + 1, copies).
    Equivariance: O(3), exact.
    """
    messages = maps(rotations.inward(x.planar(), geometry), weights, edge_features)
    if not is_watched() and geometry.apart:
        return rotations.outward(messages, geometry)
    apart = geometry.lengths > 0
    # an edge of length zero has no direction: the part with l2 = 0 alone is defined
    turned = [torch.where(apart[:, None, None], m, 0) for m in messages]
    still = _without_direction(maps.table, x.rows(geometry.edges.source).parts, weights, edge_features)
    still = [torch.where(apart[:, None, None], 0, s) for s in still]
    found = rotations.outward(turned, geometry)
    return [m + geometry.scatter(s) for m, s in zip(found, still, strict=True)]


def _without_direction(
    table: PathTable, stacks: Sequence[Tensor], weights: Sequence[Tensor], edge_features: Tensor | None
) -> list[Tensor]:
    found = []
    for k, t in enumerate(table.reached):
        total = stacks[0].new_zeros(len(stacks[0]), table.targets[t].dim, table.target_copies[t])
        for p in table.paths:
            if p.target == t and p.degree == 0:
                total = total + _mix(stacks[p.source], weights[k][:, p.row : p.row + p.copies], edge_features)
        found.append(total)
    return found


class SO2Linear(nn.Module):
    """Linear map of features in edge frames, of the kind that commutes with rotations about the edge: eSCN's layer.

    It is a tensor product with the harmonics of the edge, seen from its frame; layers between one rotation in and one rotation
    out share the frame, as do nonlinearities that act on irreps.

    Args:
        irreps_in, irreps_out: features, e3nn irreps.
        lmax: highest degree of the harmonics; None for all that couple.
        mmax: orders beyond it are left out.

    Shape: list of stacks (E, 2 l + 1, copies), one for each distinct irrep -> the same of the output.
    Equivariance: exact for rotations about ŷ and reflections in planes that hold it, and so O(3) for D(R)ᵀ · layer · D(R).
    Raises: ValueError for irreps that nothing reaches.

    Example:
        >>> linear = SO2Linear("8x0e + 4x1o", "2x0e + 2x1o")
        >>> [stack.shape for stack in linear([torch.randn(10, 1, 8), torch.randn(10, 3, 4)])]
        [torch.Size([10, 1, 2]), torch.Size([10, 3, 2])]
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        lmax: int | None = None,
        mmax: int | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        lmax = self.irreps_in.lmax + self.irreps_out.lmax if lmax is None else lmax
        self.table = path_table(self.irreps_in, self.irreps_out, lmax)
        if len(self.table.reached) < len(self.table.targets):
            raise ValueError(
                f"irreps_out is {self.irreps_out}, part of which {self.irreps_in} cannot reach at lmax {lmax}"
            )
        self.maps = SO2Maps(self.table, mmax)
        self.weights = nn.ParameterList(
            torch.randn(1, self.table.rows[t], self.table.target_copies[t]) for t in self.table.reached
        )

    def forward(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        for k, stack in enumerate(stacks):
            check_tensor(stack, f"stacks[{k}]")
        scaled = [w / math.sqrt(w.shape[1]) for w in self.weights]
        result: list[Tensor] = self.maps(stacks, scaled)
        return result

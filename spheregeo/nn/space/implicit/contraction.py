r"""Implicit kernels applied to features without a matrix for any pair: neighbours summed first, channels mixed once a point.

    k_ij = Σ_r W_r h_ij^r,   κ^{l1→l3} = Σ_l √(2l+1) C^{l1 l l3} k^l   ⇒   y_i = Σ_r W_r [ Σ_j C(h_ij^r, x_j) ]

The brackets are N·R·C_in numbers where the kernels would be E·C_out·C_in. The change of basis from k to κ is orthogonal.
Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096, section 4.2 (the change of basis); the order of evaluation is
that of You et al. 2021, arXiv:2102.12093.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import couples
from spheregeo.nn.irreps.stack_layout import StackLayout
from spheregeo.sparse import Coupling, Pairs, Path, segment_outer


class KernelPath(NamedTuple):
    """Input irrep ``source`` coupled with hidden type ``hidden``, both counted from 0."""

    source: int
    hidden: int
    start: int  # of its components among those that leave the source irrep


class KernelCoupling(ExactBuffers):
    """The last, linear layer of the kernel network, the change to ρ_in ⊗ ρ_out, and the sum over neighbours.

    Weights are (copies, channels in of all paths, channels out) for each output irrep, drawn so that unit variance of features
    and hidden values gives unit variance of each output component from each neighbour.
    """

    def __init__(
        self, irreps_in: Irreps, irreps_out: Irreps, types: Sequence[Irrep], hidden: int, parity: bool
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.hidden = irreps_in, irreps_out, hidden
        self.inside, self.outside = StackLayout(irreps_in), StackLayout(irreps_out)
        self.types = tuple(types)
        self.channels = [irreps_in.count(ir) for ir in self.inside.irs]
        self.starts = [0]
        for ir in types:
            self.starts.append(self.starts[-1] + ir.dim)
        every: list[list[KernelPath]] = [[] for _ in self.outside.irs]  # of each output irrep
        for i, left in enumerate(self.inside.irs):
            tables = []
            at = 0
            for k, out in enumerate(self.outside.irs):
                for t, ir in enumerate(types):
                    if not couples(left, ir, out, parity):
                        continue
                    table = math.sqrt(ir.dim) * clebsch_gordan(left.l, ir.l, out.l)
                    columns = torch.zeros(left.dim, self.starts[-1], out.dim, dtype=torch.float64)
                    columns[:, self.starts[t] : self.starts[t + 1]] = table
                    tables.append(columns)
                    every[k].append(KernelPath(i, t, at))
                    at += out.dim
            if tables:
                # (component of x, hidden component, component that leaves)
                self.keep(f"table{i}", torch.cat(tables, 2))
        self.reached = [k for k, paths in enumerate(every) if paths]
        self.paths = [every[k] for k in self.reached]
        self.targets = [self.outside.irs[k] for k in self.reached]
        # sizes apart: torch.compile cannot read e3nn's irreps
        self.dims = [ir.dim for ir in self.targets]
        self.all_dims = [(ir.dim, irreps_out.count(ir)) for ir in self.outside.irs]
        if not self.reached:
            raise ValueError(
                f"irreps_out is {irreps_out}; expected some irrep that a kernel makes of irreps_in {irreps_in}; of "
                f"hidden irreps {', '.join(map(str, types)) or 'none'} there is none (parity (-1)^l only without attributes)"
            )
        self.weights = nn.ParameterList(
            torch.empty(hidden, sum(self.channels[p.source] for p in paths), irreps_out.count(out))
            for out, paths in zip(self.targets, self.paths)
        )
        self.reset_parameters()

    def fused(self, engine: str | None = None) -> Coupling:
        """The sum over pairs Σ_j h_ij ⊗ C(x_j, y_ij) as one operator, for kernels whose hidden values are h ⊗ y."""
        return Coupling(
            [(ir.dim, mul) for ir, mul in zip(self.inside.irs, self.channels)],
            [ir.dim for ir in self.targets],
            [
                Path(
                    p.source,
                    k,
                    self.exact(f"table{p.source}")[..., p.start : p.start + out.dim].permute(2, 0, 1),
                )
                for k, (out, paths) in enumerate(zip(self.targets, self.paths))
                for p in paths
            ],
            self.starts[-1],
            weights="shared",
            heads=self.hidden,
            engine=engine,
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights; each path has the same share of the variance of its output, in proportion to its channels."""
        for out, paths, weight in zip(self.targets, self.paths, self.weights):
            for path, part in zip(paths, self._rows(weight, paths)):
                share = weight.shape[0] * weight.shape[1] * self.types[path.hidden].dim
                part.normal_(std=math.sqrt(out.dim / share))

    def _rows(self, weight: Tensor, paths: Sequence[KernelPath]) -> tuple[Tensor, ...]:
        return weight.split([self.channels[p.source] for p in paths], 1)

    def table(self, source: int, like: Tensor) -> Tensor | None:
        """Coupling of one input irrep. Shape: (2 l1 + 1, D, Q), or None where nothing leaves it."""
        buffer = self._buffers.get(f"table{source}")
        return None if buffer is None else buffer.to(like.dtype)

    def gated(
        self, coupling: Coupling, x: Sequence[Tensor], h: Tensor, y: Tensor, pairs: Pairs
    ) -> list[Tensor]:
        """Kernels whose hidden values are h ⊗ y. Shape: stacks x (M, 2l + 1, copies), h (E, R), y (E, D) -> stacks (N, ...)."""
        planar = torch.cat([part.reshape(-1) for part in x])
        parts = coupling.split(coupling(planar, y, pairs, h), pairs.num_target)
        return self._mix([part.flatten(2) for part in parts], planar, pairs.num_target)

    def general(
        self, x: Sequence[Tensor], h: Tensor, pairs: Pairs, engine: str | None = None
    ) -> list[Tensor]:
        """Kernels of any hidden values: sum outer products with x, then couple. Shape: h (E, D, R) -> stacks (N, ...)."""
        count = pairs.num_target
        leaving: list[Tensor | None] = []
        for i, part in enumerate(x):
            table = self.table(i, h)
            if table is None:
                leaving.append(None)
                continue
            columns = self._columns(i)
            some = h[:, columns].flatten(1) if len(columns) < h.shape[1] else h.flatten(1)
            total: Tensor | None = None
            for a in range(part.shape[1]):
                near = part[:, a].index_select(0, pairs.sources)
                summed = segment_outer(some, near, pairs.indptr, engine=engine)
                summed = summed.view(count, len(columns), self.hidden * self.channels[i])
                added = table[a, columns].T @ summed  # (N, Q, R C)
                total = added if total is None else total + added
            assert total is not None
            leaving.append(total.unflatten(2, (self.hidden, self.channels[i])))
        parts = []
        for dim, paths in zip(self.dims, self.paths):
            given = [(leaving[p.source], p.start) for p in paths]
            rows = [t[:, start : start + dim] for t, start in given if t is not None]
            parts.append(torch.cat(rows, 3).flatten(2))
        return self._mix(parts, x[0], count)

    def _columns(self, source: int) -> list[int]:
        """Hidden components that couple with an input irrep."""
        used = sorted({p.hidden for paths in self.paths for p in paths if p.source == source})
        return [m for t in used for m in range(self.starts[t], self.starts[t + 1])]

    def _mix(self, parts: Sequence[Tensor], x: Tensor, count: int) -> list[Tensor]:
        """Last layer: (N, 2l + 1, R · rows) of each output irrep -> stacks (N, 2l + 1, copies); zero where nothing reaches."""
        found = {}
        for k, dim, part, weight in zip(self.reached, self.dims, parts, self.weights):
            mixed = part.flatten(0, 1) @ weight.to(x.dtype).flatten(0, 1)
            found[k] = mixed.view(count, dim, weight.shape[2])
        return [
            found[k] if k in found else x.new_zeros(count, *shape) for k, shape in enumerate(self.all_dims)
        ]

    def blocks(self, h: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """The kernels themselves, the slow twin: (output irrep, input irrep, block) of each pair that couples.

        Shape: h (E, D, R) -> blocks (E, 2 l_in + 1, 2 l_out + 1, channels out, channels in).
        """
        for o, target, paths, weight in zip(self.reached, self.targets, self.paths, self.weights):
            parts = self._rows(weight.to(h.dtype), paths)
            for i in range(len(self.inside.irs)):
                values, tables = [], []
                for path, part in zip(paths, parts):
                    if path.source != i:
                        continue
                    table = self.table(i, h)
                    assert table is not None
                    span = slice(self.starts[path.hidden], self.starts[path.hidden + 1])
                    tables.append(table[:, span, path.start : path.start + target.dim])
                    mix = part.transpose(1, 2)  # (R, channels out, in)
                    values.append(h[:, span] @ mix.flatten(1))
                if values:
                    couple = torch.cat(tables, 1).transpose(1, 2)  # (a, b, components of k)
                    block = couple.flatten(0, 1) @ torch.cat(values, 1)
                    yield o, i, block.view(len(h), *couple.shape[:2], -1, self.channels[i])

    def kernel(self, h: Tensor) -> Tensor:
        """All blocks in one matrix for each pair, in ``mul_ir``. Shape: h (E, D, R) -> (E, irreps_out.dim, irreps_in.dim)."""
        rows = [[h.new_zeros(len(h), m, n) for n in self.inside.widths] for m in self.outside.widths]
        for o, i, block in self.blocks(h):
            rows[o][i] = block.permute(0, 2, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        whole = torch.cat([torch.cat(row, 2) for row in rows], 1)
        for axis, stacks in ((1, self.outside), (2, self.inside)):
            if not stacks.in_order:
                whole = whole.index_select(axis, stacks.get_buffer("inverse"))
        return whole

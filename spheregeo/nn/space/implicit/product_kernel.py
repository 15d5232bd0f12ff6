r"""Kernel networks for attributes that turn with the points: hidden irreps of any degree and parity, and their tensor products.

Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096, section 4 (there with sampled nonlinearities; products are exact).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import EVEN, couples
from spheregeo.nn.irreps.solid_harmonics import SolidHarmonics
from spheregeo.nn.irreps.stack_layout import StackLayout
from spheregeo.nn.space.implicit.gated_kernel import SILU_GAIN, KernelNetwork, shell_mean_square

SIGMOID_GAIN = 1.8462286  # 1/√E[sigmoid(z)²] for z normal
EPS = 1e-5


class EquivariantLayerNorm(ExactBuffers):
    """Layer norm over all copies of all irreps of one row: 0e loses its mean, everything is divided by one root mean square.

    One divisor for all irreps: where the others vanish, as at t = 0, scalars keep it from zero. Each irrep has the same share.

    Shape: (E, D, R) -> the same; components in order of ``types``, copies last.
    Equivariance: O(3), exact.
    """

    def __init__(self, types: Sequence[Irrep], copies: int) -> None:
        super().__init__()
        type_of = [i for i, ir in enumerate(types) for _ in range(ir.dim)]
        self.register_buffer("type_of", torch.tensor(type_of), persistent=False)
        share = [1 / (ir.dim * len(types) * copies) for ir in types for _ in range(ir.dim)]
        self.keep("share", torch.tensor(share, dtype=torch.float64))
        self.even = list(types).index(EVEN)  # one component, so its place among types of l = 0 is its column
        self.column = sum(ir.dim for ir in types[: self.even])
        self.weight = nn.Parameter(torch.ones(len(types), copies))
        self.bias = nn.Parameter(torch.zeros(copies))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """No change of scale, no bias."""
        self.weight.fill_(1)
        self.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        scalars = h[:, self.column : self.column + 1]
        h = torch.cat(
            [h[:, : self.column], scalars - scalars.mean(-1, keepdim=True), h[:, self.column + 1 :]], 1
        )
        size = ((h * h).sum(2) @ self.get_buffer("share").to(h.dtype))[:, None, None]
        weight = self.weight.to(h.dtype).index_select(0, self.get_buffer("type_of"))
        h = h * torch.rsqrt(size + EPS) * weight
        bias = F.pad(self.bias.to(h.dtype)[None], (0, 0, self.column, h.shape[1] - self.column - 1))
        return h + bias


class ProductLayer(ExactBuffers):
    """h -> gate(linear(h + h ⊗ a)), a being one copy of each irrep that steers; linear maps mix copies of each irrep.

    Shape: h (E, D, R), a (E, A) -> (E, D, R).
    Equivariance: O(3), exact; SO(3) where ``parity`` is False.
    """

    def __init__(self, types: Sequence[Irrep], steer: Sequence[Irrep], copies: int, parity: bool) -> None:
        super().__init__()
        self.types, self.copies = tuple(types), copies
        starts = np.cumsum([0, *(ir.dim for ir in types)])
        first = np.cumsum([0, *(ir.dim for ir in steer)])
        self.sizes = (int(first[-1]), int(starts[-1]))
        places, values, path, fan_in = [], [], [], [0] * len(types)
        into: list[int] = []
        for i, left in enumerate(types):
            for j, right in enumerate(steer):
                for k, out in enumerate(types):
                    if not couples(left, right, out, parity):
                        continue
                    table = math.sqrt(out.dim) * clebsch_gordan(left.l, right.l, out.l)
                    m1, m2, m3 = table.nonzero(as_tuple=True)
                    flat = (first[j] + m2) * self.sizes[1] + starts[i] + m1
                    places.append(flat * self.sizes[1] + starts[k] + m3)
                    values.append(table[m1, m2, m3])
                    path.append(torch.full((len(m1),), len(into)))
                    into.append(k)
                    fan_in[k] += 1
        self.register_buffer("places", torch.cat(places), persistent=False)
        self.register_buffer("path", torch.cat(path), persistent=False)
        deviation = torch.tensor([fan_in[k] ** -0.5 for k in into], dtype=torch.float64)
        self.keep("values", torch.cat(values) * deviation[torch.cat(path)])
        type_of = torch.tensor([i for i, ir in enumerate(types) for _ in range(ir.dim)])
        self.register_buffer("type_of", type_of, persistent=False)
        self.paths = nn.Parameter(torch.empty(len(into)))
        self.weight = nn.Parameter(torch.empty(len(types), copies, copies))
        self.even = sum(ir.dim for ir in types[: list(types).index(EVEN)])
        self.gated = len(types) - 1
        self.gates = nn.Linear(copies, copies * self.gated)
        self.bias = nn.Parameter(torch.zeros(copies))
        gate_of = [-1 if ir == EVEN else i - (i > list(types).index(EVEN)) for i, ir in enumerate(types)]
        columns = [gate_of[i] for i in type_of.tolist() if gate_of[i] >= 0]
        self.register_buffer("gate_of", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.norm = EquivariantLayerNorm(types, copies)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights that keep unit variance; no bias."""
        self.paths.normal_()
        self.weight.normal_(std=(2 * self.copies) ** -0.5)
        self.gates.reset_parameters()
        self.norm.reset_parameters()
        self.bias.zero_()

    def forward(self, h: Tensor, a: Tensor) -> Tensor:
        rows, columns = self.sizes
        values = self.get_buffer("values").to(h.dtype) * self.paths.to(h.dtype)[self.get_buffer("path")]
        table = values.new_zeros(rows * columns * columns).index_add(0, self.get_buffer("places"), values)
        steering = (a @ table.view(rows, -1)).view(-1, columns, columns)  # (E, D, D')
        z = h + torch.bmm(steering.transpose(1, 2), h)
        weight = self.weight.to(h.dtype).index_select(0, self.get_buffer("type_of"))
        z = self.norm(torch.bmm(z.transpose(0, 1), weight).transpose(0, 1))
        scalars = z[:, self.even] + self.bias.to(h.dtype)
        out = SILU_GAIN * F.silu(scalars)[:, None]
        if not self.gated:
            return out
        gates = SIGMOID_GAIN * torch.sigmoid(self.gates(scalars)).unflatten(-1, (self.gated, -1))
        gates = gates.index_select(1, self.get_buffer("gate_of"))
        before, after = z[:, : self.even], z[:, self.even + 1 :]
        return torch.cat([before * gates[:, : self.even], out, after * gates[:, self.even :]], 1)


class ProductNetwork(KernelNetwork):
    """Hidden irreps of any degree and parity, from solid harmonics of the offset and attributes of any irreps.

    Shape: vectors (E, 3), attributes (E, A) or None -> h (E, D, hidden), components in order of ``types``.
    """

    def __init__(
        self,
        types: Sequence[Irrep],
        attributes: Irreps | None,
        hidden: int,
        layers: int,
        parity: bool,
        **shell: float,
    ) -> None:
        super().__init__(attributes, hidden, **shell)  # type: ignore[arg-type]
        self.types, self.lmax = tuple(types), max(ir.l for ir in types)
        self.harmonics = SolidHarmonics(self.lmax)
        self.stacks = StackLayout(attributes) if attributes is not None else None
        given = self.stacks.irs if self.stacks is not None else []
        copies = [attributes.count(ir) for ir in given] if attributes is not None else []
        # inputs: the harmonics by degree, then the attributes; for SO(3) all labelled even
        inputs = [Irrep(l, (-1) ** l if parity else 1) for l in range(self.lmax + 1)]
        inputs += [ir if parity else Irrep(ir.l, 1) for ir in given]
        widths = [self.num_radial] + [1] * self.lmax + copies
        self.steer = tuple(dict.fromkeys(inputs))
        self.steer_from = [[i for i, ir in enumerate(inputs) if ir == kind] for kind in self.steer]
        self.mixes = nn.ParameterList(torch.empty(count) for count in copies)
        self.embed_from = [[i for i, ir in enumerate(inputs) if ir == kind] for kind in self.types]
        self.embed = nn.ParameterList(
            torch.empty(sum(widths[i] for i in found), hidden) for found in self.embed_from if found
        )
        self.dims = [ir.dim for ir in self.types]
        self.layers = nn.ModuleList(
            ProductLayer(self.types, self.steer, hidden, parity) for _ in range(layers)
        )
        self.norm = EquivariantLayerNorm(self.types, hidden)
        self.level = shell_mean_square(0, self.sigma, self.envelope) ** -0.5
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            self.norm.reset_parameters()
            for weight in self.mixes:
                weight.normal_(std=max(len(weight), 1) ** -0.5)
            for matrix in self.embed:
                matrix.normal_(std=max(len(matrix), 1) ** -0.5)
            for layer in self.layers:
                layer.reset_parameters()  # type: ignore[operator]

    def forward(self, vectors: Tensor, attributes: Tensor | None) -> Tensor:
        t, square = self.normalised(vectors)
        y = self.harmonics(t)
        inputs = [self.radial(square)[:, None]]
        steering = [torch.ones_like(inputs[0][..., :1])]
        for l in range(1, self.lmax + 1):
            inputs.append(y[:, l * l : (l + 1) ** 2, None])
            steering.append(inputs[-1])
        if self.stacks is not None and attributes is not None:
            for part, mix in zip(self.stacks.split(attributes), self.mixes):
                inputs.append(part)
                steering.append(part @ mix.to(part.dtype)[:, None])
        h, k = [], 0
        for dim, found in zip(self.dims, self.embed_from):
            if found:
                h.append(torch.cat([inputs[i] for i in found], -1) @ self.embed[k].to(y.dtype))
                k += 1
            else:
                h.append(y.new_zeros(len(y), dim, self.hidden))
        out = torch.cat(h, 1)
        a = torch.cat([torch.stack([steering[i] for i in found]).sum(0) for found in self.steer_from], 1)[
            ..., 0
        ]
        for layer in self.layers:
            out = layer(out, a)
        return self.norm(out) * (self.level * self.shell(square))[:, None]

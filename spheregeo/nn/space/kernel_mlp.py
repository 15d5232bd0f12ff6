r"""Networks that give an implicit kernel its values: hidden features h(t) of an offset t, times a learned Gaussian shell.

They come in two forms for O(3) and SO(3). Of one vector and scalars every equivariant function is a sum of scalars times harmonics,
so :class:`GatedNetwork` lets a scalar network gate solid harmonics and loses nothing. With attributes that turn,
:class:`ProductNetwork` adds tensor products with offset and attributes between its linear maps. :mod:`.regular_kernel` has the
finite groups. Layer norm, never batch norm: a kernel may not depend on the batch.
Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.harmonics.clebsch_gordan import clebsch_gordan
from spheregeo.harmonics.irrep_harmonics import component_harmonics
from spheregeo.nn.space.exact_buffers import ExactBuffers
from spheregeo.nn.space.irreps import EVEN, Stacks

SILU_GAIN = 1.6765324  # 1/√E[silu(z)²] for z normal
SIGMOID_GAIN = 1.8462286  # likewise for the sigmoid
EPS = 1e-5


def shell_mean_square(degree: int, sigma: float, envelope: bool) -> float:
    """Mean over the unit ball of the square of |t|^degree times the shell."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = (nodes + 1) / 2
    square = t ** (2 * degree) * np.exp(-(t**2) / sigma**2)
    if envelope:
        square = square * (1 - t**2) ** 6
    return float((3 * t**2 * square * weights).sum() / 2)


class KernelNetwork(ExactBuffers):
    """What all kernel networks share: the unit of length, radial features, and the shell exp(−t²/2σ²), σ learned for each copy.

    Radial features are Gaussians in t², centred on 0 … 1: smooth at t = 0, bounded everywhere.
    """

    def __init__(
        self,
        attributes: Irreps | None,
        hidden: int,
        *,
        radius: float,
        sigma: float,
        envelope: bool,
        num_radial: int,
    ) -> None:
        super().__init__()
        self.attributes, self.hidden, self.radius = attributes, hidden, radius
        self.sigma, self.envelope, self.num_radial = sigma, envelope, num_radial
        self.keep("centres", torch.linspace(0, 1, num_radial, dtype=torch.float64))
        self.log_sigma = nn.Parameter(torch.full((hidden,), math.log(sigma)))

    def reset_parameters(self) -> None:
        """Draw the network anew; σ as at first."""
        for module in self.modules():
            if module is not self and isinstance(module, nn.Linear | nn.LayerNorm | EquivariantLayerNorm):
                module.reset_parameters()
        with torch.no_grad():
            self.log_sigma.fill_(math.log(self.sigma))

    def radial(self, square: Tensor) -> Tensor:
        """Features of t². Shape: (E, 1) -> (E, num_radial)."""
        width = 1 / max(self.num_radial - 1, 1)
        return torch.exp(-0.5 * ((square - self.get_buffer("centres").to(square.dtype)) / width) ** 2)

    def shell(self, square: Tensor) -> Tensor:
        """The Gaussian of each copy, and the smooth end at t = 1 where asked for. Shape: (E, 1) -> (E, hidden)."""
        found = torch.exp(-0.5 * square * torch.exp(-2 * self.log_sigma.to(square.dtype)))
        return found * (1 - square).clamp(min=0) ** 3 if self.envelope else found

    def normalised(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets in units of the radius, and their squares. Shape: (E, 3) -> (E, 3), (E, 1)."""
        t = vectors / self.radius
        return t, (t * t).sum(-1, keepdim=True)


class GatedNetwork(KernelNetwork):
    """Scalars of |t|² and scalar attributes by an MLP, which multiply solid harmonics |t|^l Y^l.

    Shape: vectors (E, 3), attributes (E, A) or None -> scalars (E, hidden) and harmonics (E, D); h is their outer product.
    """

    def __init__(
        self, degrees: Sequence[int], attributes: Irreps | None, hidden: int, layers: int, **shell: float
    ) -> None:
        super().__init__(attributes, hidden, **shell)  # type: ignore[arg-type]
        self.degrees = tuple(degrees)
        self.lmax = max(degrees)
        columns = [l * l + m for l in degrees for m in range(2 * l + 1)]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        scale = [
            shell_mean_square(l, self.sigma, self.envelope) ** -0.5 for l in degrees for _ in range(2 * l + 1)
        ]
        self.keep("scale", torch.tensor(scale, dtype=torch.float64))
        width = self.num_radial + (0 if attributes is None else attributes.dim)
        network: list[nn.Module] = []
        for _ in range(layers):
            network += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU()]
            width = hidden
        self.network = nn.Sequential(*network)

    def forward(self, vectors: Tensor, attributes: Tensor | None) -> tuple[Tensor, Tensor]:
        t, square = self.normalised(vectors)
        scalars = self.radial(square)
        if attributes is not None:
            scalars = torch.cat([scalars, attributes], -1)
        h = SILU_GAIN * self.network(scalars) * self.shell(square)
        y = component_harmonics(t, self.lmax, normalize=False)
        if len(self.degrees) <= self.lmax:
            y = y.index_select(-1, self.get_buffer("columns"))
        return h, y * self.get_buffer("scale").to(y.dtype)


class EquivariantLayerNorm(nn.Module):
    """Layer norm over all copies of all irreps of one row: 0e loses its mean, everything is divided by one root mean square.

    One divisor for all irreps: where the others vanish, as at t = 0, scalars keep it from zero.

    Shape: (E, D, R) -> the same; components in order of ``types``, copies last.
    Equivariance: O(3), exact.
    """

    def __init__(self, types: Sequence[Irrep], copies: int) -> None:
        super().__init__()
        type_of = [i for i, ir in enumerate(types) for _ in range(ir.dim)]
        self.register_buffer("type_of", torch.tensor(type_of), persistent=False)
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
        size = (h * h).mean((1, 2), keepdim=True)
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
        into = []
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
        self.types, self.parity = tuple(types), parity
        self.lmax = max(ir.l for ir in types)
        natural = [Irrep(l, (-1) ** l if parity else 1) for l in range(self.lmax + 1)]
        given = [] if attributes is None else [ir for _, ir in attributes]
        self.stacks = Stacks(attributes) if attributes is not None else None
        self.given = tuple(self.stacks.irs if self.stacks is not None else ())
        self.given_types = tuple(ir if parity else Irrep(ir.l, 1) for ir in self.given)
        reach = [ir if parity else Irrep(ir.l, 1) for ir in given]
        self.steer = tuple(dict.fromkeys([*natural, *sorted(set(reach))]))
        self.mixes = nn.ParameterList(
            torch.empty(sum(mul for mul, ir in attributes or () if ir == kind)) for kind in self.given
        )
        sources = {ir: 0 for ir in self.types}
        for ir in natural:
            if ir in sources:
                sources[ir] += self.num_radial if ir.l == 0 else 1
        for kind, ir in zip(self.given, self.given_types):
            if ir in sources:
                sources[ir] += sum(mul for mul, other in attributes or () if other == kind)
        self.embedded = [ir for ir, count in sources.items() if count]
        self.embed = nn.ParameterList(torch.empty(sources[ir], hidden) for ir in self.embedded)
        self.layers = nn.ModuleList(
            ProductLayer(self.types, self.steer, hidden, parity) for _ in range(layers)
        )
        self.norm = EquivariantLayerNorm(self.types, hidden)
        self.level = shell_mean_square(0, self.sigma, self.envelope) ** -0.5
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            for weight in self.mixes:
                weight.normal_(std=max(len(weight), 1) ** -0.5)
            for matrix in self.embed:
                matrix.normal_(std=max(len(matrix), 1) ** -0.5)
            for layer in self.layers:
                layer.reset_parameters()  # type: ignore[operator]

    def forward(self, vectors: Tensor, attributes: Tensor | None) -> Tensor:
        t, square = self.normalised(vectors)
        y = component_harmonics(t, self.lmax, normalize=False)
        parts: dict[Irrep, list[Tensor]] = {}
        for l in range(self.lmax + 1):
            ir = Irrep(l, (-1) ** l if self.parity else 1)
            parts[ir] = [y[:, l * l : (l + 1) ** 2, None] if l else self.radial(square)[:, None]]
        steer = {
            ir: (found[0] if ir.l else torch.ones_like(found[0][..., :1])) for ir, found in parts.items()
        }
        if self.stacks is not None and attributes is not None:
            for ir, part, mix in zip(self.given_types, self.stacks.split(attributes), self.mixes):
                parts.setdefault(ir, []).append(part)
                mixed = part @ mix.to(part.dtype)[:, None]
                steer[ir] = steer[ir] + mixed if ir in steer else mixed
        embed = dict(zip(self.embedded, self.embed))
        h = [
            torch.cat(parts[ir], -1) @ embed[ir].to(y.dtype)
            if ir in embed
            else y.new_zeros(len(y), ir.dim, self.hidden)
            for ir in self.types
        ]
        out = torch.cat(h, 1)
        a = torch.cat([steer[ir] for ir in self.steer], 1)[..., 0]
        for layer in self.layers:
            out = layer(out, a)
        return self.norm(out) * (self.level * self.shell(square))[:, None]


def couples(left: Irrep, right: Irrep, out: Irrep, parity: bool) -> bool:
    """Whether ``out`` is part of ``left`` ⊗ ``right``; parities count with ``parity`` only."""
    return abs(left.l - right.l) <= out.l <= left.l + right.l and (not parity or left.p * right.p == out.p)


def reachable(attributes: Irreps | None, lmax: int, parity: bool) -> list[Irrep]:
    """Irreps that products of harmonics of the offset and attributes can have, up to degree ``lmax``, in order of degree.

    Of the offset alone only the natural ones, parity (−1)^l: r ⊗ r is symmetric. For SO(3) all are labelled even.
    """
    if not parity:
        return [Irrep(l, 1) for l in range(lmax + 1)]
    found = {Irrep(l, (-1) ** l) for l in range(lmax + 1)}
    turning = {ir for _, ir in attributes or () if ir != EVEN}
    if turning:
        found |= {ir for ir in turning if ir.l <= lmax}
        while True:
            more = {out for a in found for b in found for out in a * b if out.l <= lmax}
            if more <= found:
                break
            found |= more
    return sorted(found, key=lambda ir: (ir.l, -ir.p))

r"""Implicit kernels equivariant under a finite group only: hidden features are functions on the group.

A vector v of any representation becomes the function f(h) = ⟨w, ρ(h)⁻¹v⟩, maps between functions are group convolutions, any
pointwise nonlinearity is exact, and κ = Σ_h f(h) ρ_out(h) W ρ_in(h)⁻¹: these are all the intertwiners there are, in closed form
(Frobenius reciprocity), so nothing is projected or solved for.
Reference: Cohen & Welling 2016, arXiv:1602.07576 (group convolutions); Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.groups import cyclic, dihedral, icosahedral, multiplication_table, octahedral, tetrahedral
from spheregeo.harmonics import wigner_D
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import stack_index
from spheregeo.nn.irreps.solid_harmonics import SolidHarmonics
from spheregeo.nn.irreps.stack_layout import StackLayout
from spheregeo.nn.space.implicit.gated_kernel import SILU_GAIN, KernelNetwork, shell_mean_square
from spheregeo.sparse import Pairs, segment_outer

EPS = 1e-5
NAMED = {"tetrahedral": tetrahedral, "octahedral": octahedral, "icosahedral": icosahedral}


def finite_group(group: str | Tensor) -> Tensor:
    """Matrices of a finite group: by name ("tetrahedral", "octahedral", "icosahedral", "C4", "D3"), or given and checked.

    Shape: (G, 3, 3) float64. Raises: ValueError for another name, and for matrices that are not orthogonal or not closed.
    """
    if isinstance(group, str):
        if group in NAMED:
            return NAMED[group]()
        kind, order = group[:1], group[1:]
        if kind in ("C", "D") and order.isdecimal() and int(order) > 0:
            return cyclic(int(order)) if kind == "C" else dihedral(int(order))
        raise ValueError(
            f"group is {group!r}; expected 'O3', 'SO3', {', '.join(map(repr, NAMED))}, 'Cn' or 'Dn' with a number n, or the "
            "group's matrices (G, 3, 3)"
        )
    if group.ndim != 3 or group.shape[1:] != (3, 3) or not len(group):
        raise ValueError(f"group has shape {tuple(group.shape)}; expected matrices (G, 3, 3)")
    matrices = group.to(torch.float64)
    off = (matrices @ matrices.transpose(1, 2) - torch.eye(3, dtype=torch.float64)).abs().max()
    if not off < 1e-9:
        raise ValueError(
            f"group has matrices that are not orthogonal, by {float(off):.1e}; expected float64 rotations"
        )
    multiplication_table(matrices)
    return matrices


class GroupConvolution(nn.Module):
    """Linear map between functions on a finite group, out(h) = Σ_{c, h'} W[c, h⁻¹h'] f_c(h'), with a bias for each copy.

    Shape: (E, R, G) -> (E, R', G). Equivariance: the group, exact.
    """

    def __init__(self, table: Tensor, inside: int, outside: int) -> None:
        super().__init__()
        inverse = (table == 0).nonzero()[:, 1] if int(table[0, 0]) == 0 else _inverses(table)
        self.register_buffer("step", table[inverse], persistent=False)  # step[h, h'] = h⁻¹h'
        self.weight = nn.Parameter(torch.empty(outside, inside, len(table)))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights that keep unit variance; no bias."""
        self.weight.normal_(std=self.weight[0].numel() ** -0.5)
        self.bias.zero_()

    def forward(self, f: Tensor) -> Tensor:
        step = self.get_buffer("step")
        matrix = self.weight.to(f.dtype)[:, :, step].transpose(1, 2).reshape(-1, f.shape[1] * len(step))
        out = f.flatten(1) @ matrix.T
        return out.unflatten(1, (-1, len(step))) + self.bias.to(f.dtype)[:, None]


def _inverses(table: Tensor) -> Tensor:
    identity = int((table == torch.arange(len(table))).all(1).nonzero()[0])
    return (table == identity).nonzero()[:, 1]


class RegularNetwork(KernelNetwork):
    """Offsets' solid harmonics and attributes lifted to functions on a finite group, then group convolutions, layer norm, SiLU.

    Shape: vectors (E, 3), attributes (E, A) or None -> (E, hidden, G).
    Equivariance: the finite group, exact (its elements permute the functions' values).
    """

    def __init__(
        self,
        group: Tensor,
        lmax: int,
        attributes: Irreps | None,
        hidden: int,
        layers: int,
        **shell: float,
    ) -> None:
        super().__init__(attributes, hidden, **shell)  # type: ignore[arg-type]
        self.lmax = lmax
        self.harmonics = SolidHarmonics(lmax)
        given = [(self.num_radial, (0, 1)), *((1, (l, (-1) ** l)) for l in range(1, lmax + 1))]
        irreps = Irreps([*given, *(attributes or [])])
        D = wigner_D(irreps, group)
        self.keep("lift", D)  # f(h) = w · D(h)ᵀ v
        self.weight = nn.Parameter(torch.empty(hidden, irreps.dim))
        self.bias = nn.Parameter(torch.zeros(hidden))
        table = multiplication_table(group)
        self.convolutions = nn.ModuleList(GroupConvolution(table, hidden, hidden) for _ in range(layers - 1))
        self.scales = nn.ParameterList(torch.ones(hidden) for _ in range(layers))
        self.shifts = nn.ParameterList(torch.zeros(hidden) for _ in range(layers))
        self.level = shell_mean_square(0, self.sigma, self.envelope) ** -0.5
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the network anew."""
        super().reset_parameters()
        self.weight.normal_(std=self.weight.shape[1] ** -0.5)
        self.bias.zero_()
        for layer in self.convolutions:
            layer.reset_parameters()  # type: ignore[operator]
        for scale, shift in zip(self.scales, self.shifts):
            scale.fill_(1)
            shift.zero_()

    def forward(self, vectors: Tensor, attributes: Tensor | None) -> Tensor:
        t, square = self.normalised(vectors)
        parts = [self.radial(square), self.harmonics(t)[:, 1:]]
        v = torch.cat(parts if attributes is None else [*parts, attributes], -1)
        lifted = torch.einsum("rj,gij->irg", self.weight.to(v.dtype), self.get_buffer("lift").to(v.dtype))
        f = (v @ lifted.flatten(1)).unflatten(1, lifted.shape[1:]) + self.bias.to(v.dtype)[:, None]
        for k, (scale, shift) in enumerate(zip(self.scales, self.shifts)):
            if k:
                f = self.convolutions[k - 1](f)
            f = F.layer_norm(f, f.shape[1:], eps=EPS)
            f = SILU_GAIN * F.silu(f * scale.to(f.dtype)[:, None] + shift.to(f.dtype)[:, None])
        return f * (self.level * self.shell(square))[..., None]


class RegularCoupling(ExactBuffers):
    """κ = Σ_{r, h} f_r(h) ρ_out(h) W_r ρ_in(h)⁻¹ applied to features: neighbours summed first, one product a group element then.

    Weights are (copies × components in, components out): every matrix is allowed.
    """

    def __init__(self, group: Tensor, irreps_in: Irreps, irreps_out: Irreps, hidden: int) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.hidden, self.order = irreps_in, irreps_out, hidden, len(group)
        self.inside, self.outside = StackLayout(irreps_in), StackLayout(irreps_out)
        for name, stacks in (("in", self.inside), ("out", self.outside)):
            for i, ir in enumerate(stacks.irs):
                self.keep(f"{name}{i}", wigner_D(Irreps([(1, ir)]), group))
        self.weight = nn.Parameter(torch.empty(hidden, irreps_in.dim, irreps_out.dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights; unit variance from each neighbour."""
        self.weight.normal_(std=(self.hidden * self.order * self.irreps_in.dim) ** -0.5)

    def _matrices(self, name: str, stacks: StackLayout, like: Tensor) -> Sequence[Tensor]:
        return [self.get_buffer(f"{name}{i}").to(like.dtype) for i in range(len(stacks.widths))]

    def general(
        self, x: Sequence[Tensor], f: Tensor, pairs: Pairs, engine: str | None = None
    ) -> list[Tensor]:
        """Shape: stacks x (M, 2l + 1, copies), f (E, R, G) -> stacks (N, 2l + 1, copies)."""
        flat = torch.cat([part.flatten(1) for part in x], 1)
        near = flat.index_select(0, pairs.sources)
        summed = segment_outer(f.flatten(1), near, pairs.indptr, engine=engine)  # (N, R G, dim)
        n = pairs.num_target
        rows = summed.view(n * self.hidden, self.order, sum(self.inside.widths))
        turned = []
        parts = rows.split(self.inside.widths, 2)
        for part, D in zip(parts, self._matrices("in", self.inside, flat)):
            part = part.unflatten(2, (D.shape[1], -1))
            turned.append(torch.einsum("gba,ngbc->ngac", D, part))  # ρ_in(h)⁻¹
        mixed = torch.cat([part.flatten(2) for part in turned], 2).view(n, self.hidden, *rows.shape[1:])
        weight = self._ordered_weight(flat)
        sums = mixed.transpose(1, 2).flatten(0, 1).flatten(1) @ weight.flatten(0, 1)  # (N G, dim out)
        out = []
        parts = sums.view(n, self.order, sum(self.outside.widths)).split(self.outside.widths, 2)
        for part, D in zip(parts, self._matrices("out", self.outside, flat)):
            out.append(
                torch.einsum("gab,ngbc->nac", D, part.unflatten(2, (D.shape[1], part.shape[2] // D.shape[1])))
            )
        return out

    def _ordered_weight(self, like: Tensor) -> Tensor:
        """Weights with components in the order of the stacks."""
        weight = self.weight.to(like.dtype)
        for axis, stacks in ((1, self.inside), (2, self.outside)):
            if not stacks.in_order:
                weight = weight.index_select(axis, torch.argsort(stacks.get_buffer("inverse")))
        return weight

    def kernel(self, f: Tensor) -> Tensor:
        """The kernels themselves, the slow twin. Shape: f (E, R, G) -> (E, irreps_out.dim, irreps_in.dim)."""
        full = []
        for name, stacks, irreps in (
            ("in", self.inside, self.irreps_in),
            ("out", self.outside, self.irreps_out),
        ):
            matrix = f.new_zeros(self.order, irreps.dim, irreps.dim)
            for ir, D in zip(stacks.irs, self._matrices(name, stacks, f)):
                index = stack_index(irreps, ir).view(ir.dim, -1).to(f.device)
                for copy in index.T:
                    matrix[:, copy[:, None], copy] = D
            full.append(matrix)
        into, out = full
        return torch.einsum("erg,gab,rcb,gdc->ead", f, out, self.weight.to(f.dtype), into)

r"""Filters between two kinds of fields of a planar group: which weights there are, and where in the whole kernel each one goes.

A kernel K[t, s, u] from cosets s to cosets t, with taps u, commutes with the group where K[h t, h s, h u] = K[t, s, u]. On square
pixels the elements of C_n and D_n with n in 1, 2, 4 permute taps, so a weight belongs to one orbit of (t, s, u), and the whole
kernel is one gather. For other n, filters are sums of circular harmonics, which turn by their phase:

    K[t, s, u] = sum_b w[t⁻¹ s, b] B_b(t⁻¹ u)

with t any element of the coset, and w fixed by the subgroup of the field that comes out.
Reference: Cohen & Welling 2016, arXiv:1602.07576; Weiler, Hamprecht & Storath 2018, arXiv:1711.07289; Kondor & Trivedi 2018,
arXiv:1802.03690 (quotients).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spheregeo.autograd import Function, is_watched
from spheregeo.groups import PlanarGroup
from spheregeo.groups.planar import cosets
from spheregeo.nn.plane.basis import PlanarBasis

Pair = tuple[int, int]


def moved_cosets(group: PlanarGroup, sub: str | None) -> Tensor:
    """The coset h⁻¹·s for each element h and coset s; a trivial field has one. Shape: (group.size, cosets) int64."""
    return cosets(group, str(group) if sub is None else sub)[1]


def moved_taps(group: PlanarGroup, kernel_size: Pair) -> Tensor:
    """The tap at h⁻¹ u for each element h and tap u, row by row, of a group that is exact on pixels.

    Shape: (group.size, taps) int64.
    """
    taps = torch.arange(kernel_size[0] * kernel_size[1]).view(kernel_size)
    return torch.stack([group.turn(taps, h).flatten() for h in range(group.size)])


@cache
@torch.inference_mode(False)  # kept tensors serve training, too
def orbits(group: PlanarGroup, out: str | None, into: str | None, kernel_size: Pair) -> Tensor:
    """Number of the orbit of each (coset out, coset in, tap), counted along (coset in, tap) of the first coset out.

    From and to regular fields all entries of the first coset out have orbits of their own, so that weights are a filter
    ψ[s, u] and K[t, s, u] = ψ[t⁻¹ s, t⁻¹ u].

    Shape: (cosets out, cosets in, taps) int64.
    """
    t, s, u = moved_cosets(group, out), moved_cosets(group, into), moved_taps(group, kernel_size)
    place = (t[:, :, None, None] * s.shape[1] + s[:, None, :, None]) * u.shape[1] + u[:, None, None, :]
    return torch.unique(place.amin(0), return_inverse=True)[1]


class PixelFilters:
    """Kernels made of single weights, exact: a gather of weights by orbits.

    Args:
        group: of n in 1, 2, 4 turns.
        out, into: subgroups of the fields, as in ``PlanarType.terms``.
        kernel_size: rows and columns; alike where the group has quarter turns.

    Shape: weights (O, C, count) -> kernels (O, cosets out, C, cosets in, taps).
    """

    def __init__(self, group: PlanarGroup, out: str | None, into: str | None, kernel_size: Pair) -> None:
        index = orbits(group, out, into, kernel_size)
        self.shape = tuple(index.shape)
        self.count = int(index.max()) + 1
        self.energy = float(index[0].numel())  # sum of squares of the kernels of all weights, one coset out
        self.constants: dict[str, Tensor] = {"index": index.flatten()}  # what expand() is given, by name

    def expand(self, weight: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """The whole kernel. Shape: (O, C, count) -> (O, cosets out, C, cosets in, taps)."""
        return gathered(weight, constants["index"], self.shape[0])


class HarmonicFilters:
    """Kernels made of circular harmonics on taps, for any group.

    Args:
        group: the group.
        out, into: subgroups of the fields, as in ``PlanarType.terms``.
        basis: functions on the taps.

    Shape: weights (O, C, count) -> kernels (O, cosets out, C, cosets in, taps).
    """

    def __init__(self, group: PlanarGroup, out: str | None, into: str | None, basis: PlanarBasis) -> None:
        within = str(group) if out is None else out
        which = cosets(group, within)[0]
        firsts = [int((which == t).nonzero()[0]) for t in range(int(which.max()) + 1)]
        back = moved_cosets(group, into)[firsts]  # (cosets out, cosets in)
        turned = torch.stack([basis.functions(*_motion(group, h)).flatten(1) for h in firsts])
        count = basis.num_functions
        self.shape = (*back.shape, turned.shape[2])
        index = back[:, :, None] * count + torch.arange(count)
        self.constants: dict[str, Tensor] = {"index": index.flatten(), "turned": turned}
        functions, self.count = turned[0], back.shape[1] * count
        coefficients = torch.eye(self.count, dtype=torch.float64)
        if PlanarGroup.of(within).size > 1:
            coefficients = _kept(group, group.subgroup(within), moved_cosets(group, into), basis.frequencies)
            self.constants["mix"] = coefficients
            self.count = len(coefficients)
        self.energy = float((coefficients.unflatten(1, (-1, count)) @ functions).square().sum())

    def expand(self, weight: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """The whole kernel. Shape: (O, C, count) -> (O, cosets out, C, cosets in, taps)."""
        if "mix" in constants:
            weight = weight @ constants["mix"].to(weight.dtype)
        turned = constants["turned"].to(weight.dtype)
        rows = gathered(weight, constants["index"], self.shape[0])  # (O, T, C, cosets in · functions)
        kernel = rows.reshape(*rows.shape[:2], -1, turned.shape[1]) @ turned
        return kernel.unflatten(2, (weight.shape[1], -1))


def _motion(group: PlanarGroup, h: int) -> tuple[float, bool]:
    m, r = divmod(h, group.n)
    return 2 * math.pi * r / group.n, bool(m)


def _representation(group: PlanarGroup, h: int, frequency: int) -> Tensor:
    """Matrix on the weights of a pair cos, sin of a frequency that moves their sum by h. Shape: (2, 2), or (1, 1) for 0."""
    angle, reflect = _motion(group, h)
    if frequency == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    a = frequency * angle
    turn = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)
    sign = (-1.0) ** frequency
    return turn @ torch.diag(torch.tensor([sign, -sign], dtype=torch.float64)) if reflect else turn


def _kept(group: PlanarGroup, within: tuple[int, ...], moved: Tensor, frequencies: tuple[int, ...]) -> Tensor:
    """Orthonormal weights w[s, b] with (k w)[s] = D(k) w[k⁻¹ s] = w[s] for the elements k of a subgroup.

    Shape: moved (group.size, cosets) -> (count, cosets · functions).
    """
    cosets_in, functions = moved.shape[1], len(frequencies)
    rows: list[Tensor] = []
    for b, frequency in enumerate(frequencies):
        if frequency < 0:
            continue  # the sine of a pair comes with its cosine
        members = [b] if frequency == 0 else [b, b + 1]
        mean = torch.zeros(cosets_in * len(members), cosets_in * len(members), dtype=torch.float64)
        for k in within:
            moving = torch.eye(cosets_in, dtype=torch.float64)[moved[k]]
            mean += torch.kron(moving, _representation(group, k, frequency)) / len(within)
        found: list[Tensor] = []
        for column in mean.T:  # in order, so that weights mean the same on every machine
            rest = column - sum(((column @ f) * f for f in found), torch.zeros_like(column))
            if float(rest.norm()) > 1e-6:
                rest = rest - sum(((rest @ f) * f for f in found), torch.zeros_like(column))
                found.append(rest / rest.norm())
        for f in found:
            row = torch.zeros(cosets_in, functions, dtype=torch.float64)
            row[:, members] = f.view(cosets_in, len(members))
            rows.append(row.flatten())
    if not rows:
        return torch.zeros(0, cosets_in * functions, dtype=torch.float64)
    return torch.stack(rows)


def gathered(weight: Tensor, index: Tensor, cosets_out: int) -> Tensor:
    """Entries of the last axis by index, the outermost axis of the index placed second.

    Shape: weight (O, C, count), index (T · rest,) -> (O, T, C, rest).
    """
    if is_watched():
        return weight[..., index].unflatten(2, (cosets_out, -1)).transpose(1, 2)
    found: Tensor = _Gather.apply(weight, index, cosets_out)
    return found


def _compiled(x: Tensor) -> bool:
    """Whether the compiled loops take a tensor."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class _Gather(Function):
    """On a CPU by compiled loops, several times as fast as indexing or as products with matrices of zeros and ones."""

    @staticmethod
    def forward(weight: Tensor, index: Tensor, cosets_out: int) -> Tensor:  # type: ignore[override]
        if not _compiled(weight):
            return weight[..., index].unflatten(2, (cosets_out, -1)).transpose(1, 2)
        from spheregeo.jit.threads import in_parts
        from spheregeo.nn.plane.group._picks import pick

        fields, into, _ = weight.shape
        out = weight.new_empty(fields, cosets_out, into, len(index) // cosets_out)
        given = weight.detach().contiguous().numpy(), index.view(cosets_out, -1).numpy()
        in_parts(pick, fields, out[:1].numel(), given[0], given[1], out.numpy())
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, ctx.index, ctx.cosets_out = inputs
        ctx.count = weight.shape[2]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Collect.apply(g, ctx.index, ctx.count), None, None


class _Collect(Function):
    """The transpose of :class:`_Gather`: sums of the entries of each orbit."""

    @staticmethod
    def forward(g: Tensor, index: Tensor, count: int) -> Tensor:  # type: ignore[override]
        fields, cosets_out, into, _ = g.shape
        if not _compiled(g):
            entries = g.transpose(1, 2).reshape(fields, into, -1)
            return entries.new_zeros(fields, into, count).index_add_(2, index, entries)
        from spheregeo.jit.threads import in_parts
        from spheregeo.nn.plane.group._picks import collect

        total = g.new_zeros(fields, into, count)
        given = g.detach().contiguous().numpy(), index.view(cosets_out, -1).numpy()
        in_parts(collect, fields, g[:1].numel(), given[0], given[1], total.numpy())
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        g, ctx.index, _ = inputs
        ctx.cosets_out = g.shape[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Gather.apply(g, ctx.index, ctx.cosets_out), None, None

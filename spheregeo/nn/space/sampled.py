r"""Functional activations: irreps read as functions on the sphere or on SO(3), sampled, acted on pointwise, projected back.

    y = S^-1 B^T W f(B S x),   B: (samples, K) orthonormal functions on a grid, W: quadrature weights of sum 1, S: diagonal.

S gives each degree the same share of a sample's variance, which is 1 for features of unit component variance whatever the band
limit (e3nn's "component" normalisation of grids). A rotation moves the function under the grid, so all
that can break equivariance is aliasing: what f creates beyond the grid's degree folds back. The error is measured, not
estimated; it is zero for polynomials of degree d on grids that integrate products of d + 1 functions. Samples exist for a block
of rows at a time, forward and backward alike, so a layer keeps its input alone.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130; Poulenard & Guibas 2021, "A functional approach to rotation
equivariant non-linearities for tensor field networks"; Franzen & Wand 2021, arXiv:2109.06861.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.groups import random_rotations
from spheregeo.harmonics import component_harmonics, gauss_legendre, packed_wigner, unpack_wigner, wigner_D
from spheregeo.nn.space.activations import NormalisedActivation, parity
from spheregeo.nn.space.exact_buffers import ExactBuffers
from spheregeo.nn.space.irreps import check_features
from spheregeo.nn.surface.activations import Activation, activation_name

BLOCK = 400_000  # samples at a time on a CPU: they stay in its cache
MOST_SAMPLES = 60_000
MARGIN = 0.8  # the measured error must stay below this share of the tolerance
Shape = tuple[int, ...]  # (beta, alpha) on the sphere, (beta, alpha, gamma) on SO(3)


class Signal(NamedTuple):
    """What one channel is made of: its irreps, in order, and of which column n of sqrt(2l+1) D^l_mn each is the coefficient."""

    irreps: tuple[Irrep, ...]
    columns: tuple[int, ...]

    @property
    def degree(self) -> int:
        return max(ir.l for ir in self.irreps)

    @property
    def order(self) -> int:
        """Largest |n|: the band limit in gamma."""
        return max(abs(n) for n in self.columns)

    @property
    def size(self) -> int:
        return sum(ir.dim for ir in self.irreps)


class Channels(NamedTuple):
    """Channels of one kind: where coefficient k of channel c lies, and whether the values change sign under inversion."""

    places: Tensor  # (channels, size)
    signal: Signal
    odd: bool


def sphere_grid(n_beta: int, n_alpha: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre rings about the y axis: directions and weights of sum 1.

    Shape: (n_beta · n_alpha, 3), (n_beta · n_alpha,) float64. Exact for harmonics of degree below min(2 n_beta, n_alpha).
    """
    beta, weights = gauss_legendre(n_beta)
    alpha = torch.arange(n_alpha, dtype=torch.float64) * (2 * math.pi / n_alpha)
    s, c = torch.sin(beta)[:, None], torch.cos(beta)[:, None]
    points = torch.stack([s * torch.sin(alpha), c.expand(-1, n_alpha), s * torch.cos(alpha)], -1)
    return points.flatten(0, 1), (weights / (2 * n_alpha)).repeat_interleave(n_alpha)


def rotation_grid(n_beta: int, n_alpha: int, n_gamma: int) -> tuple[Tensor, Tensor]:
    """Euler angles R_y(alpha) R_x(beta) R_y(gamma) on a product grid: quaternions (w, x, y, z) and weights of sum 1.

    Shape: (n_beta · n_alpha · n_gamma, 4), (n_beta · n_alpha · n_gamma,) float64.
    """
    beta, weights = gauss_legendre(n_beta)
    alpha = torch.arange(n_alpha, dtype=torch.float64) * (2 * math.pi / n_alpha)
    gamma = torch.arange(n_gamma, dtype=torch.float64) * (2 * math.pi / n_gamma)
    b, a, g = torch.meshgrid(beta / 2, alpha / 2, gamma / 2, indexing="ij")
    c, s, plus, minus = torch.cos(b), torch.sin(b), a + g, a - g
    q = torch.stack(
        [c * torch.cos(plus), s * torch.cos(minus), c * torch.sin(plus), -s * torch.sin(minus)], -1
    )
    every = (weights / (2 * n_alpha * n_gamma)).repeat_interleave(n_alpha * n_gamma)
    return q.reshape(-1, 4), every


def grid_shape(signal: Signal, band: int, on_group: bool) -> Shape:
    """The grid that integrates products whose degrees add up to ``band``; gamma gets half as many more, up to alpha's number."""
    n_beta, n_alpha = (band + 2) // 2, band + 1
    if not on_group:
        return n_beta, n_alpha
    times = band / signal.degree if signal.degree else 2  # products of that many functions
    more = min(band, 1.5 * times * signal.order) if times > 2 else times * signal.order
    return n_beta, n_alpha, math.ceil(more - 1e-9) + 1


@lru_cache(maxsize=64)
def sampling_matrices(signal: Signal, shape: Shape) -> tuple[Tensor, Tensor]:
    """Coefficients to samples of unit variance, and back. Shape: (samples, K), (K, samples) float64; do not write into them."""
    if len(shape) == 2:
        points, weights = sphere_grid(*shape)
        harmonics = component_harmonics(points, signal.degree)
        parts = [harmonics[:, ir.l**2 : (ir.l + 1) ** 2] for ir in signal.irreps]
    else:
        q, weights = rotation_grid(*shape)
        matrices = unpack_wigner(packed_wigner(q, signal.degree))
        parts = [
            math.sqrt(ir.dim) * matrices[ir.l][:, :, ir.l + n]
            for ir, n in zip(signal.irreps, signal.columns, strict=True)
        ]
    degrees = [ir.l for ir in signal.irreps]
    power = [len(set(degrees)) * degrees.count(ir.l) * ir.dim for ir in signal.irreps]
    scale = torch.cat(
        [
            torch.full((ir.dim,), p**0.5, dtype=torch.float64)
            for p, ir in zip(power, signal.irreps, strict=True)
        ]
    )
    basis = torch.cat(parts, 1)
    return basis / scale, (basis * weights[:, None] * scale).T.contiguous()


@torch.no_grad()
def sampling_error(act: str | Activation, signal: Signal, shape: Shape, *, amplitude: float = 1.0) -> float:
    """Relative RMS difference between turning before and after the activation, inversion included.

    Over normal coefficients of standard deviation ``amplitude``, 16 elements of O(3); float64, always the same draws.
    """
    return (
        _named_error(act, signal, shape, amplitude)
        if isinstance(act, str)
        else _error(act, signal, shape, amplitude)
    )


@lru_cache(maxsize=512)
def _named_error(act: str, signal: Signal, shape: Shape, amplitude: float) -> float:
    return _error(act, signal, shape, amplitude)


def _error(act: str | Activation, signal: Signal, shape: Shape, amplitude: float) -> float:
    f = NormalisedActivation(act, normalise=False)
    if isinstance(act, nn.Module):
        import copy

        f = copy.deepcopy(f).to("cpu", torch.float64)
    to, back = sampling_matrices(signal, shape)
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(16, generator)
    rotations[1::2] *= -1
    turn = wigner_D(Irreps([(1, ir) for ir in signal.irreps]), rotations)  # (16, K, K)
    x = amplitude * torch.randn(16, 24, signal.size, dtype=torch.float64, generator=generator)
    y = f(x @ to.T) @ back.T
    later, sooner = y @ turn.mT, f(x @ turn.mT @ to.T) @ back.T
    size = float(y.square().mean().sqrt())
    if not (math.isfinite(size) and size > 0):
        raise ValueError(f"act gives {size} on normal signals; expected finite values that are not all zero")
    return float((later - sooner).square().mean().sqrt()) / size


def grid_for(
    act: str | Activation, signal: Signal, tolerance: float, *, on_group: bool, amplitude: float = 1.0
) -> Shape:
    """Smallest tried grid whose measured error is below 0.8 · tolerance.

    Raises: ValueError for a tolerance that is not positive, or that 60,000 samples do not reach.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; expected a positive relative error such as 1e-3")
    band = 2 * signal.degree
    while math.prod(shape := grid_shape(signal, band, on_group)) <= MOST_SAMPLES:
        if sampling_error(act, signal, shape, amplitude=amplitude) < MARGIN * tolerance:
            return shape
        band += max(1, signal.degree, band // 8)
    raise ValueError(
        f"tolerance is {tolerance} for degree {signal.degree} and act {activation_name(act)}; {MOST_SAMPLES} samples do "
        "not reach it: choose a smoother activation such as 'silu', or set resolution"
    )


def _act(x: Tensor, order: Tensor, inverse: Tensor, groups: Groups) -> Tensor:
    """All rows at once, by differentiable operations. Shape: (rows, dim) -> the same."""
    parts = x.index_select(1, order).split([width * to.shape[1] for width, _, to, _ in groups], 1)
    out = []
    for part, (_, act, to, back) in zip(parts, groups, strict=True):
        if len(to) == 1:  # scalars
            out.append(act(part))
        else:
            samples = act(part.reshape(-1, to.shape[1]) @ to.T)
            out.append((samples @ back.T).view(part.shape))
    return torch.cat(out, 1).index_select(1, inverse)


Groups = list[
    tuple[int, nn.Module, Tensor, Tensor]
]  # channels, activation, coefficients to samples, and back


def _blocks(x: Tensor, groups: Groups) -> int:
    """Rows at a time."""
    width = sum(count * len(to) for count, _, to, _ in groups)
    return max(8, (BLOCK if x.device.type == "cpu" else 64 * BLOCK) // width)


class _Sampled(torch.autograd.Function):
    """The same a block of rows at a time; keeps x alone."""

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor, groups: Groups) -> Tensor:
        y, length = torch.empty_like(x), _blocks(x, groups)
        for into, block in zip(y.split(length), x.split(length), strict=True):
            into.copy_(_act(block, order, inverse, groups))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, order, inverse, ctx.groups = inputs
        ctx.save_for_backward(x, order, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        x, order, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again
            y = _act(x, order, inverse, ctx.groups)
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            return dx, None, None, None
        dx, length = torch.empty_like(x), _blocks(x, ctx.groups)
        with torch.autocast(x.device.type, enabled=False):
            for into, block, at in zip(dx.split(length), x.split(length), g.split(length), strict=True):
                with torch.enable_grad():
                    block = block.detach().requires_grad_()
                    (part,) = torch.autograd.grad(_act(block, order, inverse, ctx.groups), block, at)
                into.copy_(part)
        return dx, None, None, None


class FunctionalActivation(ExactBuffers):
    """What the activations on the sphere, on SO(3) and of spin fields share: channels, their grids, and the call."""

    order: Tensor
    inverse: Tensor

    def __init__(
        self,
        irreps: Irreps,
        channels: list[Channels],
        act: str | Activation,
        odd_act: str | Activation | None,
        *,
        on_group: bool,
        resolution: Shape | None,
        tolerance: float | None,
        amplitude: float,
        normalise: bool,
        layout: str,
    ) -> None:
        super().__init__()
        self.irreps, self.layout, self.dim = irreps, layout, irreps.dim
        self.on_group, self.amplitude = on_group, amplitude
        if not amplitude > 0:
            raise ValueError(f"amplitude is {amplitude}; expected the positive size of a field's components")
        if resolution is not None and tolerance is not None:
            raise ValueError("resolution and tolerance are both given; expected one of them")
        if any(group.odd for group in channels) and (odd_act is None or parity(odd_act) != -1):
            name = None if odd_act is None else activation_name(odd_act)
            raise ValueError(
                f"{irreps} has signals that change sign under inversion and odd_act is {name}, which is not odd; "
                "use 'tanh', or leave such irreps (0o, 1e, 2o, ...) to a gate"
            )
        self._acts: list[str | Activation] = [
            odd_act if group.odd and odd_act is not None else act for group in channels
        ]
        self.signals = [group.signal for group in channels]
        self._odd = [group.odd for group in channels]
        self._widths = [len(group.places) for group in channels]
        self.acts = nn.ModuleList(NormalisedActivation(f, normalise=normalise) for f in self._acts)
        self._plain = any(True for _ in self.acts.parameters())
        self.shapes: list[Shape] = []
        for f, signal in zip(self._acts, self.signals, strict=True):
            self.shapes.append(self._shape(f, signal, resolution, tolerance))
        order = torch.cat([group.places.flatten() for group in channels])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)
        for i, (signal, shape) in enumerate(zip(self.signals, self.shapes, strict=True)):
            for name, matrix in zip(("to", "back"), sampling_matrices(signal, shape), strict=True):
                self.keep(f"{name}{i}", matrix)

    def _shape(
        self, act: str | Activation, signal: Signal, resolution: Shape | None, tolerance: float | None
    ) -> Shape:
        if signal.degree == 0 and signal.order == 0:
            return (1, 1, 1) if self.on_group else (1, 1)
        if tolerance is not None:
            return grid_for(act, signal, tolerance, on_group=self.on_group, amplitude=self.amplitude)
        if resolution is None:
            return grid_shape(signal, 4 * signal.degree, self.on_group)
        least = grid_shape(signal, 2 * signal.degree, self.on_group)
        if len(resolution) != len(least) or any(n < m for n, m in zip(resolution, least, strict=True)):
            raise ValueError(
                f"resolution is {tuple(resolution)}; expected at least {least} for degree {signal.degree}, below which even "
                "the identity is not kept"
            )
        return tuple(resolution)

    @property
    def samples(self) -> int:
        """Largest number of samples that a channel has."""
        return max(math.prod(shape) for shape in self.shapes)

    @property
    def error(self) -> float:
        """Largest measured relative equivariance error of a channel, see ``sampling_error``; acts as they are now."""
        return max(
            0.0 if math.prod(shape) == 1 else sampling_error(act, signal, shape, amplitude=self.amplitude)
            for act, signal, shape in zip(self._acts, self.signals, self.shapes, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_features(x, self.irreps)
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        groups: Groups = [
            (width, act, self.get_buffer(f"to{i}").to(dtype), self.get_buffer(f"back{i}").to(dtype))
            for i, (width, act) in enumerate(zip(self._widths, self.acts, strict=True))
        ]
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, self.dim).to(dtype)
            if self._plain or torch.compiler.is_compiling():
                y = _act(rows, self.order, self.inverse, groups)
            else:
                y = _Sampled.apply(rows, self.order, self.inverse, groups)
        return y.to(x.dtype).reshape(x.shape)

    def extra_repr(self) -> str:
        grids = ", ".join("×".join(map(str, shape)) for shape in dict.fromkeys(self.shapes))
        return f"'{self.irreps}', grid={grids}, error={self.error:.1e}"

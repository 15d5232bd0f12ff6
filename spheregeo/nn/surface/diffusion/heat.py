r"""Diffusion for a learned time, each channel its own: y = exp(−t Δ) x in the lowest eigenfunctions, or (A + t L) y = A x.

The first cuts off what varies faster than the eigenfunctions kept. The second, one implicit step, keeps all, and solves a
sparse system: by Cholesky factors where points are few, else by conjugate gradients, whose derivative is another solution.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.nn.surface.diffusion.base import OnOperators, working
from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators
from spheregeo.sparse import SparseMap

METHODS = ("spectral", "implicit")
UNIT = 0.01  # of times, so that steps of an optimiser move the shortest and the longest alike
SHORTEST, LONGEST = 1e-4, 0.1  # times at first, of a surface of area 1: from a few edges to a third of it
DENSE = 400  # points up to which implicit steps are solved by Cholesky factors
STEPS = 2000  # of conjugate gradients at most
ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-12}


class LearnedDiffusion(OnOperators):
    """Heat flow on a surface, each channel for a time of its own that is learned; times are positive by a softplus.

    Args:
        channels: of input and output.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        method: "spectral", in the lowest eigenfunctions of the Laplacian, or "implicit", one implicit step in time.
        pairs: eigenfunctions of the spectral method.

    Shape: (B, channels, *grid.shape) -> the same; without a grid (B, channels, P) and operators of P points.
    Units: times are areas, those of a surface of area 1.
    Equivariance: exact for all isometries, and for signs and bases of eigenvectors (1e-12 in float64); scaling changes nothing.
    Raises: ValueError for another method, numbers out of range, input that does not fit.
    Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, arXiv:2012.00888, section 3.2.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import LearnedDiffusion
        >>> LearnedDiffusion(4, Icosahedral(2), pairs=16)(torch.randn(2, 4, 162)).shape
        torch.Size([2, 4, 162])
    """

    def __init__(
        self, channels: int, grid: Grid | None = None, *, method: str = "spectral", pairs: int = 64
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(map(repr, METHODS))}")
        if pairs < 1:
            raise ValueError(f"pairs is {pairs}; expected at least 1 eigenfunction")
        settings = OperatorSettings(pairs=pairs if method == "spectral" else 0, diffusion=True)
        super().__init__(channels, grid, settings)
        self.method = method
        times = torch.logspace(math.log10(SHORTEST), math.log10(LONGEST), channels, dtype=torch.float64)
        self.raw_time = nn.Parameter(torch.log(torch.expm1(times / UNIT)).to(torch.get_default_dtype()))

    def times(self) -> Tensor:
        """Time of each channel (C,)."""
        return UNIT * nn.functional.softplus(self.raw_time)

    def forward(self, x: Tensor, operators: SurfaceOperators | None = None) -> Tensor:
        flat, held = self._enter(x, operators)
        with torch.autocast(x.device.type, enabled=False):
            flat = flat.to(working(x))
            times = self.times().to(flat.dtype)
            y = spectral(flat, times, held) if self.method == "spectral" else implicit(flat, times, held)
        return self._leave(y.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.method}, pairs={self.settings.pairs}"


def spectral(x: Tensor, times: Tensor, operators: SurfaceOperators) -> Tensor:
    """Φ e^(−λ t) Φᵀ A x. Shape: x (B, C, P), times (C,) -> (B, C, P)."""
    areas, vectors, values = (t.to(x.dtype) for t in (operators.areas, operators.vectors, operators.values))
    flowed = []
    cuts = operators.counts
    # points first, as the sparse maps want them
    for part, basis, share, value in zip(
        x.mT.split(cuts, 1), vectors.split(cuts), areas.split(cuts), values, strict=True
    ):
        decay = torch.exp(-value[:, None] * times)  # (k, C)
        flowed.append(basis @ (decay * (basis.T @ (share[:, None] * part))))
    return (flowed[0] if len(flowed) == 1 else torch.cat(flowed, 1)).mT


def implicit(x: Tensor, times: Tensor, operators: SurfaceOperators) -> Tensor:
    """(A + t L)⁻¹ A x. Shape: x (B, C, P), times (C,) -> (B, C, P)."""
    areas, stiffness = operators.areas.to(x.dtype), operators.map("stiffness")
    if operators.num_points <= DENSE:
        dense = stiffness.to_dense()[0].to(x.dtype)
        factor = torch.linalg.cholesky(torch.diag(areas) + times[:, None, None] * dense)  # (C, P, P)
        heat = (x * areas).transpose(0, 1).mT  # (C, P, B)
        return torch.cholesky_solve(heat, factor).mT.transpose(0, 1)
    solved: Tensor = _Solution.apply(x * areas, times, areas, stiffness)
    return solved


class _Solution(torch.autograd.Function):
    """y of (A + t L) y = b; its derivatives are solutions of the same system, which is symmetric."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, times: Tensor, areas: Tensor, stiffness: SparseMap) -> Tensor:
        y = conjugate_gradients(b, times, areas, stiffness)
        ctx.save_for_backward(y, times, areas)
        ctx.stiffness = stiffness
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        y, times, areas = ctx.saved_tensors
        back = _Solution.apply(gradient, times, areas, ctx.stiffness)
        of_times = -(back * ctx.stiffness(y)).sum((0, 2)) if ctx.needs_input_grad[1] else None
        return back, of_times, None, None


@torch.no_grad()
def conjugate_gradients(b: Tensor, times: Tensor, areas: Tensor, stiffness: SparseMap) -> Tensor:
    """The solution of (A + t L) y = b for all channels together, preconditioned by the diagonal.

    Shape: b (B, C, P), times (C,), areas (P,) -> (B, C, P). Raises: ValueError where it does not converge.
    """
    row, column, value = stiffness.pattern.coo()
    own = row == column
    diagonal = torch.zeros_like(areas).index_add(0, row[own], stiffness.values[0, value[own]].to(areas.dtype))
    step = times[None, :, None]
    weight = 1 / (areas + step * diagonal)

    def act(v: Tensor) -> Tensor:
        result: Tensor = areas * v + step * stiffness(v)
        return result

    y = b / areas.clamp_min(torch.finfo(b.dtype).tiny) * 0
    rest = b.clone()
    z = weight * rest
    ahead = z
    size = (rest * z).sum(2, keepdim=True)
    goal = ACCURACY.get(b.dtype, 1e-6) ** 2 * size
    for _ in range(STEPS):
        if bool((size <= goal).all()):
            return y
        moved = act(ahead)
        along = size / (ahead * moved).sum(2, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
        y, rest = y + along * ahead, rest - along * moved
        z = weight * rest
        new = (rest * z).sum(2, keepdim=True)
        ahead = z + new / size.clamp_min(torch.finfo(b.dtype).tiny) * ahead
        size = new
    raise ValueError(
        f"conjugate gradients did not solve a diffusion within {STEPS} steps (longest time {float(times.max()):.3g}); take "
        "method='spectral', or repair the mesh"
    )

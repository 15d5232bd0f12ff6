r"""Convection, diffusion and linear convolution on SE(2) and on the plane.

Convection: u_t = −Σ c_i A_i u is solved by out(g) = u(g g₀⁻¹) with g₀ = exp(t c). Seen from a voxel of orientation θ that is one
shift of the array for all places, so that trilinear interpolation is three products with narrow matrices of hat functions,
one for each axis; of every order of derivatives. Diffusion: convolution with a kernel of the distance that sums to one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.groups.lie import se2_exp
from spheregeo.nn.morphology import working
from spheregeo.nn.plane.pde.morphology import Metric


def se2_convolve(x: Tensor, kernel: Tensor) -> Tensor:
    r"""Linear convolution on SE(2): y[b, d, o, p] = Σ x[b, c, o + turn, p + shift] kernel[d, c, o, turn, shift].

    The axis of orientations is periodic; outside the plane there is zero.

    Args:
        x: fields.
        kernel: coefficients for each orientation of the result, windows of odd sizes with the centre in the middle; the second
            axis of the window runs downwards, the third to the right.

    Shape: x (B, C, O, H, W), kernel (D, C / groups, O, turns, size, size) -> (B, D, O, H, W).
    Raises: ValueError for shapes that disagree, even windows, or more turns than orientations.

    Example:
        >>> delta = torch.zeros(1, 1, 8, 3, 3, 3)
        >>> delta[..., 1, 1, 1] = 1
        >>> x = torch.randn(1, 1, 8, 5, 5)
        >>> bool((se2_convolve(x, delta) == x).all())
        True
    """
    if x.ndim != 5 or kernel.ndim != 6 or kernel.shape[2] != x.shape[2] or x.shape[1] % kernel.shape[1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and kernel {tuple(kernel.shape)}; expected (B, C, O, H, W) and "
            "(D, C / groups, O, turns, size, size)"
        )
    outputs, inputs, n, turns, rows, columns = kernel.shape
    if not (turns % 2 and rows % 2 and columns % 2) or turns > n:
        raise ValueError(
            f"kernel has a window of {turns} x {rows} x {columns}; expected odd sizes and at most {n} turns"
        )
    o = torch.arange(n, device=x.device)
    turn = (o - o[:, None] + turns // 2) % n  # of source o' seen from o; n and more than the window: none
    bank = F.pad(kernel, (0, 0, 0, 0, 0, n - turns)).flatten(2, 3)
    bank = bank.index_select(2, (o[:, None] * n + turn).flatten()).unflatten(2, (n, n))  # (D, I, o, o', ...)
    weight = bank.transpose(1, 2).reshape(outputs * n, inputs * n, rows, columns)
    y = F.conv2d(
        x.flatten(1, 2), weight.to(x.dtype), padding=(rows // 2, columns // 2), groups=x.shape[1] // inputs
    )
    return y.unflatten(1, (outputs, n))


def _hats(size: int, shift: Tensor, period: int = 0) -> Tensor:
    """Matrices of linear interpolation; row i reads at i + shift. Shape: shifts (...) -> (..., size, size)."""
    if period == 1:  # one place, which is its own neighbour on both sides
        return torch.ones_like(shift)[..., None, None]
    place = torch.arange(size, device=shift.device, dtype=shift.dtype)
    distance = place - place[:, None] - shift[..., None, None]
    if period:
        distance = distance - period * (distance / period).round()
    return (1 - distance.abs()).clamp_min(0)


class SE2Convection(nn.Module):
    """Convection on SE(2): features of each channel are moved by a learned motion in the frame of each voxel.

    out(g) = u(g g₀⁻¹) with g₀ = exp(c), interpolated linearly in place and orientation, zero outside.

    Args:
        channels: regular fields.
        orientations: of a field, n of C_n.

    Shape: (B, channels * orientations, H, W) -> the same.
    Units: velocities c in pixels forwards, pixels sideways and radians.
    Equivariance: C_n with quarter turns of the image: exact, 1e-14 in float64. Other turns by 2π/n: approximate, as the image is
        sampled.
    Raises: ValueError for other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> SE2Convection(4, 8)(torch.randn(1, 32, 9, 9)).shape
        torch.Size([1, 32, 9, 9])
    """

    def __init__(self, channels: int, orientations: int) -> None:
        super().__init__()
        self.channels, self.orientations = (
            check_count("channels", channels),
            check_count("orientations", orientations),
        )
        self.velocity = nn.Parameter(torch.empty(channels, 3))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw velocities of up to half a pixel and half the step to the next orientation; at 0 the gradient would vanish."""
        steps = torch.tensor([1.0, 1.0, 2 * math.pi / self.orientations])
        self.velocity.uniform_(-0.5, 0.5).mul_(steps[: self.velocity.shape[1]])

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        n = self.orientations
        if x.ndim != 4 or x.shape[1] != self.channels * n:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.channels * n}, H, W)")
        dtype = working(x, self.velocity)
        velocity = -self.velocity.to(dtype)
        if velocity.shape[1] == 2:  # a shift does not turn
            (x1, x2), turn = velocity.unbind(-1), torch.zeros_like(velocity[:, 0])
        else:
            x1, x2, turn = se2_exp(velocity).unbind(-1)
        angle = 2 * math.pi / n * torch.arange(n, device=x.device, dtype=torch.float64)
        c, s = angle.cos().to(dtype), angle.sin().to(dtype)
        right, up = x1[:, None] * c - x2[:, None] * s, x1[:, None] * s + x2[:, None] * c  # (channels, n)
        turns = _hats(n, turn * (n / (2 * math.pi)), n)
        rows, columns = _hats(x.shape[2], -up), _hats(x.shape[3], right)
        with torch.autocast(x.device.type, enabled=False):
            y = turns @ x.to(dtype).unflatten(1, (self.channels, n)).flatten(3)
            y = rows @ y.unflatten(3, x.shape[2:]) @ columns.mT
        return y.flatten(1, 2).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, orientations={self.orientations}"


class SE2Diffusion(Metric):
    """Diffusion on SE(2): convolution with exp(−ρ²) or (1 + ρ²)^{−2}, summing to one, ρ the distance in a learned metric.

    Args:
        channels: regular fields.
        orientations: of a field, n of C_n.
        kernel_size: pixels along each side of the window, odd.
        turns: orientations in the window, odd.
        alpha: 1 for the Gaussian of ordinary diffusion, 0.5 for the Poisson kernel of the fractional one.

    Shape: (B, channels * orientations, H, W) -> the same; outside the image there is zero.
    Units: the metric costs a pixel forwards, a pixel sideways and a radian.
    Equivariance: C_n with quarter turns of the image: exact, 1e-15 in float64. Other turns by 2π/n: approximate, as the image is
        sampled.
    Raises: ValueError for even sizes, another alpha, and other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046; Duits, Bekkers & Mashtakov 2019 (fractional diffusion, Poisson kernels).

    Example:
        >>> SE2Diffusion(4, 8)(torch.randn(1, 32, 9, 9)).shape
        torch.Size([1, 32, 9, 9])
    """

    _isotropic = False

    def __init__(
        self, channels: int, orientations: int, kernel_size: int = 5, turns: int = 3, *, alpha: float = 1.0
    ) -> None:  # fmt: skip
        super().__init__(channels, orientations, kernel_size, turns, self._isotropic)
        if alpha not in (0.5, 1.0):
            raise ValueError(
                f"alpha is {alpha}; expected 1 (Gaussian) or 0.5 (Poisson), which have kernels in closed form"
            )
        self.alpha = float(alpha)
        order = {shift: t for t, shift in enumerate(self.shifts)}
        self.register_buffer("order", torch.tensor([order[s] for s in sorted(order)]), persistent=False)

    def kernel(self, dtype: torch.dtype | None = None) -> Tensor:
        """The kernel of each channel and orientation, which sums to one. Shape: (channels, orientations, turns, size, size)."""
        square = self.squared_distances(dtype or self.log_weights.dtype)
        if self.alpha == 1:
            values = (-square).exp()
        else:
            values = (1 + square) ** (-(2 + (self.orientations > 1) + 1) / 2)
        values = values / values.sum(-1, keepdim=True)
        window = (self.turns, self.kernel_size, self.kernel_size)
        return values.index_select(-1, self.get_buffer("order")).unflatten(-1, window)

    def forward(self, x: Tensor) -> Tensor:
        fields = self.fields(x)
        dtype = working(x, self.log_weights)
        with torch.autocast(x.device.type, enabled=False):
            y = se2_convolve(fields.to(dtype), self.kernel(dtype)[:, None])
        return y.flatten(1, 2).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={self.alpha}"


class PlaneDiffusion(SE2Diffusion):
    """Diffusion on the plane: convolution with a Gaussian or Poisson kernel that sums to one, its width learned for each channel.

    Args:
        channels: of input and output.
        kernel_size: pixels along each side of the window, odd.
        alpha: 1 for the Gaussian of ordinary diffusion, 0.5 for the Poisson kernel of the fractional one.

    Shape: (B, channels, H, W) -> the same; outside the image there is zero.
    Equivariance: quarter turns and reflections: exact, 1e-15 in float64. Other rotations: approximate, as the image is sampled.
    Raises: ValueError for an even kernel_size, another alpha, and other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> PlaneDiffusion(3)(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 3, 9, 9])
    """

    _isotropic = True

    def __init__(self, channels: int, kernel_size: int = 5, *, alpha: float = 1.0) -> None:
        super().__init__(channels, 1, kernel_size, 1, alpha=alpha)


class PlaneConvection(SE2Convection):
    """Convection on the plane: each channel is moved by a learned shift, interpolated linearly, zero outside.

    Args:
        channels: of input and output.

    Shape: (B, channels, H, W) -> the same.
    Units: shifts in pixels to the right and upwards.
    Equivariance: shifts by pixels, but at the border; a shift has a direction, so rotations are not kept.
    Raises: ValueError for other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> PlaneConvection(3)(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 3, 9, 9])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)
        self.velocity = nn.Parameter(torch.empty(channels, 2))
        self.reset_parameters()

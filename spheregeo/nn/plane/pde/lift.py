r"""Cake wavelets: oriented filters that together keep an image, and the lift of images to SE(2) by them.

In the Fourier plane a wavelet is a B-spline in angle, of which the n turned copies sum to one, times the low-pass

    M_N(ω) = exp(−q²) Σ_{j ≤ N} q^{2j}/j!,     q = ω √((1 + 2N)/2) / γ,     ω = 1 at the Nyquist frequency.

Reference: Duits & Franken 2010, Quart. Appl. Math. 68; Bekkers, Duits, Berendschot & ter Haar Romeny 2014, arXiv:1212.3530.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.plane.pde.stencil import odd


def _spline(x: Tensor) -> Tensor:
    """The cubic B-spline of knots at whole numbers, whose shifts by whole numbers sum to one."""
    a = x.abs()
    near, far = 2 / 3 - a**2 + a**3 / 2, (2 - a).clamp_min(0) ** 3 / 6
    return torch.where(a < 1, near, far)


def low_pass_profile(frequency: Tensor, inflection: float = 0.8, order: int = 8) -> Tensor:
    """The low-pass M_N: flat at 0, with its inflection where it is told.

    Args:
        frequency: ω, 1 at the Nyquist frequency.
        inflection: γ.
        order: N.

    Shape: (...) -> (...).
    """
    square = (frequency / inflection) ** 2 * (1 + 2 * order) / 2
    series = sum(square**j / math.factorial(j) for j in range(order + 1))
    return (-square).exp() * series


def cake_wavelets(orientations: int, size: int, inflection: float = 0.8, order: int = 8) -> Tensor:
    """Cake wavelets on square windows: element i responds to lines along the angle 2πi/n, in its imaginary part to edges.

    Args:
        orientations: n.
        size: pixels along each side, odd.
        inflection, order: of the low-pass.

    Shape: (orientations, size, size) complex128; rows run downwards. Real parts sum to the low-pass, imaginary ones to zero.
    Raises: ValueError for an even size.
    """
    n, size = check_count("orientations", orientations), odd("size", size)
    k = torch.arange(size, dtype=torch.float64) - size // 2
    right, up = 2 * k / size, -2 * k[:, None] / size
    radius, angle = torch.hypot(right, up), torch.atan2(up, right.expand(size, size))
    own = 2 * math.pi / n * torch.arange(n, dtype=torch.float64).view(-1, 1, 1) + math.pi / 2
    window = sum(_spline((angle - own + 2 * math.pi * turn) * n / (2 * math.pi)) for turn in range(-3, 4))
    window = torch.where(radius == 0, 1 / n, window) * low_pass_profile(radius, inflection, order)
    # the frequencies as they stand in a transform, rows downwards: phase exp(i (right x - up row))
    wave = torch.exp(2j * math.pi / size * (k[:, None] * k))
    return torch.einsum("nab,ai,bj->nij", window.to(wave.dtype), wave, wave) / size**2


class CakeLift(ExactBuffers):
    """Lift of images to SE(2) by cake wavelets: nothing is learned and, within the low-pass, nothing lost.

    Each channel becomes two regular fields: responses to lines, the wavelets' real parts, which sum over orientations to the
    low-passed image, and to edges, the imaginary ones.

    Args:
        in_channels: of the images.
        orientations: n of C_n; even.
        kernel_size: pixels along each side of a wavelet, odd.
        inflection, order: of the low-pass, see :func:`cake_wavelets`.

    Shape: (B, in_channels, H, W) -> (B, 2 * in_channels * orientations, H, W), lines before edges, orientations fastest.
    Equivariance: quarter turns: exact, 1e-14 in float64. Turns by 2π/n: approximate, as the image is sampled.
    Raises: ValueError for an even kernel_size and other inputs.
    Reference: Bekkers et al. 2014, arXiv:1212.3530.

    Example:
        >>> CakeLift(1, 8)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 16, 28, 28])
    """

    def __init__(
        self,
        in_channels: int,
        orientations: int,
        kernel_size: int = 9,
        *,
        inflection: float = 0.8,
        order: int = 8,
    ) -> None:
        super().__init__()
        self.in_channels, self.orientations = (
            check_count("in_channels", in_channels),
            check_count("orientations", orientations),
        )
        self.kernel_size = odd("kernel_size", kernel_size)
        wavelets = cake_wavelets(orientations, kernel_size, inflection, order)
        self.keep("wavelets", torch.stack([wavelets.real, wavelets.imag]).flatten(0, 1)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.in_channels}, H, W)")
        weight = self.get_buffer("wavelets").to(x.dtype).repeat(self.in_channels, 1, 1, 1)
        return F.conv2d(x, weight, padding=self.kernel_size // 2, groups=self.in_channels)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, orientations={self.orientations}, kernel_size={self.kernel_size}"

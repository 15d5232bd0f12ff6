"""Dilation and erosion by analytic kernels of learned metrics, on SE(2) and on the plane: see :mod:`spheregeo.nn.morphology`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.morphology import check_alpha, morphological_kernel, working
from spheregeo.nn.plane.pde.distances import half_angle_distance_squared
from spheregeo.nn.plane.pde.stencil import half_angles, odd, shifts_of
from spheregeo.sparse import check_engine, max_plus_planes


class Metric(ExactBuffers):
    """Learned metrics of channels and a window of taps: the base of layers with a kernel of the distance.

    ``log_weights`` (channels, n) are the logarithms of the metrics' weights.
    """

    def __init__(self, channels: int, orientations: int, size: int, turns: int, isotropic: bool) -> None:
        super().__init__()
        self.channels, self.orientations = (
            check_count("channels", channels),
            check_count("orientations", orientations),
        )
        self.kernel_size, self.turns = odd("kernel_size", size), odd("turns", turns)
        if self.turns > self.orientations:
            raise ValueError(f"turns is {turns}; expected at most the {orientations} orientations")
        self.shifts = shifts_of(self.kernel_size, self.turns)
        self.isotropic = isotropic
        coordinates, which = half_angles(self.shifts, self.orientations)
        self.keep("coordinates", coordinates)
        self.register_buffer("which", which, persistent=False)
        self.log_weights = nn.Parameter(torch.empty(self.channels, 1 if isotropic else 3))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw costs: ½ to 1 for a pixel forwards, 1 to 2 sideways, and ½ to 1 for the step to the next orientation."""
        low = torch.tensor([0.5, 1.0, 0.5 * self.orientations / (2 * math.pi)][: self.log_weights.shape[1]])
        self.log_weights.uniform_(0, math.log(2)).add_(low.log())

    def weights(self) -> Tensor:
        """Costs of a pixel forwards, of one sideways and of a radian. Shape: (channels, 3); isotropic (channels, 1)."""
        return self.log_weights.exp()

    def squared_distances(self, dtype: torch.dtype) -> Tensor:
        """Squared distances of the taps. Shape: (channels, orientations, taps)."""
        weights = self.log_weights.to(dtype).exp()[:, None]
        b = self.get_buffer("coordinates").to(dtype)
        if self.isotropic:
            found = weights[..., 0].square() * (b[:, 0].square() + b[:, 1].square())
        else:
            found = half_angle_distance_squared(b, weights, "accurate")
        return found[:, self.get_buffer("which")]

    def fields(self, x: Tensor) -> Tensor:
        """Flat channels as fields. Shape: (B, channels * orientations, H, W) -> (B, channels, orientations, H, W)."""
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.channels * self.orientations:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, {self.channels * self.orientations}, H, W)"
            )
        return x.unflatten(1, (self.channels, self.orientations))

    def extra_repr(self) -> str:
        window = f"kernel_size={self.kernel_size}"
        if self.isotropic:
            return f"{self.channels}, {window}"
        return f"{self.channels}, orientations={self.orientations}, {window}, turns={self.turns}"


class _Morphology(Metric):
    semiring = "max"

    def __init__(
        self,
        channels: int,
        orientations: int,
        size: int,
        turns: int,
        isotropic: bool,
        alpha: float,
        engine: str | None,
    ) -> None:
        super().__init__(channels, orientations, size, turns, isotropic)
        self.alpha, self.engine = check_alpha(alpha), check_engine(engine)

    def kernel(self, dtype: torch.dtype | None = None) -> Tensor:
        """The kernel k. Shape: (channels, orientations, taps), taps in the order of ``shifts``."""
        return morphological_kernel(self.squared_distances(dtype or self.log_weights.dtype), self.alpha)

    def forward(self, x: Tensor) -> Tensor:
        fields = self.fields(x)
        kernel = self.kernel(working(x, self.log_weights))[:, None]
        sign = -1 if self.semiring == "max" else 1
        y = max_plus_planes(fields, sign * kernel, self.shifts, semiring=self.semiring, engine=self.engine)
        return y.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={self.alpha}"


class SE2Dilation(_Morphology):
    """Dilation on SE(2): sup over h of u(h) − k(g⁻¹h), k a kernel of the distance, whose left-invariant metric is learned.

    Args:
        channels: regular fields.
        orientations: of a field, n of C_n.
        kernel_size: pixels along each side of the window, odd.
        turns: orientations in the window, odd.
        alpha: above ½ (max-pooling over a ball of the metric) and at most 1 (a quadratic kernel).
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: (B, channels * orientations, H, W) -> the same; orientations fastest among channels.
    Units: the metric costs a pixel forwards, a pixel sideways and a radian.
    Equivariance: C_n with quarter turns of the image: exact, 1e-15 in float64. Other turns by 2π/n: approximate, as the image is
        sampled.
    Raises: ValueError for sizes that are even, alpha outside its range, and other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> SE2Dilation(4, 8)(torch.randn(1, 32, 9, 9)).shape
        torch.Size([1, 32, 9, 9])
    """

    def __init__(
        self, channels: int, orientations: int, kernel_size: int = 5, turns: int = 3, *, alpha: float = 0.65,
        engine: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(channels, orientations, kernel_size, turns, False, alpha, engine)


class SE2Erosion(SE2Dilation):
    """Erosion on SE(2): inf over h of u(h) + k(g⁻¹h), that is −D(−u) for the dilation D with the same metric.

    Args:
        channels, orientations, kernel_size, turns, alpha, engine: as of :class:`SE2Dilation`.

    Shape: (B, channels * orientations, H, W) -> the same.
    Equivariance: as of :class:`SE2Dilation`.
    Raises: ValueError as :class:`SE2Dilation` does.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> SE2Erosion(4, 8)(torch.randn(1, 32, 9, 9)).shape
        torch.Size([1, 32, 9, 9])
    """

    semiring = "min"


class PlaneDilation(_Morphology):
    """Dilation on the plane: sup over q of u(q) − k(|q − p|), the scale of the kernel learned for each channel.

    Args:
        channels: of input and output.
        kernel_size: pixels along each side of the window, odd.
        alpha: above ½ (max-pooling over a disc) and at most 1 (a quadratic kernel, the Moreau envelope).
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: (B, channels, H, W) -> the same.
    Equivariance: quarter turns and reflections: exact, 1e-15 in float64. Other rotations: approximate, as the image is sampled.
    Raises: ValueError for an even kernel_size, alpha outside its range, and other inputs.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> PlaneDilation(3)(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 3, 9, 9])
    """

    def __init__(
        self, channels: int, kernel_size: int = 5, *, alpha: float = 0.65, engine: str | None = None
    ) -> None:
        super().__init__(channels, 1, kernel_size, 1, True, alpha, engine)


class PlaneErosion(PlaneDilation):
    """Erosion on the plane: inf over q of u(q) + k(|q − p|), that is −D(−u) for the dilation D with the same scale.

    Args:
        channels, kernel_size, alpha, engine: as of :class:`PlaneDilation`.

    Shape: (B, channels, H, W) -> the same.
    Equivariance: as of :class:`PlaneDilation`.
    Raises: ValueError as :class:`PlaneDilation` does.
    Reference: Smets et al. 2022, arXiv:2001.09046.

    Example:
        >>> PlaneErosion(3)(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 3, 9, 9])
    """

    semiring = "min"

"""The layer of a PDE-G-CNN: convection, diffusion, dilation and erosion channel by channel, then a mix with batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.batch_norm import BatchNorm
from spheregeo.nn.plane.pde.linear import PlaneConvection, PlaneDiffusion, SE2Convection, SE2Diffusion
from spheregeo.nn.plane.pde.morphology import PlaneDilation, PlaneErosion, SE2Dilation, SE2Erosion


class FieldMix(nn.Module):
    """Linear mix of regular fields: the same matrix at every place and orientation.

    Args:
        in_channels, out_channels: regular fields.
        orientations: of a field, n of C_n.
        norm: whether a batch norm of fields follows, with one mean and variance for each; otherwise there is a bias.

    Shape: (B, in_channels * orientations, H, W) -> (B, out_channels * orientations, H, W).
    Equivariance: exact for C_n and whatever permutes places and orientations.
    Raises: ValueError for other channels.

    Example:
        >>> FieldMix(4, 6, 8)(torch.randn(2, 32, 9, 9)).shape
        torch.Size([2, 48, 9, 9])
    """

    def __init__(self, in_channels: int, out_channels: int, orientations: int, *, norm: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            check_count("in_channels", in_channels),
            check_count("out_channels", out_channels),
        )
        self.orientations = check_count("orientations", orientations)
        self.mix = nn.Linear(in_channels, out_channels, bias=not norm)
        self.norm = BatchNorm(out_channels) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        n = self.orientations
        if x.ndim != 4 or x.shape[1] != self.in_channels * n:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.in_channels * n}, H, W)")
        bias = None if self.mix.bias is None else self.mix.bias.to(x.dtype)
        y = F.conv1d(
            x.unflatten(1, (self.in_channels, n)).flatten(2), self.mix.weight.to(x.dtype)[:, :, None], bias
        )
        y = y.unflatten(2, (n, *x.shape[2:]))
        return (y if self.norm is None else self.norm(y)).flatten(1, 2)


def _solve(steps: nn.Module, mix: nn.Module, x: Tensor) -> Tensor:
    """Steps and mix; half precision is widened for all steps at once, for a rounding between them moves maxima to other taps."""
    check_tensor(x)
    low = x.dtype in (torch.bfloat16, torch.float16)
    solved = steps(x.float() if low else x)
    result: Tensor = mix(solved.to(x.dtype))
    return result


class SE2PDELayer(nn.Module):
    """Layer of a PDE-G-CNN on SE(2): convection, dilation and erosion of each field, mixed linearly and normalised.

    It solves u_t = −c·∇u + ‖∇u‖^{2α} − ‖∇u‖^{2α} (and a diffusion) for one unit of time, step after step, with coefficients of
    each step and channel; there is no other nonlinearity. A channel has nine parameters before the mix.

    Args:
        in_channels, out_channels: regular fields.
        orientations: of a field, n of C_n.
        kernel_size: pixels along each side of a window, odd.
        turns: orientations in a window, odd.
        alpha: of dilation and erosion, above ½ and at most 1.
        diffusion: whether a diffusion comes after the convection.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: (B, in_channels * orientations, H, W) -> (B, out_channels * orientations, H, W).
    Equivariance: C_n with quarter turns of the image: exact, 1e-13 in float64. Other turns by 2π/n: approximate, as the image is
        sampled.
    Raises: ValueError for even sizes, alpha outside its range, and other inputs.
    Reference: Smets, Portegies, Bekkers & Duits 2022, arXiv:2001.09046.

    Example:
        >>> SE2PDELayer(4, 6, 8)(torch.randn(2, 32, 9, 9)).shape
        torch.Size([2, 48, 9, 9])
    """

    def __init__(
        self, in_channels: int, out_channels: int, orientations: int, kernel_size: int = 5, turns: int = 3, *,
        alpha: float = 0.65, diffusion: bool = False, engine: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        steps: list[nn.Module] = [SE2Convection(in_channels, orientations)]
        if diffusion:
            steps.append(SE2Diffusion(in_channels, orientations, kernel_size, turns))
        for kind in (SE2Dilation, SE2Erosion):
            steps.append(kind(in_channels, orientations, kernel_size, turns, alpha=alpha, engine=engine))
        self.steps = nn.Sequential(*steps)
        self.mix = FieldMix(in_channels, out_channels, orientations)

    def forward(self, x: Tensor) -> Tensor:
        return _solve(self.steps, self.mix, x)


class PlanePDELayer(nn.Module):
    """Layer of a PDE network on the plane: dilation and erosion of each channel, mixed linearly and normalised.

    Args:
        in_channels, out_channels: channels.
        kernel_size: pixels along each side of a window, odd.
        alpha: of dilation and erosion, above ½ and at most 1.
        convection: whether a learned shift comes first, which has a direction and so gives up rotations.
        diffusion: whether a diffusion comes before the dilation.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    Equivariance: without convection quarter turns and reflections: exact, 1e-13 in float64; other rotations: approximate.
    Raises: ValueError for an even kernel_size, alpha outside its range, and other inputs.
    Reference: Smets, Portegies, Bekkers & Duits 2022, arXiv:2001.09046.

    Example:
        >>> PlanePDELayer(3, 6)(torch.randn(2, 3, 9, 9)).shape
        torch.Size([2, 6, 9, 9])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 5, *, alpha: float = 0.65,
        convection: bool = False, diffusion: bool = False, engine: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        steps: list[nn.Module] = [PlaneConvection(in_channels)] if convection else []
        if diffusion:
            steps.append(PlaneDiffusion(in_channels, kernel_size))
        steps += [
            PlaneDilation(in_channels, kernel_size, alpha=alpha, engine=engine),
            PlaneErosion(in_channels, kernel_size, alpha=alpha, engine=engine),
        ]
        self.steps = nn.Sequential(*steps)
        self.mix = FieldMix(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _solve(self.steps, self.mix, x)

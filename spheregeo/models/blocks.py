"""What the networks share: pointwise mixing, norms by name, the residual DISCO block, levels, gradient checkpointing.

Every piece maps (B, C, *shape) to (B, C', *shape') and acts alike at all points, so that a network built of
isotropic DISCO convolutions and these pieces commutes with rotations up to the quadrature of the convolutions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint as _torch_checkpoint

from spheregeo.nn import BatchNorm, DiscoConv, SampleDropout

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.kernels import Kernel


def hierarchy(grid: Grid, depth: int, levels: Sequence[Grid] | None = None) -> list[Grid]:
    """The grids of a network, finest first: ``levels`` if given, else ``grid`` coarsened ``depth`` - 1 times.

    Raises: ValueError when the levels do not start with the grid, or it cannot be coarsened as often.
    """
    if levels is not None:
        if not levels or levels[0] != grid:
            raise ValueError(f"levels must start with the input's grid {grid!r}; got {list(levels)!r}")
        return list(levels)
    grids = [grid]
    for level in range(1, depth):
        try:
            grids.append(grids[-1].coarsen())
        except ValueError as error:
            raise ValueError(
                f"depth is {depth} but {grid!r} can be coarsened {level - 1} times only ({error}); "
                f"take depth <= {level} or pass levels=[...], one grid per level"
            ) from error
    return grids


def check_field(x: Tensor, in_channels: int, grid: Grid) -> None:
    """Raises: ValueError unless x is a field (B, in_channels, *grid.shape)."""
    if tuple(x.shape[1:]) != (in_channels, *grid.shape):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, "
            f"{', '.join(map(str, grid.shape))}) on {grid!r}; resample the field or build another model"
        )


def check_channels(x: Tensor, in_channels: int) -> None:
    """Raises: ValueError unless x is (B, in_channels, ...)."""
    if x.ndim < 3 or x.shape[1] != in_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, ...)")


class Pointwise(nn.Module):
    """Linear map of the channels, the same at every point (a 1x1 convolution for fields of any shape).

    Args:
        in_channels, out_channels: channels of input and output.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, *) -> (B, out_channels, *).
    Equivariance: exact for any permutation or rotation of the points (scalar fields).

    Example:
        >>> import torch
        >>> from spheregeo.models import Pointwise
        >>> Pointwise(3, 8)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 8, 8, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.stride(1) == 1:  # channel last in memory: one matrix product over all points
            return self.linear(x.movedim(1, -1)).movedim(-1, 1)
        # a product for each sample: torch.matmul makes one of them all, by copies, at half the speed
        weight, points = self.linear.weight.expand(x.shape[0], -1, -1), x.flatten(2)
        if self.linear.bias is None:
            y = torch.bmm(weight, points)
        else:
            y = torch.baddbmm(self.linear.bias[:, None], weight, points)
        return y.unflatten(2, x.shape[2:])


def make_norm(kind: str, channels: int) -> nn.Module:
    """Norm over ``channels``: ``batch``, ``group`` (8 groups, no batch statistics) or ``none``.

    Shape: (B, C, *) -> (B, C, *).
    Raises: ValueError for another kind.
    """
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "group":
        groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is {kind!r}; choose batch, group or none")


def gelu_of_norm(norm: nn.Module, x: Tensor, add: Tensor | None = None) -> Tensor:
    """``gelu(add + norm(x))``, in one pass for batch norm of large fields on a CPU."""
    if isinstance(norm, BatchNorm):
        return norm.gelu(x, add)
    y = norm(x)
    return nn.functional.gelu(y if add is None else add + y)


class Activated(nn.Sequential):
    """A map of channels, a norm and GELU in turn, the latter two at once where they can be.

    Shape: (B, C, *) -> (B, C', *).
    """

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__(layer, norm, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return gelu_of_norm(self[1], self[0](x))


class _Gain(nn.Module):
    """Weights of a convolution in units in which all filters have the same strength, one factor per basis function."""

    gain: Tensor

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.gain

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.gain


class PooledNorm(BatchNorm):
    """Batch norm of pooled channels, in which samples differ little beside what all share.

    A batch of one is left to the running statistics.

    Shape: (B, C) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, lone=True)


class Head(nn.Module):
    """Pooled channels to logits: norm, linear, GELU, dropout, linear.

    Args:
        norm: the network's: "batch", else "group" (layer norm here) or "none", so that samples do not meet.

    Shape: (B, in_channels) -> (B, out_channels).
    Raises: ValueError for another norm or a dropout outside [0, 1).
    """

    def __init__(
        self, in_channels: int, out_channels: int, dropout: float = 0.0, norm: str = "batch"
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 (none) to below 1")
        norms = {"batch": PooledNorm, "group": nn.LayerNorm}
        if norm not in (*norms, "none"):
            raise ValueError(f"norm is {norm!r}; choose batch, group or none")
        self.layers = nn.Sequential(
            norms[norm](in_channels) if norm in norms else nn.Identity(),
            nn.Linear(in_channels, in_channels),
            nn.GELU(),
            SampleDropout(dropout),
            nn.Linear(in_channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def make_conv(*channels_and_grids: Any, **options: Any) -> DiscoConv:
    """A ``DiscoConv`` whose learnt weights are of order 1 on every grid.

    The coefficients a_q psi_k of a DISCO layer shrink with the area of a sample, so plain weights grow like 1/area:
    an optimiser with steps of fixed size (Adam) would leave fine levels frozen beside coarse ones, and weights would
    not serve at another resolution. Here weight = gain * parameter, gain_k = 1 / RMS over the rows of a_q psi_k.

    Args, Shape, Raises: as for :class:`spheregeo.nn.DiscoConv`.
    """
    conv = DiscoConv(*channels_and_grids, **options)
    power = conv.map.mean_square_rows()  # (K,)
    gain = torch.rsqrt(power.clamp_min(torch.finfo(power.dtype).tiny)).to(conv.weight.dtype)
    parametrize.register_parametrization(conv, "weight", _Gain(gain))
    return conv


class ResidualBlock(nn.Module):
    """DISCO convolution, norm, GELU, pointwise map, norm, added to the input; then GELU.

    Args:
        channels: of input and output.
        grid: the points that the fields live on.
        kernel: filter basis of the convolution.
        spacings: radius of the filters in grid spacings.
        norm: "batch", "group" or "none".
        polar: how the convolution treats the crowded rows of lat-lon grids, see :class:`spheregeo.nn.DiscoConv`.

    Shape: (B, channels, *grid.shape) -> the same.
    Equivariance: SO(3) up to the convolution's quadrature error when the kernel is isotropic.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.kernels import Rings
        >>> from spheregeo.models import ResidualBlock
        >>> ResidualBlock(4, HEALPix(4), kernel=Rings(3), spacings=2.0, norm="batch")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self, channels: int, grid: Grid, *, kernel: Kernel, spacings: float, norm: str, polar: str = "exact"
    ) -> None:
        super().__init__()
        # The norm that follows subtracts any constant, so a bias before it would be dead weight.
        bias = norm == "none"
        self.conv = make_conv(
            channels, channels, grid, kernel=kernel, spacings=spacings, bias=bias, polar=polar
        )
        self.norm1 = make_norm(norm, channels)
        self.mix = Pointwise(channels, channels, bias=bias)
        self.norm2 = make_norm(norm, channels)
        if norm != "none":
            # The block starts as the identity, which lets deep stacks train from the first step
            # (Goyal et al. 2017, section 5.1).
            nn.init.zeros_(self.norm2.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = gelu_of_norm(self.norm1, self.conv(x))
        return gelu_of_norm(self.norm2, self.mix(y), x)


@contextlib.contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are: momentum 0 and an uncounted batch."""
    found = [m for m in module.modules() if hasattr(m, "momentum")]
    norms: list[Any] = [m for m in found if isinstance(getattr(m, "running_mean", None), Tensor)]
    momenta = [m.momentum for m in norms]
    counts = [None if m.num_batches_tracked is None else m.num_batches_tracked.clone() for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum, count in zip(norms, momenta, counts, strict=True):
            m.momentum = momentum
            if count is not None and m.num_batches_tracked is not None:
                m.num_batches_tracked.copy_(count)


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` that keeps only its input and computes the rest again in the backward pass.

    The second pass leaves batch-norm statistics alone, so that training with and without it is the same.
    """
    contexts: Callable[[], tuple[Any, Any]] = lambda: (contextlib.nullcontext(), _frozen_statistics(module))  # noqa: E731
    result: Tensor = _torch_checkpoint(module, x, use_reentrant=False, context_fn=contexts)
    return result


class Checkpointed(nn.Module):
    """Base of networks whose stages may be computed again in the backward pass instead of kept."""

    checkpoint: bool

    def run(self, stage: nn.Module, x: Tensor) -> Tensor:
        """``stage(x)``, by :func:`recompute` where ``checkpoint`` is set and a backward pass will come."""
        if self.checkpoint and self.training and torch.is_grad_enabled():
            return recompute(stage, x)
        result: Tensor = stage(x)
        return result


__all__ = [
    "Checkpointed",
    "Head",
    "Pointwise",
    "PooledNorm",
    "ResidualBlock",
    "check_field",
    "hierarchy",
    "make_conv",
    "make_norm",
    "recompute",
]

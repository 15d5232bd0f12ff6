"""Spectral CNNs: correlations on the sphere and on SO(3), with ReLUs on samples of the rotation group.

The classifier is that of Cohen et al. 2018, the segmentation network that of Gerken et al. 2022. Both see degrees below a
bandwidth, and commute with rotations of such signals up to what ReLUs alias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_least
from spheregeo.models.blocks import Checkpointed, Head, check_field
from spheregeo.models.registry import register
from spheregeo.nn import NearIdentity, S2Conv, SO3BatchNorm, SO3Conv, SO3Integrate, SO3ToS2
from spheregeo.spectral import resolved_degree

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.nn.sphere.spectral import SpectralKernel

REACH = 6.19 * math.pi  # max_beta times the bandwidth of a layer's input, in the network of Gerken et al.


def _norm(kind: str, channels: int, lmax: int) -> nn.Module:
    if kind not in ("batch", "none"):
        raise ValueError(f"norm is {kind!r}; choose batch or none")
    return SO3BatchNorm(channels, lmax) if kind == "batch" else nn.Identity()


def _sampled(bandwidth: int, oversampling: float) -> int:
    """Largest degree of the SO(3) grid on which a signal of degrees below ``bandwidth`` is sampled."""
    return math.ceil(oversampling * bandwidth) - 1


def _bandwidth(grid: Grid, bandwidth: int | None, default: int) -> int:
    most = resolved_degree(grid, "layer") + 1
    if bandwidth is None:
        return min(most, default)
    check_count("bandwidth", bandwidth, 2)
    if bandwidth > most:
        raise ValueError(
            f"bandwidth is {bandwidth}; expected at most {most}, as many degrees as {grid!r} holds"
        )
    return bandwidth


def _bandwidths(first: int, depth: int) -> tuple[int, ...]:
    """Bandwidths of the layers on the way down, evenly from 0.84 to 0.4 of the first, and up again."""
    down = [max(2, round(first * (0.84 - 0.44 * i / max(depth - 1, 1)))) for i in range(depth)]
    return tuple(down + down[-2::-1])


@register("s2cnn-classifier", output="label", alias="s2cnn")
class S2CNNClassifier(nn.Module):
    """Classifier of one correlation on the sphere, further ones on SO(3), and the mean over all rotations.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the first layer; each layer has twice those of the layer before.
        depth: number of correlations.
        bandwidth: degrees of the input that count, l < bandwidth; None for all that the grid holds, at most 30.
        bandwidths: of each layer's output; None for what goes from a third of ``bandwidth`` to a fifth.
        max_beta: radius of the first layer's filters in radians; those of layer i reach max_beta · bandwidth / bandwidths[i - 1],
            at most π/2.
        oversampling: bandwidth of the grid on which a ReLU acts over that of its input; more aliases less.
        norm: "batch" or "none".
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Units: radians.
    Equivariance: invariant to SO(3) up to what ReLUs alias; mirror images differ. Relative error with bandwidth 15 / 30, width 4,
        weights randomised, signals of degree < 8: 0.7 / 0.2 %, with ``oversampling=2`` 0.1 / 0.007 %.
    Raises: ValueError for options or input that do not fit.
    Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130; on the defaults with bandwidth 30 its network for spherical
        digits (bandwidths 30, 10, 6, channels 20, 40), with a norm.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import S2CNNClassifier
        >>> S2CNNClassifier(1, 10, Equiangular(16, 32), width=4)(torch.randn(2, 1, 16, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 20,
        depth: int = 2,
        bandwidth: int | None = None,
        bandwidths: Sequence[int] | None = None,
        max_beta: float = math.pi / 8,
        oversampling: float = 1.0,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_least(width=(width, 1), depth=(depth, 1), oversampling=(oversampling, 1))
        first = _bandwidth(grid, bandwidth, 30)
        if bandwidths is None:
            last = depth - 1
            shares = [1 / 3 + (1 / 5 - 1 / 3) * i / max(last, 1) for i in range(depth)]
            bandwidths = [max(2, round(first * share)) for share in shares]
        if len(bandwidths) != depth:
            raise ValueError(
                f"bandwidths is {list(bandwidths)} and depth {depth}; expected one for each layer"
            )
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        self.bandwidth, self.bandwidths = first, tuple(bandwidths)
        layers: list[nn.Module] = []
        before, channels, degree = first, in_channels, 0
        for i, after in enumerate(self.bandwidths):
            wide, out = width * 2**i, _sampled(after, oversampling)
            kernel = NearIdentity(max_beta=min(max_beta * first / before, math.pi / 2))
            lmax = min(before, after) - 1
            if i == 0:
                layers.append(
                    S2Conv(channels, wide, grid, out, lmax=lmax, kernel=kernel, bias=norm == "none")
                )
            else:
                layers.append(
                    SO3Conv(channels, wide, degree, out, lmax=lmax, kernel=kernel, bias=norm == "none")
                )
            layers += [_norm(norm, wide, out), nn.ReLU()]
            before, channels, degree = after, wide, out
        self.encoder = nn.Sequential(*layers)
        self.pool = SO3Integrate(degree)
        self.head = Head(channels, out_channels, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        result: Tensor = self.head(self.pool(self.encoder(x)))
        return result


class _Block(nn.Sequential):
    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__(conv, norm, nn.ReLU())


@register("s2cnn-unet", alias="s2cnn")
class S2CNNUNet(Checkpointed):
    """Segmentation network of correlations on the sphere and SO(3), down to a low bandwidth and up again.

    Channels are width, width + 1, … down and back up, bandwidths fall evenly from 0.84 to 0.4 of the first one, and filters reach
    6.19 π over the bandwidth of their input. A learned projection from SO(3) to the sphere ends the network.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the first layer.
        depth: layers on the way down; depth − 1 lead up again.
        bandwidth: degrees of input and output that count, l < bandwidth; None for all that the grid holds, at most 20. Time and
            memory grow like its cube.
        skip: whether what the layers on the way down give goes to those of equal bandwidth on the way up as well.
        oversampling: bandwidth of the grid on which a ReLU acts over that of its input; more aliases less.
        kernel: of all layers; None for :class:`~spheregeo.nn.NearIdentity` on its defaults with the radius above.
        norm: "batch" or "none".
        checkpoint: whether to compute each layer again in the backward pass instead of keeping it.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3) up to what ReLUs alias; not to reflections. Relative error with bandwidth 10 / 20 / 30, width 4, depth 2,
        weights randomised, signals of degree < 8: 7 / 9 / 3 %, with ``oversampling=2`` 0.7 / 0.6 % at 10 / 20.
    Raises: ValueError for options or input that do not fit.
    Reference: Gerken, Carlsson, Linander, Ohlsson, Petersson & Persson 2022, arXiv:2202.03990. With bandwidth 50 and the other
        defaults its network (channels 11 12 13 14 13 12 11, bandwidths 42 35 27 20 27 35 42), with a norm, whose last
        correlation and sum over n are the learned projection here.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import S2CNNUNet
        >>> S2CNNUNet(3, 2, Equiangular(8, 16), width=2, depth=2)(torch.randn(1, 3, 8, 16)).shape
        torch.Size([1, 2, 8, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 11,
        depth: int = 4,
        bandwidth: int | None = None,
        skip: bool = False,
        oversampling: float = 1.0,
        kernel: SpectralKernel | None = None,
        norm: str = "batch",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        check_least(width=(width, 1), depth=(depth, 1), oversampling=(oversampling, 1))
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        self.skip, self.checkpoint = skip, checkpoint
        self.bandwidth = first = _bandwidth(grid, bandwidth, 20)
        self.bandwidths = _bandwidths(first, depth)
        widths = [width + i for i in range(depth)]
        widths += widths[-2::-1]

        def filters(bandwidth: int) -> SpectralKernel:
            return NearIdentity(max_beta=min(REACH / bandwidth, math.pi)) if kernel is None else kernel

        def block(i: int) -> _Block:
            after = self.bandwidths[i]
            sampled, bias = _sampled(after, oversampling), norm == "none"
            conv: nn.Module
            if i == 0:
                conv = S2Conv(
                    in_channels,
                    widths[0],
                    grid,
                    sampled,
                    lmax=min(first, after) - 1,
                    kernel=filters(first),
                    bias=bias,
                )
            else:
                before = self.bandwidths[i - 1]
                conv = SO3Conv(
                    widths[i - 1] * (2 if self._joined(i - 1) else 1), widths[i], _sampled(before, oversampling), sampled,
                    lmax=min(before, after) - 1, kernel=filters(before), bias=bias,
                )  # fmt: skip
            return _Block(conv, _norm(norm, widths[i], sampled))

        self.blocks = nn.ModuleList(block(i) for i in range(len(self.bandwidths)))
        last = self.bandwidths[-1]
        self.head = SO3ToS2(
            widths[-1] * (2 if self._joined(len(self.blocks) - 1) else 1), out_channels, _sampled(last, oversampling), grid,
            lmax=min(last, first) - 1, kernel=filters(last),
        )  # fmt: skip

    def _joined(self, i: int) -> bool:
        """Whether the output of block i is joined with that of the block of equal bandwidth on the way down."""
        return self.skip and i > len(self.bandwidths) // 2

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = self.run(block, x)
            found.append(x)
            if self._joined(i):
                x = torch.cat([x, found[len(self.blocks) - 1 - i]], 1)
        result: Tensor = self.head(x)
        return result

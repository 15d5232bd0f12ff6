"""Compression of fields by a scale hyperprior, whatever the convolutions: two levels of latents, rates, symbols and back.

The transforms have their published form: analysis by four times [two convolutions, their outputs added; GDN; mean of four],
synthesis as its mirror with inverse GDN and pixel shuffle, and the same with rectifiers for the scales.
Reference: Ballé et al. 2018, arXiv 1802.01436; on the sphere Mahmoudian Bidgoli et al. 2021, arXiv 2107.09179.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.coding import FactorizedPrior, GaussianConditional, exact_copy, quantise
from spheregeo.models.blocks import check_field, hierarchy
from spheregeo.nn import GDN, Pool

if TYPE_CHECKING:
    from spheregeo.grids import Grid

LATENT_GAIN = 4.0  # of the first latents: rounding then leaves them something to train on


@dataclass(frozen=True)
class Rated:
    """What a network of compression makes of fields.

    Args:
        reconstruction: (B, C, *grid.shape).
        latent_bits: bits of each latent (B, M, *).
        hyper_bits: bits of each latent of the scales (B, N, *).

    Example:
        >>> Rated(torch.zeros(1, 3, 12), torch.ones(1, 2, 3), torch.ones(1, 2, 1)).bits.tolist()
        [8.0]
    """

    reconstruction: Tensor
    latent_bits: Tensor
    hyper_bits: Tensor

    @property
    def bits(self) -> Tensor:
        """Bits of each sample. Shape: (B,)."""
        return self.latent_bits.flatten(1).sum(1) + self.hyper_bits.flatten(1).sum(1)


class ScaleHyperprior(nn.Module):
    """Base of the networks of compression; a subclass gives the convolutions of its grid.

    Args:
        in_channels: channels of the fields.
        out_channels: as many.
        grid: of the fields.
        width: channels inside.
        latent: channels of the latents.
        depth: halvings between fields and latents.
        hops: convolutions of a level.

    Shape: ``forward`` maps (B, C, *grid.shape) -> (B, C, *grid.shape), the fields as they are after coding; in training with
        noise in place of rounding.
    Equivariance: that of the convolutions.
    Raises: ValueError for channels that differ, and a grid that cannot be coarsened depth + 2 times.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import OSLO
        >>> network = OSLO(3, 3, HEALPix(8), width=4, latent=4, depth=1, hops=1)
        >>> isinstance(network, ScaleHyperprior), network(torch.rand(1, 3, 768)).shape
        (True, torch.Size([1, 3, 768]))
    """

    convolutions: tuple[type[nn.Module], ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int,
        latent: int,
        depth: int,
        hops: int,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"out_channels is {out_channels} but in_channels {in_channels}; compression gives back what it took"
            )
        check_count("in_channels", in_channels)
        check_count("width", width)
        check_count("latent", latent)
        check_count("depth", depth)
        check_count("hops", hops)
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        levels = hierarchy(grid, depth + 3)
        self.latent_grid, self.hyper_grid = levels[depth], levels[depth + 2]
        analysis: list[nn.Module] = []
        synthesis: list[nn.Module] = []
        for k in range(depth):
            last = k == depth - 1
            before, after = in_channels if k == 0 else width, latent if last else width
            analysis += [
                self.filter(before, after, levels[k], hops),
                *([] if last else [GDN(after)]),
                Pool(levels[k]),
            ]
            up = [self.filter(after, 4 * before, levels[k + 1], hops), self.shuffle(levels[k + 1])]
            synthesis = [*up, *([] if k == 0 else [GDN(before, inverse=True)]), *synthesis]
        self.analysis, self.synthesis = nn.Sequential(*analysis), nn.Sequential(*synthesis)
        a, b, c = levels[depth:]
        self.hyper_analysis = nn.Sequential(
            self.filter(latent, width, a, 1), nn.ReLU(),
            self.filter(width, width, a, hops), Pool(a), nn.ReLU(),
            self.filter(width, width, b, hops), Pool(b),
        )  # fmt: skip
        self.hyper_synthesis = nn.Sequential(
            self.filter(width, 4 * width, c, hops), self.shuffle(c), nn.ReLU(),
            self.filter(width, 4 * width, b, hops), self.shuffle(b), nn.ReLU(),
            self.filter(width, latent, a, 1), nn.ReLU(),
        )  # fmt: skip
        self.prior, self.conditional = FactorizedPrior(width), GaussianConditional()
        self.reset_parameters(hops)

    @abstractmethod
    def filter(self, before: int, after: int, grid: Grid, hops: int) -> nn.Module:
        """Return a layer of so many convolutions, one after the other, whose outputs are added."""

    @abstractmethod
    def shuffle(self, grid: Grid) -> nn.Module:
        """Return the layer from 4 C channels on a grid to C channels on the next finer one."""

    @torch.no_grad()
    def reset_parameters(self, hops: int) -> None:
        """Draw weights that keep the size of what passes, latents larger, and scales that begin at 1.

        Args:
            hops: convolutions of a level.
        """
        for layer in self.modules():
            if isinstance(layer, self.convolutions):
                weight: Any = layer.weight
                nn.init.normal_(weight, std=(weight[0].numel() * hops) ** -0.5)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        ends = [
            [layer for layer in part.modules() if isinstance(layer, self.convolutions)]
            for part in (self.analysis, self.synthesis, self.hyper_synthesis)
        ]
        for layer, gain in ((ends[0][-hops], LATENT_GAIN), (ends[1][0], 1 / LATENT_GAIN)):
            layer.weight.mul_(gain)  # type: ignore[operator, union-attr]
        nn.init.ones_(ends[2][-1].bias)  # type: ignore[arg-type]

    # ---- training and estimates

    def rate(self, x: Tensor) -> Rated:
        """Return fields as they are after coding, and the bits of their latents.

        Args:
            x: fields (B, C, *grid.shape).
        """
        check_field(x, self.in_channels, self.grid)
        y = self.analysis(x)
        z = quantise(self.hyper_analysis(y.abs()), self.training)
        scales = self.hyper_synthesis(z)
        y = quantise(y, self.training)
        return Rated(self.synthesis(y), self.conditional(y, scales), self.prior(z))

    def forward(self, x: Tensor) -> Tensor:
        return self.rate(x).reconstruction

    # ---- files

    @torch.inference_mode()
    def symbols(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the whole numbers of which files are made: latents and latents of the scales, of one sample.

        Args:
            x: field (1, C, *grid.shape).

        Shape: -> (M, n) and (N, m) int64 on the CPU, points in the order of the latents' grids.
        """
        check_field(x, self.in_channels, self.grid)
        y = self.analysis(x)
        z = self.hyper_analysis(y.abs())
        return y[0].flatten(1).round().long().cpu(), z[0].flatten(1).round().long().cpu()

    @torch.inference_mode()
    def scale_indices(self, z: Tensor) -> Tensor:
        """Return the numbers of the scales of all latents from the latents of the scales, exactly, on the CPU.

        Args:
            z: (N, m) int64.

        Shape: (N, m) -> (M, n) int64.
        """
        field = z.cpu().double().clamp(-1023, 1023).unflatten(1, self.hyper_grid.shape)[None]
        scales = exact_copy(self.hyper_synthesis, self.convolutions)(field)[0].flatten(1)
        return self.conditional.indices(scales)

    @torch.inference_mode()
    def bits_of(self, y: Tensor, z: Tensor) -> float:
        """Return the bits of a sample's symbols by the learned densities.

        Args:
            y: (M, n) int64.
            z: (N, m) int64.
        """
        weight = next(self.hyper_synthesis.parameters())
        latents, hyper = (q.to(weight.device, weight.dtype)[None] for q in (y, z))
        scales = self.hyper_synthesis(hyper.unflatten(2, self.hyper_grid.shape)).flatten(2)
        return float(self.conditional(latents, scales).double().sum() + self.prior(hyper).double().sum())

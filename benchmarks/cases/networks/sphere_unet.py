"""Steps of whole spherical U-Nets: ours, its rows near the poles averaged, and peers.

A step is forward, backward and AdamW. "torch-harmonics" is the U-Net of its examples at four levels, with widths that give it our
number of parameters within 3 %; "torch-harmonics layers" is our network with each convolution replaced by theirs with
the same radius, channels and functions; "planar" is a U-Net of ``conv2d`` with our levels and blocks, as wide as makes its
multiplications nearest to ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cases.configuration import Configuration
from measure import Work
from spheregeo.audit.cost import count_flops
from spheregeo.grids import Equiangular
from spheregeo.kernels import Rings
from spheregeo.models import SphericalUNet
from spheregeo.nn import DiscoConv

IN, OUT, WIDTH, DEPTH = 3, 14, 16, 4


@dataclass
class Step(Work):
    """A step of training in place of a backward pass alone."""

    optimizer: torch.optim.Optimizer | None = None

    def both(self) -> None:
        """Run forward, backward and optimizer once."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        self.forward().square().mean().backward()
        self.optimizer.step()


def step(network: nn.Module, grid: Equiangular) -> Step:
    """Return a step of a network on a fixed field."""
    x = torch.randn(1, IN, *grid.shape)
    return Step(lambda: network(x), (), optimizer=torch.optim.AdamW(network.parameters()))


def ours(grid: Equiangular, polar: str = "averaged") -> SphericalUNet:
    """Return our network."""
    return SphericalUNet(IN, OUT, grid, width=WIDTH, depth=DEPTH, polar=polar)


def theirs(grid: Equiangular) -> nn.Module:
    """Return the U-Net of torch-harmonics' examples, no dropout."""
    from torch_harmonics.examples.models import SphericalUNet as Peer

    rates = {"drop_conv_rate": 0.0, "drop_path_rate": 0.0, "drop_dense_rate": 0.0}
    return Peer(
        img_size=grid.shape,
        in_chans=IN,
        out_chans=OUT,
        embed_dims=[12, 24, 48, 96],
        depths=[1] * DEPTH,
        activation_function="gelu",
        **rates,
    )


def their_layers(grid: Equiangular) -> nn.Module:
    """Return our network with convolutions of torch-harmonics."""
    from torch_harmonics import DiscreteContinuousConvS2, DiscreteContinuousConvTransposeS2

    network = ours(grid, "exact")
    for name, layer in list(network.named_modules()):
        if isinstance(layer, DiscoConv):
            up = layer.source.num_points < layer.target.num_points
            kind = DiscreteContinuousConvTransposeS2 if up else DiscreteContinuousConvS2
            peer = kind(
                layer.in_channels,
                layer.out_channels,
                in_shape=layer.source.shape,
                out_shape=layer.target.shape,
                kernel_shape=(3,),
                basis_type="piecewise linear",
                bias=False,
                theta_cutoff=layer.radius,
            )
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, peer)
    return network


class _Planar(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(DEPTH)]

        def bridge(a: int, b: int, size: int = 3, stride: int = 1) -> nn.Sequential:
            conv = nn.Conv2d(a, b, size, stride, size // 2, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(b), nn.GELU())

        def body(c: int) -> nn.Sequential:
            return nn.Sequential(bridge(c, c), nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))

        pairs = list(itertools.pairwise(widths))
        self.stem = bridge(IN, width)
        self.encoder = nn.ModuleList(body(c) for c in widths)
        self.down = nn.ModuleList(bridge(a, b, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(bridge(b, a) for a, b in pairs)
        self.merge = nn.ModuleList(bridge(2 * a, a, 1) for a, _ in pairs)
        self.decoder = nn.ModuleList(body(a) for a, _ in pairs)
        self.head = nn.Conv2d(width, OUT, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for i, stage in enumerate(self.encoder):
            if i:
                skips.append(x)
                x = self.down[i - 1](x)
            x = nn.functional.gelu(x + stage(x))
        for i in reversed(range(DEPTH - 1)):
            x = self.up[i](nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))
            x = self.merge[i](torch.cat([x, skips[i]], 1))
            x = nn.functional.gelu(x + self.decoder[i](x))
        result: Tensor = self.head(x)
        return result


def planar(grid: Equiangular) -> nn.Module:
    """Return the planar U-Net whose multiplications are nearest to ours."""

    def flops(width: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _Planar(width)(torch.randn(1, IN, 64, 128))
        return int(counter.get_total_flops()) * grid.num_points // (64 * 128)

    goal = count_flops(ours(grid), torch.randn(1, IN, *grid.shape))
    return _Planar(min(range(8, 33), key=lambda width: abs(flops(width) - goal)))


def _configuration(nlat: int) -> Configuration:
    grid = Equiangular(nlat, 2 * nlat)
    return Configuration(
        case="networks/sphere_unet",
        grid=grid,
        kernel=Rings(3),
        radius=2 * grid.spacing,
        channels=WIDTH,
        builders={
            "spheregeo": lambda: step(ours(grid), grid),
            "spheregeo, exact rows": lambda: step(ours(grid, "exact"), grid),
            "torch-harmonics": lambda: step(theirs(grid), grid),
            "torch-harmonics layers": lambda: step(their_layers(grid), grid),
            "planar": lambda: step(planar(grid), grid),
        },
        small=_configuration(32) if nlat > 32 else None,
    )


def cases() -> list[Configuration]:
    """Return the configurations of this case."""
    return [_configuration(128), _configuration(256)]

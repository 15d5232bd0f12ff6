"""Panoramas to compressed files and back, with a trained task of compression.

What a reader needs to find the latents again is exact: tables of whole numbers, and scales computed without rounding errors. The
picture is then made from the latents in float64 and rounded to 8 bits, so that other orders of summation leave it as it is: a
pixel could differ only where its value lies within some 1e-12 of the middle between two grey levels.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.coding import Compressed, SymbolReader, SymbolWriter, pack
from spheregeo.grids import Equiangular, HEALPix, LatLon, parse_grid
from spheregeo.models import ScaleHyperprior
from spheregeo.tasks.sphere.compression import Compression, carried

if TYPE_CHECKING:
    from spheregeo.grids import Grid

LARGEST = 1 << 26  # points of a grid that a file may ask for
Told = Callable[[str], None]


@dataclass(frozen=True)
class EncodedPanorama:
    """A panorama's file, and how long it is.

    Args:
        file: what is written.
        bits: of the whole file.
        symbol_bits: of the symbols in it.
        estimate: bits of the symbols by the network's own densities.
    """

    file: Compressed
    bits: int
    symbol_bits: int
    estimate: float

    @property
    def bits_per_steradian(self) -> float:
        """Bits of the file for each steradian."""
        return self.bits / (4 * math.pi)


class Codec:
    """A trained task of compression, ready for files.

    Args:
        task: the task, on any device.

    Example:
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.tasks import Codec, Compression
        >>> codec = Codec(Compression(3, Equiangular(16, 32), width=4, depth=1).eval())
        >>> encoded = codec.encode(torch.rand(3, 16, 32))
        >>> codec.decode(encoded.file).shape
        (16, 32, 3)
    """

    def __init__(self, task: Compression) -> None:
        self.task = task
        own: Any = task.network
        self._networks: dict[Grid, ScaleHyperprior] = {task.coding_grid: own}

    def network_on(self, grid: Grid) -> ScaleHyperprior:
        """Return the network on another grid of its kind, with the same weights.

        Args:
            grid: the grid.

        Raises: ValueError for a grid of another kind, or one that cannot be coarsened as often as the network does.
        """
        if grid not in self._networks:
            stored = self.task.hparams
            options = {k: stored[k] for k in ("width", "depth") if stored[k] is not None} | (
                stored["options"] or {}
            )
            if models.native_grid(stored["network"], grid) != grid:
                raise ValueError(f"grid is {grid!r}, on which {stored['network']} does not work")
            channels = self.task.in_channels
            made: Any = models.create(stored["network"], channels, channels, grid, **options)
            made.load_state_dict(self.task.network.state_dict())
            own: Any = self.task.network
            self._networks = {self.task.coding_grid: own, grid: made.to(self.task.device).eval()}
        return self._networks[grid]

    def grid_for(self, height: int) -> Grid:
        """Return the grid on which panoramas of so many rows are coded unless the caller chooses one: about as many points.

        Args:
            height: rows of the panorama.
        """
        network: Any = self.task.network
        ratio = network.grid.num_points // network.hyper_grid.num_points  # 4 for each halving
        step = math.isqrt(ratio)
        native = models.native_grid(self.task.hparams["network"], Equiangular(height, 2 * height))
        if isinstance(native, HEALPix):
            return HEALPix(max(native.nside, step), native.order)
        if isinstance(native, LatLon):
            rows = step * max(2, math.ceil(native.shape[0] / step))
            return Equiangular(rows, 2 * rows)
        return native

    @property
    def digest(self) -> bytes:
        """Digest of what a reader needs: tables, decoder, and units of the values. 8 bytes."""
        network: Any = self.task.network
        network.prior.refresh()
        found = hashlib.sha256(type(network).__name__.encode())
        parts = [network.prior.counts, network.conditional.counts, network.conditional.limits]
        parts += [*network.hyper_synthesis.parameters(), *network.synthesis.parameters()]
        for part in [*parts, self.task.image_mean, self.task.image_std]:
            array = part.detach().cpu().contiguous().numpy()
            found.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
        return found.digest()[:8]

    # ---- writing

    @torch.inference_mode()
    def encode(
        self, photo: Tensor, grid: Grid | None = None, tell: Told = lambda text: None
    ) -> EncodedPanorama:
        """Return a panorama compressed.

        Args:
            photo: values in [0, 1].
            grid: grid on which the photo is coded; see :meth:`grid_for` if None.
            tell: function that is given a line for each stage.

        Shape: (C, H, W), W = 2 H.
        Raises: ValueError for another number of channels than the network has, and as :meth:`network_on`.
        """
        task = self.task
        if photo.ndim != 3 or photo.shape[0] != task.in_channels or photo.shape[2] != 2 * photo.shape[1]:
            raise ValueError(f"photo has shape {tuple(photo.shape)}; expected ({task.in_channels}, H, 2 H)")
        size = (int(photo.shape[1]), int(photo.shape[2]))
        network = self.network_on(self.grid_for(size[0]) if grid is None else grid)
        tell(f"to {network.grid!r}, {network.grid.num_points:,} points")
        field = carried(task.normalize(photo.to(task.device)), Equiangular(*size), network.grid)
        tell("analysis")
        y, z = network.symbols(field[None])
        tell("scales")
        indices = network.scale_indices(z)
        tell(f"coding of {y.numel() + z.numel():,} symbols")
        writer = SymbolWriter()
        channels = torch.arange(len(z))[:, None].expand_as(z)
        writer.add(z.flatten().numpy(), channels.flatten().numpy(), network.prior.tables())
        writer.add(y.flatten().numpy(), indices.flatten().numpy(), network.conditional.tables())
        symbols = writer.finish()
        file = Compressed(self.digest, repr(network.grid), size, symbols)
        estimate = float(network.bits_of(y, z))
        return EncodedPanorama(file, 8 * len(pack(file)), 8 * len(symbols), estimate)

    # ---- reading

    @torch.inference_mode()
    def latents(
        self, file: Compressed, tell: Told = lambda text: None
    ) -> tuple[ScaleHyperprior, Tensor, Tensor]:
        """Return the network on a file's grid, and its latents and those of their scales, to the last digit as they were written.

        Args:
            file: the compressed panorama.
            tell: function that is given a line for each stage.

        Raises: ValueError for a file of another model, or one whose symbols do not fit its grid.
        """
        if file.digest != self.digest:
            raise ValueError(
                f"the file was written with a model of digest {file.digest.hex()}, this one has {self.digest.hex()}; "
                "name the checkpoint that wrote it"
            )
        grid = parse_grid(file.grid)
        if grid.num_points > LARGEST:
            raise ValueError(f"the file asks for {grid.num_points:,} points; expected at most {LARGEST:,}")
        network = self.network_on(grid)
        tell("symbols")
        reader = SymbolReader(file.symbols)
        points, count = network.hyper_grid.num_points, network.prior.channels
        channels = torch.arange(count)[:, None].expand(count, points).flatten()
        z = torch.from_numpy(reader.take(channels.numpy(), network.prior.tables())).unflatten(
            0, (count, points)
        )
        tell("scales")
        indices = network.scale_indices(z)
        y = reader.take(indices.flatten().numpy(), network.conditional.tables())
        return network, torch.from_numpy(y).reshape(indices.shape), z

    @torch.inference_mode()
    def decode(
        self, file: Compressed, size: tuple[int, int] | None = None, tell: Told = lambda text: None
    ) -> np.ndarray[Any, Any]:
        """Return the panorama of a file.

        Args:
            file: the compressed panorama.
            size: rows and columns; those of the photo if None.
            tell: function that is given a line for each stage.

        Shape: (H, W, C) uint8.
        Raises: ValueError as :meth:`latents`, and for a size that is not 2:1.
        """
        height, width = file.size if size is None else size
        if width != 2 * height or height < 1:
            raise ValueError(f"size is {(height, width)}; expected (H, 2 H)")
        found = self.field(file, tell)
        tell(f"to {height} x {width} pixels")
        panorama = carried(found, parse_grid(file.grid), Equiangular(height, width))
        return (panorama.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    @torch.inference_mode()
    def field(self, file: Compressed, tell: Told = lambda text: None) -> Tensor:
        """Return what a file holds on its own grid: values about in [0, 1], (C, *grid.shape) float64.

        Args:
            file: the compressed panorama.
            tell: function that is given a line for each stage.

        Raises: ValueError as :meth:`latents`.
        """
        network, y, _ = self.latents(file, tell)
        tell("synthesis")
        latents = y.double().unflatten(1, network.latent_grid.shape)[None]
        found: Tensor = copy.deepcopy(network.synthesis).cpu().double()(latents)[0]
        shape = (-1, *(1 for _ in found.shape[1:]))
        std, mean = (
            part.cpu().double().reshape(shape) for part in (self.task.image_std, self.task.image_mean)
        )
        return found * std + mean

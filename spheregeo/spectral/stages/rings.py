r"""The ring stage of harmonic transforms: Fourier series along rings of equal colatitude.

Synthesis of a ring of n points at longitudes φ_j = φ_0 + 2πj/n is f_j = Z_0 + √2 Re Σ_{m ≥ 1} Z_m e^{imφ_j}, where Z_m = C_m −
i S_m are the ring values of cosine and sine coefficients: orders beyond n/2 fold onto lower ones. ``transpose`` is its
transpose with respect to real and imaginary parts. Rings of equal length share one fast Fourier transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.grids.base import LatitudeRings
from spheregeo.lazy import cached_property


@dataclass(frozen=True, eq=False)
class Batch:
    """Rings of one length and one longitude of the first point: their numbers and the points of each.

    ``whole`` says that the batch is all rings in the order of storage; ``turn`` has the factors e^{imφ_0}/√2 (1 for m = 0) of the
    first point's longitude, None where that is 0.
    """

    rings: Tensor
    points: Tensor
    phase: float
    length: int
    whole: bool
    turn: Tensor | None


class RingStage:
    """Fourier series of orders 0 … lmax along the rings of a grid.

    Args:
        rings: of the grid.
        lmax: largest order.
        like: a real tensor on the device and in the precision of the fields.
        order: (N,) where each point of the rings is stored; None where points are stored ring by ring.
    """

    def __init__(self, rings: LatitudeRings, lmax: int, like: Tensor, order: Tensor | None = None) -> None:
        self.lmax, self.num_points = lmax, int(rings.length.sum())
        self.num_rings = len(rings.length)
        self.batches: list[Batch] = []
        kind = torch.complex64 if like.dtype == torch.float32 else torch.complex128
        kinds = torch.stack([rings.length.to(torch.float64), rings.phase], 1).unique(dim=0)
        for length, phase in [(int(n), p) for n, p in kinds.tolist()]:
            which = torch.nonzero((rings.length == length) & (rings.phase == phase))[:, 0]
            points = rings.start[which, None] + torch.arange(length)
            whole = order is None and len(which) == self.num_rings
            points = points if order is None else order[points]
            turn = self._phases(phase).to(like.device, kind) if phase else None
            self.batches.append(
                Batch(which.to(like.device), points.to(like.device), phase, length, whole, turn)
            )

    def synthesis(self, values: Tensor, mover: Any = None, weights: Tensor | None = None) -> Tensor:
        """Fields of ring values, times weights (R,). Shape: complex (M, R, B) -> real (B, N).

        ``mover`` may be an engine with functions ``spectra`` and ``ring_values``, which put values in order in one pass.
        """
        if self._movable(mover):
            n = self.batches[0].length
            ordered = torch.view_as_real(values).flatten(2)
            spectra = mover.spectra(ordered, self._factors, weights, n // 2 + 1)
            return torch.fft.irfft(spectra, n=n, norm="forward").view(-1, self.num_points)
        if weights is not None:
            values = values * weights[:, None]
        maps, n = values.permute(2, 1, 0), self.num_points
        out = None
        for batch in self.batches:
            turn = batch.turn
            z = maps if batch.whole else maps[:, batch.rings]
            z = _scaled(z, math.sqrt(0.5)) if turn is None else z * turn
            field = torch.fft.irfft(_folded(z, batch.length), n=batch.length, norm="forward")
            if batch.whole:
                return field.reshape(len(field), n)
            out = field.new_empty(len(field), n) if out is None else out
            out[:, batch.points.reshape(-1)] = field.flatten(1)
        assert out is not None
        return out

    def transpose(self, fields: Tensor, mover: Any = None, weights: Tensor | None = None) -> Tensor:
        """The transpose of the synthesis. Shape: real (B, N) -> complex (M, R, B)."""
        kind = torch.complex64 if fields.dtype == torch.float32 else torch.complex128
        if self._movable(mover):
            z = torch.fft.rfft(fields.view(len(fields), self.num_rings, -1), norm="backward")
            factors = 2 * self._factors.conj_physical()
            factors[0] = 1
            found = mover.ring_values(z, factors, weights)
            return torch.view_as_complex(found.view(*found.shape[:2], -1, 2))
        out = self._transpose(fields, kind)
        return out if weights is None else out * weights[:, None]

    @cached_property
    def _factors(self) -> Tensor:
        """Factors of the one batch, in float64."""
        return self._phases(self.batches[0].phase)

    def _phases(self, phase: float) -> Tensor:
        """Factors e^{imφ_0}/√2 (1 for m = 0). Shape: (M,) complex."""
        size = torch.full((self.lmax + 1,), math.sqrt(0.5), dtype=torch.float64)
        size[0] = 1.0
        return torch.polar(size, phase * torch.arange(self.lmax + 1, dtype=torch.float64))

    def _movable(self, mover: Any) -> bool:
        """Whether all rings are one batch in order, no order folds, and there is someone to move values."""
        return (
            hasattr(mover, "spectra")
            and self.batches[0].whole
            and self.lmax < (self.batches[0].length + 1) // 2
        )

    def _transpose(self, fields: Tensor, kind: torch.dtype) -> Tensor:
        out = torch.empty(self.lmax + 1, self.num_rings, len(fields), dtype=kind, device=fields.device)
        for batch in self.batches:
            turn = batch.turn
            part = fields if batch.whole else fields[:, batch.points.reshape(-1)]
            z = torch.fft.rfft(part.view(len(fields), *batch.points.shape), norm="backward")
            z = _unfolded(z, batch.length, self.lmax)
            z = _scaled(z, math.sqrt(2)) if turn is None else z * (2 * turn.conj_physical())
            z[..., 0].imag.zero_()
            if turn is not None:
                z[..., 0] *= 0.5
            if batch.whole:
                return z.permute(2, 1, 0)
            out[:, batch.rings] = z.permute(2, 1, 0)
        return out


def _scaled(z: Tensor, factor: float) -> Tensor:
    """A copy with orders from 1 multiplied by a factor."""
    z = z * factor
    z[..., 0] /= factor
    return z


def _folded(z: Tensor, n: int) -> Tensor:
    """The half spectrum of a ring of n points from orders 0 … of a series Re(Z_0) + 2 Re Σ Z_m e^{imφ}."""
    if z.shape[-1] <= (n + 1) // 2:  # all below n/2: no order folds
        return z
    full = z.new_zeros(*z.shape[:-1], -(-z.shape[-1] // n) * n)
    full[..., : z.shape[-1]] = z
    full[..., 0] *= 0.5
    full = full.unflatten(-1, (-1, n)).sum(-2)
    half = n // 2 + 1
    mirrored = torch.cat([full[..., :1], full.flip(-1)[..., : half - 1]], -1)  # entry k is that of n − k
    return full[..., :half] + mirrored.conj_physical()


def _unfolded(z: Tensor, n: int, lmax: int) -> Tensor:
    """Orders 0 … lmax of the half spectrum of n points."""
    if lmax < z.shape[-1]:
        return z[..., : lmax + 1]
    full = torch.cat([z, z[..., 1 : (n + 1) // 2].flip(-1).conj_physical()], -1)
    return full[..., torch.arange(lmax + 1, device=z.device) % n]

r"""Fourier in longitude for the rows of a ring map that are too wide to go tap by tap.

Near a pole a disc of fixed radius covers whole rings: hundreds of taps on a few rings. There the map is diagonalised by
the FFT along the ring: with X_q(f) the transform of ring q and psi_k(p, q, s) the taps,

    Y_o(p, f) = sum_{c,k} w_ock sum_q Psi_k(p, q, f) X_qc(f),   Psi_k(f) = sum_s psi_k(s) exp(2 pi i f s / M),

so that channels are mixed before the inverse transform. Rows are taken in bands of a few, which share their rings.
Psi_k is stored by its real and imaginary parts, whichever are there: one of them for a function that is even or odd in
longitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.pattern import RingPattern

ROWS_PER_BAND = 8
PENALTY = 4.0  # a multiplication here costs about this many of the tap-by-tap kernel's; measured on two AVX-512 cores


@dataclass(frozen=True)
class Band:
    """Consecutive target rows and the consecutive source rings they read, in units of whole lines of the grid."""

    source_begin: int  # first point of the rings
    source_rings: int
    source_step: int  # interleaved rings a line
    target_begin: int
    target_rows: int
    target_step: int
    columns: int

    def ints(self) -> list[int]:
        return list(self.__dict__.values())

    def source(self, x: Tensor) -> Tensor:
        """(B, C, Q) -> (B, C, rings, M), a view where rings are not interleaved."""
        return _lines(x, self.source_begin, self.source_rings, self.source_step, self.columns)

    def target(self, y: Tensor) -> Tensor:
        """(B, O, P) -> (B, O, rows, M)."""
        return _lines(y, self.target_begin, self.target_rows, self.target_step, self.columns)

    def add_source(self, x: Tensor, part: Tensor) -> None:
        """Add (B, C, rings, M) to its place in x."""
        _add_lines(x, part, self.source_begin, self.source_step)

    def add_target(self, y: Tensor, part: Tensor) -> None:
        """Add (B, O, rows, M) to its place in y."""
        _add_lines(y, part, self.target_begin, self.target_step)


def bands_from_ints(ints: list[int]) -> list[Band]:
    """Inverse of joining the :meth:`Band.ints` of several bands."""
    return [Band(*ints[i : i + 7]) for i in range(0, len(ints), 7)]


def _lines(x: Tensor, begin: int, rings: int, step: int, columns: int) -> Tensor:
    part = x[..., begin : begin + rings * columns]
    part = part.reshape(*x.shape[:2], rings // step, columns, step)
    return part.transpose(-1, -2).reshape(*x.shape[:2], rings, columns)


def _add_lines(x: Tensor, part: Tensor, begin: int, step: int) -> None:
    batch, channels, rings, columns = part.shape
    part = part.view(batch, channels, rings // step, step, columns).transpose(-1, -2)
    x[..., begin : begin + rings * columns] += part.reshape(batch, channels, -1)


def split(pattern: RingPattern, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[Band], list[Tensor]]:
    """Choose wide rows by counted cost; return (keep, bands, spectra).

    ``keep`` (num_values,) marks the entries that stay with the taps. Two tensors a band describe its spectrum:
    parts (rows, E, rings, F) with F = M // 2 + 1, and (E, 2) int64: each part's function k and whether it is imaginary.
    """
    keep = torch.ones(pattern.num_values, dtype=torch.bool)
    source_step, target_step = _step(pattern.source_base, pattern), _step(pattern.target_base, pattern)
    if source_step == 0 or target_step == 0:
        return keep, [], []
    k, m = values.shape[0], pattern.columns
    taps = pattern.indptr.diff()
    rows = torch.repeat_interleave(torch.arange(len(taps)), taps)
    ring = pattern.ring.long()
    high = torch.zeros(len(taps), dtype=torch.int64).scatter_reduce(0, rows, ring, "amax", include_self=False)
    low = torch.zeros(len(taps), dtype=torch.int64).scatter_reduce(0, rows, ring, "amin", include_self=False)
    wide = k * taps > PENALTY * (2 * k * (high - low + 1) + 5 * math.log2(max(m, 2)))
    bands, spectra = [], []
    lines = wide.view(-1, target_step).any(1)
    per_band = max(1, ROWS_PER_BAND // target_step)
    first = 0
    while first < len(lines):
        last = first
        while last < len(lines) and last - first < per_band and lines[last]:
            last += 1
        if last > first:
            r0, r1 = first * target_step, last * target_step
            entries = slice(int(pattern.indptr[r0]), int(pattern.indptr[r1]))
            q0 = int(ring[entries].min()) // source_step * source_step
            q1 = (int(ring[entries].max()) // source_step + 1) * source_step
            dense = torch.zeros(k, r1 - r0, q1 - q0, m, dtype=torch.float64)
            dense[:, rows[entries] - r0, ring[entries] - q0, pattern.shift[entries].long()] = values[:, entries].double()
            parts, which = _parts(torch.fft.rfft(dense).conj())
            spectra += [parts.to(dtype), which]
            keep[entries] = False
            bands.append(Band(q0 * m, q1 - q0, source_step, r0 * m, r1 - r0, target_step, m))
        first = max(last, first + 1)
    return keep, bands, spectra


def _step(base: Tensor, pattern: RingPattern) -> int:
    """Interleaved rings a line if ``base`` is that of a whole lat-lon grid, else 0."""
    step = int((base < pattern.columns).sum())
    expected = torch.arange(len(base))
    expected = expected // max(step, 1) * step * pattern.columns + expected % max(step, 1)
    return step if step and len(base) % step == 0 and torch.equal(base.cpu(), expected) else 0


def _parts(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts that are not zero to rounding: (rows, E, rings, F) and (E, 2)."""
    size = spectrum.abs().amax((1, 2, 3))
    parts, which = [], []
    for k in range(len(spectrum)):
        for imaginary, part in enumerate((spectrum[k].real, spectrum[k].imag)):
            if part.abs().max() > 1e-10 * size[k]:  # geometry near a pole is good to about 1e-12
                parts.append(part)
                which.append((k, imaginary))
    shape = (spectrum.shape[1], 0, *spectrum.shape[2:])
    stacked = torch.stack(parts, 1) if parts else spectrum.real.new_zeros(shape)
    return stacked.contiguous(), torch.tensor(which, dtype=torch.int64).view(-1, 2)


def _joined(parts: Tensor, which: Tensor, k: int) -> Tensor:
    """Complex spectrum (rows, K, rings, F)."""
    rows, _, rings, f = parts.shape
    full = parts.new_zeros(2, rows, k, rings, f)
    full[which[:, 1], :, which[:, 0]] = parts.transpose(0, 1)
    return torch.complex(full[0], full[1])


def mix(parts: Tensor, which: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """sum_{c,k,q} w_ock Psi_k(p, q, f) X_c(q, f): (B, C, rings, F) -> (B, O, rows, F), complex."""
    z = torch.einsum("pkqf,bcqf->bckpf", _joined(parts, which, w.shape[2]), x)
    return torch.einsum("bckpf,ock->bopf", z, w.to(z.dtype))


def correlate(parts: Tensor, which: Tensor, k: int, x: Tensor, g: Tensor) -> Tensor:
    """Re sum conj(G_o(p, f)) Psi_k(p, q, f) X_c(q, f): (O, C, K)."""
    z = torch.einsum("pkqf,bcqf->bckpf", _joined(parts, which, k), x)
    return torch.einsum("bopf,bckpf->ock", g.conj(), z).real


def adjoint(parts: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum of the transposed map: rows and rings change places, imaginary parts their sign."""
    sign = 1 - 2 * which[:, 1].to(parts.dtype)
    return (parts * sign[:, None, None]).transpose(0, 2).contiguous(), which


def parseval(g: Tensor, columns: int) -> Tensor:
    """Scale half-spectra (..., F) so that Re sum conj(G) Z is the sum of g z over the ring."""
    twice = torch.full((g.shape[-1],), 2.0 / columns, dtype=g.real.dtype, device=g.device)
    twice[0] /= 2
    if columns % 2 == 0:
        twice[-1] /= 2
    return g * twice


def add_apply(engine: Any, bands: list[Band], spectra: list[Tensor], w: Tensor, x: Tensor, y: Tensor) -> None:
    """Add the bands' rows of the mixed map to y (B, O, P)."""
    run = getattr(engine, "spectral_mix", mix)
    for band, parts, which in zip(bands, spectra[::2], spectra[1::2], strict=True):
        mixed = run(parts, which, w, torch.fft.rfft(band.source(x)))
        band.add_target(y, torch.fft.irfft(mixed, n=band.columns))


def add_adjoint(engine: Any, bands: list[Band], spectra: list[Tensor], w: Tensor, g: Tensor, gx: Tensor) -> None:
    """Add the bands' part of the gradient with respect to x to gx (B, C, Q)."""
    run = getattr(engine, "spectral_mix", mix)
    turned = w.transpose(0, 1).contiguous()
    for band, parts, which in zip(bands, spectra[::2], spectra[1::2], strict=True):
        out = run(*adjoint(parts, which), turned, torch.fft.rfft(band.target(g)))
        band.add_source(gx, torch.fft.irfft(out, n=band.columns))


def add_weight_gradient(
    engine: Any, bands: list[Band], spectra: list[Tensor], x: Tensor, g: Tensor, gw: Tensor
) -> None:
    """Add the bands' part of the gradient with respect to w to gw (O, C, K), by Parseval's relation."""
    run = getattr(engine, "spectral_correlate", correlate)
    for band, parts, which in zip(bands, spectra[::2], spectra[1::2], strict=True):
        transformed = parseval(torch.fft.rfft(band.target(g)), band.columns)
        gw += run(parts, which, gw.shape[2], torch.fft.rfft(band.source(x)), transformed)


def add_gradients(
    engine: Any, bands: list[Band], spectra: list[Tensor], w: Tensor, x: Tensor, g: Tensor, gx: Tensor, gw: Tensor
) -> None:
    """Both of the above, transforming g once."""
    run, dot = getattr(engine, "spectral_mix", mix), getattr(engine, "spectral_correlate", correlate)
    turned = w.transpose(0, 1).contiguous()
    for band, parts, which in zip(bands, spectra[::2], spectra[1::2], strict=True):
        transformed = torch.fft.rfft(band.target(g))
        out = run(*adjoint(parts, which), turned, transformed)
        band.add_source(gx, torch.fft.irfft(out, n=band.columns))
        gw += dot(parts, which, w.shape[2], torch.fft.rfft(band.source(x)), parseval(transformed, band.columns))

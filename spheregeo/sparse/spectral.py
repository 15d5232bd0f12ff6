r"""Fourier in longitude for the rows of a ring map that are too wide to go tap by tap.

Near a pole a disc of fixed radius covers whole rings: hundreds of taps on a few rings. There the map is diagonalised by
the FFT along the ring: with X_q(f) the transform of ring q and psi_k(p, q, s) the taps,

    Y_o(p, f) = sum_{c,k} w_ock sum_q Psi_k(p, q, f) X_qc(f),   Psi_k(f) = sum_s psi_k(s) exp(2 pi i f s / M),

so that channels are mixed before the inverse transform. Rows are taken in bands of a few, which share their rings, and
all bands go through one transform. Psi_k is stored by its real and imaginary parts, whichever are there: one of them for
a function that is even or odd in longitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.pattern import RingPattern

ROWS_PER_BAND = 8
PENALTY = 4.0  # a multiplication here costs about this many of the tap-by-tap kernel's; measured on two AVX-512 cores
OVERHEAD = 2e6  # multiplications a channel that all bands together must save before their calls pay


@dataclass(frozen=True)
class Bands:
    """All bands of a map, padded to equal sizes.

    A *line* is a row of the grid: ``step`` interleaved rings of M points. ``source_lines`` (N, L) and ``target_lines``
    (n,) say which lines are read and written, ``written`` (n,) which of the N * rows / step computed lines those are.
    ``parts`` is (N, rows, E, rings, F) with F = M // 2 + 1, ``which`` (E, 2) each part's function and whether it is
    the imaginary part.
    """

    parts: Tensor
    which: Tensor
    source_lines: Tensor
    target_lines: Tensor
    written: Tensor
    source_step: int
    target_step: int
    columns: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.parts, self.which, self.source_lines, self.target_lines, self.written]

    @property
    def ints(self) -> list[int]:
        return [self.source_step, self.target_step, self.columns]

    def source(self, x: Tensor) -> Tensor:
        """Transformed rings: (B, C, Q) -> (B, N, C, rings, F) complex."""
        lines = _lines(x, self.source_lines.reshape(-1), self.source_step, self.columns)
        return torch.fft.rfft(lines.unflatten(2, (len(self.parts), -1)).transpose(1, 2))

    def target(self, g: Tensor) -> Tensor:
        """Transformed rows of a cotangent: (B, O, P) -> (B, N, O, rows, F) complex, zero where padded."""
        n, rows = self.parts.shape[:2]
        lines = _lines(g, self.target_lines, self.target_step, self.columns)
        lines = lines.unflatten(2, (-1, self.target_step))
        padded = lines.new_zeros(*g.shape[:2], n * rows // self.target_step, self.target_step, self.columns)
        padded.index_copy_(2, self.written, lines)
        return torch.fft.rfft(padded.view(*g.shape[:2], n, rows, self.columns).transpose(1, 2))

    def add_source(self, gx: Tensor, out: Tensor) -> None:
        """Add spectra (B, N, C, rings, F) to their rings in gx (B, C, Q)."""
        rings = torch.fft.irfft(out, n=self.columns).transpose(1, 2).flatten(2, 3)
        _add_lines(gx, rings, self.source_lines.reshape(-1), self.source_step)

    def add_target(self, y: Tensor, out: Tensor) -> None:
        """Add spectra (B, N, O, rows, F) to their rows in y (B, O, P)."""
        rows = torch.fft.irfft(out, n=self.columns).transpose(1, 2).flatten(2, 3)
        kept = rows.unflatten(2, (-1, self.target_step)).index_select(2, self.written).flatten(2, 3)
        _add_lines(y, kept, self.target_lines, self.target_step)


def restore(tensors: list[Tensor], ints: list[int]) -> Bands | None:
    """Inverse of ``bands.tensors, bands.ints``; None for empty lists."""
    if not tensors:
        return None
    parts, which, source_lines, target_lines, written = tensors
    return Bands(parts, which, source_lines, target_lines, written, *ints)


def _lines(x: Tensor, lines: Tensor, step: int, columns: int) -> Tensor:
    """Rings of some lines: (B, C, points) -> (B, C, len(lines) * step, M)."""
    picked = x.reshape(*x.shape[:2], -1, columns * step).index_select(2, lines)
    return picked.unflatten(3, (columns, step)).transpose(-1, -2).flatten(2, 3)


def _add_lines(x: Tensor, rings: Tensor, lines: Tensor, step: int) -> None:
    joined = rings.unflatten(2, (-1, step)).transpose(-1, -2).flatten(3)
    x.view(*x.shape[:2], -1, joined.shape[3]).index_add_(2, lines, joined)


def split(pattern: RingPattern, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Bands | None]:
    """Choose wide rows by counted cost; return which entries stay with the taps, (num_values,), and the bands."""
    keep = torch.ones(pattern.num_values, dtype=torch.bool)
    source_step, target_step = _step(pattern.source_base, pattern), _step(pattern.target_base, pattern)
    if source_step == 0 or target_step == 0:
        return keep, None
    k, m = values.shape[0], pattern.columns
    taps, ring = pattern.indptr.diff(), pattern.ring.long()
    rows = torch.repeat_interleave(torch.arange(len(taps)), taps)
    high = torch.zeros(len(taps), dtype=torch.int64).scatter_reduce(0, rows, ring, "amax", include_self=False)
    low = torch.zeros(len(taps), dtype=torch.int64).scatter_reduce(0, rows, ring, "amin", include_self=False)
    saved = k * taps - PENALTY * (
        2 * k * (high - low + 1) + 5 * math.log2(max(m, 2))
    )  # multiplications a point
    wide = (saved > 0).view(-1, target_step).any(1)
    if not bool(wide.any()) or float(saved.view(-1, target_step)[wide].sum()) * m < OVERHEAD:
        return keep, None
    bands: list[tuple[int, int, int]] = []  # first line, end line, first source ring
    per_band = max(1, ROWS_PER_BAND // target_step)
    first = 0
    while first < len(wide):
        last = first
        while last < len(wide) and last - first < per_band and wide[last]:
            last += 1
        if last > first:
            bands.append(
                (first, last, int(low[first * target_step : last * target_step].min()) // source_step)
            )
        first = max(last, first + 1)
    ends = [int(high[a * target_step : b * target_step].max()) // source_step + 1 for a, b, _ in bands]
    span = max(end - q for (_, _, q), end in zip(bands, ends, strict=True))
    height = max(b - a for a, b, _ in bands)
    number_of_lines = len(pattern.source_base) // source_step
    source_lines, target_lines, written, places = [], [], [], []
    for n, (a, b, q) in enumerate(bands):
        q = max(0, min(q, number_of_lines - span))
        entries = slice(int(pattern.indptr[a * target_step]), int(pattern.indptr[b * target_step]))
        places.append((entries, a * target_step, q * source_step))
        keep[entries] = False
        source_lines.append(torch.arange(q, q + span))
        target_lines.append(torch.arange(a, b))
        written.append(n * height + torch.arange(b - a))

    def spectrum(n: int) -> Tensor:
        entries, row, line = places[n]
        dense = torch.zeros(k, height * target_step, span * source_step, m, dtype=torch.float64)
        dense[:, rows[entries] - row, ring[entries] - line, pattern.shift[entries].long()] = values[
            :, entries
        ].double()
        return torch.fft.rfft(dense).conj()

    which = _which(spectrum(n) for n in range(len(bands)))
    parts = torch.empty(
        len(bands), height * target_step, len(which), span * source_step, m // 2 + 1, dtype=dtype
    )
    for n in range(len(bands)):  # one at a time: in float64 they are several times as large as their result
        both = torch.view_as_real(spectrum(n).resolve_conj())
        for e, (function, imaginary) in enumerate(which.tolist()):
            parts[n, :, e] = both[function, ..., imaginary]
    lines = (torch.stack(source_lines), torch.cat(target_lines), torch.cat(written))
    return keep, Bands(parts, which, *lines, source_step, target_step, m)


def _step(base: Tensor, pattern: RingPattern) -> int:
    """Interleaved rings a line if ``base`` is that of a whole lat-lon grid, else 0."""
    step = int((base < pattern.columns).sum())
    expected = torch.arange(len(base))
    expected = expected // max(step, 1) * step * pattern.columns + expected % max(step, 1)
    return step if step and len(base) % step == 0 and torch.equal(base.cpu(), expected) else 0


def _which(spectra: Iterable[Tensor]) -> Tensor:
    """Parts that are not zero to rounding in any of some spectra (K, rows, rings, F): (E, 2), see :class:`Bands`."""
    size = [torch.stack([s.abs(), s.real.abs(), s.imag.abs()]).amax((2, 3, 4)) for s in spectra]
    whole, real, imaginary = torch.stack(size).amax(0)
    # geometry near a pole is good to about 1e-12
    return (torch.stack([real, imaginary], 1) > 1e-10 * whole[:, None]).nonzero()


def _joined(parts: Tensor, which: Tensor, k: int) -> Tensor:
    """Complex spectrum (N, rows, K, rings, F)."""
    n, rows, _, rings, f = parts.shape
    full = parts.new_zeros(2, k, n, rows, rings, f)
    full[which[:, 1], which[:, 0]] = parts.movedim(2, 0)
    return torch.complex(full[0], full[1]).movedim(0, 2)


def mix(parts: Tensor, which: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """sum_{c,k,q} w_ock Psi_k(p, q, f) X_c(q, f): (B, N, C, rings, F) -> (B, N, O, rows, F), complex."""
    z = torch.einsum("npkqf,bncqf->bnckpf", _joined(parts, which, w.shape[2]), x)
    return torch.einsum("bnckpf,ock->bnopf", z, w.to(z.dtype))


def correlate(parts: Tensor, which: Tensor, k: int, x: Tensor, g: Tensor) -> Tensor:
    """Re sum conj(G_o(p, f)) Psi_k(p, q, f) X_c(q, f): (O, C, K)."""
    z = torch.einsum("npkqf,bncqf->bnckpf", _joined(parts, which, k), x)
    return torch.einsum("bnopf,bnckpf->ock", g.conj(), z).real


def adjoint(parts: Tensor, which: Tensor) -> Tensor:
    """Spectrum of the transposed map: rows and rings change places, imaginary parts their sign."""
    sign = 1 - 2 * which[:, 1].to(parts.dtype)
    return (parts * sign[:, None, None]).transpose(1, 3).contiguous()


def parseval(g: Tensor, columns: int) -> Tensor:
    """Scale half-spectra (..., F) so that Re sum conj(G) Z is the sum of g z over the ring."""
    twice = torch.full((g.shape[-1],), 2.0 / columns, dtype=g.real.dtype, device=g.device)
    twice[0] /= 2
    if columns % 2 == 0:
        twice[-1] /= 2
    return g * twice


def add_apply(engine: Any, bands: Bands | None, w: Tensor, x: Tensor, y: Tensor) -> None:
    """Add the bands' rows of the mixed map to y (B, O, P)."""
    if bands is not None:
        run = getattr(engine, "spectral_mix", mix)
        bands.add_target(y, run(bands.parts, bands.which, w, bands.source(x)))


def add_gradients(
    engine: Any,
    bands: Bands | None,
    w: Tensor,
    x: Tensor | None,
    g: Tensor,
    gx: Tensor | None,
    gw: Tensor | None,
) -> None:
    """Add the bands' part of dF/dx to gx and of dF/dw to gw, by Parseval's relation; either may be None."""
    if bands is None:
        return
    transformed = bands.target(g)
    if gx is not None:
        run = getattr(engine, "spectral_mix", mix)
        turned = w.transpose(0, 1).contiguous()
        bands.add_source(gx, run(adjoint(bands.parts, bands.which), bands.which, turned, transformed))
    if gw is not None:
        assert x is not None
        dot = getattr(engine, "spectral_correlate", correlate)
        gw += dot(
            bands.parts, bands.which, gw.shape[2], bands.source(x), parseval(transformed, bands.columns)
        )

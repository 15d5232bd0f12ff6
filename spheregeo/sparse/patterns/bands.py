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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.lazy import cached_property
from spheregeo.sparse.patterns.base import Memo
from spheregeo.sparse.patterns.rings import RingPattern

ROWS_PER_BAND = 8
PENALTY = 4.0  # a multiplication here costs about this many of the tap-by-tap kernel's; measured on two AVX-512 cores
OVERHEAD = 2e6  # multiplications a channel that all bands together must save before their calls pay


@dataclass(frozen=True)
class BandsPattern(Memo):
    """All bands of a map, padded to equal sizes; their coefficients are constants of the pattern, so the table has none.

    A *line* is a row of the grid: ``step`` interleaved rings of M points. ``source_lines`` (N, L) and ``target_lines``
    (n,) say which lines are read and written, ``written`` (n,) which of the N * rows / step computed lines those are.
    ``parts`` is (N, rows, E, rings, F) with F = M // 2 + 1, ``which`` (E, 2) each part's function and whether it is
    the imaginary part. The adjoint reads the same tensors the other way.
    """

    kind: ClassVar[str] = "bands"
    num_values: ClassVar[int] = 0

    parts: Tensor
    which: Tensor
    source_lines: Tensor
    target_lines: Tensor
    written: Tensor
    source_step: int
    target_step: int
    columns: int
    functions: int  # K
    num_source: int
    num_target: int

    @property
    def num_nonzeros(self) -> int:
        """Pairs of points of one row and one ring of its band."""
        return self.parts.shape[0] * self.parts.shape[1] * self.parts.shape[3] * self.columns**2

    @property
    def tensors(self) -> list[Tensor]:
        return [self.parts, self.which, self.source_lines, self.target_lines, self.written]

    @property
    def sizes(self) -> list[int]:
        return [
            self.source_step, self.target_step, self.columns, self.functions, self.num_source, self.num_target
        ]  # fmt: skip

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> BandsPattern:
        """Inverse of ``tensors`` and ``sizes``."""
        return cls(*tensors, *sizes)  # type: ignore[arg-type]

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """Raises: TypeError, for no nonzero reads the table."""
        raise TypeError("bands hold their coefficients in Fourier space; take the map's own pattern")

    def uses(self) -> Tensor:
        """No columns: (0,)."""
        return self.which.new_zeros(0)

    def prune(self, keep: Tensor) -> BandsPattern:
        """The pattern itself, which reads no column of the table."""
        return self

    def adjoint(self) -> tuple[BandsPattern, Tensor]:
        """Raises: TypeError, for the same tensors serve both ways."""
        raise TypeError("bands are their own adjoint, read the other way")

    def source(self, x: Tensor) -> Tensor:
        """Transformed rings: (B, C, Q) -> (B, N, C, rings, F) complex."""
        lines = _lines(x, self.source_lines.reshape(-1), self.source_step, self.columns)
        return torch.fft.rfft(lines.unflatten(2, (len(self.parts), -1)).transpose(1, 2))

    def target(self, g: Tensor) -> Tensor:
        """Transformed rows of a cotangent: (B, O, P) -> (B, N, O, rows, F) complex; where padded, of some other row."""
        lines = _lines(g, self._padded, self.target_step, self.columns)
        return torch.fft.rfft(lines.unflatten(2, (self.parts.shape[0], -1)).transpose(1, 2))

    def add_source(self, gx: Tensor, out: Tensor) -> None:
        """Add spectra (B, N, C, rings, F) to their rings in gx (B, C, Q)."""
        rings = torch.fft.irfft(out.transpose(1, 2), n=self.columns)
        if self._apart:
            _add_lines(gx, rings.flatten(2, 3), self.source_lines.reshape(-1), self.source_step)
            return
        for n in range(rings.shape[2]):  # rings of several bands are added in one order
            _add_lines(gx, rings[:, :, n], self.source_lines[n], self.source_step)

    def add_target(self, y: Tensor, out: Tensor) -> None:
        """Add spectra (B, N, O, rows, F) to their rows in y (B, O, P)."""
        rows = torch.fft.irfft(out.transpose(1, 2), n=self.columns).flatten(2, 3)
        if self.written.shape[0] * self.target_step < rows.shape[2]:
            rows = rows.unflatten(2, (-1, self.target_step)).index_select(2, self.written).flatten(2, 3)
        _add_lines(y, rows, self.target_lines, self.target_step)

    @cached_property
    def _padded(self) -> Tensor:
        """Target line of each computed one, the first of all for those that are padded: their coefficients are zero."""

        def make() -> Tensor:
            number = self.parts.shape[0] * self.parts.shape[1] // self.target_step
            lines = self.target_lines[:1].repeat(number)
            lines[self.written] = self.target_lines
            return lines

        return made_of(self.tensors, "padded lines", make)

    @cached_property
    def _apart(self) -> bool:
        """Whether no two bands share a ring."""
        return made_of(
            self.tensors, "apart", lambda: len(self.source_lines.unique()) == self.source_lines.numel()
        )


def _lines(x: Tensor, lines: Tensor, step: int, columns: int) -> Tensor:
    """Rings of some lines: (B, C, points) -> (B, C, len(lines) * step, M)."""
    picked = x.reshape(*x.shape[:2], -1, columns * step).index_select(2, lines)
    return picked.unflatten(3, (columns, step)).transpose(-1, -2).flatten(2, 3)


def _add_lines(x: Tensor, rings: Tensor, lines: Tensor, step: int) -> None:
    joined = rings.unflatten(2, (-1, step)).transpose(-1, -2).flatten(3)
    x.view(*x.shape[:2], -1, joined.shape[3]).index_add_(2, lines, joined)


def split(pattern: RingPattern, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, BandsPattern | None]:
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
    sizes = (source_step, target_step, m, k, pattern.num_source, pattern.num_target)
    return keep, BandsPattern(parts, which, *lines, *sizes)


def _step(base: Tensor, pattern: RingPattern) -> int:
    """Interleaved rings a line if ``base`` is that of a whole lat-lon grid, else 0."""
    step = int((base < pattern.columns).sum())
    expected = torch.arange(len(base))
    expected = expected // max(step, 1) * step * pattern.columns + expected % max(step, 1)
    return step if step and len(base) % step == 0 and torch.equal(base.cpu(), expected) else 0


def _which(spectra: Iterable[Tensor]) -> Tensor:
    """Parts that are not zero to rounding in any of some spectra (K, rows, rings, F): (E, 2), see :class:`BandsPattern`."""
    size = [torch.stack([s.abs(), s.real.abs(), s.imag.abs()]).amax((2, 3, 4)) for s in spectra]
    whole, real, imaginary = torch.stack(size).amax(0)
    # geometry near a pole is good to about 1e-12
    return (torch.stack([real, imaginary], 1) > 1e-10 * whole[:, None]).nonzero()

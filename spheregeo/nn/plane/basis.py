r"""Circular harmonics sampled on the taps of a planar kernel, with the radial profiles that turn best.

    B_{μ,j}(u) = R_{μ,j}(|u|) exp(iμφ_u),    Σ_u R² = 1

On smooth images a convolution with B should answer to a turn by the angle a with exp(iμa) alone. On taps it also has parts
of frequencies μ + 4t,

    B̂(ρ, α) = Σ_ν c_ν(ρ) exp(iνα),    c_ν(ρ) = (−i)^ν Σ_u R(|u|) exp(i(μ − ν)φ_u) J_ν(ρ|u|),

whose energy Σ_{ν ≠ μ} ∫ |c_ν|² S(ρ) ρ dρ over images of power spectrum S is a quadratic form of R: the squared error of
turning. Profiles are its eigenvectors of small eigenvalues, which thereby taper at the rim and vanish at the centre; within their
span they are taken as localised rings. Restricting the frequencies ring by ring, as Weiler, Hamprecht & Storath 2018
(arXiv:1711.07289) and Weiler & Cesa 2019 (arXiv:1911.08251) do for Gaussian rings, has the same aim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_count

LENGTH, POWER = 1.5, 4  # spectrum of images (1 + (LENGTH ρ)²)^−POWER: smooth over LENGTH pixels, with edges


class TapBasis:
    """Base of bases on the taps of square kernels: pairs (cos μφ, sin μφ) times profiles, by frequency and ring.

    A subclass is a frozen value with ``size``, whose :meth:`_rows` gives the profiles of each frequency.
    """

    size: int

    def _rows(self) -> tuple[Tensor, ...]:
        """Profiles of the frequencies 0, 1, …, of unit norm. Shape: (count, size²) float64 each."""
        raise NotImplementedError

    @property
    def top(self) -> int:
        """Highest frequency that has a profile."""
        return len(self._rows()) - 1

    @property
    def frequencies(self) -> tuple[int, ...]:
        """Frequency of each function: μ ≥ 0 for a cosine, −μ for a sine; by frequency, then by ring, cosine before sine."""
        return tuple(
            sign * m for m, rows in enumerate(self._rows()) for _ in rows for sign in ((1, -1) if m else (1,))
        )

    @property
    def num_functions(self) -> int:
        """Number of real functions."""
        return len(self.frequencies)

    def count(self, frequency: int) -> int:
        """Number of profiles of a frequency, of either sign."""
        return len(self._rows()[abs(frequency)]) if abs(frequency) <= self.top else 0

    def profiles(self, frequency: int) -> Tensor:
        """Profiles of a frequency, inner ring first. Shape: (count, size, size) float64."""
        if not self.count(frequency):
            return torch.zeros(0, self.size, self.size, dtype=torch.float64)
        return self._rows()[abs(frequency)].unflatten(1, (self.size, self.size))

    def angles(self) -> Tensor:
        """φ of each tap, 0 at the centre. Shape: (size, size) float64. Units: radians."""
        return _taps(self.size)[1].unflatten(0, (self.size, self.size))

    def functions(self, turn: float = 0.0, reflect: bool = False) -> Tensor:
        """All functions, transformed as signals: with ``reflect`` x → −x first, then turned by ``turn`` counter-clockwise.

        A cosine of frequency μ ≥ 1 is √2 R cos(μ(φ − turn)), so that the mean square over turns is 1.

        Shape: (num_functions, size, size) float64. Units: radians.
        """
        phi = self.angles() - turn
        if reflect:
            phi = math.pi - phi
        found = []
        for m in range(self.top + 1):
            profiles = self.profiles(m)
            if m == 0:
                found.append(profiles)
                continue
            pair = math.sqrt(2) * torch.stack([torch.cos(m * phi), torch.sin(m * phi)])
            found.append((profiles[:, None] * pair).flatten(0, 1))
        return torch.cat(found)


@dataclass(frozen=True)
class PlanarBasis(TapBasis):
    """Real functions on size × size taps, in pairs (cos μφ, sin μφ) times a profile, that turn by their phase.

    Taps lie at whole (odd size) or half (even size) places, x to the right, y up, φ counter-clockwise from x. Both functions of a
    pair share one profile of unit norm, so a turn is exactly a turn of the pair's two weights, and functions of frequency
    μ ≥ 1 are zero at the centre. Values are frozen: equal arguments share their tables.

    Args:
        size: taps along each side.
        tolerance: greatest error of turning of a function of unit norm, root mean square over turns and over images that are
            smooth over 1.5 pixels and have edges. A larger one gives more functions, of higher frequencies.
        max_frequency: highest μ; None for the first that has no profile within the tolerance.

    Equivariance: quarter turns and reflections exact; other turns: relative error at 45° of two layers of regular C8 fields
        with random weights on images smoothed by σ = 2 pixels, without and with a ReLU between: size 3 2e-3 and 1.4e-2, 5
        9e-4 and 1.0e-2, 7 7e-4 and 1.1e-2, 9 8e-4 and 1.5e-2. Gaussian rings under band limits: 1.3e-2 to 1.6e-2, and 2e-2.
    Raises: ValueError for a size below 1, a negative frequency, a tolerance that is not positive.
    Reference: Weiler, Hamprecht & Storath 2018, arXiv:1711.07289; Weiler & Cesa 2019, arXiv:1911.08251; profiles of least
        error as here.

    Example:
        >>> basis = PlanarBasis(5)
        >>> basis.functions().shape, basis.frequencies
        (torch.Size([9, 5, 5]), (0, 0, 0, 1, -1, 1, -1, 2, -2))
    """

    size: int
    tolerance: float = 0.006
    max_frequency: int | None = None

    def __post_init__(self) -> None:
        check_count("size", self.size, 1)
        if self.max_frequency is not None:
            check_count("max_frequency", self.max_frequency, 0)
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance is {self.tolerance}; expected a positive error, such as 0.006")

    def _rows(self) -> tuple[Tensor, ...]:
        return _profiles(self)


@dataclass(frozen=True)
class GaussianTapBasis(TapBasis):
    """Gaussian rings exp(−(r − ρ)²/2σ²) times circular harmonics up to a frequency of each ring: the basis of e2cnn and escnn.

    Args:
        size: taps along each side.
        rings: radii ρ; None for ⌈size/2⌉ from 0 to (size − 1)//2.
        widths: σ of each ring; None for 0.6, on the last 0.4, at the centre 0.005.
        cutoffs: highest frequency on each ring; None for 0 at the centre, 2 on the last, 2ρ between, less one for even ρ.

    Equivariance: quarter turns and reflections exact; other turns with 5 to 10 times the error of :class:`PlanarBasis`.
    Raises: ValueError for a size below 1, or lists of other lengths.
    Reference: Weiler & Cesa 2019, arXiv:1911.08251; escnn.nn.R2Conv.

    Example:
        >>> GaussianTapBasis(5).num_functions
        11
    """

    size: int
    rings: tuple[float, ...] | None = None
    widths: tuple[float, ...] | None = None
    cutoffs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_count("size", self.size, 1)
        rings = _numbers(self.rings, torch.linspace(0, (self.size - 1) // 2, (self.size + 1) // 2).tolist())
        widths = [0.6] * (len(rings) - 1) + [0.4]
        usual = [0.005 if ring == 0 else width for ring, width in zip(rings, widths)]
        tops = [
            0 if ring == 0 else min(2 * ring, 2 if ring == rings[-1] else 2 * ring - (ring + 1) % 2)
            for ring in rings
        ]
        object.__setattr__(self, "rings", rings)
        object.__setattr__(self, "widths", _numbers(self.widths, usual))
        object.__setattr__(self, "cutoffs", tuple(int(top) for top in _numbers(self.cutoffs, tops)))
        for name in ("widths", "cutoffs"):
            if len(getattr(self, name)) != len(rings):
                raise ValueError(f"{name} is {getattr(self, name)}; expected {len(rings)}, one for each ring")

    def _rows(self) -> tuple[Tensor, ...]:
        assert self.rings is not None and self.widths is not None and self.cutoffs is not None
        r, _ = _taps(self.size)
        found = []
        for frequency in range(max(self.cutoffs) + 1):
            rows = []
            for ring, width, top in zip(self.rings, self.widths, self.cutoffs):
                row = torch.exp(-0.5 * ((r - ring) / width) ** 2)
                if frequency:
                    row[r < 1e-9] = 0
                if frequency <= top and row.norm() > 1e-6:
                    rows.append(row / row.norm())
            found.append(torch.stack(rows) if rows else r.new_zeros(0, len(r)))
        return tuple(found)


def _numbers(given: Sequence[float] | None, usual: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in (usual if given is None else given))


def _taps(size: int) -> tuple[Tensor, Tensor]:
    """Distance and angle of each tap, row by row. Shape: (size²,) float64 each."""
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    x, y = places.repeat(size), -places.repeat_interleave(size)
    return torch.hypot(x, y), torch.atan2(y, x)


@lru_cache(maxsize=128)
@torch.inference_mode(False)  # kept tensors serve training, too
def _profiles(basis: PlanarBasis) -> tuple[Tensor, ...]:
    """Profiles of each frequency on all taps. Shape: (count, size²) float64 each."""
    r, _ = _taps(basis.size)
    found = []
    top = 4 * basis.size if basis.max_frequency is None else basis.max_frequency
    for frequency in range(top + 1):
        radii, mean, energy = _error(basis.size, frequency)
        values, vectors = np.linalg.eigh(energy)
        span = vectors[:, values <= basis.tolerance**2]
        if not span.shape[1]:
            break
        # rings: within the span, the functions of most definite radius; well apart, so the same on every machine
        _, mix = np.linalg.eigh(span.T @ (radii[:, None] * span))
        rings = (span @ mix).T
        largest = np.take_along_axis(rings, np.abs(rings).argmax(1)[:, None], 1)
        rows = torch.from_numpy(rings * np.sign(largest)) @ mean
        if frequency:
            rows[:, r < 1e-9] = 0
        found.append(rows)
    return tuple(found)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept tensors serve training, too
def _waves(size: int) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
    """What all frequencies share: the taps' distances r, the functions that are constant on each and of unit norm, weights
    of wave numbers ρ by the images' spectrum, and J_ν(ρ r) for ν = 0, 1, … as far as it is anything.

    Shape: (n,), (n, size²), (waves,), (orders, waves, n), all float64.
    """
    from scipy.special import jv

    radii, ring_of = np.unique(_taps(size)[0].numpy().round(9), return_inverse=True)
    on_ring = ring_of == np.arange(len(radii))[:, None]
    mean = on_ring / np.sqrt(on_ring.sum(1, keepdims=True))
    nyquist = math.sqrt(2) * math.pi  # the farthest wave that a lattice has
    nodes, weights = np.polynomial.legendre.leggauss(32 + 8 * size)
    rho = (nodes + 1) / 2 * nyquist
    weights = weights * rho * (1 + (LENGTH * rho) ** 2) ** -POWER
    orders = np.arange(int(nyquist * radii[-1]) + 16)  # J_ν(z) is nothing where ν is well beyond z
    return (
        radii,
        torch.from_numpy(mean),
        weights / weights.sum(),
        jv(orders[:, None, None], rho[:, None] * radii),
    )


def _error(size: int, frequency: int) -> tuple[np.ndarray, Tensor, np.ndarray]:
    """Radii, the functions that are constant on each, and the quadratic form of the error of turning.

    Shape: (n,), (n, size²) and (n, n), all float64.
    """
    radii, mean, weights, bessel = _waves(size)
    first = int(frequency > 0 and radii[0] == 0)  # the phase has no value at the centre
    radii, mean, phi = radii[first:], mean[first:], _taps(size)[1]
    energy = np.zeros((len(radii), len(radii)))
    reach = len(bessel) - 1
    for other in range(-reach, reach + 1):
        if other == frequency or (other - frequency) % 4:  # the lattice mixes μ with μ + 4t alone
            continue
        overlap = (mean @ torch.cos((frequency - other) * phi)).numpy()
        waves = bessel[abs(other), :, first:] * overlap  # J_−ν is J_ν but for the sign
        energy += waves.T @ (weights[:, None] * waves)
    return radii, mean, energy

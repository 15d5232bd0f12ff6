r"""Distributions of rotations: densities with respect to the volume π² of SO(3), so that an even one has log p = −log π² =
−2.2895.

:class:`FourierDensity` is the exponential of a function with few degrees, normalised by quadrature. Its values on a fine grid are
never needed together: the integral is summed some pixels at a time, and for the likeliest rotation the cells of a coarse grid
are all looked at, then the eight cells inside each of the likeliest, and so on.
:class:`MixtureDensity` is a sum of exp(κ cos ω), ω the angle to a centre, whose integral π² (I₀(κ) − I₁(κ)) is known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.groups import from_quaternion
from spheregeo.lazy import cached_property
from spheregeo.spectral import SO3HEALPix, evaluate_so3, synthesise_on
from spheregeo.spectral.so3.evaluation import synthesise_blocks

COARSE, FINE = 8, 32  # nside of the cells that are all looked at, and of the finest: levels 3 and 5
SOFT, SHARP = -8.0, 8.0  # least and largest logarithm of a concentration
WEIGHT = 10.0  # of the squared chord in the loss of a mixture
SERIES = 50.0  # concentration from which the asymptotic series is used
STEP = math.radians(1.5)  # of the differences by which a mode is refined


class RotationDensity(ABC):
    """Base of the distributions of rotations, one for each sample of a batch.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FourierDensity
        >>> even = FourierDensity(torch.zeros(1, 10))
        >>> round(float(even.log_prob(torch.eye(3)[None])), 4)
        -2.2895
    """

    @abstractmethod
    def log_prob(self, rotations: Tensor) -> Tensor:
        """Return the logarithm of the density at rotations, one or more for each sample.

        Args:
            rotations: where the density is wanted.

        Shape: (B, 3, 3) -> (B,), or (B, N, 3, 3) -> (B, N).
        """

    @abstractmethod
    def log_prob_on(self, grid: SO3HEALPix) -> Tensor:
        """Return the logarithm of the density at all rotations of a grid.

        Args:
            grid: the rotations.

        Shape: -> (B, 72 nside³).
        """

    @abstractmethod
    def mode(self) -> Tensor:
        """Return the likeliest rotation of each sample. Shape: -> (B, 3, 3)."""

    @abstractmethod
    def loss(self, rotations: Tensor) -> Tensor:
        """Return what training minimises, for each sample.

        Args:
            rotations: the true rotations.

        Shape: (B, 3, 3) -> (B,).
        """


class Leaves(NamedTuple):
    """The finest cells of a hierarchical evaluation, the likeliest first.

    Attributes:
        rotations: (B, K, 3, 3) of each sample.
        values: (B, K) of the function there.
    """

    rotations: Tensor
    values: Tensor


class FourierDensity(RotationDensity):
    """p(R) ∝ exp Σ h^l_mn D^l_mn(R): a distribution on SO(3) by a few coefficients of its logarithm.

    Args:
        coefficients: of the logarithm, but for a constant.
        coarse: nside of the cells that are all looked at, and of the cross-entropy of training.
        fine: nside of the finest cells.
        top: number of the likeliest cells that are divided, from each level to the next.
        quadrature: nside of the grid whose sum normalises.

    Shape: (B, Σ (2l + 1)²).
    Equivariance: coefficients D^l(Q) h^l belong to the density turned by Q from the left, exact (1e-14 measured in float64).
    Raises: ValueError for a size that no degree has, or ``fine`` below ``coarse``.
    Reference: Klee, Biza, Platt & Walters 2023, arXiv:2302.13926; Murphy et al. 2021, arXiv:2106.05965 (cells and cross-entropy).

    Example:
        >>> import torch
        >>> from spheregeo.nn import FourierDensity
        >>> density = FourierDensity(torch.randn(2, 35), coarse=4, fine=8)
        >>> density.mode().shape, density.log_prob(density.mode()).shape
        (torch.Size([2, 3, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        coefficients: Tensor,
        *,
        coarse: int = COARSE,
        fine: int = FINE,
        top: int = 32,
        quadrature: int = 16,
    ) -> None:
        if coefficients.ndim != 2:
            raise ValueError(f"coefficients has shape {tuple(coefficients.shape)}; expected (B, Σ (2l + 1)²)")
        self.coefficients, self.top = coefficients, top
        self.coarse, self.fine, self.quadrature = (SO3HEALPix(n) for n in (coarse, fine, quadrature))
        if fine < coarse:
            raise ValueError(f"fine is {fine} and coarse {coarse}; expected fine >= coarse")

    def logits_on(self, grid: SO3HEALPix) -> Tensor:
        """Return the logarithm of the density but for a constant at all rotations of a grid. Shape: -> (B, 72 nside³)."""
        return synthesise_on(self.coefficients, grid)

    def log_integral(self, grid: SO3HEALPix) -> Tensor:
        """Return the logarithm of ∫ exp Σ h D dR by the sum over a grid, some pixels at a time. Shape: -> (B,)."""
        parts = [block.logsumexp(1) for block in synthesise_blocks(self.coefficients, grid)]
        return torch.stack(parts, 1).logsumexp(1) + math.log(grid.volume)

    @cached_property
    def log_normalizer(self) -> Tensor:
        """Logarithm of the integral, by the sum over the grid of nside ``quadrature``. Shape: (B,)."""
        return self.log_integral(self.quadrature)

    @cached_property
    def leaves(self) -> Leaves:
        """The finest cells about the likeliest rotations: all coarse cells are looked at, then those in the likeliest ones."""
        found = [self._leaves(part) for part in self.coefficients.split(8)]
        if not found:
            c = self.coefficients
            return Leaves(c.new_zeros(0, 0, 3, 3), c.new_zeros(0, 0))
        return Leaves(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _leaves(self, coefficients: Tensor) -> Leaves:
        grid = self.coarse
        values = synthesise_on(coefficients, grid)
        cells = torch.arange(values.shape[1], device=values.device).expand_as(values)
        while True:
            best = values.topk(min(self.top, values.shape[1]), 1)
            cells = cells.gather(1, best.indices)
            if grid.nside >= self.fine.nside:
                return Leaves(grid.at(cells).to(coefficients), best.values)
            cells = grid.children(cells).flatten(1)
            grid = grid.refine()
            values = evaluate_so3(coefficients, grid.at(cells).to(coefficients))

    def log_prob(self, rotations: Tensor) -> Tensor:
        many = rotations[:, None] if rotations.ndim == 3 else rotations
        values = evaluate_so3(self.coefficients, many.to(self.coefficients))
        found = values - self.log_normalizer[:, None]
        return found[:, 0] if rotations.ndim == 3 else found

    def log_prob_on(self, grid: SO3HEALPix) -> Tensor:
        return self.logits_on(grid).log_softmax(1) - math.log(grid.volume)

    def loss(self, rotations: Tensor) -> Tensor:
        """Return the cross-entropy over the coarse cells with the cell nearest to the truth, as −log of a density."""
        cell = self.coarse.nearest(rotations)
        logits = self.logits_on(self.coarse)
        return logits.logsumexp(1) - logits.gather(1, cell[:, None])[:, 0] + math.log(self.coarse.volume)

    @torch.no_grad()
    def mode(self) -> Tensor:
        """Return the likeliest rotation: that of the likeliest of the finest cells, moved to the top of the parabola through its
        neighbourhood, twice.
        """
        found = self.leaves.rotations[:, 0]
        for _ in range(2 if len(found) else 0):
            found = self._climbed(found)
        return found

    def _climbed(self, rotations: Tensor) -> Tensor:
        """Rotations after a Newton step by differences, of at most two cells."""
        pairs = [(i, j) for i in range(3) for j in range(i)]
        eye = torch.eye(3, dtype=torch.float64)
        steps = torch.stack(
            [torch.zeros(3, dtype=torch.float64), *eye, *-eye, *(eye[i] + eye[j] for i, j in pairs),
             *(-eye[i] - eye[j] for i, j in pairs)]
        )  # fmt: skip
        near = _turned(rotations, STEP * steps.to(rotations.device))
        v = evaluate_so3(self.coefficients.double(), near).double()
        middle, plus, minus, both, neither = v[:, :1], v[:, 1:4], v[:, 4:7], v[:, 7:10], v[:, 10:13]
        slope = (plus - minus) / (2 * STEP)
        hessian = torch.diag_embed(plus + minus - 2 * middle)
        for k, (i, j) in enumerate(pairs):
            cross = (
                both[:, k]
                + neither[:, k]
                - plus[:, i]
                - minus[:, i]
                - plus[:, j]
                - minus[:, j]
                + 2 * middle[:, 0]
            ) / 2
            hessian[:, i, j] = hessian[:, j, i] = cross
        values, vectors = torch.linalg.eigh(hessian / STEP**2)
        values = values.clamp_max(-1e-3)
        move = -(vectors @ ((vectors.mT @ slope[:, :, None]) / values[:, :, None]))[:, :, 0]
        size = move.norm(dim=1, keepdim=True)
        move = move * (2 * STEP / size.clamp_min(1e-12)).clamp_max(1)
        moved = _turned(rotations, move[:, None])
        better = evaluate_so3(self.coefficients.double(), moved) > middle
        return torch.where(better[:, :, None], moved[:, 0], rotations.double()).to(rotations)


def _turned(rotations: Tensor, vectors: Tensor) -> Tensor:
    """R exp(v) for rotation vectors. Shape: (B, 3, 3), (N, 3) or (B, N, 3) -> (B, N, 3, 3) float64."""
    v = vectors.double()
    angle = v.norm(dim=-1, keepdim=True)
    scale = torch.sinc(angle / (2 * math.pi)) / 2
    return rotations.double()[:, None] @ from_quaternion(torch.cat([(angle / 2).cos(), scale * v], -1))


def log_normalizer(concentration: Tensor) -> Tensor:
    """Return log ∫ exp(κ (cos ω − 1)) dR = log π² (I₀(κ) − I₁(κ)) e^{−κ}. Shape: (...) -> (...).

    Args:
        concentration: κ, from 0 on.
    """
    k = concentration.double()
    small = k.clamp_max(SERIES)
    exact = torch.log(torch.special.i0e(small) - torch.special.i1e(small))
    large = k.clamp_min(SERIES)
    terms = 3 / (8 * large) + 45 / (128 * large**2) + 525 / (1024 * large**3) + 33075 / (32768 * large**4)
    series = torch.log1p(terms)
    asymptotic = series - torch.log(2 * large) - torch.log(2 * math.pi * large) / 2
    return (torch.where(k < SERIES, exact, asymptotic) + 2 * math.log(math.pi)).to(concentration.dtype)


class MixtureDensity(RotationDensity):
    """p(R) = Σ_k w_k exp(κ_k cos ω_k) / π² (I₀(κ_k) − I₁(κ_k)), ω_k the angle between R and a centre C_k.

    Args:
        centres: C_k.
        logits: logarithms of the weights w_k but for a constant.
        log_concentration: log κ_k, cut off at −8 and 8.
        anchors: rotations to which components belong: the one nearest to the truth is the class in training; none for one
            component.

    Shape: centres (B, K, 3, 3), logits and log_concentration (B, K), anchors (K, 3, 3).
    Equivariance: centres turned from the left belong to the density turned so, exact.
    Raises: ValueError for shapes that do not fit.
    Reference: Khatri & Mardia 1977, J. Royal Statistical Society B 39 (the isotropic matrix Fisher distribution).

    Example:
        >>> import torch
        >>> from spheregeo.nn import MixtureDensity
        >>> even = MixtureDensity(torch.eye(3).expand(1, 1, 3, 3), torch.zeros(1, 1), torch.full((1, 1), -20.0))
        >>> round(float(even.log_prob(torch.eye(3)[None])), 2)
        -2.29
    """

    def __init__(
        self, centres: Tensor, logits: Tensor, log_concentration: Tensor, anchors: Tensor | None = None
    ) -> None:
        count = centres.shape[1] if centres.ndim == 4 else 0
        if not tuple(centres.shape) == (*logits.shape, 3, 3) or logits.shape != log_concentration.shape:
            raise ValueError(
                f"centres has shape {tuple(centres.shape)}, logits {tuple(logits.shape)}, log_concentration "
                f"{tuple(log_concentration.shape)}; expected (B, K, 3, 3), (B, K) and (B, K)"
            )
        if anchors is None and count > 1:
            raise ValueError(f"anchors is None for {count} components; expected their rotations")
        self.centres, self.anchors = centres, anchors
        self.log_weights = logits.log_softmax(1)
        self.concentration = log_concentration.clamp(SOFT, SHARP).exp()

    def _components(self, rotations: Tensor) -> Tensor:
        """Logarithm of each component's density. Shape: (B, N, 3, 3) -> (B, N, K)."""
        trace = torch.einsum("bnij,bkij->bnk", rotations.to(self.centres), self.centres)
        return self.concentration[:, None] * (trace - 3) / 2 - log_normalizer(self.concentration)[:, None]

    def log_prob(self, rotations: Tensor) -> Tensor:
        many = rotations[:, None] if rotations.ndim == 3 else rotations
        found = (self.log_weights[:, None] + self._components(many)).logsumexp(2)
        return found[:, 0] if rotations.ndim == 3 else found

    def log_prob_on(self, grid: SO3HEALPix) -> Tensor:
        parts = [
            self.log_prob(part[None].expand(len(self.centres), -1, 3, 3))
            for part in grid.rotations.split(4096)
        ]
        return torch.cat(parts, 1)

    def loss(self, rotations: Tensor) -> Tensor:
        """Return the cross-entropy of the component nearest to the truth, its squared chord to the truth, and −log of its density
        as far as its concentration has a part in it.
        """
        rotations = rotations.to(self.centres)
        if self.anchors is None:
            nearest = torch.zeros(len(rotations), dtype=torch.int64, device=rotations.device)
        else:
            nearest = torch.einsum("bij,kij->bk", rotations, self.anchors.to(rotations)).argmax(1)
        rows = torch.arange(len(rotations), device=rotations.device)
        centre, kappa = self.centres[rows, nearest], self.concentration[rows, nearest]
        chord = (centre - rotations).square().sum((1, 2)) / 4  # 1 − cos ω
        return (
            WEIGHT * chord + kappa * chord.detach() + log_normalizer(kappa) - self.log_weights[rows, nearest]
        )

    @torch.no_grad()
    def mode(self) -> Tensor:
        """Return the likeliest centre, moved to the mean of the rotations that pull at it until it stays."""
        at_centres = self.log_prob(self.centres)
        best = at_centres.argmax(1) if len(at_centres) else at_centres.new_zeros(0, dtype=torch.int64)
        rows = torch.arange(len(best), device=best.device)
        found = self.centres[rows, best]
        for _ in range(10 if len(found) else 0):
            pull = (self.log_weights[:, None] + self._components(found[:, None])).softmax(2)[
                :, 0
            ] * self.concentration
            mean = torch.einsum("bk,bkij->bij", pull, self.centres).double()
            u, _, vh = torch.linalg.svd(mean)
            sign = torch.linalg.det(u @ vh)
            u = torch.cat([u[:, :, :2], u[:, :, 2:] * sign[:, None, None]], 2)
            found = (u @ vh).to(found)
        return found

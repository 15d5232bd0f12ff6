"""Flows of a thin layer on the sphere, solved by the spectral transform method: shallow water and barotropic vorticity.

Shallow water in vorticity-divergence-depth form, with eta = zeta + f, k the upward normal and K = |V|^2 / 2::

    d zeta / dt = -div(eta V)
    d delta / dt = k . curl(eta V) - laplacian(K + g h)
    d h / dt = -div(h V)

A state is a set of coefficients. Products are formed on a Gauss-Legendre grid with 3/2 as many rings as the degrees need, so
that no product of two fields aliases onto the coefficients; divergences and curls are coefficients of vector harmonics times
√(l(l + 1)). The degree-0 coefficient of a divergence is zero exactly, so the mass is conserved to the last bit. Time steps are
those of the classical Runge-Kutta method; hyperdiffusion, where wanted, multiplies the coefficients after each step.

References: Williamson et al. 1992, J. Comput. Phys. 102, 211 (equations, test cases); Hack & Jakob 1992, NCAR/TN-343+STR
(spectral transform method); Galewsky, Scott & Polvani 2004, Tellus A 56, 429 (jet).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.grids import GaussLegendre
from spheregeo.spectral import SHT, InverseSHT, InverseVectorSHT, VectorSHT, degrees

__all__ = ["BarotropicVorticity", "ShallowWater"]

EARTH_RADIUS = 6.37122e6  # m, Williamson et al. 1992
EARTH_ROTATION = 7.292e-5  # rad/s
GRAVITY = 9.80616  # m/s^2
STABLE = 2.8  # largest |eigenvalue| x step of the Runge-Kutta method on the imaginary axis


class _Flow(nn.Module, ABC):
    """Transforms, Coriolis parameter, Runge-Kutta steps and hyperdiffusion that both systems share."""

    _factors: Tensor
    _coriolis: Tensor
    _areas: Tensor

    def __init__(
        self, lmax: int, radius: float, rotation: float, axis: Sequence[float], damping: float, order: int
    ) -> None:
        super().__init__()
        check_count("lmax", lmax, 2)
        check_count("order", order)
        if radius <= 0 or damping < 0:
            raise ValueError(f"radius is {radius} and damping {damping}; expected radius > 0, damping >= 0")
        if len(axis) != 3 or not math.hypot(*axis):
            raise ValueError(f"axis is {tuple(axis)}; expected three numbers that are not all zero")
        self.lmax, self.radius, self.rotation, self.damping, self.order = (
            lmax,
            radius,
            rotation,
            damping,
            order,
        )
        rings = (3 * lmax) // 2 + 1
        self.grid = GaussLegendre(rings, 2 * rings)
        self._analyse, self._synthesise = SHT(self.grid, lmax), InverseSHT(self.grid, lmax)
        self._analyse_vectors = VectorSHT(self.grid, lmax)
        self._synthesise_vectors = InverseVectorSHT(self.grid, lmax)
        degree = degrees(lmax).double()
        # |k| of each coefficient: a field's gradient has this times its coefficient
        self.register_buffer("_factors", (degree * (degree + 1)).sqrt() / radius, persistent=False)
        unit = torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)
        coriolis = 2 * rotation * (self.grid.points @ unit).reshape(self.grid.shape)
        self.register_buffer("_coriolis", coriolis, persistent=False)
        self.register_buffer("_areas", self.grid.areas.reshape(self.grid.shape), persistent=False)

    @property
    def num_coefficients(self) -> int:
        """Number of coefficients of a field."""
        return (self.lmax + 1) ** 2

    @abstractmethod
    def tendency(self, state: Tensor) -> Tensor:
        """Return the state's derivative in time."""

    def step(self, state: Tensor, dt: float) -> Tensor:
        """Return the state after one Runge-Kutta step, damped.

        Args:
            state: coefficients.
            dt: length of the step in seconds.
        """
        a = self.tendency(state)
        b = self.tendency(state + dt / 2 * a)
        c = self.tendency(state + dt / 2 * b)
        d = self.tendency(state + dt * c)
        after = state + dt / 6 * (a + 2 * (b + c) + d)
        return after * self._damping(dt).to(after) if self.damping else after

    def _damping(self, dt: float) -> Tensor:
        return torch.exp(-dt * self.damping * (self._factors / self._factors[-1]) ** (2 * self.order))

    def integrate(self, state: Tensor, seconds: float, dt: float) -> Tensor:
        """Return the state after some time.

        Args:
            state: coefficients.
            seconds: the time.
            dt: longest step in seconds; steps are equal and fill the time.

        Raises: ValueError when the flow leaves the range of numbers.
        """
        if seconds <= 0 or dt <= 0:
            raise ValueError(f"seconds is {seconds} and dt {dt}; expected both > 0")
        steps = math.ceil(seconds / dt - 1e-9)
        with torch.no_grad():
            for _ in range(steps):
                state = self.step(state, seconds / steps)
        if not bool(torch.isfinite(state).all()):
            raise ValueError(
                f"the flow is no longer finite after {seconds:g} s in steps of {seconds / steps:g} s; take shorter steps"
            )
        return state

    def _winds(self, vorticity: Tensor, divergence: Tensor | None) -> Tensor:
        """Winds (..., 2, *grid.shape) along south and east from coefficients of vorticity and divergence."""
        inverse = torch.where(self._factors > 0, 1 / self._factors, 0.0).to(vorticity)
        curl = vorticity * inverse
        gradient = torch.zeros_like(curl) if divergence is None else -divergence * inverse
        result: Tensor = self._synthesise_vectors(torch.stack([gradient, curl], -2))
        return result

    def _mean(self, x: Tensor) -> Tensor:
        return (x * self._areas.to(x)).sum((-2, -1)) / (4 * math.pi)


class BarotropicVorticity(_Flow):
    """Barotropic vorticity equation: an incompressible flow on a rotating sphere, d zeta / dt = -div((zeta + f) V).

    Args:
        lmax: largest degree.
        radius: radius of the sphere in metres.
        rotation: angular velocity of the sphere in radians per second.
        axis: axis of the rotation; its length does not matter.
        damping: rate in 1/s at which hyperdiffusion damps the largest degree; 0 for none.
        order: power of the Laplacian in the hyperdiffusion.

    Shape: states are coefficients (..., (lmax + 1)²) of the vorticity, index l² + l + m.
    Units: SI.
    Equivariance: turning state and axis together turns the flow, to rounding.
    Raises: ValueError for numbers out of range.

    Example:
        >>> import torch
        >>> from spheregeo.data import BarotropicVorticity
        >>> flow = BarotropicVorticity(lmax=5)
        >>> flow.integrate(1e-5 * torch.randn(36).double(), 3600.0, dt=1800.0).shape
        torch.Size([36])
    """

    def __init__(
        self,
        lmax: int = 21,
        *,
        radius: float = EARTH_RADIUS,
        rotation: float = EARTH_ROTATION,
        axis: Sequence[float] = (0.0, 0.0, 1.0),
        damping: float = 0.0,
        order: int = 4,
    ) -> None:
        super().__init__(lmax, radius, rotation, axis, damping, order)

    def tendency(self, state: Tensor) -> Tensor:
        absolute = self._synthesise(state) + self._coriolis.to(state)
        flux = self._analyse_vectors(absolute[..., None, :, :] * self._winds(state, None))
        return self._factors.to(state) * flux[..., 0, :]

    def fields(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return vorticity (..., *grid.shape) and winds (..., 2, *grid.shape) along south and east."""
        return self._synthesise(state), self._winds(state, None)

    def energy(self, state: Tensor) -> Tensor:
        """Return the mean kinetic energy of a unit mass, in m²/s²."""
        return self._mean(self._winds(state, None).square().sum(-3) / 2)

    def enstrophy(self, state: Tensor) -> Tensor:
        """Return the mean of the squared vorticity / 2, in 1/s²."""
        return self._mean(self._synthesise(state).square() / 2)


class ShallowWater(_Flow):
    """Shallow-water equations on a rotating sphere, solved spectrally.

    Args:
        lmax: largest degree.
        depth: mean depth of the layer in metres.
        gravity: acceleration in m/s².
        radius: radius of the sphere in metres.
        rotation: angular velocity of the sphere in radians per second.
        axis: axis of the rotation; its length does not matter.
        damping: rate in 1/s at which hyperdiffusion damps the largest degree; 0 for none.
        order: power of the Laplacian in the hyperdiffusion.

    Shape: states are coefficients (..., 3, (lmax + 1)²) of vorticity, divergence and depth, index l² + l + m.
    Units: SI.
    Equivariance: turning state and axis together turns the flow, to rounding.
    Raises: ValueError for numbers out of range.

    Example:
        >>> import torch
        >>> from spheregeo.data import ShallowWater
        >>> flow = ShallowWater(lmax=5)
        >>> state = flow.balanced(1e-6 * torch.randn(36).double())
        >>> depth, winds = flow.fields(flow.integrate(state, 3600.0, dt=flow.longest_step))
        >>> depth.shape, winds.shape
        (torch.Size([8, 16]), torch.Size([2, 8, 16]))
    """

    def __init__(
        self,
        lmax: int = 21,
        *,
        depth: float = 1e4,
        gravity: float = GRAVITY,
        radius: float = EARTH_RADIUS,
        rotation: float = EARTH_ROTATION,
        axis: Sequence[float] = (0.0, 0.0, 1.0),
        damping: float = 0.0,
        order: int = 4,
    ) -> None:
        super().__init__(lmax, radius, rotation, axis, damping, order)
        if depth <= 0 or gravity <= 0:
            raise ValueError(f"depth is {depth} and gravity {gravity}; expected both > 0")
        self.depth, self.gravity = depth, gravity

    @property
    def longest_step(self) -> float:
        """Longest stable step in seconds for the gravity waves of the mean depth, with a third to spare for the winds."""
        return STABLE / (math.sqrt(self.gravity * self.depth) * float(self._factors[-1])) * 2 / 3

    def tendency(self, state: Tensor) -> Tensor:
        vorticity, divergence, depth = state.unbind(-2)
        k = self._factors.to(state)
        on_grid = self._synthesise(torch.stack([vorticity, depth], -2))
        winds = self._winds(vorticity, divergence)
        absolute = on_grid[..., 0, :, :] + self._coriolis.to(state)
        carried = torch.stack([absolute, on_grid[..., 1, :, :]], -3)  # (..., 2, H, W)
        fluxes = self._analyse_vectors(carried[..., None, :, :] * winds[..., None, :, :, :])
        kinetic = self._analyse(winds.square().sum(-3) / 2)
        return torch.stack(
            [
                k * fluxes[..., 0, 0, :],
                k * fluxes[..., 0, 1, :] + k * k * (kinetic + self.gravity * depth),
                k * fluxes[..., 1, 0, :],
            ],
            -2,
        )

    def balanced(self, vorticity: Tensor) -> Tensor:
        """Return a state of that vorticity without divergence, nor any tendency of the divergence: nonlinear balance.

        Args:
            vorticity: coefficients; that of degree 0 is taken as 0, as Stokes' theorem has it.

        Shape: (..., (lmax + 1)²) -> (..., 3, (lmax + 1)²).
        """
        k = self._factors.to(vorticity)
        vorticity = torch.where(k > 0, vorticity, 0.0)
        winds = self._winds(vorticity, None)
        absolute = self._synthesise(vorticity) + self._coriolis.to(vorticity)
        curl = k * self._analyse_vectors(absolute[..., None, :, :] * winds)[..., 1, :]
        kinetic = self._analyse(winds.square().sum(-3) / 2)
        squared = torch.where(k > 0, 1 / (k * k), 0.0)
        depth = torch.where(k > 0, -(curl * squared + kinetic) / self.gravity, 0.0)
        depth[..., 0] = self.depth * math.sqrt(4 * math.pi)
        return torch.stack([vorticity, torch.zeros_like(vorticity), depth], -2)

    def fields(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return depth (..., *grid.shape) in metres and winds (..., 2, *grid.shape) along south and east in m/s."""
        vorticity, divergence, depth = state.unbind(-2)
        return self._synthesise(depth), self._winds(vorticity, divergence)

    def mass(self, state: Tensor) -> Tensor:
        """Return the mean depth in metres."""
        return self._mean(self.fields(state)[0])

    def energy(self, state: Tensor) -> Tensor:
        """Return the energy above a layer at rest, the mean over the sphere of h |V|² / 2 + g (h - H)² / 2, in m³/s²."""
        depth, winds = self.fields(state)
        return self._mean(
            depth * winds.square().sum(-3) / 2 + self.gravity * (depth - self.depth).square() / 2
        )

    def potential_enstrophy(self, state: Tensor) -> Tensor:
        """Return the mean of (zeta + f)² / 2h, in 1/(m s²)."""
        absolute = self._synthesise(state[..., 0, :]) + self._coriolis.to(state)
        return self._mean(absolute.square() / (2 * self.fields(state)[0]))

r"""Warps that turn a two-parameter abelian group of transforms of the plane into shifts.

Where t_u t_v = t_{u+v}, the image Î(u) = I(t_u x₀) of a transformed I is Î shifted: an ordinary convolution of Î commutes with
the group. Points are (x, y), x to the right and y upwards, 0 at the image's centre and 1 at half its shorter side.
Reference: Henriques & Vedaldi 2017, Warped Convolutions: Efficient Invariance to Spatial Transformations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.lazy import cached_property

TOLERANCE = 1e-9  # of additivity, for a warp whose group is taken as exact


class Warp:
    """A grid of group parameters: rows of the warped image step through u₁, columns through u₂.

    A warp is a value, compared by its arguments. ``low`` and ``high`` bound u₁ and u₂: samples lie at both ends, or, on periodic
    axes, at ``low`` and on in equal steps that close at ``high``.

    Shape: ``size`` is (rows, columns) of the warped image.
    """

    size: tuple[int, int]
    pivot: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    periodic: tuple[bool, bool] = (False, False)
    is_exact: bool = True  # whether the transforms are an abelian group

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return points moved by t_u.

        Args:
            u: parameters, (..., 2).
            points: (..., 2), x and y.
        """
        raise NotImplementedError

    @property
    def step(self) -> tuple[float, float]:
        """Parameters from one row to the next, and from one column to the next."""
        found = [
            (b - a) / (n if p else max(1, n - 1))
            for a, b, n, p in zip(self.low, self.high, self.size, self.periodic, strict=True)
        ]
        return found[0], found[1]

    def parameters(self) -> Tensor:
        """Return u of every pixel of the warped image, (rows, columns, 2) float64."""
        axes = [
            a + step * torch.arange(n, dtype=torch.float64)
            for a, step, n in zip(self.low, self.step, self.size, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def points(self) -> Tensor:
        """Return the point t_u x₀ that every pixel of the warped image shows, (rows, columns, 2) float64."""
        return self.locate(self.parameters())

    def locate(self, u: Tensor) -> Tensor:
        """Return t_u x₀.

        Args:
            u: parameters, (..., 2).
        """
        return self.act(u, torch.tensor(self.pivot, dtype=u.dtype, device=u.device).expand(u.shape))

    def inverse(self, points: Tensor) -> Tensor:
        """Return u with t_u x₀ = p, by Newton's method from the nearest pixel of the warped image.

        Args:
            points: (..., 2) float64; nan comes back where none is found.
        """
        flat = points.detach().double().reshape(-1, 2)
        u = self.parameters().reshape(-1, 2).to(flat.device)
        nearest = torch.cdist(flat, self.locate(u)).nan_to_num(nan=math.inf).argmin(1)
        u = u[nearest]
        for _ in range(30):
            off = self.locate(u) - flat
            u = u - (torch.linalg.pinv(self.jacobian(u)) @ off[..., None])[..., 0].clamp(-0.5, 0.5)
        good = (self.locate(u) - flat).abs().amax(1, keepdim=True) < 1e-9
        return torch.where(good, u, torch.full_like(u, math.nan)).reshape(points.shape)

    def jacobian(self, u: Tensor) -> Tensor:
        """Return ∂(t_u x₀)/∂u. Its determinant is the area of the image that a unit of parameters covers.

        Args:
            u: parameters, (..., 2).

        Shape: (..., 2) -> (..., 2, 2), rows x and y, columns u₁ and u₂.
        """
        flat = u.reshape(-1, 2)
        columns = []
        for k in range(2):
            direction = torch.zeros_like(flat)
            direction[:, k] = 1.0
            columns.append(torch.func.jvp(self.locate, (flat,), (direction,))[1])
        return torch.stack(columns, -1).reshape(*u.shape, 2)


def additivity_error(warp: Warp, *, num: int = 64, reach: float = 0.5, seed: int = 0) -> float:
    """Return the largest distance of t_u t_v x₀ from t_{u+v} x₀ and from t_v t_u x₀, relative to their size.

    Args:
        warp: the warp.
        num: pairs of parameters that are tried.
        reach: share of the warp's range that each of u and v covers, about the pivot's own parameters 0 at least.
        seed: of the pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(warp.low).double(), torch.tensor(warp.high).double()
    span = (high - low) * reach / 2
    u, v = ((2 * torch.rand(num, 2, dtype=torch.float64, generator=generator) - 1) * span for _ in range(2))
    middle = (low + high) / 2  # inside the domain, where the pivot itself may lie at its edge
    start = warp.locate(middle.expand(num, 2))
    together = warp.locate(middle + u + v)
    error = torch.maximum(
        (warp.act(u, warp.act(v, start)) - together).abs(), (warp.act(v, warp.act(u, start)) - together).abs()
    )
    return float((error / (1 + together.abs())).nan_to_num(nan=math.inf, posinf=math.inf).max())


@dataclass(frozen=True)
class LogPolarWarp(Warp):
    """Scale and rotation about the centre: rows are logarithms of the radius, columns angles.

    An image enlarged by e^(k step₁) and turned by k' step₂ has its warped image shifted k rows down and, cyclically, k' columns
    to the right.

    Args:
        size: radii and angles.
        inner, outer: smallest and largest radius, in halves of the image's shorter side.

    Raises: ValueError for radii that do not ascend from above 0.

    Example:
        >>> warp = LogPolarWarp((16, 32))
        >>> warp.periodic, tuple(warp.points().shape)
        ((False, True), (16, 32, 2))
    """

    size: tuple[int, int]
    inner: float = 0.05
    outer: float = 1.0
    pivot = (1.0, 0.0)
    periodic = (False, True)

    def __post_init__(self) -> None:
        _check_range(self.size, inner=self.inner, outer=self.outer)

    @cached_property
    def low(self) -> tuple[float, float]:  # type: ignore[override]
        """Logarithm of the inner radius, and angle 0."""
        return math.log(self.inner), 0.0

    @cached_property
    def high(self) -> tuple[float, float]:  # type: ignore[override]
        """Logarithm of the outer radius, and a whole turn."""
        return math.log(self.outer), 2 * math.pi

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return points enlarged by e^u₁ and turned counter-clockwise by u₂."""
        scale, cos, sin = u[..., 0].exp(), u[..., 1].cos(), u[..., 1].sin()
        x, y = points[..., 0], points[..., 1]
        return torch.stack([scale * (cos * x - sin * y), scale * (sin * x + cos * y)], -1)

    def inverse(self, points: Tensor) -> Tensor:
        """Return the logarithm of the radius, and the angle in [0, 2π)."""
        x, y = points[..., 0], points[..., 1]
        return torch.stack([torch.hypot(x, y).log(), torch.atan2(y, x) % (2 * math.pi)], -1)


@dataclass(frozen=True)
class AspectWarp(Warp):
    """Scales along x and y of their own, on one quadrant of the image: rows are logarithms of |y|, columns of |x|.

    Args:
        size: distances along y and along x.
        inner, outer: smallest and largest distance, in halves of the image's shorter side.
        quadrant: signs of x and y.

    Raises: ValueError for distances that do not ascend from above 0, and for signs other than 1 and -1.

    Example:
        >>> AspectWarp((16, 16), quadrant=(-1, 1)).points()[..., 0].max() < 0
        tensor(True)
    """

    size: tuple[int, int]
    inner: float = 0.05
    outer: float = 1.0
    quadrant: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        _check_range(self.size, inner=self.inner, outer=self.outer)
        if any(abs(sign) != 1 for sign in self.quadrant):
            raise ValueError(f"quadrant is {self.quadrant}, expected signs 1 and -1 of x and y")

    @property
    def pivot(self) -> tuple[float, float]:  # type: ignore[override]
        """A corner of the square of half-side 1."""
        return float(self.quadrant[0]), float(self.quadrant[1])

    @property
    def low(self) -> tuple[float, float]:  # type: ignore[override]
        """Logarithms of the smallest distances."""
        return math.log(self.inner), math.log(self.inner)

    @property
    def high(self) -> tuple[float, float]:  # type: ignore[override]
        """Logarithms of the largest distances."""
        return math.log(self.outer), math.log(self.outer)

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return points with x enlarged by e^u₂ and y by e^u₁."""
        return points * u.flip(-1).exp()

    def inverse(self, points: Tensor) -> Tensor:
        """Return the logarithms of the distances; nan outside the quadrant."""
        return (points * torch.tensor(self.pivot, dtype=points.dtype, device=points.device)).log().flip(-1)


@dataclass(frozen=True)
class PerspectiveWarp(Warp):
    """Shifts of a plane seen in perspective, such as the ground seen by a camera: rows are depths, columns go to the right.

    The ground lies a unit below the camera, which looks along it: the ground's point (X, Z) is seen at focal (X, -1)/Z, below
    the horizon, a line through the point (0, horizon) of the image. The warped image is the view from above.

    Args:
        size: depths and places to the right.
        near, far: smallest and largest depth, in heights of the camera.
        width: from the leftmost to the rightmost place, in heights of the camera.
        focal: focal length, in halves of the image's shorter side.
        horizon: height of the horizon in the image.

    Raises: ValueError for depths that do not ascend from above 0, for no width and no focal length.

    Example:
        >>> tuple(PerspectiveWarp((8, 9)).points()[0, 4].tolist())
        (0.0, -1.0)
    """

    size: tuple[int, int]
    near: float = 1.0
    far: float = 4.0
    width: float = 2.0
    focal: float = 1.0
    horizon: float = 0.0

    def __post_init__(self) -> None:
        _check_range(self.size, near=self.near, far=self.far)
        if min(self.width, self.focal) <= 0:
            raise ValueError(f"width is {self.width} and focal is {self.focal}, expected numbers above 0")

    @property
    def pivot(self) -> tuple[float, float]:  # type: ignore[override]
        """The nearest point straight ahead."""
        return 0.0, self.horizon - self.focal / self.near

    @property
    def low(self) -> tuple[float, float]:  # type: ignore[override]
        """No depth beyond the nearest, and the place farthest to the left."""
        return 0.0, -self.width / 2

    @property
    def high(self) -> tuple[float, float]:  # type: ignore[override]
        """The largest depth beyond the nearest, and the place farthest to the right."""
        return self.far - self.near, self.width / 2

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return the points seen after the ground's points went u₁ away and u₂ to the right."""
        depth = self.focal / (self.horizon - points[..., 1])
        right = points[..., 0] * depth / self.focal + u[..., 1]
        depth = depth + u[..., 0]
        return torch.stack([self.focal * right / depth, self.horizon - self.focal / depth], -1)

    def inverse(self, points: Tensor) -> Tensor:
        """Return depth beyond the nearest, and place to the right."""
        depth = self.focal / (self.horizon - points[..., 1])
        return torch.stack([depth - self.near, points[..., 0] * depth / self.focal], -1)


@dataclass(frozen=True)
class HemisphereWarp(Warp):
    """Yaw and pitch of a hemisphere seen from afar: rows are pitch, columns yaw. **Approximate**: no abelian group.

    Turns about two axes do not commute: t_u t_v differs from t_{u+v} by about 5e-4 for angles of 0.1 rad, 1e-2 for 0.3 and 1e-1
    for 0.6. Yaw alone, about an upright axis, is an exact shift.

    Args:
        size: pitches and yaws.
        pitch, yaw: largest angles to both sides.

    Units: radians.
    Raises: ValueError for angles outside (0, π/2).

    Example:
        >>> HemisphereWarp((8, 8), 0.3, 0.3).is_exact
        False
    """

    size: tuple[int, int]
    pitch: float = 1.2
    yaw: float = 1.2
    pivot = (0.0, 0.0)
    is_exact = False

    def __post_init__(self) -> None:
        check_least(**{"size[0]": (self.size[0], 2), "size[1]": (self.size[1], 2)})
        if not (0 < self.pitch < math.pi / 2 and 0 < self.yaw < math.pi / 2):
            raise ValueError(
                f"pitch is {self.pitch} and yaw is {self.yaw}, expected angles between 0 and π/2"
            )

    @property
    def low(self) -> tuple[float, float]:  # type: ignore[override]
        """Smallest pitch and yaw."""
        return -self.pitch, -self.yaw

    @property
    def high(self) -> tuple[float, float]:  # type: ignore[override]
        """Largest pitch and yaw."""
        return self.pitch, self.yaw

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return points of the hemisphere pitched up by u₁ and then turned to the right by u₂."""
        x, y = points[..., 0], points[..., 1]
        z = (1 - x**2 - y**2).clamp_min(0).sqrt()  # towards the viewer
        up, right = u[..., 0], u[..., 1]
        y, z = y * up.cos() + z * up.sin(), z * up.cos() - y * up.sin()
        return torch.stack([x * right.cos() + z * right.sin(), y], -1)

    def inverse(self, points: Tensor) -> Tensor:
        """Return pitch and yaw."""
        x, y = points[..., 0], points[..., 1]
        z = (1 - x**2 - y**2).clamp_min(0).sqrt()
        return torch.stack([y.clamp(-1, 1).asin(), torch.atan2(x, z)], -1)


@dataclass(frozen=True)
class GroupWarp(Warp):
    """The warp of any two-parameter abelian group, given by its action. Warps are equal where the action is one function.

    Args:
        action: function of parameters (..., 2) and points (..., 2) that returns the points moved by t_u.
        size: rows (u₁) and columns (u₂).
        pivot: the point x₀ = t_0 x₀, from which the group must reach every point once.
        low, high: bounds of u₁ and u₂.
        periodic: which parameters close.
        approximate: accept transforms that are no abelian group.

    t_u t_v = t_{u+v} is tried at random points of the range.

    Raises: ValueError for transforms that are no abelian group, unless ``approximate``; for a periodic parameter that does not
        close; and for bounds that do not ascend.

    Example:
        >>> shear = lambda u, p: torch.stack([p[..., 0] + u[..., 1] + u[..., 0] * p[..., 1], p[..., 1]], -1)
        >>> GroupWarp(shear, (4, 4), (0.0, 0.5), (-1, -1), (1, 1)).is_exact
        True
    """

    action: Callable[[Tensor, Tensor], Tensor]
    size: tuple[int, int]
    pivot: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    periodic: tuple[bool, bool] = (False, False)
    approximate: bool = False

    def __post_init__(self) -> None:
        check_least(**{"size[0]": (self.size[0], 2), "size[1]": (self.size[1], 2)})
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low is {self.low} and high is {self.high}, expected ascending bounds")
        start = torch.tensor(self.pivot, dtype=torch.float64)
        still = self.act(torch.zeros(2, dtype=torch.float64), start)
        if not bool(((still - start).abs() <= TOLERANCE).all()):
            raise ValueError(
                f"action moves the pivot {self.pivot} at parameters 0 to {tuple(still.tolist())}, expected {self.pivot}"
            )
        for k, name in ((0, "u1"), (1, "u2")):
            if self.periodic[k]:
                ends = torch.zeros(2, 2, dtype=torch.float64)
                ends[:, k] = torch.tensor([self.low[k], self.high[k]], dtype=torch.float64)
                gap = float((self.locate(ends[:1]) - self.locate(ends[1:])).abs().max())
                if not gap <= TOLERANCE:
                    raise ValueError(f"{name} is periodic, but its two ends are {gap:.1e} apart")
        if not self.approximate:
            error = additivity_error(self)
            if not error <= TOLERANCE:
                raise ValueError(
                    f"action is no abelian group: t_u t_v differs from t_(u+v) by {error:.1e}, expected at most {TOLERANCE:.0e}; "
                    "approximate=True accepts it"
                )

    @property
    def is_exact(self) -> bool:  # type: ignore[override]
        """Whether the action was found to be an abelian group."""
        return not self.approximate

    def act(self, u: Tensor, points: Tensor) -> Tensor:
        """Return the action's points."""
        return self.action(u, points)


def _check_range(size: tuple[int, int], **ends: float) -> None:
    check_least(**{"size[0]": (size[0], 2), "size[1]": (size[1], 2)})
    (name, first), (other, last) = ends.items()
    if not 0 < first < last < math.inf:
        raise ValueError(f"{name} is {first} and {other} is {last}, expected 0 < {name} < {other}")

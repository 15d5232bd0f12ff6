r"""Invertible residual layers: z = x + h(x), where group convolutions make an h that shrinks distances.

Each convolution is divided by the norm of the operator that it is on images of the given size: the largest singular value
of the expanded kernel with its padding, by power iteration with the true adjoint. The norm of the filters before they are
expanded over the group is another, smaller number, and dividing by that one would leave h expanding. Log-determinants are
series of traces,

    log|det(1 + J)| = Σ_k (−1)^(k+1)/k tr J^k,      tr A = E v^T A v,

cut at a random length N without bias where term k is divided by P(N ≥ k).
Reference: Behrmann et al. 2019, arXiv 1811.00995; Chen, Behrmann, Duvenaud & Jacobsen 2019, arXiv 1906.02735; Bose, Brubaker
& Kobyzev 2021, arXiv 2110.08649.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.autograd import versions
from spheregeo.checks import check_least
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.plane.flows.layer import FlowLayer
from spheregeo.nn.plane.group.conv import GroupConv2d, pair

LOGDETS = ("unbiased", "series", "dense")
STEEPEST = 1.0999  # largest slope of x sigmoid(x)


class LipschitzConv2d(GroupConv2d):
    """A group convolution whose operator norm on images of one size is at most a given number.

    Args:
        in_type, out_type: fields, such as ``"4xC4"``.
        kernel_size: odd size of the kernel.
        size: height and width of the images.
        coefficient: largest norm.
        iterations: steps of the power iteration at each call in training; in evaluation it runs until it stands.
        group: the group, where all fields are trivial.

    Shape: (B, in_type.dim, *size) -> (B, out_type.dim, *size).
    Equivariance: as :class:`~spheregeo.nn.plane.GroupConv2d`, exact: one number divides the kernel.
    Raises: ValueError for even kernels, numbers out of range, and images of another size.
    Reference: Gouk et al. 2021, Machine Learning 110, for power iteration on convolutions.

    Example:
        >>> conv = LipschitzConv2d("2xC4", "2xC4", 3, (5, 5)).eval()
        >>> x, y = torch.randn(2, 1, 8, 5, 5)
        >>> bool((conv(x) - conv(y)).norm() <= 0.9 * (x - y).norm())
        True
    """

    vector: Tensor

    def __init__(
        self,
        in_type: str | PlanarType,
        out_type: str | PlanarType,
        kernel_size: int,
        size: Sequence[int],
        *,
        coefficient: float = 0.9,
        iterations: int = 5,
        group: str | PlanarGroup | None = None,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, padding="same", group=group)
        check_least(coefficient=(coefficient, 1e-6), iterations=(iterations, 1))
        self.size, self.coefficient, self.iterations = pair("size", tuple(size)), coefficient, iterations
        self.register_buffer("vector", torch.randn(1, self.in_type.dim, *self.size))
        self._settled: tuple[object, ...] | None = None

    def norm(self, kernel: Tensor) -> Tensor:
        """Return the largest singular value of the convolution with a kernel, differentiable in the kernel.

        Args:
            kernel: expanded kernel.

        Shape: kernel (out_type.dim, in_type.dim, k, k) -> ().
        """
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        with torch.no_grad():
            fixed, v = kernel.detach(), self.vector.to(kernel.dtype)
            state = versions(self.weights)
            # in evaluation once, so that layer and inverse are one map
            if self.training or state is None or self._settled != state:
                found = self._iterate(fixed, v / v.norm().clamp_min(1e-30), padding)
                # a kernel of zeros leaves no direction, and a later one needs some
                self.vector.copy_(torch.where(found.norm() > 0.5, found, v))
                v, self._settled = self.vector.to(kernel.dtype), None if self.training else state
            u = F.conv2d(v, fixed, padding=padding)
            u = u / u.norm().clamp_min(1e-30)
        return (u * F.conv2d(v, kernel, padding=padding)).sum()

    def _iterate(self, kernel: Tensor, v: Tensor, padding: tuple[int, int]) -> Tensor:
        before = 0.0
        for step in range(self.iterations if self.training else 1000):
            u = F.conv2d(v, kernel, padding=padding)
            v = F.conv_transpose2d(u, kernel, padding=padding)
            v = v / v.norm().clamp_min(1e-30)
            if not self.training and step % 10 == 9:
                found = float(u.norm())
                if abs(found - before) <= 1e-6 * found:
                    break
                before = found
        return v

    def kernel(self) -> Tensor:
        kernel = super().kernel()
        with torch.autocast(kernel.device.type, enabled=False):
            return kernel * (self.coefficient / self.norm(kernel).clamp_min(self.coefficient))

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected height and width {self.size}, for which the norm holds"
            )
        return super().forward(x)


class GroupResidual(FlowLayer):
    """Residual layer z = x + h(x) with h of two group convolutions that shrink distances; inverted by a fixed point.

    Args:
        field_type: fields that come in, such as ``"1x0"`` or ``"4xC4"``.
        size: height and width of the images.
        hidden: regular fields between the convolutions.
        kernel_size: odd size of the convolutions.
        coefficient: largest operator norm of each convolution, below 1; h shrinks distances by its square or more.
        logdet: "unbiased", a random number of traces by random vectors; "series", ``terms`` exact traces; "dense", the
            determinant of the whole Jacobian, for small images.
        terms: traces that are always summed.
        samples: random vectors, whose traces are averaged.
        group: the group, where all fields are trivial.

    Shape: (B, dim, *size) -> the same and log|det| (B,).
    Equivariance: the group of the fields, exact; "unbiased" log-determinants are so in their mean.
    Raises: ValueError for a coefficient outside (0, 1), another logdet, and images of another size; RuntimeError where the
        fixed point is not reached.
    Reference: Behrmann et al. 2019, arXiv 1811.00995; Chen et al. 2019, arXiv 1906.02735; Bose et al. 2021, arXiv 2110.08649.

    Example:
        >>> layer = GroupResidual("2xC4", (5, 5), hidden=3, logdet="dense").double().eval()
        >>> x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
        >>> bool(torch.allclose(layer.inverse(layer(x)[0]), x))
        True
    """

    def __init__(
        self,
        field_type: str | PlanarType,
        size: Sequence[int],
        hidden: int = 8,
        kernel_size: int = 3,
        *,
        coefficient: float = 0.9,
        logdet: str = "unbiased",
        terms: int = 4,
        samples: int = 1,
        group: str | PlanarGroup | None = None,
    ) -> None:
        super().__init__(field_type, group)
        if not 0 < coefficient < 1:
            raise ValueError(
                f"coefficient is {coefficient}; expected a number between 0 and 1, so that the layer can be inverted"
            )
        if logdet not in LOGDETS:
            raise ValueError(f"logdet is {logdet!r}; expected one of {', '.join(LOGDETS)}")
        check_least(hidden=(hidden, 1), terms=(terms, 1), samples=(samples, 1))
        self.logdet, self.terms, self.samples = logdet, terms, samples
        inside = PlanarType.of(f"{hidden}x{self.group}")
        common: dict[str, Any] = {"coefficient": coefficient, "group": self.group}
        self.first = LipschitzConv2d(self.field_type, inside, kernel_size, size, **common)
        self.second = LipschitzConv2d(inside, self.field_type, kernel_size, size, **common)

    def h(self, x: Tensor) -> Tensor:
        """Return the residual of x, which shrinks distances. Shape: (B, dim, *size) -> the same."""
        with torch.autocast(x.device.type, enabled=False):  # fixed points and traces take the digits of x
            return self.second(F.silu(self.first(x)) / STEEPEST)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.checked(x)
        learns = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            start = x if x.requires_grad and learns else x.detach().clone().requires_grad_()
            step = self.h(start)
            if self.logdet == "unbiased":
                found = torch.stack([self._unbiased(start, step, learns) for _ in range(self.samples)]).mean(
                    0
                )
            else:
                found = self._dense(start, step, learns)
            z = start + step
        return (z, found) if learns else (z.detach(), found.detach())

    def _pulled(self, start: Tensor, step: Tensor, w: Tensor, learns: bool) -> Tensor:
        """Product of w and the Jacobian of h, for each sample."""
        return torch.autograd.grad(step, start, w, create_graph=learns, retain_graph=True)[0]

    def _unbiased(self, start: Tensor, step: Tensor, learns: bool) -> Tensor:
        v = torch.randint(0, 2, step.shape, device=step.device).to(step) * 2 - 1
        more = int(torch.distributions.Geometric(0.5).sample())  # P(more ≥ k) = 2^-k
        w, total = v, step.new_zeros(len(step))
        for k in range(1, self.terms + more + 1):
            w = self._pulled(start, step, w, learns)
            chance = 0.5 ** max(0, k - self.terms)
            total = total + (w * v).flatten(1).sum(1) * ((-1) ** (k + 1) / (k * chance))
        return total

    def _dense(self, start: Tensor, step: Tensor, learns: bool) -> Tensor:
        size = math.prod(step.shape[1:])
        units = torch.eye(size, dtype=step.dtype, device=step.device).view(size, 1, *step.shape[1:])
        rows = [self._pulled(start, step, unit.expand_as(step), learns).flatten(1) for unit in units]
        jacobian = torch.stack(rows, 1)
        if torch.finfo(jacobian.dtype).bits < 32:  # no determinants in half precision
            jacobian = jacobian.float()
        if self.logdet == "dense":
            return torch.linalg.slogdet(jacobian + torch.eye(size).to(jacobian))[1]
        total, power = jacobian.new_zeros(len(jacobian)), jacobian
        for k in range(1, self.terms + 1):
            total = total + power.diagonal(dim1=1, dim2=2).sum(1) * ((-1) ** (k + 1) / k)
            power = power @ jacobian
        return total

    @torch.no_grad()
    def inverse(self, z: Tensor) -> Tensor:
        self.checked(z, "z")
        x, rounding = z, 8 * torch.finfo(z.dtype).eps
        gap = 0.0
        for _ in range(500):
            new = z - self.h(x)
            gap = float((new - x).abs().max()) if x.numel() else 0.0
            x = new
            if gap <= rounding * max(1.0, float(x.abs().max())) if x.numel() else True:
                return x
        if torch.finfo(z.dtype).bits < 32:  # rounding may not let neighbouring numbers settle
            return x
        raise RuntimeError(f"the inverse has not settled after 500 steps: the last one moved by {gap:.1e}")

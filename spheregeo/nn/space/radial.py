"""Functions of an edge's length: radial bases with a smooth end at the cutoff, and the network from them to an edge's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.statistics import working_dtype

BASES = ("bessel", "gaussian")


def polynomial_envelope(t: Tensor, p: int = 6) -> Tensor:
    """1 - (p+1)(p+2)/2 t^p + p(p+2) t^(p+1) - p(p+1)/2 t^(p+2) for t = r/cutoff in [0, 1], 0 beyond.

    Shape: any -> the same. Value, first and second derivative vanish at t = 1.
    Reference: Gasteiger, Groß & Günnemann 2020, arXiv:2003.03123, equation 8.
    """
    t = t.clamp(max=1.0)
    return 1 - t**p * ((p + 1) * (p + 2) / 2 - t * (p * (p + 2) - t * (p * (p + 1) / 2)))


def _sinc(x: Tensor) -> Tensor:
    """sin(x)/x; unlike torch's, with all derivatives at 0."""
    near = x.abs() < 0.2
    small = torch.where(near, x, 0.0).square()
    series = 1 - small / 6 * (1 - small / 20 * (1 - small / 42 * (1 - small / 72 * (1 - small / 110))))
    away = torch.where(near, 1.0, x)
    return torch.where(near, series, torch.sin(away) / away)


class RadialBasis(nn.Module):
    """Functions of the distance on [0, cutoff], K for each edge; zero with two derivatives at the cutoff and beyond.

    Args:
        cutoff: where the functions end.
        count: K.
        kind: "bessel", √2 sin(nπt)/(πt) for t = r/cutoff, n = 1 ... K, regular at 0; or "gaussian", exp(-(t - t_k)²/2s²), the K
            centres spread evenly and s their spacing.
        envelope: whether functions are multiplied by :func:`polynomial_envelope`, which makes them end smoothly.

    Shape: (E,) -> (E, K). In float32 the waves are right to 2e-6 of the largest for K = 8, 2e-5 for K = 32.
    Units: cutoff in the unit of the distances.
    Equivariance: invariant; distances are.
    Raises: ValueError for an unknown kind, no function, or a cutoff that is not positive.

    Example:
        >>> basis = RadialBasis(cutoff=5.0, count=8)
        >>> basis(torch.rand(20)).shape
        torch.Size([20, 8])
    """

    centres: Tensor  # of Gaussians

    def __init__(self, cutoff: float, count: int = 8, kind: str = "bessel", *, envelope: bool = True) -> None:
        super().__init__()
        if kind not in BASES:
            raise ValueError(f"kind is {kind!r}; expected 'bessel' or 'gaussian'")
        if count < 1:
            raise ValueError(f"count is {count}; expected at least one function")
        if not (cutoff > 0 and math.isfinite(cutoff)):
            raise ValueError(f"cutoff is {cutoff}; expected a positive distance")
        self.cutoff, self.count, self.kind, self.envelope = float(cutoff), count, kind, envelope
        centres = None if kind == "bessel" else torch.linspace(0, 1, count, dtype=torch.get_default_dtype())
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        check_tensor(distance, "distance")
        t = distance / self.cutoff
        if self.kind == "bessel":
            values = self._waves(math.pi * t)
        else:
            values = torch.exp(
                -0.5 * ((t[:, None] - self.centres.to(t.dtype)) * max(self.count - 1, 1)).square()
            )
        return values * polynomial_envelope(t)[:, None] if self.envelope else values

    def _waves(self, x: Tensor) -> Tensor:
        """√2 sin(n x)/x for n = 1 ... K, (E,) -> (E, K), by sin((n + 1) x) = 2 cos x sin(n x) - sin((n - 1) x).

        Done in float32 at least: the recurrence loses some log2(K) bits.
        """
        dtype, x = x.dtype, x.to(working_dtype(x))
        twice = 2 * torch.cos(x)
        found, before = [math.sqrt(2) * _sinc(x)], torch.zeros_like(x)
        for _ in range(self.count - 1):
            found.append(twice * found[-1] - before)
            before = found[-2]
        return torch.stack(found, 1).to(dtype)

    def extra_repr(self) -> str:
        return f"cutoff={self.cutoff}, count={self.count}, kind={self.kind!r}"


class RadialNetwork(nn.Module):
    """A perceptron from radial functions and other numbers of an edge to the edge's features, which vanish smoothly at the
    cutoff.

    Args:
        basis: number K of radial functions.
        hidden: widths of the hidden layers.
        out_channels: number of features.
        extra: number X of other numbers per edge.

    Shape: basis (E, K), envelope (E,), extra (E, X) or None -> (E, out_channels).
    Equivariance: invariant, where what comes in is.

    Example:
        >>> network = RadialNetwork(8, [32], 16)
        >>> network(torch.randn(20, 8), torch.ones(20)).shape
        torch.Size([20, 16])
    """

    def __init__(self, basis: int, hidden: Sequence[int], out_channels: int, extra: int = 0) -> None:
        super().__init__()
        sizes = [basis + extra, *hidden, out_channels]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, basis: Tensor, envelope: Tensor, extra: Tensor | None = None) -> Tensor:
        check_tensor(basis, "basis")
        x = basis if extra is None else torch.cat([basis, extra], 1)
        result: Tensor = in_dtype(self.layers, x) * envelope[:, None]
        return result

r"""Pointwise activations rescaled so that a standard normal input gives an output of unit second moment.

The factor 1 / sqrt(E f(z)²), z ~ N(0, 1), is a quadrature in float64 on each side of zero, where most
kinks are, done once a name.
Reference: e3nn's ``normalize2mom``, which samples a million normals instead and so has it to 1e-3.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.deprecation import renamed_arguments
from spheregeo.harmonics import gauss_legendre
from spheregeo.nn.activations import Activation, activation, activation_name

REACH = 12.0  # of the normal density: what is left out is below 1e-31
NODES = 256


def _nodes() -> tuple[Tensor, Tensor]:
    theta, weights = gauss_legendre(NODES)
    z = REACH / 2 * (1 + torch.cos(theta))
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * weights * REACH / 2
    return torch.cat([z, -z]), torch.cat([density, density])


@torch.no_grad()
def _measure(act: Activation) -> tuple[float, int]:
    """sqrt(E f(z)²), and the parity of f: 1 even, -1 odd, 0 neither."""
    z, weights = _nodes()
    if isinstance(act, nn.Module):
        act = copy.deepcopy(act).to("cpu", torch.float64)
    values = act(z)
    moment = float((values.square() * weights).sum().sqrt())
    if not (math.isfinite(moment) and moment > 0):
        raise ValueError(f"act has second moment {moment} on normal input; expected a finite one above zero")
    right, left = values.chunk(2)
    scale = 1e-9 * float(values.abs().max())
    parity = 1 if float((right - left).abs().max()) < scale else 0
    parity = -1 if float((right + left).abs().max()) < scale else parity
    return moment, parity


@lru_cache(maxsize=256)
def _named(name: str) -> tuple[float, int]:
    return _measure(activation(name))


def second_moment(act: str | Activation) -> float:
    """Root mean square of f(z), z ~ N(0, 1). Raises: ValueError where it is not finite and positive."""
    return (_named(act) if isinstance(act, str) else _measure(act))[0]


def parity(act: str | Activation) -> int:
    """1 for an even function, -1 for an odd one, 0 for neither; measured, not declared."""
    return (_named(act) if isinstance(act, str) else _measure(act))[1]


class NormalizedActivation(nn.Module):
    """Pointwise activation divided by the root of its second moment: f(x)/√(E f(z)²), of unit second moment for standard
    normal input.

    Args:
        act: name of an activation, or a pointwise function.
        normalize: False leaves f as it is.

    Shape: any -> the same.
    Raises: ValueError for an unknown name.

    Example:
        >>> act = NormalizedActivation("silu")
        >>> round(act.factor, 3)
        1.677
    """

    @renamed_arguments(normalise="normalize")
    def __init__(self, act: str | Activation = "silu", *, normalize: bool = True) -> None:
        super().__init__()
        self.act, self.name = activation(act), activation_name(act)
        self.factor = 1 / second_moment(act) if normalize else 1.0

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        y = self.act(x)
        return y if self.factor == 1.0 else y * self.factor

    def extra_repr(self) -> str:
        return f"{self.name}, factor={self.factor:.6g}"


NormalisedActivation = NormalizedActivation  # its former name

r"""Pointwise activations by name, and how many samples of a band-limited function one needs for a stated gauge error.

A field of orders 0 ... M at a point is a function of direction, s(phi) = x_0 + sqrt 2 sum_m (c_m cos m phi + s_m sin m phi).
Taking f(s) at N directions and projecting back aliases frequencies kN +- m of f(s) onto order m; what comes in depends on how
the frame lies to the samples. That error is measured here, not estimated: it falls like N^-2 for ReLU, N^-3 for ELU,
exponentially for SiLU, and is zero for a polynomial of degree d once N >= (d + 1) M + 1.
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615; Franzen & Wand 2021, arXiv:2109.06861;
de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spheregeo.groups import fourier_rows

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "leaky_relu": F.leaky_relu,
    "square": torch.square,
}

MOST_SAMPLES = 4095
MARGIN = 0.8  # the measured error must stay below this share of the tolerance


def activation(act: str | Activation) -> Activation:
    """The function of a name, or the callable itself. Raises: ValueError for an unknown name."""
    if callable(act):
        return act
    if act not in ACTIVATIONS:
        raise ValueError(f"act is {act!r}; expected a function or one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[act]


def activation_name(act: str | Activation) -> str:
    """Text for ``repr``."""
    return act if isinstance(act, str) else getattr(act, "__name__", repr(act))


def sampling_matrices(orders: tuple[int, ...], samples: int) -> tuple[Tensor, Tensor]:
    """√N Fᵀ and F/√N for the rows of some orders: coefficients to N samples of size O(1), and back.

    Shape: (N, K), (K, N) float64, K = 1 for order 0 and 2 for each other, in the sequence of ``orders``.
    """
    rows = fourier_rows(samples, max(orders))
    index = [i for n in orders for i in ((0,) if n == 0 else (2 * n - 1, 2 * n))]
    rows = rows[index]
    return (math.sqrt(samples) * rows).T.contiguous(), rows / math.sqrt(samples)


@torch.no_grad()
def gauge_error(
    act: str | Activation,
    orders: tuple[int, ...],
    samples: int,
    *,
    amplitude: float = 1.0,
    draws: int = 4096,
) -> float:
    """Relative RMS difference between turning the frame after and before y = F f(√N Fᵀ x)/√N.

    Over normal x of standard deviation ``amplitude`` and random angles; float64, always the same draws.
    """
    if isinstance(act, nn.Module):
        act = copy.deepcopy(act).to("cpu", torch.float64)
    return _measure(activation(act), orders, samples, amplitude, draws)


def _measure(f: Activation, orders: tuple[int, ...], samples: int, amplitude: float, draws: int) -> float:
    to, back = sampling_matrices(orders, samples)
    generator = torch.Generator().manual_seed(0)
    x = amplitude * torch.randn(draws, to.shape[1], dtype=torch.float64, generator=generator)
    angle = 2 * math.pi * torch.rand(draws, dtype=torch.float64, generator=generator)

    def turn(x: Tensor) -> Tensor:
        columns, i = [], 0
        for n in orders:
            if n == 0:
                columns.append(x[:, i])
                i += 1
                continue
            cos, sin = torch.cos(n * angle), torch.sin(n * angle)
            columns += [cos * x[:, i] + sin * x[:, i + 1], cos * x[:, i + 1] - sin * x[:, i]]
            i += 2
        return torch.stack(columns, 1)

    y = turn(f(x @ to.T) @ back.T)
    size = float(y.square().mean().sqrt())
    if not math.isfinite(size) or size == 0:
        raise ValueError(f"act gives {size} on normal fields; expected finite values that are not all zero")
    return float((y - f(turn(x) @ to.T) @ back.T).square().mean().sqrt()) / size


def samples_for(
    act: str | Activation, orders: tuple[int, ...], tolerance: float, *, amplitude: float = 1.0
) -> int:
    """Smallest tried odd number of samples whose measured gauge error is below 0.8 · tolerance.

    Odd numbers from 2M + 1 to 41 are tried, then steps of an eighth, and of a third from 400. One
    sample serves order 0, without error.

    Raises: ValueError for a tolerance that is not positive, or that 4095 samples do not reach.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; expected a positive gauge error such as 1e-3")
    if not amplitude > 0:
        raise ValueError(f"amplitude is {amplitude}; expected the positive size of a field's components")
    if isinstance(act, str):
        return _named_samples(act, orders, tolerance, amplitude)
    return _search(act, orders, tolerance, amplitude)


@lru_cache(maxsize=256)
def _named_samples(act: str, orders: tuple[int, ...], tolerance: float, amplitude: float) -> int:
    return _search(act, orders, tolerance, amplitude)


def _search(act: str | Activation, orders: tuple[int, ...], tolerance: float, amplitude: float) -> int:
    if orders == (0,):
        return 1
    samples = 2 * max(orders) + 1
    while samples <= MOST_SAMPLES:
        if gauge_error(act, orders, samples, amplitude=amplitude, draws=2048) < MARGIN * tolerance:
            return samples
        samples += 2 if samples < 41 else 2 * (samples // (16 if samples < 400 else 6))
    raise ValueError(
        f"tolerance is {tolerance} for orders up to {max(orders)} and act {activation_name(act)}; {MOST_SAMPLES} samples "
        "do not reach it: choose a smoother activation such as 'silu', or set samples"
    )

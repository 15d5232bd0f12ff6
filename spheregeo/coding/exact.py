r"""Networks evaluated without rounding errors: to the last digit alike on every machine, with any number of threads.

Weights and activations are multiples of powers of two, few enough that every sum of products is a whole number of units within
2^53, which float64 holds exactly. The order of summation, fused multiplications and the number of threads then change nothing.
Weights are rounded to 2^-14, and what a convolution gives is rounded to 2^-10 before the next one.
Reference: the purpose is that of Ballé, Johnston & Minnen 2019, Integer Networks for Data Compression with Latent-Variable
Models, ICLR; they train with whole numbers, whereas here 2^-10 is fine enough to leave trained networks as they are.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_BITS, BITS = 14, 10  # after the point
LARGEST_WEIGHT, LARGEST = 16.0, 1024.0
# products of 2^(WEIGHT_BITS + BITS) units, at most 2^4 · 2^10 each, so that 2^15 of them stay within 2^53
TERMS = 1 << 15


def rounded(x: Tensor, bits: int, largest: float) -> Tensor:
    """Return x in float64, rounded to multiples of 2^-bits and clipped to ± largest; halves go up."""
    return (torch.floor(x.double() * 2**bits + 0.5) / 2**bits).clamp(-largest, largest)


def _round_output(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return rounded(output, BITS, LARGEST)


def exact_copy(network: nn.Module, convolutions: tuple[type[nn.Module], ...]) -> nn.Module:
    """Return a copy of a network, on the CPU, whose evaluation has no rounding errors.

    Args:
        network: convolutions, pixel shuffles, sums and rectifiers alone: what else would divide or take roots.
        convolutions: types of the layers that hold the weights.

    Raises: ValueError for weights outside the convolutions, and for sums with so many terms that they would be rounded.
    """
    made = copy.deepcopy(network).cpu().double().eval()
    known: set[int] = set()
    for layer in made.modules():
        if not isinstance(layer, convolutions):
            continue
        weight: Any = layer.weight
        terms = weight[0].numel() + 1
        if terms > TERMS:
            raise ValueError(f"a convolution sums {terms} products; expected at most {TERMS}")
        with torch.no_grad():
            for parameter in layer.parameters(recurse=False):
                bits = WEIGHT_BITS if parameter is weight else WEIGHT_BITS + BITS
                parameter.copy_(rounded(parameter, bits, LARGEST_WEIGHT))
                parameter.requires_grad_(False)
                known.add(id(parameter))
        layer.register_forward_hook(_round_output)
    odd = [name for name, parameter in made.named_parameters() if id(parameter) not in known]
    if odd:
        raise ValueError(f"weights {odd[0]!r} are in none of the convolutions; expected convolutions alone")
    return made

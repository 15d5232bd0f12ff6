"""Random values for everything a network has learned, so that no zero bias or unit variance hides an error.

A test at initialisation sees zero biases, zero-initialised branches and trivial statistics; each has hidden a published bug.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BIAS = 0.5  # standard deviation given to parameters that are all zero, in units of a signal of variance 1


def _tracks_statistics(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), Tensor) for name in ("running_mean", "running_var"))


@torch.no_grad()
def randomise(
    module: nn.Module, generator: torch.Generator | None = None, x: Tensor | None = None
) -> nn.Module:
    """Draw all parameters and norm statistics of a module anew, in place; returns the module.

    Args:
        module: any module.
        generator: of the random numbers; torch's default if None.
        x: an input, from which running statistics are taken first; they are only disturbed if None.

    A parameter keeps its root mean square, so that signals keep their size; one that is zero gets 0.5, or 1/√fan-in where it
    is a matrix. Running statistics become those of ``x``, where it is given, each then shifted by a random half standard
    deviation and scaled by a random factor in [1/2, 2).

    Raises: ValueError for a parameter that is not finite.
    """
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            continue
        size = float(parameter.double().square().mean().sqrt()) if parameter.numel() else 0.0
        if not size < float("inf"):
            raise ValueError(f"parameter {name} is not finite; load another checkpoint")
        if size == 0.0:
            size = BIAS if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.copy_(size * _normal(parameter, generator))
    norms: list[Any] = [m for m in module.modules() if _tracks_statistics(m)]
    follows_batches = [norm for norm in norms if hasattr(norm, "momentum")]  # others are fitted once
    if x is not None and follows_batches:
        _take_statistics(module, follows_batches, x)
    for norm in norms:
        norm.running_mean += 0.5 * norm.running_var.sqrt() * _normal(norm.running_mean, generator)
        norm.running_var *= torch.exp2(_normal(norm.running_var, generator).clamp(-1, 1))
    return module


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Drawn on the CPU in float64, so that a seed means the same on every device and in every dtype."""
    return torch.randn(like.shape, dtype=torch.float64, generator=generator).to(like)


def _take_statistics(module: nn.Module, norms: list[Any], x: Tensor) -> None:
    modes = {m: m.training for m in module.modules()}
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        module(x)
    finally:
        for m, training in modes.items():
            m.training = training
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

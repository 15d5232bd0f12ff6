"""Layers of torch inside our layers, called with inputs of another floating type than that of their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["in_dtype"]


def in_dtype(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)`` with the weights in the type of x, as our own layers take theirs; autocast decides where it is on.

    Args:
        module: a module that takes one tensor.
        x: its input, of a floating type.
    """
    given = dict(module.named_parameters())
    if all(p.dtype == x.dtype for p in given.values()) or torch.is_autocast_enabled(x.device.type):
        return module(x)  # type: ignore[no-any-return]
    return functional_call(module, {name: p.to(x.dtype) for name, p in given.items()}, (x,))  # type: ignore[no-any-return]

"""Quantities with a lower bound that training may leave again, and rounding that training sees as noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.autograd import Function


class _AtLeast(Function):
    """max(x, bound), whose gradient passes below the bound where descent leads up."""

    @staticmethod
    def forward(x: Tensor, bound: float) -> Tensor:
        return x.clamp_min(bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.bound = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return g * ((x >= ctx.bound) | (g < 0)), None


def at_least(x: Tensor, bound: float) -> Tensor:
    """Return max(x, bound); the gradient below the bound is that of x where a step against it leads up, else 0.

    Args:
        x: any tensor.
        bound: least value of the result.
    """
    result: Tensor = _AtLeast.apply(x, bound)
    return result


def quantise(x: Tensor, noise: bool) -> Tensor:
    """Return x rounded to whole numbers, or with uniform noise of the same width, which has a gradient.

    Args:
        x: any tensor.
        noise: whether to add noise from (-1/2, 1/2) instead of rounding.

    Reference: Ballé, Laparra & Simoncelli 2017, arXiv 1611.01704, section 3.
    """
    return x + torch.rand_like(x) - 0.5 if noise else x.round()

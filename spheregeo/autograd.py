"""Functions with derivatives written by hand, entered without reading their signature anew at each call."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Function"]


class Function(torch.autograd.Function):
    """A ``torch.autograd.Function`` with ``setup_context`` whose ``apply`` costs a few microseconds.

    torch binds the arguments to the signature of ``forward`` at every call, to fill in defaults, which takes longer than the
    evaluation of a small layer. Here all arguments are given by position. Under the transforms of ``torch.func`` torch's own
    ``apply`` runs.

    Example:
        >>> class Twice(Function):
        ...     @staticmethod
        ...     def forward(x):
        ...         return 2 * x
        ...     @staticmethod
        ...     def setup_context(ctx, inputs, output):
        ...         pass
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         return 2 * grad
        >>> x = torch.ones(2, requires_grad=True)
        >>> torch.autograd.grad(Twice.apply(x).sum(), x)[0]
        tensor([2., 2.])
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The function's value, differentiable by ``backward``."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]

"""Functions with derivatives written by hand, entered without reading their signature anew at each call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._pytree import _broadcast_to_and_flatten, tree_flatten, tree_unflatten

__all__ = ["Function", "is_transformed", "is_watched", "mapped", "versions"]


def is_watched() -> bool:
    """Return whether a compiler, an exporter or a transform of ``torch.func`` follows along, for whom plain operations serve."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` follows along, which knows no changes in place and no orders of memory."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def versions(tensors: Iterable[torch.Tensor]) -> tuple[object, ...] | None:
    """Return a value that changes when one of several tensors is replaced, moved or written to, for what is kept of them.

    None for tensors made under ``torch.inference_mode``, which count no writes: nothing can be kept of them. Writes through
    ``.data`` are not counted either.

    Args:
        tensors: the tensors, such as the weights of a layer.
    """
    found = list(tensors)
    if any(t.is_inference() for t in found):
        return None
    return tuple((t._version, t.data_ptr(), t.dtype) for t in found)


def mapped(function: Any, info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    """A rule of ``torch.func.vmap``: a function's values for each entry of the mapped axis in turn, stacked.

    Args:
        function: a function of tensors and anything else that returns a tensor, or a list or tuple of tensors.
        info, in_dims: as torch gives them to such rules.
        args: arguments of the function.

    Raises: RuntimeError for no entries.
    """
    values, spec = tree_flatten(args)
    dims = _broadcast_to_and_flatten(in_dims, spec)
    assert dims is not None
    if not info.batch_size:
        raise RuntimeError("vmap over an axis of length 0; expected one entry at least")
    found = []
    for k in range(info.batch_size):
        entry = [v if d is None else v.select(d, k) for v, d in zip(values, dims, strict=True)]
        found.append(function(*tree_unflatten(entry, spec)))
    if isinstance(found[0], torch.Tensor):
        return torch.stack(found), 0
    kind = type(found[0])
    return kind(torch.stack(parts) for parts in zip(*found, strict=True)), kind(0 for _ in found[0])


class Function(torch.autograd.Function):
    """A ``torch.autograd.Function`` with ``setup_context`` whose ``apply`` costs a few microseconds.

    torch binds the arguments to the signature of ``forward`` at every call, to fill in defaults, which takes longer than the
    evaluation of a small layer. Here all arguments are given by position. Under the transforms of ``torch.func`` torch's own
    ``apply`` runs, and ``vmap`` evaluates entry by entry.

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

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "vmap" not in cls.__dict__:
            cls.vmap = staticmethod(  # type: ignore[method-assign]
                lambda info, in_dims, *args: mapped(cls.apply, info, in_dims, *args)
            )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The function's value, differentiable by ``backward``."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]

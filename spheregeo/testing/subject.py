"""The module under test and its inputs, in any dtype and on any device, with everything learned drawn at random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit import randomise

Inputs = Tensor | Sequence[Any] | Callable[[torch.dtype, torch.device], Sequence[Any]]
CPU = torch.device("cpu")
# unlike .to(dtype), these leave complex parameters and buffers complex
CAST: dict[torch.dtype, Callable[[nn.Module], nn.Module]] = {
    torch.float64: nn.Module.double,
    torch.float32: nn.Module.float,
    torch.bfloat16: nn.Module.bfloat16,
    torch.float16: nn.Module.half,
}


def tensors_of(value: Any) -> list[Tensor]:
    """Floating tensors in an output: a tensor, or lists, tuples and dictionaries of them."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() or value.is_complex() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_of(item)] if isinstance(value, (list, tuple)) else []


@dataclass
class Subject:
    """A module, the inputs that it is called with, and the seed of what is drawn at random.

    Args:
        module: the module under test; never changed.
        given: one tensor, a sequence of arguments, or a function of dtype and device that returns the arguments.
        seed: of parameters, statistics and cotangents.
    """

    module: nn.Module
    given: Inputs
    seed: int = 0

    def inputs(self, dtype: torch.dtype = torch.float64, device: torch.device = CPU) -> list[Any]:
        """Arguments with floating tensors and modules in the dtype."""
        if isinstance(self.given, Tensor):
            values: Sequence[Any] = [self.given]
        elif callable(self.given):
            values = self.given(dtype, device)
        else:
            values = self.given
        return [_moved(value, dtype, device) for value in values]

    def layer(self, dtype: torch.dtype = torch.float64, device: torch.device = CPU) -> nn.Module:
        """A copy in eval mode, parameters and running statistics random."""
        module = copy.deepcopy(self.module).double().eval()
        generator = torch.Generator().manual_seed(self.seed)
        randomise(module, generator)
        return CAST[dtype](module).to(device)

    @property
    def has_statistics(self) -> bool:
        """Whether training mode computes something else than eval mode does."""
        return any(isinstance(getattr(m, "running_var", None), Tensor) for m in self.module.modules())


def _moved(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, nn.Module):
        return CAST[dtype](copy.deepcopy(value)).to(device)
    if isinstance(value, (list, tuple)):
        return _like(value, [_moved(item, dtype, device) for item in value])
    return value


def cast(inputs: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    """Copies of arguments whose floating tensors and modules are in the dtype, on the CPU."""
    return [_moved(value, dtype, CPU) for value in inputs]


def _like(value: Any, items: list[Any]) -> Any:
    """Items in a list, tuple or named tuple, as the value is."""
    if isinstance(value, list):
        return items
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def replaced(value: Any, given: dict[int, Tensor]) -> Any:
    """The value with tensors exchanged by their ``id``, in lists and tuples too."""
    if isinstance(value, Tensor):
        return given.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return _like(value, [replaced(item, given) for item in value])
    return value


def leaves(inputs: Sequence[Any]) -> list[Tensor]:
    """Make the floating tensors among the arguments (and in lists of them) require gradients; returns them."""
    found = [t for value in inputs for t in tensors_of(value)]
    for tensor in found:
        tensor.requires_grad_()
    return found


def gradients(
    function: Callable[..., Any], inputs: Sequence[Any], parameters: Sequence[Tensor], seed: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Outputs, gradients of the inputs and gradients of the parameters, for a random cotangent."""
    own = leaves(inputs)
    outputs = tensors_of(function(*inputs))
    generator = torch.Generator().manual_seed(seed)
    total = sum(
        (y * torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)).sum() for y in outputs
    )
    assert isinstance(total, Tensor)
    wanted = [*own, *parameters]
    if not total.requires_grad:
        return outputs, [torch.zeros_like(t) for t in own], [torch.zeros_like(t) for t in parameters]
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    filled = [torch.zeros_like(t) if g is None else g for g, t in zip(found, wanted, strict=True)]
    return outputs, filled[: len(own)], filled[len(own) :]

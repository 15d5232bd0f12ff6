"""Constants of layers that keep their digits: cast from float64, or computed again, whenever a layer's dtype changes.

A plain buffer is rounded by ``.float()`` and stays rounded after ``.double()``; it loses its values on the meta device. The
constants of :class:`ExactBuffers` do neither: grids, matrices and maps are the same whichever way a layer got its dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """Base of layers with constants that are right to the last digit in every dtype.

    A constant is a float64 tensor given to :meth:`keep`, or what :meth:`_build` makes for a name and a dtype (a tensor or a
    module of buffers, such as a sparse map). Constants follow the layer's device and dtype, except that half precision leaves
    them in float32: sums over many points need it. They are no part of a state dict, unless ``persistent``.

    Example:
        >>> import torch
        >>> class Third(ExactBuffers):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.keep("third", torch.tensor(1 / 3, dtype=torch.float64))
        >>> Third().float().double().third.item() == 1 / 3
        True
    """

    def keep(self, name: str, value: Tensor | None = None, *, persistent: bool = False) -> None:
        """Register a constant in the default dtype.

        Args:
            name: of the attribute.
            value: the constant in float64; without it, :meth:`_build` makes the constant.
            persistent: for values found in training, such as energies of atoms: the constant is part of the state dict and
                stays in float64 whatever the layer's dtype becomes.
        """
        sources: dict[str, Tensor | None] = vars(self).setdefault("_sources", {})
        if persistent:
            assert value is not None
            vars(self).setdefault("_pinned", set()).add(name)
            self.register_buffer(name, value.double())
            return
        sources[name] = None if value is None else value.detach().to("cpu", torch.float64)
        made = self._take_exact(name, torch.get_default_dtype())
        device = torch.get_default_device()
        if device.type != "meta":  # a layer without weights yet has constants already
            made = made.to(device)
        vars(self).pop(name, None)  # a layer without the constant has None there
        if isinstance(made, Tensor):
            self.register_buffer(name, made, persistent=False)
        else:
            self.add_module(name, made)

    def exact(self, name: str) -> Tensor:
        """The float64 tensor that was given for a constant, on the CPU."""
        value: Tensor = vars(self)["_sources"][name]
        return value

    def rules(self) -> list[str]:
        """Names of the constants that :meth:`_build` makes, such as geometry."""
        sources: dict[str, Tensor | None] = vars(self).get("_sources", {})
        return [name for name, value in sources.items() if value is None]

    def rebuild(self, name: str) -> None:
        """Compute a constant again, after a change of what :meth:`_build` reads, in its present dtype and on its device."""
        table = _table(self, name)
        like = _floats(table[name])
        table[name] = self._take_exact(name, like.dtype).to(like.device)

    def _build(self, name: str, dtype: torch.dtype) -> Tensor | nn.Module:
        """The constant of this name, on the CPU and exact in this dtype."""
        raise NotImplementedError(f"{type(self).__name__} has no rule for {name}")

    def _take_exact(self, name: str, dtype: torch.dtype) -> Any:
        value = vars(self)["_sources"][name]
        with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
            made = self._build(name, dtype) if value is None else value
            return made.to(dtype) if isinstance(made, Tensor) else made

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the weights as asked and take the constants from float64 again where their dtype changes."""
        pinned: set[str] = vars(self).get("_pinned", set())
        names = [*vars(self).get("_sources", ()), *pinned]
        before = {name: _table(self, name)[name] for name in names}
        for name in names:
            _table(self, name)[name] = None  # keeps its place: the order of buffers is one of a model's facts
        try:
            super()._apply(fn, recurse)
        finally:
            for name, old in before.items():
                _table(self, name)[name] = old
        for name, old in before.items():
            like = _floats(old)
            probe = fn(like.new_empty(0))  # new dtype and device
            dtype = torch.float32 if probe.dtype in (torch.bfloat16, torch.float16) else probe.dtype
            if name in pinned:
                new = torch.empty_like(old, device=probe.device) if old.is_meta else old.to(probe.device)
            elif dtype != like.dtype or like.is_meta:
                new = self._take_exact(name, dtype).to(probe.device)
            else:
                new = old.to(probe.device)
            _table(self, name)[name] = new
        return self


def _table(module: nn.Module, name: str) -> dict[str, Any]:
    return module._modules if name in module._modules else module._buffers


def _floats(constant: Tensor | nn.Module) -> Tensor:
    if isinstance(constant, Tensor):
        return constant
    return next(t for t in constant.buffers() if t.is_floating_point())

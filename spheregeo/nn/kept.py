"""What layers make of their weights, kept in evaluation: expanded kernels, masks, mixing matrices."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from spheregeo.autograd import is_watched, versions

Made = TypeVar("Made")
MOST = 8  # entries of a layer, such as a kernel for each parity of the image's sides


class KeptInEvaluation(nn.Module):
    """Base of layers that make something of their weights and keep it in evaluation until a weight changes.

    Example:
        >>> import torch
        >>> class Doubled(KeptInEvaluation):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.weight = torch.nn.Parameter(torch.ones(2))
        ...     def forward(self) -> torch.Tensor:
        ...         return self.kept("double", lambda: 2 * self.weight, [self.weight])
        >>> layer = Doubled().eval().requires_grad_(False)
        >>> layer() is layer()
        True
    """

    _cache: tuple[tuple[object, ...], dict[Hashable, Any]] | None = None

    def kept(self, name: Hashable, make: Callable[[], Made], weights: Iterable[Tensor]) -> Made:
        """Return what ``make`` returns, kept under a name while gradients are not needed and no weight has changed.

        Args:
            name: of what is made; for each name of a layer the weights are the same.
            make: function without arguments.
            weights: all that ``make`` reads and training changes.
        """
        read = list(weights)
        needed = torch.is_grad_enabled() and any(weight.requires_grad for weight in read)
        state = None if self.training or needed or is_watched() else versions(read)
        if state is None:
            return make()
        if self._cache is None or self._cache[0] != state:
            self._cache = (state, {})
        held = self._cache[1]
        if name not in held:
            if len(held) >= MOST:
                held.clear()
            with torch.inference_mode(False), torch.no_grad():
                held[name] = make()
        found: Made = held[name]
        return found

    def train(self, mode: bool = True) -> Self:
        self._cache = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

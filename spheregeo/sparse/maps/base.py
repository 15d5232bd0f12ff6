"""Modules over fixed tensors: shared by copies, out of checkpoints, with what is made of them kept until they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from torch import Tensor, nn

from spheregeo.constants import shared_moves
from spheregeo.sparse.registry import check_engine


class FixedMap(nn.Module):
    """A module whose tensors are non-persistent buffers, which copies of the module share until one is moved or converted.

    ``_made`` holds what is made of the buffers; it is dropped when they change.
    """

    engine: str

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        self.engine = check_engine(engine)
        self._made: dict[Any, Any] = {}

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    def _given(self, names: Sequence[str]) -> list[Tensor]:
        """Buffers by name, in order."""
        return [self._buffers[name] for name in names]  # type: ignore[misc]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._made = {}
        super()._apply(shared_moves(fn), recurse)
        self._made = {}
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}

    def shared(self, engine: str | None = None) -> Self:
        """A module of the caller's own over the same tensors, not copied until one of them is moved or converted."""
        twin = type(self).__new__(type(self))
        nn.Module.__init__(twin)
        for name, value in self.__dict__.items():
            if name not in twin.__dict__:
                twin.__dict__[name] = value
        twin.engine = self.engine if engine is None else check_engine(engine)
        twin._made = dict(self._made)
        for name, tensor in self._buffers.items():
            twin.register_buffer(name, tensor, persistent=False)
        for name, module in self._modules.items():
            twin.add_module(name, module.shared(engine) if isinstance(module, FixedMap) else module)
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return memo.setdefault(id(self), self.shared())  # type: ignore[return-value]

    def memory_bytes(self) -> int:
        """Bytes held by the module's tensors."""
        return sum(t.numel() * t.element_size() for t in self.buffers())

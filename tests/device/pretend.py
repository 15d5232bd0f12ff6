"""A made-up device: CPU tensors that say they are on "cuda", so that every branch for another device runs with real numbers.

Inside ``with Pretend() as device`` tensors moved to ``device.name`` are copies whose storage is marked. Their ``.device`` reads
"cuda", operations with them give marked tensors, and mixtures with unmarked ones are refused, as a device would. Arithmetic stays
torch's on the CPU: values, views, derivatives and random numbers are its own. Counted are

* ``launches``: operations that would start a kernel (neither views nor bare allocations),
* ``syncs``: operations for which the host would wait (numbers read, boolean masks, sizes that depend on values),
* ``copies``: tensors and Python numbers in arrays brought from the host,
* ``peak``: bytes of tensors that exist at once, made since counting began.

Numpy and numba cannot read a marked tensor. What is not seen: how long anything takes, the order in which a device adds, and
random generators of the device.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

FACTORIES = (
    "zeros ones empty full arange eye linspace logspace rand randn randint randperm empty_strided scalar_tensor tril_indices "
    "triu_indices zeros_like ones_like empty_like full_like rand_like randn_like hann_window tensor as_tensor asarray from_numpy "
    "frombuffer"
).split()
FROM_HOST = {"tensor", "as_tensor", "asarray"}
ALLOCATIONS = (
    "empty empty_like empty_strided new_empty new_empty_strided detach alias _unsafe_view lift_fresh _reshape_alias"
).split()
SYNCS = (
    "_local_scalar_dense nonzero masked_select equal is_nonzero _unique2 unique_dim unique_consecutive bincount histc "
    "_linalg_check_errors _linalg_eigh _linalg_svd linalg_inv_ex _linalg_solve_ex multinomial masked_scatter"
).split()


class Pretend(TorchDispatchMode):
    """The device, while the context lasts; see the head of this module."""

    name = "cuda"
    _marked: ClassVar[
        dict[int, StorageWeakRef]
    ] = {}  # of all such devices, for what one call keeps serves the next
    _either: ClassVar[dict[int, StorageWeakRef]] = {}  # made within torch, for whichever device comes next

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.syncs = self.copies = 0
        self.held = self.peak = 0  # bytes of tensors made since counting began that exist now, and at most
        self.operations: Counter[str] = Counter()
        self.places: Counter[str] = Counter()  # where the host waited or copied
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._silent = False
        self._own = False  # a factory of Python's is running
        self._patches = ExitStack()

    # ---- marks

    def on(self, t: Tensor) -> bool:
        """Whether a tensor is on the device."""
        return not self._silent and self._is(t, self._marked)

    def mark(self, t: Any) -> Any:
        """Tensors in a tree, from now on the device's."""
        for leaf in tree_leaves(t):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                self._marked[storage._cdata] = StorageWeakRef(storage)
        return t

    def move(self, value: Any) -> Any:
        """A module, moved in place, or a tree of tensors copied to the device; uncounted."""
        before = self.launches, self.copies
        if isinstance(value, nn.Module):
            found: Any = value.to(self.name)
        else:
            found = torch.utils._pytree.tree_map_only(Tensor, lambda t: _leaf(t, t.to(self.name)), value)
        self.launches, self.copies = before
        return found

    def reset(self) -> None:
        """Begin counting."""
        self.launches = self.syncs = self.copies = self.held = self.peak = 0
        self._made.clear()
        self.operations.clear()
        self.places.clear()

    @contextmanager
    def host(self) -> Iterator[None]:
        """Within it tensors show their numbers, for comparisons."""
        self._silent = True
        try:
            yield
        finally:
            self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._silent = False

    # ---- the device's surface

    def __enter__(self) -> Self:
        for name in FACTORIES:
            self._replace(torch, name, self._factory(name, getattr(torch, name)))
        for name in ("new_tensor", "new_zeros", "new_ones", "new_empty", "new_full"):
            self._replace(Tensor, name, self._factory(name, getattr(Tensor, name)))
        truth = torch._C.TensorBase.device
        self._replace(Tensor, "device", property(lambda t: self._device(t, truth.__get__(t))))
        self._replace(Tensor, "is_cuda", property(lambda t: self.on(t)))
        self._replace(Tensor, "is_cpu", property(lambda t: not self.on(t)))
        to = Tensor.to
        self._replace(Tensor, "to", lambda t, *args, **kw: self._to(to, t, *args, **kw))
        self._replace(Tensor, "cpu", lambda t: self._to(to, t, "cpu"))
        self._replace(Tensor, "cuda", lambda t, *_: self._to(to, t, self.name))
        tolist, numpy = Tensor.tolist, Tensor.numpy
        self._replace(
            Tensor, "tolist", lambda t: (self._sync("tolist") if self.on(t) else None, tolist(t))[1]
        )
        self._replace(Tensor, "numpy", lambda t, **kw: (self._refuse(t, "numpy"), numpy(t, **kw))[1])
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        if not self._own:
            self._patches.close()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._patches.enter_context(patch.object(owner, name, value))

    def _device(self, t: Tensor, truth: torch.device) -> torch.device:
        return torch.device(self.name, 0) if truth.type == "cpu" and self.on(t) else truth

    def _factory(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        method = name.startswith("new_")

        def made(*args: Any, **kw: Any) -> Any:
            like = (
                args[0]
                if args and isinstance(args[0], Tensor) and (method or name.endswith("_like"))
                else None
            )
            device = kw.pop("device", None)
            source = args[0] if args and name in FROM_HOST else None
            there = self._is_name(device) if device is not None else like is not None and self.on(like)
            if device is None and isinstance(source, Tensor):
                there = self.on(source)
            if device is not None and not self._is_name(device):
                kw["device"] = device
            before, self._own = self._own, True
            try:
                found = make(*args, **kw)
            finally:
                self._own = before
            if (
                there
                and name in FROM_HOST | {"new_tensor"}
                and not (isinstance(source, Tensor) and self.on(source))
            ):
                self._copy(name)
                found = found.clone()
            return self.mark(found) if there else found

        return made

    def _is_name(self, device: Any) -> bool:
        return torch.device(device).type == self.name

    def _to(self, to: Callable[..., Tensor], t: Tensor, *args: Any, **kw: Any) -> Tensor:
        device, dtype = kw.pop("device", None), kw.pop("dtype", None)
        for a in args:  # what is not one of these is a flag
            if isinstance(a, str | torch.device):
                device = a
            elif isinstance(a, torch.dtype):
                dtype = a
            elif isinstance(a, Tensor):
                device, dtype = a.device, a.dtype
        there = self.on(t)
        goal = there if device is None else self._is_name(device)
        if device is not None and not goal and torch.device(device).type != "cpu":
            return to(t, device, t.dtype if dtype is None else dtype)
        kept = {name: kw[name] for name in ("copy", "memory_format") if name in kw}
        y = to(t, t.dtype if dtype is None else dtype, **kept)
        if goal == there:
            return y
        if there:
            self._sync("to the host")
            with _disable_current_modes():
                return to(t.detach() if not torch.is_grad_enabled() else t, y.dtype, copy=True)
        self._copy("from the host")
        return self.mark(y.clone() if y is t or self._shares(y, t) else y)

    @staticmethod
    def _shares(a: Tensor, b: Tensor) -> bool:
        return a.untyped_storage()._cdata == b.untyped_storage()._cdata

    # ---- operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own = _own_operator(func)
        if own is not None:  # an operator written in Python: its operations count, not itself
            with self._again():
                return own(*args, **kwargs)
        tensors = [
            t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.layout == torch.strided
        ]
        name = func._schema.name.split("::")[1]
        here = any(self.on(t) for t in tensors)
        if here:
            self._check(name, func, tensors, args, kwargs)
        found = func(*args, **kwargs)
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor) and t.layout == torch.strided]
        if here:
            before = {t.untyped_storage()._cdata for t in tensors}
            self.mark(made)
            self._hold([t for t in made if t.untyped_storage()._cdata not in before])
        elif not tensors and not self._own:
            for t in made:
                storage = t.untyped_storage()
                self._either[storage._cdata] = StorageWeakRef(storage)
        return found

    def _hold(self, made: list[Tensor]) -> None:
        """Count the memory of new tensors."""
        if not made:
            return
        self._made = {key: kept for key, kept in self._made.items() if not kept[0].expired()}
        for t in made:
            storage = t.untyped_storage()
            self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.held = sum(size for _, size in self._made.values())
        self.peak = max(self.peak, self.held)

    @contextmanager
    def _again(self) -> Iterator[None]:
        TorchDispatchMode.__enter__(self)
        try:
            yield
        finally:
            TorchDispatchMode.__exit__(self, None, None, None)

    def _is(self, t: Tensor, among: dict[int, StorageWeakRef]) -> bool:
        try:
            return t.untyped_storage()._cdata in among
        except (NotImplementedError, RuntimeError):
            return False

    def _check(self, name: str, func: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> None:
        foreign = []
        for t in tensors:
            if self.on(t):
                continue
            if self._is(t, self._either):
                self.mark(t)
            elif t.ndim:
                foreign.append(t)
        if foreign and name == "copy_":
            self._copy(name) if not self.on(foreign[0]) and self.on(args[0]) else self._sync(name)
        elif (
            foreign and name in ("index", "index_put", "index_put_", "_index_put_impl_") and self.on(args[0])
        ):
            self._copy(f"{name} by numbers of the host")
        elif foreign:
            shapes = [tuple(t.shape) for t in foreign]
            raise RuntimeError(
                f"aten::{name}: tensors of shapes {shapes} are on the CPU and others on a device"
            )
        if name in SYNCS:
            self._sync(name)
        elif name in ("index", "index_put", "index_put_"):
            if any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]):
                self._sync(f"{name} by a mask")
        elif name == "repeat_interleave" and kwargs.get("output_size") is None:
            self._sync(name)
        elif name == "segment_reduce" and not kwargs.get("unsafe"):
            self._sync(name)
        aliased = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not aliased and name not in ALLOCATIONS:
            self.launches += 1
            self.operations[name] += 1

    def _sync(self, what: str) -> None:
        self.syncs += 1
        self.places[f"sync: {what}, {_place()}"] += 1

    def _copy(self, what: str) -> None:
        self.copies += 1
        self.places[f"copy: {what}, {_place()}"] += 1

    def _refuse(self, t: Tensor, what: str) -> None:
        if self.on(t):
            raise TypeError(
                f"can't convert a tensor of device type {self.name} by {what}; copy it to the host first"
            )


def _leaf(t: Tensor, moved: Tensor) -> Tensor:
    return moved.detach().requires_grad_(t.requires_grad)


def _own_operator(func: Any) -> Callable[..., Any] | None:
    """The Python function of one of our custom operators."""
    if not func._schema.name.startswith("spheregeo::"):
        return None
    from torch._library.custom_ops import OPDEFS

    return OPDEFS[func._schema.name]._init_fn


def _place() -> str:
    """File and line of ours that is being executed."""
    for frame in reversed(traceback.extract_stack()):
        if "/spheregeo/" in frame.filename:
            return f"{frame.filename.rsplit('/spheregeo/', 1)[1]}:{frame.lineno}"
    return "torch"

r"""The one operator of the sparse backend: partial derivatives of forms that are linear in each of their arguments.

A contraction y = f(a_1, ..., a_n) that is linear in each a_i is the derivative of the form

    F(a_1, ..., a_n, g) = < g, f(a_1, ..., a_n) >

with respect to its last argument, the output's cotangent g; its gradients are the other partial derivatives. Each is linear
in what is left, so the derivative of a partial derivative is again one: with cotangents c_s of those in some slots s,

    d/da_i  sum_s < c_s, dF/da_s >  =  sum_{s != i}  dF/da_i  at  a_s = c_s.

One custom operator with the slots that are ``wanted`` therefore differentiates to every order, and gradients that share
their work are wanted together. Written once, for all forms: shapes, evaluation, what compilers are told, derivatives, precision,
and the way round torch's dispatcher where nobody looks. A :class:`Multilinear` states what a form has of its own; engines
evaluate it, see :mod:`spheregeo.sparse.engines`. The operators of :mod:`spheregeo.harmonics` are not linear in their argument
and stay there.

Precision: bfloat16 and float16 are computed in float32, everything else in its own type, autocast or not. Engines that take
features of low precision as they are make their sums in float32; for all others features are widened before. Partial derivatives
in the slots of features leave in the features' type, the others in the type of the computation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from spheregeo.autograd import Function, mapped
from spheregeo.sparse.registry import WIDENED, pick

FORMS: dict[str, Multilinear] = {}
"""All forms by name."""


class Structure(Protocol):
    """What does not vary: patterns, tables, sizes. ``tensors`` and ``sizes`` are what a form makes it of again."""

    @property
    def tensors(self) -> list[Tensor]: ...
    @property
    def sizes(self) -> list[int]: ...
    @property
    def memo(self) -> dict[Any, Any]:
        """Where engines keep what they prepare."""


class Multilinear(ABC):
    """A form that is linear in each argument.

    ``arguments`` names them, the output's cotangent last; ``features`` are the slots whose type is that of the layer's signals.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]
    features: ClassVar[frozenset[int]]
    contiguous: ClassVar[bool] = False  # whether engines are given contiguous arguments
    widened: ClassVar[bool] = True  # whether low precision is computed in float32; copies need not be

    @abstractmethod
    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> Any:
        """The structure from its tensors and sizes."""

    @abstractmethod
    def shape(self, slot: int, arguments: Sequence[Tensor | None], structure: Any) -> tuple[int, ...]:
        """Shape of the partial derivative in a slot, whose own argument may be missing."""

    def laid(self, slot: int, result: Tensor, structure: Any) -> Tensor:
        """A partial derivative as it leaves, in its place in memory."""
        return result.contiguous()

    def evaluate(
        self, engine: str, structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Partial derivatives by an engine; features have the type that the engine takes, all others that of the sums."""
        features = next(arguments[slot] for slot in self.features if arguments[slot] is not None)
        assert features is not None
        return pick(engine, features, self.name)[0](structure, arguments, wanted)

    # ---- the same for all forms

    def partials(
        self, engine: str, structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Partial derivatives of F in the slots ``wanted``; arguments that none of them needs may be None."""
        dtype, compute, device = self._types(arguments)
        if device == "meta":
            slot = next(slot for slot in self.features if arguments[slot] is not None)
            raise ValueError(
                f"{self.arguments[slot]} is on the meta device, which holds no numbers; expected a tensor on a CPU or GPU"
            )
        for slot in self.features:
            t = arguments[slot]
            if t is not None and not t.numel():  # a linear function of nothing
                return [self.empty(s, arguments, structure).zero_() for s in wanted]
        given = dtype
        if self.widened and dtype is not compute:
            like = next(t for slot in self.features if (t := arguments[slot]) is not None)
            given = pick(engine, like, self.name)[1]
        prepared = [
            None if t is None else self._prepared(t, given if slot in self.features else compute)
            for slot, t in enumerate(arguments)
        ]
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                found = self.evaluate(engine, structure, prepared, wanted)
        else:
            found = self.evaluate(engine, structure, prepared, wanted)
        return [
            self.laid(s, t if dtype is compute else t.to(dtype if s in self.features else compute), structure)
            for s, t in zip(wanted, found, strict=True)
        ]

    def _types(self, arguments: Sequence[Tensor | None]) -> tuple[torch.dtype, torch.dtype, str]:
        """Type of the features, that of the computation, and the kind of device."""
        for slot in self.features:
            t = arguments[slot]
            if t is not None:
                compute = WIDENED.get(t.dtype, t.dtype) if self.widened else t.dtype
                return t.dtype, compute, t.device.type
        raise ValueError(f"form {self.name!r} is called without features")

    def _prepared(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        if t.requires_grad:
            t = t.detach()
        if t.dtype is not dtype:
            t = t.to(dtype)
        return t.contiguous() if self.contiguous else t

    def empty(self, slot: int, arguments: Sequence[Tensor | None], structure: Any) -> Tensor:
        """A partial derivative as compilers see it: shape, type and place in memory."""
        dtype, compute, _ = self._types(arguments)
        like = next(t for t in arguments if t is not None)
        made = like.new_empty(
            self.shape(slot, arguments, structure), dtype=dtype if slot in self.features else compute
        )
        return self.laid(slot, made, structure)

    def direct(
        self, engine: str, structure: Structure, arguments: Sequence[Tensor | None], slot: int
    ) -> Tensor:
        """dF in one slot without the dispatcher, which costs as much as a small layer; for eager code."""
        result: Tensor = _Eager.apply(self, engine, structure, slot, *arguments)
        return result

    def traced(
        self,
        engine: str,
        structure: tuple[Sequence[Tensor], Sequence[int]],
        arguments: Sequence[Tensor | None],
        wanted: Sequence[int],
    ) -> list[Tensor]:
        """Partial derivatives by the custom operator, for compilers, exporters and derivatives of higher order.

        ``structure`` comes as tensors and sizes.
        """
        slots = [s for s, t in enumerate(arguments) if t is not None]
        given = [t for t in arguments if t is not None]
        found: list[Tensor] = multilinear(
            given, slots, list(wanted), list(structure[0]), list(structure[1]), self.name, engine
        )
        return found


def is_traced(x: Tensor) -> bool:
    """Whether a call with this tensor goes by the custom operator: somebody watches, or x is no plain tensor."""
    return torch.compiler.is_compiling() or type(x) is not Tensor


def register(form: Multilinear) -> Multilinear:
    """Make a form known to the operator by its name."""
    FORMS[form.name] = form
    return form


def _spread(form: Multilinear, given: Sequence[Tensor], slots: Sequence[int]) -> list[Tensor | None]:
    """The arguments, None for those that are not given."""
    every: list[Tensor | None] = [None] * len(form.arguments)
    for slot, t in zip(slots, given, strict=True):
        every[slot] = t
    return every


@torch.library.custom_op("spheregeo::multilinear", mutates_args=())
def multilinear(
    given: list[Tensor],
    slots: list[int],
    wanted: list[int],
    tensors: list[Tensor],
    sizes: list[int],
    form: str,
    engine: str,
) -> list[Tensor]:
    """Partial derivatives of a form in the slots ``wanted``; ``slots`` are those of the arguments given."""
    made = FORMS[form]
    return made.partials(engine, made.build(tensors, sizes), _spread(made, given, slots), wanted)


@multilinear.register_fake
def _(
    given: list[Tensor],
    slots: list[int],
    wanted: list[int],
    tensors: list[Tensor],
    sizes: list[int],
    form: str,
    engine: str,
) -> list[Tensor]:
    made = FORMS[form]
    structure, arguments = made.build(tensors, sizes), _spread(made, given, slots)
    return [made.empty(slot, arguments, structure) for slot in wanted]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    given, ctx.slots, ctx.wanted, tensors, ctx.sizes, ctx.form, ctx.engine = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given, *tensors)


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    """Each cotangent in turn takes its argument's place; the derivatives of what that gives add up."""
    form, number = FORMS[ctx.form], len(ctx.slots)
    given, tensors = ctx.saved_tensors[:number], ctx.saved_tensors[number:]
    needs = ctx.needs_input_grad[0]
    total: dict[int, Tensor] = {}
    for slot, grad in zip(ctx.wanted, grads, strict=True):
        needed = [s for s, need in zip(ctx.slots, needs, strict=True) if need and s != slot]
        if grad is None or not needed:
            continue
        arguments = _spread(form, given, ctx.slots)
        arguments[slot] = grad
        if len(needed) == 1:
            arguments[needed[0]] = None
        found = form.traced(ctx.engine, (tensors, ctx.sizes), arguments, needed)
        for s, part in zip(needed, found, strict=True):
            total[s] = total[s] + part if s in total else part
    gradients = [total.get(s) for s in ctx.slots]
    return gradients, None, None, [None] * len(tensors), None if ctx.sizes else [], None, None


multilinear.register_autograd(_differentiate, setup_context=_save)
multilinear.register_vmap(lambda info, in_dims, *args: mapped(multilinear, info, in_dims, *args))


class _Eager(Function):
    """dF in one slot, and its gradients evaluated at once unless they are to be differentiated themselves."""

    @staticmethod
    def forward(
        form: Multilinear, engine: str, structure: Structure, slot: int, *arguments: Tensor | None
    ) -> Tensor:
        return form.partials(engine, structure, arguments, (slot,))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.form, ctx.engine, ctx.structure, ctx.slot, *arguments = inputs
        ctx.save_for_backward(*arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments: list[Tensor | None] = list(ctx.saved_tensors)
        arguments[ctx.slot] = grad
        out: list[Tensor | None] = [None] * (4 + len(arguments))
        needed = [s for s, need in enumerate(ctx.needs_input_grad[4:]) if need]
        if torch._C._are_functorch_transforms_active():  # for which the custom operator has no rule
            others = [[None if i == s else t for i, t in enumerate(arguments)] for s in needed]
            found = [
                ctx.form.direct(ctx.engine, ctx.structure, given, s)
                for given, s in zip(others, needed, strict=True)
            ]
        elif torch.is_grad_enabled():
            if len(needed) == 1:
                arguments[needed[0]] = None
            structure = (ctx.structure.tensors, ctx.structure.sizes)
            found = ctx.form.traced(ctx.engine, structure, arguments, needed)
        else:
            found = ctx.form.partials(ctx.engine, ctx.structure, arguments, needed)
        for s, t in zip(needed, found, strict=True):
            out[4 + s] = t
        return tuple(out)

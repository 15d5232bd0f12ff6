"""Checks of values and derivatives: against a slow twin, and against finite differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from spheregeo.sparse import default_engine
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.testing.report import agree, require
from spheregeo.testing.subject import Subject, gradients, leaves, replaced, tensors_of


def reference_twin(module: nn.Module) -> nn.Module | None:
    """A copy of a module whose sparse operators all run on the "reference" engine; None where it has none.

    Args:
        module: any module; maps of the sparse backend are found among its children, at any depth.
    """
    copied = copy.deepcopy(module)
    moved = 0
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FixedMap):
                setattr(parent, name, child.shared("reference"))
                moved += 1
    return _OnReference(copied) if moved else None


class _OnReference(nn.Module):
    """A module with the "reference" engine also for what it makes at its call."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        with default_engine("reference"):
            return self.module(*inputs)


def check_twin(subject: Subject, twin: Callable[..., Any] | nn.Module, tolerance: float) -> str:
    """Output, input gradients and weight gradients equal a slow twin's, in float64.

    Args:
        subject: the module and its inputs.
        twin: a module with the same parameters by name, or a function ``twin(layer, *inputs)`` that reads the layer's weights.
        tolerance: relative to the largest value.
    """
    layer = subject.layer()
    names = [name for name, _ in layer.named_parameters()]
    if isinstance(twin, nn.Module):
        slow = copy.deepcopy(twin).double().eval()
        inner = slow.module if isinstance(slow, _OnReference) else slow
        inner.load_state_dict(layer.state_dict())
        theirs = dict(inner.named_parameters())
        function: Callable[..., Any] = slow
    else:
        theirs = dict(layer.named_parameters())

        def function(*inputs: Any) -> Any:
            return twin(layer, *inputs)

    y, of_x, of_w = gradients(layer, subject.inputs(), list(layer.parameters()), subject.seed)
    y2, of_x2, of_w2 = gradients(function, subject.inputs(), [theirs[name] for name in names], subject.seed)
    found = [
        agree(what, a, b, tolerance) for what, a, b in (("output", y, y2), ("gradient of input", of_x, of_x2))
    ]
    for name, a, b in zip(names, of_w, of_w2, strict=True):
        found.append(agree(f"gradient of {name}", [a], [b], tolerance))
    return f"output {found[0]:.1e}, input gradient {found[1]:.1e}, weight gradients {max(found[2:], default=0.0):.1e}"


def _function(subject: Subject, training: bool) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """The module as a function of all floating inputs and parameters, as ``gradcheck`` wants it."""
    layer, inputs = subject.layer(), subject.inputs()
    layer.train(training)
    own = leaves(inputs)
    names = [name for name, p in layer.named_parameters() if p.is_floating_point()]
    weights = [dict(layer.named_parameters())[name].detach().clone().requires_grad_() for name in names]
    buffers = {name: value.clone() for name, value in layer.named_buffers()}

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(map(id, own), tensors[: len(own)], strict=True))
        state: dict[str, Tensor] = {name: value.clone() for name, value in buffers.items()}
        state |= dict(zip(names, tensors[len(own) :], strict=True))
        return tuple(tensors_of(functional_call(layer, state, tuple(replaced(v, given) for v in inputs))))

    return run, (*own, *weights)


def check_gradients(subject: Subject, second: bool, training: bool = False) -> str:
    """First or second derivatives agree with finite differences of the module, along random directions, in float64.

    Args:
        subject: the module and its inputs.
        second: check the derivatives of the gradients instead.
        training: check the module in training mode, where norms use the batch's statistics.
    """
    run, tensors = _function(subject, training)
    require(tensors, "the module has neither floating inputs nor parameters")
    if not any(t.requires_grad for t in run(*tensors)):
        return "no gradient: the output depends on no floating input and no parameter"
    check = gradgradcheck if second else gradcheck
    generator_state = torch.get_rng_state()
    torch.manual_seed(subject.seed)
    try:
        check(run, tensors, fast_mode=True, nondet_tol=1e-10, atol=1e-5, rtol=1e-4)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        require(False, f"{'second' if second else 'first'} derivatives: {text[:400]}")
    finally:
        torch.set_rng_state(generator_state)
    return f"{len(tensors)} tensors{', training mode' if training else ''}"


def check_transforms(subject: Subject, tolerance: float = 1e-9) -> str:
    """``torch.func`` gives autograd's numbers: ``grad`` of the weights, ``jacrev`` and ``vmap`` of the first argument.

    Args:
        subject: the module and its inputs; the first is a tensor, or a list of tensors, which is not transformed.
        tolerance: relative.
    """
    layer = subject.layer()
    first, *rest = subject.inputs()
    _, of_x, of_w = gradients(layer, [first, *rest], list(layer.parameters()), subject.seed)
    (first, *rest) = subject.inputs()
    names = [name for name, _ in layer.named_parameters()]
    values: dict[str, Tensor] = dict(layer.named_parameters())

    outputs = tensors_of(layer(first, *rest))
    generator = torch.Generator().manual_seed(subject.seed)  # the cotangents of ``gradients``
    cotangents = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]

    def scalar(weights: dict[str, Tensor], x: Any) -> Tensor:
        outputs = tensors_of(functional_call(layer, weights, (x, *rest)))
        parts = [(y * c).sum() for y, c in zip(outputs, cotangents, strict=True)]
        return torch.stack(parts).sum()

    worst = 0.0
    if names:
        found = torch.func.grad(scalar)(values, first)
        worst = agree("torch.func.grad of weights", [found[name] for name in names], of_w, tolerance)
    if isinstance(first, Tensor):
        jacobian = torch.func.jacrev(scalar, argnums=1)(values, first)
        worst = max(worst, agree("torch.func.jacrev", [jacobian], of_x[:1], tolerance))
        both = torch.stack([first, 2 * first])
        mapped = tensors_of(torch.func.vmap(lambda x: layer(x, *rest))(both))
        single = [tensors_of(layer(x, *rest)) for x in both]
        twice = [torch.stack(list(parts)) for parts in zip(*single, strict=True)]
        worst = max(worst, agree("torch.func.vmap", mapped, twice, tolerance))
        if names and not rest:
            each = torch.func.vmap(torch.func.grad(scalar), (None, 0))(values, both)
            for k in range(2):
                alone = torch.func.grad(scalar)(values, both[k])
                pairs = [each[n][k] for n in names], [alone[n] for n in names]
                worst = max(worst, agree("gradients of each sample by torch.func", *pairs, tolerance))
    return f"{worst:.1e}"

"""Checks of what happens to a module between calls: dtypes, devices, copies, checkpoints, compilation, bad input."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spheregeo.sparse import default_engine
from spheregeo.testing.report import agree, require
from spheregeo.testing.subject import CAST, Inputs, Subject, cast, gradients, tensors_of

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
AUTOCAST = {torch.bfloat16: 0.05, torch.float16: 0.01}  # three times as much for gradients


def _values(module: nn.Module, inputs: Sequence[Any]) -> list[Tensor]:
    with torch.no_grad():
        return tensors_of(module(*inputs))


def check_dtypes(subject: Subject, tolerances: Mapping[torch.dtype, float] = TOLERANCES) -> str:
    """Other dtypes give float64's output to their precision, and going back to float64 restores every digit.

    Args:
        subject: the module and its inputs.
        tolerances: by dtype, relative to the largest value; only these dtypes are tried.
    """
    exact = subject.layer()
    expected = _values(exact, subject.inputs())
    told = []
    for dtype, tolerance in tolerances.items():
        found = _values(CAST[dtype](copy.deepcopy(exact)), subject.inputs(dtype))
        for y in found:
            require(y.dtype == dtype, f"the output of {_name(dtype)} inputs is {_name(y.dtype)}")
        told.append(f"{_name(dtype)} {agree(f'{_name(dtype)}: output', found, expected, tolerance):.1e}")
    there_and_back = copy.deepcopy(exact).float().double()
    there_and_back.load_state_dict(exact.state_dict())
    agree("after .float().double(): output", _values(there_and_back, subject.inputs()), expected, 1e-13)
    return ", ".join([*told, "back to float64 exactly"])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_autocast(
    subject: Subject,
    tolerances: Mapping[torch.dtype, float] = AUTOCAST,
    engines: Sequence[str | None] = (None, "torch"),
    gradients_too: bool = True,
) -> str:
    """Under autocast, with float32 and with half-precision input and by every engine, output and gradients are near float64's.

    Args:
        subject: the module and its inputs.
        tolerances: by autocast's dtype, largest difference of outputs and gradients, relative to the largest value.
        engines: engines of the sparse backend that are tried; None for the default one.
        gradients_too: whether gradients are compared too; else they only have to be finite. Deep networks with random
            statistics amplify rounding.
    """
    exact, layer, told = subject.layer(), subject.layer(torch.float32), []
    for dtype, tolerance in tolerances.items():
        worst = [0.0, 0.0]
        for engine, given in itertools.product(engines, (torch.float32, dtype)):

            def under(*arguments: Any, dtype: torch.dtype = dtype, engine: str | None = engine) -> Any:
                chosen = nullcontext() if engine is None else default_engine(engine)
                with chosen, torch.autocast("cpu", dtype):  # the backward pass runs outside, as torch advises
                    return layer(*arguments)

            inputs = subject.inputs(given)
            found = gradients(under, inputs, list(layer.parameters()), subject.seed)
            wide = subject.inputs() if callable(subject.given) else cast(inputs, torch.float64)
            expected = gradients(exact, wide, list(exact.parameters()), subject.seed)  # of the rounded input
            of = f"{_name(dtype)} autocast of {_name(given)} input, engine {engine}"
            worst[0] = max(worst[0], agree(f"output under {of}", found[0], expected[0], tolerance))
            for what, a, b in zip(("input", "weight"), found[1:], expected[1:], strict=True):
                require(
                    all(bool(t.isfinite().all()) for t in a), f"a gradient of {what} under {of} is not finite"
                )
                if gradients_too:
                    worst[1] = max(worst[1], agree(f"gradient of {what} under {of}", a, b, 3 * tolerance))
        told.append(f"{_name(dtype)}: output {worst[0]:.1e}, gradients {worst[1]:.1e}")
    return "; ".join(told)


def check_inputs(subject: Subject) -> str:
    """The first argument is refused by its name unless it holds real floating numbers; other floating types are computed in.

    Input of another floating type than the weights' gives output of its own type near float64's, or an error that names it.

    Args:
        subject: the module and its inputs; the first is a tensor, or a list of tensors.
    """
    layer = subject.layer(torch.float32)
    name = next(iter(inspect.signature(layer.forward).parameters))
    first, *rest = subject.inputs(torch.float32)
    bad: dict[str, Callable[[Tensor], Any]] = {
        "int64": lambda t: t.long(),
        "bool": lambda t: t > 0,
        "complex64": lambda t: t.to(torch.complex64),
        "meta": lambda t: t.to("meta"),
        "numpy": lambda t: t.numpy(),
        "None": lambda t: None,
    }
    for what, make in bad.items():
        given = make(first) if isinstance(first, Tensor) else [make(t) for t in first]
        try:
            layer(given, *rest)
        except (ValueError, TypeError) as error:
            require(str(error).startswith(name), f"{what}: {str(error)[:120]!r} does not begin with {name!r}")
        except Exception as error:
            require(False, f"{what} raised {type(error).__name__}: {str(error)[:120]!r}; expected TypeError")
        else:
            require(False, f"{name} of {what} raised nothing; expected an error that names {name!r}")
    exact = _values(subject.layer(), subject.inputs())
    told = []
    for dtype, tolerance in {torch.float64: 2e-5, torch.bfloat16: 0.05, torch.float16: 0.01}.items():
        try:
            found = _values(layer, subject.inputs(dtype))
        except (ValueError, TypeError) as error:
            require(str(dtype) in str(error), f"{_name(dtype)}: {str(error)[:120]!r} does not name it")
            told.append(f"{_name(dtype)} refused")
            continue
        wrong = [y.dtype for y in found if y.dtype != dtype]
        require(not wrong, f"the output of {_name(dtype)} input in a float32 layer is {wrong}")
        told.append(f"{_name(dtype)} {agree(f'{_name(dtype)} input: output', found, exact, tolerance):.1e}")
    return ", ".join([f"{len(bad)} refused", *told])


def check_empty(subject: Subject, given: Inputs | None = None) -> str:
    """Without samples the output has none, in eval and in training mode, gradients exist, and all statistics stay finite.

    Args:
        subject: the module and its inputs.
        given: arguments without samples, or without points and edges; None to take nothing of the first axis of those of the
            subject that are as long as its first.
    """
    layer = subject.layer(torch.float32)
    shapes = [tuple(y.shape[1:]) for y in _values(layer, subject.inputs(torch.float32))]
    nothing = subject.inputs(torch.float32) if given is None else Subject(layer, given).inputs(torch.float32)
    if given is None:
        first = tensors_of(nothing[0])
        require(first, "the first argument holds no tensor; pass empty_inputs=")
        nothing = [_emptied(value, len(first[0])) for value in nothing]
    for training in (False, True):
        layer.train(training)
        outputs, of_x, of_w = gradients(layer, nothing, list(layer.parameters()), subject.seed)
        found = [tuple(y.shape) for y in outputs]
        require(
            [shape[1:] for shape in found] == shapes
            and all(y.numel() == 0 or given is not None for y in outputs),
            f"the output of nothing has shapes {found}; expected no samples, then {shapes}",
        )
        numbers = [*outputs, *of_x, *of_w, *(b for b in layer.buffers() if b.is_floating_point())]
        require(
            all(bool(t.isfinite().all()) for t in numbers), "nothing leaves NaN in a gradient or a buffer"
        )
    return f"{found}"


def _emptied(value: Any, length: int) -> Any:
    """Nothing of the first axis of tensors of a length, and no edges where there are pairs of points."""
    if isinstance(value, Tensor):
        edges = value.ndim == 2 and value.shape[0] == 2 and not value.is_floating_point()
        return value[:, :0] if edges else value[:0] if value.ndim and len(value) == length else value
    return [_emptied(item, length) for item in value] if isinstance(value, list) else value


def check_meta(subject: Subject, restores: bool) -> str:
    """A module moves to the meta device; given memory again and its state loaded, it computes the same if it ``restores``.

    Args:
        subject: the module and its inputs.
        restores: whether what a checkpoint does not hold, such as geometry, is made anew by ``.to_empty(device=...)``. Most of
            torch's modules with non-persistent buffers do not promise that; their memory then holds anything, so it is not run.
    """
    layer = subject.layer(torch.float32)
    empty = copy.deepcopy(layer).to("meta")
    require(
        all(p.is_meta for p in empty.parameters()),
        "a parameter stays behind when the module goes to the meta device",
    )
    if not restores:
        return "goes to the meta device"
    back = empty.to_empty(device="cpu")
    back.load_state_dict(layer.state_dict())
    found, expected = (_values(module, subject.inputs(torch.float32)) for module in (back, layer))
    return f"and back, output {agree('output after meta, memory, state', found, expected, 1e-6):.1e}"


def check_cuda(subject: Subject, tolerance: float = 2e-5) -> str:
    """On a GPU the module computes what it computes on the CPU, and comes back."""
    if not torch.cuda.is_available():
        return "no GPU here"
    layer = subject.layer(torch.float32)
    expected = _values(layer, subject.inputs(torch.float32))
    found = _values(layer.cuda(), subject.inputs(torch.float32, torch.device("cuda")))
    worst = agree("output on the GPU", found, expected, tolerance)
    agree("output back on the CPU", _values(layer.cpu(), subject.inputs(torch.float32)), expected, 1e-6)
    return f"output {worst:.1e}"


def check_copies(subject: Subject) -> str:
    """A deep copy and an unpickled copy compute the same and share no parameter with the module."""
    layer = subject.layer()
    expected = _values(layer, subject.inputs())
    twins = {"deepcopy": copy.deepcopy(layer)}
    if any(is_parametrized(m) for m in layer.modules()):
        told = "not pickled: torch keeps parametrised modules by their state alone"
    else:
        data = pickle.dumps(layer)
        twins["pickle"], told = pickle.loads(data), f"{len(data):,} bytes pickled"
    for what, twin in twins.items():
        agree(f"output after {what}", _values(twin, subject.inputs()), expected, 0.0)
        own = {p.data_ptr() for p in layer.parameters() if p.numel()}
        shared = [name for name, p in twin.named_parameters() if p.data_ptr() in own]
        require(not shared, f"{what} shares {', '.join(shared)} with the module")
    return told


def check_checkpoint(subject: Subject, other: nn.Module | None, other_inputs: Any) -> str:
    """A checkpoint loads into a fresh copy, and into the module at another resolution, which then runs.

    Args:
        subject: the module and its inputs.
        other: the same module built for another grid, or None.
        other_inputs: inputs of ``other``.
    """
    layer = subject.layer()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    fresh = Subject(subject.module, subject.given, subject.seed + 1).layer()
    fresh.load_state_dict(state)
    agree("output after loading", _values(fresh, subject.inputs()), _values(layer, subject.inputs()), 1e-12)
    size = f"{sum(value.numel() for value in state.values())} numbers"
    if other is None:
        return size
    other = copy.deepcopy(other).double().eval()
    other.load_state_dict(state)
    for y in _values(other, Subject(other, other_inputs).inputs()):
        require(y.isfinite().all(), "output at another resolution is not finite")
    return f"{size}, also at another resolution"


def check_compile(subject: Subject, tolerance: float = 1e-4, backend: str = "aot_eager") -> str:
    """``torch.compile(fullgraph=True)`` gives eager's output and gradients.

    Args:
        subject: the module and its inputs.
        tolerance: relative, float32.
        backend: of ``torch.compile``; "inductor" also compiles C++, which takes longer.
    """
    layer = subject.layer(torch.float32)
    y, of_x, of_w = gradients(layer, subject.inputs(torch.float32), list(layer.parameters()), subject.seed)
    torch._dynamo.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's compiler about itself
            compiled = torch.compile(layer, fullgraph=True, backend=backend)
            inputs = subject.inputs(torch.float32)
            y2, of_x2, of_w2 = gradients(compiled, inputs, list(layer.parameters()), subject.seed)
    finally:
        torch._dynamo.reset()
    found = [
        agree(what, a, b, tolerance)
        for what, a, b in (
            ("output", y2, y),
            ("gradient of input", of_x2, of_x),
            ("gradient of weight", of_w2, of_w),
        )
    ]
    return f"output {found[0]:.1e}, gradients {max(found[1:]):.1e}"


def check_export(subject: Subject, tolerance: float = 2e-5) -> str:
    """``torch.export.export`` gives a program with eager's output."""
    layer, inputs = subject.layer(torch.float32), subject.inputs(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        program = torch.export.export(layer, tuple(inputs))
        found = _values(program.module(), inputs)
    return f"output {agree('output', found, _values(layer, inputs), tolerance):.1e}"


def check_errors(subject: Subject, bad_inputs: Sequence[tuple[Any, str]] | None, channel_axis: int) -> str:
    """Input that does not fit raises ValueError or TypeError with the argument's name.

    Args:
        subject: the module and its inputs.
        bad_inputs: (arguments, text that the message must contain) pairs; None for one channel too many in the first argument.
        channel_axis: of the first argument.
    """
    layer = subject.layer(torch.float32)
    if bad_inputs is None:
        first, *rest = subject.inputs(torch.float32)
        require(isinstance(first, Tensor), "the first argument is no tensor; pass bad_inputs=")
        wider = torch.cat([first, first.narrow(channel_axis, 0, 1)], channel_axis)
        name = next(iter(inspect.signature(layer.forward).parameters))
        bad_inputs = [((wider, *rest), name)]
    for arguments, expected in bad_inputs:
        arguments = arguments if isinstance(arguments, (tuple, list)) else (arguments,)
        shapes = [tuple(a.shape) if isinstance(a, Tensor) else type(a).__name__ for a in arguments]
        try:
            layer(*arguments)
        except (ValueError, TypeError) as error:
            require(
                expected in str(error), f"input {shapes}: {str(error)[:200]!r} does not contain {expected!r}"
            )
        except Exception as error:
            require(
                False,
                f"input {shapes} raised {type(error).__name__}: {str(error)[:120]!r}; expected ValueError",
            )
        else:
            require(False, f"input {shapes} raised nothing; expected an error that names {expected!r}")
    return f"{len(bad_inputs)} refused"

"""Checks of what happens to a module between calls: dtypes, devices, copies, checkpoints, compilation, bad input."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spheregeo.testing.report import agree, require
from spheregeo.testing.subject import CAST, Subject, gradients, tensors_of

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.02}


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


def check_autocast(subject: Subject, tolerance: float = 0.1) -> str:
    """Under bfloat16 autocast, output and gradients are finite and near float32's."""
    layer = subject.layer(torch.float32)
    plain, *_ = gradients(layer, subject.inputs(torch.float32), list(layer.parameters()), subject.seed)
    with torch.autocast("cpu", torch.bfloat16):
        cast, of_x, of_w = gradients(
            layer, subject.inputs(torch.float32), list(layer.parameters()), subject.seed
        )
    for gradient in [*of_x, *of_w]:
        require(gradient.isfinite().all(), "a gradient under autocast is not finite")
    return f"output {agree('output under autocast', cast, plain, tolerance):.1e}"


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

"""The compliance suite of layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit import measure_equivariance
from spheregeo.grids import Grid
from spheregeo.testing.derivatives import check_gradients, check_transforms, check_twin, reference_twin
from spheregeo.testing.moves import (
    TOLERANCES,
    check_autocast,
    check_checkpoint,
    check_compile,
    check_copies,
    check_cuda,
    check_dtypes,
    check_empty,
    check_errors,
    check_export,
    check_inputs,
    check_meta,
)
from spheregeo.testing.report import CheckError, Suite, require
from spheregeo.testing.subject import Inputs, Subject

SINGLE = 1e-4  # float32's rounding in an equivariance error, added to the bound


def check_layer(
    layer: nn.Module,
    inputs: Inputs,
    *,
    twin: Callable[..., Any] | nn.Module | None = None,
    twin_tolerance: float = 1e-10,
    where: Grid | Tensor | tuple[int, int, int] | None = None,
    equivariance: Mapping[str, float] | None = None,
    field_in: Any = None,
    field_out: Any = None,
    equivariance_options: Mapping[str, Any] | None = None,
    equivariant: Callable[..., Any] | None = None,
    other: nn.Module | None = None,
    other_inputs: Inputs = (),
    dtypes: Mapping[torch.dtype, float] = TOLERANCES,
    compile_backend: str = "aot_eager",
    restores: bool = False,
    bad_inputs: Sequence[tuple[Any, str]] | None = None,
    channel_axis: int = 1,
    empty_inputs: Inputs | None = None,
    seed: int = 0,
    skip: Collection[str] = (),
) -> dict[str, str]:
    """Check a layer against everything that this library promises of its own layers.

    Each check runs on a copy in eval mode whose parameters, biases and running statistics are random. The checks, by name:

    * ``twin``: output, input gradients and weight gradients equal a slow twin's;
    * ``equivariance``: the error, in float64 and float32, is at most the bounds given;
    * ``first`` and ``second``: derivatives agree with finite differences, in training mode too where the layer has statistics;
    * ``func``: ``torch.func.grad``, ``jacrev``, ``vmap`` and gradients of each sample are autograd's;
    * ``compile`` and ``export``: ``torch.compile(fullgraph=True)`` and ``torch.export`` give eager's results;
    * ``dtypes``, ``autocast``, ``meta``, ``cuda``: other precisions and devices give the same output, and back;
    * ``copies`` and ``checkpoint``: ``deepcopy``, ``pickle`` and ``state_dict``, the latter at another resolution as well;
    * ``errors``: bad input is refused with the argument's name;
    * ``inputs``: wrong kinds of numbers, None, arrays and meta tensors are refused by name, other floats computed in or refused;
    * ``empty``: a batch of nothing gives an output of nothing, forward and backward, and leaves all statistics finite.

    Args:
        layer: the layer, as its users build it; left as it is.
        inputs: one tensor, a tuple of arguments, or a function of dtype and device that returns the arguments. Keep them small.
        twin: a function ``twin(layer, *inputs)`` that computes the same from the layer's weights, slowly and plainly; or a module
            with the same parameters; None for a copy whose sparse operators run on the "reference" engine.
        twin_tolerance: largest difference, relative to the largest value.
        where: what the equivariance is measured on: a grid, a mesh, positions or a cube of voxels; read off the layer's
            ``source`` or ``grid`` if None.
        equivariance: largest error by group ("so3", "o3", "azimuthal" or "grid"), such as ``{"grid": 1e-11, "so3": 0.1}``.
        field_in, field_out: kinds of fields; read off the layer if None.
        equivariance_options: further arguments of :func:`spheregeo.audit.measure_equivariance`.
        equivariant: a module or function that is measured in place of the layer, such as one that puts the layer between others
            where its own input is no field.
        other, other_inputs: the layer built for another resolution and its input, for the checkpoint.
        dtypes: by dtype, the largest difference from float64.
        compile_backend: of ``torch.compile``.
        restores: whether the layer's geometry comes back by itself after ``.to("meta").to_empty(device="cpu")``.
        bad_inputs: (arguments, text that the message must contain) pairs; None for one channel too many in the first argument.
        channel_axis: of the first argument.
        empty_inputs: arguments that hold no samples, or no points and edges; None to take nothing of the first axis of
            ``inputs``.
        seed: of all that is drawn at random.
        skip: names of checks to leave out.

    Returns:
        what was found, by check.

    Raises: ComplianceError, an ``AssertionError``, where checks fail: one line for each, with figures.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import DiscoConv
        >>> conv = DiscoConv(2, 3, HEALPix(2))
        >>> found = check_layer(conv, torch.randn(1, 2, 48), equivariance={"grid": 1e-11}, skip=["compile", "export"])
        >>> "twin" in found, "second" in found
        (True, True)
    """
    suite = Suite(type(layer).__name__, skip)
    subject = Subject(layer, inputs, seed)
    suite.run("twin", lambda: check_twin(subject, _twin(layer, twin), twin_tolerance))
    suite.run(
        "equivariance",
        lambda: check_equivariance(
            layer if equivariant is None else equivariant,
            _where(layer, where),
            equivariance,
            {
                "field_in": field_in,
                "field_out": field_out,
                "seed": seed,
                **({} if equivariant is not None else _channels(subject, _where(layer, where))),
                **(equivariance_options or {}),
            },
        ),
    )
    for order in ("first", "second"):
        suite.run(order, lambda order=order: _derivatives(subject, order == "second"))  # type: ignore[misc]
    suite.run("func", check_transforms, subject)
    suite.run("compile", check_compile, subject, backend=compile_backend)
    suite.run("export", check_export, subject)
    suite.run("dtypes", check_dtypes, subject, dtypes)
    suite.run("autocast", check_autocast, subject)
    suite.run("meta", check_meta, subject, restores)
    suite.run("cuda", check_cuda, subject)
    suite.run("copies", check_copies, subject)
    suite.run("checkpoint", check_checkpoint, subject, other, other_inputs)
    suite.run("errors", check_errors, subject, bad_inputs, channel_axis)
    suite.run("inputs", check_inputs, subject)
    suite.run("empty", check_empty, subject, empty_inputs)
    return suite.finish()


def _twin(layer: nn.Module, twin: Callable[..., Any] | nn.Module | None) -> Callable[..., Any] | nn.Module:
    found = reference_twin(layer) if twin is None else twin
    if found is None:
        raise CheckError("the layer has no sparse operator to run on the reference engine; pass twin=")
    return found


def _where(layer: nn.Module, where: Any) -> Any:
    if where is None:
        where = next(
            (g for g in (getattr(layer, n, None) for n in ("source", "grid")) if isinstance(g, Grid)), None
        )
    return where


def _channels(subject: Subject, where: Any) -> dict[str, int]:
    """Channels of the fields that the layer is called with, for layers that declare none."""
    if where is None or isinstance(where, Tensor):
        return {}
    first = subject.inputs()[0]
    return {"channels": first.shape[1]} if isinstance(first, Tensor) and first.ndim > 2 else {}


def _derivatives(subject: Subject, second: bool) -> str:
    told = [check_gradients(subject, second)]
    if subject.has_statistics:
        told.append(check_gradients(subject, second, training=True))
    return "; ".join(told)


def check_equivariance(
    module: Any, where: Any, bounds: Mapping[str, float] | None, options: Mapping[str, Any]
) -> str:
    """The equivariance error with everything random is at most the bounds, in float64 and float32.

    Args:
        module: the module to measure.
        where: grid, mesh, positions or voxels.
        bounds: largest error by group; to float32's figure 1e-4 is allowed on top.
        options: further arguments of :func:`spheregeo.audit.measure_equivariance`.
    """
    require(where is not None, "nothing says what the layer lives on; pass where=")
    require(bounds, "no bound is given; pass equivariance={group: largest error}")
    assert bounds is not None
    told = []
    for group, bound in bounds.items():
        for dtype, limit in ((torch.float64, bound), (torch.float32, bound + SINGLE)):
            found = measure_equivariance(module, where, group=group, dtype=dtype, **options)
            require(
                found.error <= limit,
                f"error under {group} is {found.error:.2e} in {found.dtype} (by {found.method}), at most {limit:.1e} allowed",
            )
            told.append(f"{group} {found.error:.1e} in {found.dtype}")
    return ", ".join(told)

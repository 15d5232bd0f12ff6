"""The compliance suite of whole networks."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.testing.layers import check_equivariance
from spheregeo.testing.moves import (
    check_autocast,
    check_compile,
    check_copies,
    check_cuda,
    check_dtypes,
    check_empty,
)
from spheregeo.testing.report import Suite, agree, require
from spheregeo.testing.subject import Inputs, Subject, gradients, tensors_of

DTYPES = {torch.float32: 1e-3}


class OnCloud(nn.Module):
    """A network of points with its neighbours, as a function of positions and features.

    Args:
        network: with ``neighbors(positions, batch)`` and ``network(positions, features, batch, graph)``.
        batch: cloud of each point (P,).
    """

    def __init__(self, network: Any, batch: Tensor) -> None:
        super().__init__()
        self.network, self.batch = network, batch

    def forward(self, positions: Tensor, features: Tensor | None = None) -> Tensor:
        batch = self.batch.to(positions.device)
        graph = self.network.neighbors(positions, batch)
        result: Tensor = self.network(positions, features, batch, graph)
        return result


def check_model(
    model: nn.Module,
    where: Grid | Tensor | tuple[int, ...],
    *,
    in_channels: int | None = None,
    out_shape: tuple[int, ...] | None = None,
    features: Tensor | None = None,
    batch: Tensor | None = None,
    equivariance: Mapping[str, float] | None = None,
    field_in: Any = None,
    field_out: Any = None,
    equivariance_options: Mapping[str, Any] | None = None,
    dtypes: Mapping[torch.dtype, float] = DTYPES,
    compile_backend: str = "aot_eager",
    untrained: Collection[str] = (),
    seed: int = 0,
    skip: Collection[str] = (),
) -> dict[str, str]:
    """Check a network against everything that tasks rely on.

    The checks, by name:

    * ``output``: shape, finite values;
    * ``trains``: every parameter gets a finite gradient that is not zero;
    * ``samples``: in eval mode, samples of a batch do not see one another;
    * ``equivariance``: with parameters, biases and statistics random, the error is at most the bounds given;
    * ``dtypes``, ``autocast``, ``cuda``, ``compile``: the same output in other precisions, on other devices, compiled;
    * ``empty``: no samples give an output of none, forward and backward;
    * ``copies`` and ``checkpoint``: ``deepcopy``, ``pickle``, and a state that loads into a copy with other weights;
    * ``errors``: input of another number of channels is refused.

    Args:
        model: the network, small; left as it is.
        where: the grid or mesh of its fields, positions (P, 3) of several clouds one after another, (H, W) for images or
            (n, n, n) for volumes.
        in_channels: channels of the input but on points; read off the model if None.
        out_shape: shape of the output for two samples; not checked if None.
        features: on points, (P, C), or whole numbers (P,) such as those of atoms; None for networks that take none.
        batch: on points, cloud of each point, two clouds at least.
        equivariance: largest error by group ("so3", "o3", "azimuthal", "grid").
        field_in, field_out: kinds of fields; scalars if None and not declared.
        equivariance_options: further arguments of :func:`spheregeo.audit.measure_equivariance`.
        dtypes: by dtype, the largest difference from float64.
        compile_backend: of ``torch.compile``; networks of points are compiled without their search for neighbours.
        untrained: ends of the names of parameters that no gradient reaches by design.
        seed: of all that is drawn at random.
        skip: names of checks to leave out.

    Returns:
        what was found, by check.

    Raises: ComplianceError where checks fail.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import create
        >>> model = create("sphere-unet", 2, 3, HEALPix(4), width=2, depth=2)
        >>> found = check_model(model, HEALPix(4), equivariance={"grid": 1e-9}, skip=["compile"])
        >>> found["output"]
        '(2, 3, 192)'
    """
    suite = Suite(type(model).__name__, skip)
    generator = torch.Generator().manual_seed(seed)
    if isinstance(where, Tensor):
        subject, samples, compiled = _on_points(model, where, features, batch, seed)
    else:
        channels = getattr(model, "in_channels", 1) if in_channels is None else in_channels
        shape = where if isinstance(where, tuple) else where.shape
        x = torch.randn(2, channels, *shape, dtype=torch.float64, generator=generator)
        subject = Subject(model, x, seed)
        samples, compiled = [Subject(model, x[i : i + 1], seed) for i in range(2)], subject
    suite.run("output", _output, subject, out_shape)
    suite.run("trains", _trains, subject, untrained)
    suite.run("samples", _samples, subject, samples)
    options = {"field_in": field_in, "field_out": field_out, "seed": seed, "channels": in_channels}
    if isinstance(where, Tensor):
        options |= {"features": features, "batch": batch}
    options |= dict(equivariance_options or {})
    suite.run("equivariance", check_equivariance, model, where, equivariance, options)
    suite.run("dtypes", check_dtypes, subject, dtypes)
    suite.run("autocast", check_autocast, subject, {torch.bfloat16: 0.2}, [None], False)
    suite.run("cuda", check_cuda, subject, 1e-3)
    suite.run("compile", check_compile, compiled, 1e-4, compile_backend)
    suite.run("empty", check_empty, compiled, _nothing(model, where, subject, features))
    suite.run("copies", check_copies, subject)
    suite.run("checkpoint", _checkpoint, subject)
    suite.run("errors", _errors, subject)
    return suite.finish()


def _on_points(
    model: nn.Module, positions: Tensor, features: Tensor | None, batch: Tensor | None, seed: int
) -> tuple[Subject, list[Subject], Subject]:
    """The model with its neighbours on all clouds, on each cloud alone, and as it is compiled."""
    batch = torch.zeros(len(positions), dtype=torch.int64) if batch is None else batch

    def arguments(rows: Tensor) -> tuple[Tensor, ...]:
        return (positions[rows],) if features is None else (positions[rows], features[rows])

    everything = torch.arange(len(positions))
    samples = []
    for cloud in batch.unique():
        rows = (batch == cloud).nonzero()[:, 0]
        samples.append(Subject(OnCloud(model, batch[rows] * 0), arguments(rows), seed))

    def with_graph(dtype: torch.dtype, device: torch.device) -> list[Any]:
        place = positions.to(device, dtype)
        graph = model.neighbors(place, batch.to(device))  # type: ignore[operator]
        given = (
            features if features is None or not features.is_floating_point() else features.to(device, dtype)
        )
        return [place, given, batch.to(device), graph]

    return (
        Subject(OnCloud(model, batch), arguments(everything), seed),
        samples,
        Subject(model, with_graph, seed),
    )


def _nothing(
    model: nn.Module, where: Grid | Tensor | tuple[int, ...], subject: Subject, features: Tensor | None
) -> Inputs:
    """Arguments of the network without samples; on points, without points and neighbours."""
    if not isinstance(where, Tensor):
        return [value[:0] for value in subject.inputs()]

    def arguments(dtype: torch.dtype, device: torch.device) -> list[Any]:
        place, batch = where[:0].to(device, dtype), torch.zeros(0, dtype=torch.int64, device=device)
        given = None if features is None else features[:0].to(device)
        return [place, given, batch, model.neighbors(place, batch), 0]  # type: ignore[operator]

    return arguments


def _output(subject: Subject, shape: tuple[int, ...] | None) -> str:
    with torch.no_grad():
        y = subject.layer(torch.float32)(*subject.inputs(torch.float32))
    require(isinstance(y, Tensor), f"the output is {type(y).__name__}, expected a tensor")
    require(
        shape is None or tuple(y.shape) == shape, f"the output has shape {tuple(y.shape)}, expected {shape}"
    )
    require(y.isfinite().all(), "the output is not finite")
    return str(tuple(y.shape))


def _trains(subject: Subject, untrained: Collection[str]) -> str:
    layer = subject.layer(torch.float32).train()
    ends = tuple(untrained)
    found_parameters = [
        (name, p)
        for name, p in layer.named_parameters()
        if p.requires_grad and not name.endswith(ends or ("\0",))
    ]
    names, wanted = [name for name, _ in found_parameters], [p for _, p in found_parameters]
    _, _, found = gradients(layer, subject.inputs(torch.float32), wanted, subject.seed)
    dead = [name for name, g in zip(names, found, strict=True) if g.numel() and not bool((g != 0).any())]
    require(not dead, f"no gradient reaches {', '.join(dead)}")
    bad = [name for name, g in zip(names, found, strict=True) if not bool(g.isfinite().all())]
    require(not bad, f"the gradient of {', '.join(bad)} is not finite")
    return f"{len(names)} parameters"


def _samples(subject: Subject, samples: list[Subject]) -> str:
    with torch.no_grad():
        whole = tensors_of(subject.layer()(*subject.inputs()))
        parts = [tensors_of(sample.layer()(*sample.inputs())) for sample in samples]
    alone = [torch.cat(list(pieces)) for pieces in zip(*parts, strict=True)]
    return f"{len(samples)} samples, {agree('output of a sample in a batch', whole, alone, 1e-9):.1e}"


def _checkpoint(subject: Subject) -> str:
    layer = subject.layer()
    other = Subject(copy.deepcopy(subject.module), subject.given, subject.seed + 1).layer()
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        found, expected = (tensors_of(m(*subject.inputs())) for m in (other, layer))
    agree("output after loading", found, expected, 1e-12)
    return f"{sum(p.numel() for p in layer.parameters()):,} parameters"


def _errors(subject: Subject) -> str:
    layer = subject.layer(torch.float32)
    first, *rest = subject.inputs(torch.float32)
    bad = torch.cat([first, first[:, :1]], 1)
    try:
        layer(bad, *rest)
    except (ValueError, TypeError) as error:
        return f"refused: {str(error)[:60]}"
    except Exception as error:
        require(False, f"input of shape {tuple(bad.shape)} raised {type(error).__name__}: {str(error)[:100]}")
    require(False, f"input of shape {tuple(bad.shape)} raised nothing")
    return ""

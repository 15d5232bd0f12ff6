"""Modules called with what they take beside their features: geometry, areas, positions and edges, given by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.nn.surface import GaugeGeometry


def gives(module: object, name: str) -> bool:
    """Whether a module built for a grid holds the argument ``name`` of its forward itself."""
    if name == "geometry":
        inner = module.modules() if isinstance(module, nn.Module) else [module]
        return any(isinstance(getattr(m, "source", None), Grid) for m in inner)
    return isinstance(getattr(module, "grid", None), Grid)


def call(module: Any, x: Tensor, extras: Mapping[str, Any]) -> Tensor:
    """The module's output; the children of a ``Sequential`` are each called with what they take.

    Args:
        module: its forward's first argument is ``x``.
        x: features.
        extras: values of further arguments by name; those that the module does not take are left out.

    Raises: TypeError for an argument without a default that ``extras`` does not hold.
    """
    if isinstance(module, nn.Sequential):
        for child in module:
            x = call(child, x, extras)
        return x
    ahead, named = further_arguments(module, extras)
    result: Tensor = module(x, *ahead, **named)
    return result


def further_arguments(module: Any, extras: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments after the first that ``call`` gives: those without a name, and those with one."""
    if not extras:
        return [], {}
    function = module.forward if isinstance(module, nn.Module) else module
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):  # built-in functions of torch
        return [], {}
    ahead: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL and name == "where" and "geometry" in extras:
            ahead.append(
                extras["geometry"]
            )  # the convolutions that take positions and edges, or their geometry
        elif name in ("geometry", "areas") and gives(module, name):
            continue
        elif name in ("attributes", "edge_features"):
            value = _of_edges(module, name, extras)
            if value is not None:
                named[name] = value
        elif name in extras:
            named[name] = extras[name]
        elif parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            raise TypeError(
                f"{type(module).__name__} takes an argument {name!r} that an audit cannot give; expected one of "
                f"{', '.join(extras)}: audit a function of the features that calls the module"
            )
    return ahead, named


def _of_edges(module: Any, name: str, extras: Mapping[str, Any]) -> Tensor | None:
    """Features of edges for a layer that was built to take them, made by the audit; None for others."""
    size = getattr(module, "edge_dim" if name == "edge_features" else name, None)
    make = extras.get(name)
    return None if size is None or make is None else make(size)


class Called(nn.Module):
    """A module as a function of its features alone, with everything else that it takes kept beside it."""

    def __init__(self, module: Any, extras: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self.extras = module, extras

    def forward(self, x: Tensor) -> Tensor:
        return call(self.module, x, self.extras)


def lacks_geometry(module: object) -> bool:
    """Whether some layer of a module expects a :class:`~spheregeo.nn.GaugeGeometry` with each call."""
    if not isinstance(module, nn.Module):
        return False
    return any(hasattr(m, "frequency") and getattr(m, "source", m) is None for m in module.modules())


def gauge_extras(module: object, grid: Grid, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Geometry and areas of a grid or mesh, for the layers that take them with each call."""
    if not lacks_geometry(module):
        return {}
    assert isinstance(module, nn.Module)
    layers: list[Any] = [m for m in module.modules() if hasattr(m, "frequency") and hasattr(m, "rings")]
    rings = {layer.rings for layer in layers}
    if len(rings) > 1:
        raise ValueError(
            f"the module's layers have {sorted(rings)} rings; expected one number for a geometry they can share"
        )
    frequency = max(layer.frequency for layer in layers)
    coefficients = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
    geometry = GaugeGeometry.of(grid, num_rings=rings.pop(), frequency=frequency, dtype=coefficients)
    geometry = geometry.to(device)
    return {"geometry": geometry, "areas": geometry.areas}

"""Networks by name: ``@register("name")`` on a builder, ``create(name, ...)`` to build, ``names()`` to list.

A builder is called as ``builder(in_channels, out_channels, grid, **options)`` and returns a module that maps
fields (B, in_channels, *grid.shape) to fields (B, out_channels, *grid.shape), or, where it was registered with
``output="label"``, to one vector (B, out_channels) for each sample.

Networks of other domains than grids are built with ``grid`` None: those of "points" take clouds and those of "molecule"
atoms, as ``model(positions, features, batch, graph)`` with ``graph = model.neighbors(positions, batch)``.

A network that knows one kind of grid is registered with ``native``, a function from any grid to the nearest one that
the network takes; on other grids ``create`` puts it between two interpolations (:class:`spheregeo.models.OnGrid`).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Builder = TypeVar("Builder", bound=Callable[..., torch.nn.Module])
OUTPUTS = ("field", "label")
DOMAINS = ("grid", "points", "molecule")


@dataclass(frozen=True)
class Entry:
    """A builder, what it gives ("field" or "label"), the function to the grids that it takes, None for any, and what
    its samples live on ("grid", "points" or "molecule").
    """

    builder: Callable[..., torch.nn.Module]
    output: str
    native: Callable[[Any], Any] | None
    domain: str


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    output: str = "field",
    native: Callable[[Any], Any] | None = None,
    domain: str = "grid",
) -> Callable[[Builder], Builder]:
    """Decorator that enters a builder under ``name``.

    Args:
        name: as in ``--model.network``.
        output: "field" for a value at every point, "label" for one vector a sample.
        native: from any grid to the nearest one that the network takes, which it maps to itself; None if it takes all.
        domain: what its samples are: "grid" for signals on grids and meshes, "points" for clouds, "molecule" for atoms.

    Raises: ValueError if the name is taken, ``output`` or ``domain`` is something else, or ``native`` is given for a model
        that has no grid.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}; expected one of {', '.join(map(repr, OUTPUTS))}")
    if domain not in DOMAINS:
        raise ValueError(f"domain is {domain!r}; expected one of {', '.join(map(repr, DOMAINS))}")
    if native is not None and domain != "grid":
        raise ValueError(
            f"native is given for domain {domain!r}; only models on grids have a grid of their own"
        )

    def enter(builder: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"a model named {name!r} exists already; choose another name")
        _ENTRIES[name] = Entry(builder, output, native, domain)
        return builder

    return enter


def names(output: str | None = None, domain: str | None = None) -> list[str]:
    """Names of all registered models, sorted; of those alone that give ``output`` ("field" or "label") if it is set, and of
    those alone that live on ``domain`` ("grid", "points" or "molecule") if that is set.
    """
    return sorted(
        name
        for name, entry in _ENTRIES.items()
        if output in (None, entry.output) and domain in (None, entry.domain)
    )


def output_of(name: str) -> str:
    """What the model of that name gives: "field" or "label". Raises: ValueError for an unknown name."""
    return _entry(name).output


def domain_of(name: str) -> str:
    """What the model of that name lives on: "grid", "points" or "molecule". Raises: ValueError for an unknown name."""
    return _entry(name).domain


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        raise ValueError(f"no model is named {name!r}; the models are {', '.join(names())}")
    return _ENTRIES[name]


def _options_of(builder: Callable[..., torch.nn.Module]) -> tuple[list[str], bool]:
    """Names of a builder's options, and whether these are all: what it hands on are options of the class that it returns."""
    signature = inspect.signature(builder)
    taken = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    if all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values()):
        return taken, True
    made = getattr(sys.modules[builder.__module__], str(signature.return_annotation), None)
    if not inspect.isclass(made):
        return taken, False
    handed = [p.name for p in inspect.signature(made).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return [*taken, *(name for name in handed if name not in taken)], True


def create(name: str, in_channels: int, out_channels: int, grid: Any, **options: Any) -> torch.nn.Module:
    """Build the registered model ``name`` for fields on ``grid``, which is None for models of points and molecules.

    Among the options, ``native`` is a grid on which the model itself is to work, between two interpolations.

    Shape: the model maps (B, in_channels, *grid.shape) to (B, out_channels, *grid.shape), or (B, out_channels) where it
        gives labels.
    Raises: ValueError for an unknown name, an option that the builder does not take, or a grid that it has no use for.
    """
    from spheregeo.models.on_grid import OnGrid

    entry = _entry(name)
    if entry.domain != "grid" and grid is not None:
        raise ValueError(f"grid is {grid!r} but model {name!r} works on {entry.domain!r}; expected None")
    chosen = options.pop("native", None) if entry.domain == "grid" else None
    taken, is_known = _options_of(entry.builder)
    unknown = sorted(set(options) - set(taken))
    if unknown and is_known:
        raise ValueError(
            f"model {name!r} takes no option {', '.join(map(repr, unknown))}; its options are {', '.join(taken)}"
        )
    native = chosen if chosen is not None else grid
    native = native if entry.native is None else entry.native(native)
    model = entry.builder(in_channels, out_channels, native, **options)
    return model if native == grid else OnGrid(model, grid, native, entry.output)

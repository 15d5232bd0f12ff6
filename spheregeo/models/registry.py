"""Networks by name: ``@register("name")`` on a builder, ``create(name, ...)`` to build, ``names()`` to list.

A builder is called as ``builder(in_channels, out_channels, grid, **options)`` and returns a module that maps
fields (B, in_channels, *grid.shape) to fields (B, out_channels, *grid.shape), or, where it was registered with
``output="label"``, to one vector (B, out_channels) per sample. Other outputs may be named freely; a task finds the networks
that give its own ``output``. A builder registered with several outputs takes the one that is wanted as an option ``output``,
whose default is the first of them.

Networks of other domains than grids are built with ``grid`` None: those of "points" take clouds and those of "molecule"
atoms, as ``model(positions, features, batch, graph)`` with ``graph = model.neighbors(positions, batch)``.

A network that knows one kind of grid is registered with ``native``, a function from any grid to the nearest one that
the network takes; on other grids ``create`` puts it between two interpolations (:class:`spheregeo.models.OnGrid`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from spheregeo.checks import nearest
from spheregeo.grids import parse_grid
from spheregeo.kernels import parse_kernel

Builder = TypeVar("Builder", bound=Callable[..., torch.nn.Module])


@dataclass(frozen=True)
class Entry:
    """One registered network; the fields are the arguments of :func:`register`."""

    builder: Callable[..., torch.nn.Module]
    outputs: tuple[str, ...]
    native: Callable[[Any], Any] | None
    domain: str
    alias: str | None
    family: str | None
    options_of: Callable[..., torch.nn.Module] | None


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    output: str | tuple[str, ...] = "field",
    native: Callable[[Any], Any] | None = None,
    domain: str = "grid",
    alias: str | None = None,
    family: str | None = None,
    options_of: Callable[..., torch.nn.Module] | None = None,
) -> Callable[[Builder], Builder]:
    """Decorate a builder so that ``name`` stands for it.

    Args:
        name: as in ``--model.network``.
        output: what the network gives: "field" for a value at every point, "label" for one vector per sample, or another word;
            several where the builder has an option ``output`` that chooses among them.
        native: function from any grid to the nearest one that the network takes, which it maps to itself; None if the network
            takes all grids.
        domain: what the samples are: "grid" for signals on grids and meshes, "points" for clouds, "molecule" for atoms, or
            another word.
        alias: short name that stands for this network wherever ``output`` and ``domain`` are asked for.
        family: short name under which a recipe may file options of this network; ``alias`` if None.
        options_of: class or function to which the builder passes its ``**options`` on, so that their names can be checked.

    Raises: ValueError if the name or the alias is taken, ``output`` or ``domain`` is no word, or ``native`` is given for a
        network that has no grid.
    """
    outputs = (output,) if isinstance(output, str) else tuple(output)
    for argument, word in (*(("output", word) for word in outputs), ("domain", domain)):
        if not word.isidentifier():
            raise ValueError(f"{argument} is {word!r}; expected one word, such as 'field' or 'points'")
    if native is not None and domain != "grid":
        raise ValueError(
            f"native is given for domain {domain!r}; only models on grids have a grid of their own"
        )

    def enter(builder: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"a model named {name!r} exists already; choose another name")
        if alias is not None and (alias in _ENTRIES or any(find(alias, word, domain) for word in outputs)):
            raise ValueError(f"alias {alias!r} stands for another model already; choose another alias")
        _ENTRIES[name] = Entry(builder, outputs, native, domain, alias, family or alias, options_of)
        return builder

    return enter


def names(output: str | None = None, domain: str | None = None) -> list[str]:
    """List the names of registered models, sorted.

    Args:
        output: only models that give it, such as "field" or "label"; all if None.
        domain: only models that live on it, such as "grid", "points" or "molecule"; all if None.
    """
    return sorted(
        name
        for name, entry in _ENTRIES.items()
        if (output is None or output in entry.outputs) and domain in (None, entry.domain)
    )


def aliases() -> dict[str, dict[str, str]]:
    """Return the name of the model by output, such as "field", by alias."""
    found: dict[str, dict[str, str]] = {}
    for name, entry in _ENTRIES.items():
        if entry.alias is not None:
            found.setdefault(entry.alias, {}).update(dict.fromkeys(entry.outputs, name))
    return found


def find(alias: str, output: str, domain: str) -> str | None:
    """Return the name of the model for which ``alias`` stands, None if there is none."""
    for name, entry in _ENTRIES.items():
        if (entry.alias, entry.domain) == (alias, domain) and output in entry.outputs:
            return name
    return None


def builder_of(name: str) -> Callable[..., torch.nn.Module]:
    """Return the class or function that builds the model of that name. Raises: ValueError for an unknown name."""
    return _entry(name).builder


def output_of(name: str) -> str:
    """Return what the model of that name gives, such as "field" or "label", the first where it gives several.

    Args:
        name: registered name of the network.

    Raises: ValueError for an unknown name.
    """
    return _entry(name).outputs[0]


def outputs_of(name: str) -> tuple[str, ...]:
    """Return all that the model of that name can give, such as ("label", "field"). Raises: ValueError for an unknown name."""
    return _entry(name).outputs


def domain_of(name: str) -> str:
    """Return what the model of that name lives on, such as "grid". Raises: ValueError for an unknown name."""
    return _entry(name).domain


def native_grid(name: str, grid: Any) -> Any:
    """Return the grid on which the model of that name works for fields on ``grid``: the same one, or the nearest it knows.

    Args:
        name: registered name of the network.
        grid: grid of the fields.

    Raises: ValueError for an unknown name.
    """
    native = _entry(name).native
    return grid if native is None else native(grid)


def family_of(name: str) -> str | None:
    """Return the short name under which options of that model may be filed. Raises: ValueError for an unknown name."""
    return _entry(name).family


def families() -> set[str]:
    """Return all short names under which options may be filed."""
    return {entry.family for entry in _ENTRIES.values() if entry.family is not None}


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        raise ValueError(
            f"no model is named {name!r}{nearest(name, names())}; the models are {', '.join(names())}"
        )
    return _ENTRIES[name]


def _keyword_options(function: Callable[..., Any]) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def takers_of(name: str) -> list[Callable[..., torch.nn.Module]]:
    """Return the builder of a network, and the class or function to which the builder passes its options on if there is one.

    Args:
        name: registered name of the network.

    Raises: ValueError for an unknown name.
    """
    entry = _entry(name)
    return [entry.builder] + ([entry.options_of] if entry.options_of is not None else [])


def options_taken(name: str) -> list[str] | None:
    """Return the names of a network's options; None when its builder takes any.

    Args:
        name: registered name of the network.

    Raises: ValueError for an unknown name.
    """
    entry = _entry(name)
    parameters = inspect.signature(entry.builder).parameters.values()
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if passes_on and entry.options_of is None:
        return None
    taken = _keyword_options(entry.builder)
    if passes_on and entry.options_of is not None:
        taken += [option for option in _keyword_options(entry.options_of) if option not in taken]
    return taken


def _check_options(name: str, options: dict[str, Any]) -> None:
    """Raises: ValueError for an option that neither the builder nor the class to which it passes options takes."""
    taken = options_taken(name)
    if taken is None:
        return
    given = takers_of(name)
    takers = (*given, *(getattr(taker, "__init__", None) for taker in given))
    former = {option for taker in takers for option in getattr(taker, "former_names", ())}
    unknown = sorted(set(options) - set(taken) - former)
    if unknown:
        raise ValueError(
            f"model {name!r} takes no option {', '.join(map(repr, unknown))}{nearest(unknown[0], taken)}; "
            f"its options are {', '.join(taken)}"
        )


def _from_text(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with kernels and grids that were given as text, as recipes give them, made."""
    made = dict(options)
    if isinstance(made.get("kernel"), str):
        made["kernel"] = parse_kernel(made["kernel"])
    if isinstance(made.get("native"), str):
        made["native"] = parse_grid(made["native"])
    if made.get("levels") is not None:
        made["levels"] = [parse_grid(level) if isinstance(level, str) else level for level in made["levels"]]
    return made


def create(name: str, in_channels: int, out_channels: int, grid: Any, **options: Any) -> torch.nn.Module:
    """Build the registered model ``name``.

    Args:
        name: as registered, such as "sphere-unet-small"; see :func:`names`.
        in_channels: channels of the input.
        out_channels: channels of the output.
        grid: grid of the fields; None for models of points and molecules.
        options: further arguments of the builder; kernels and grids also as text, such as kernel="Rings(5)". For models on
            grids, ``native`` is a grid on which the model itself works, between two interpolations.

    Shape: the model maps (B, in_channels, *grid.shape) to (B, out_channels, *grid.shape), or (B, out_channels) where it
        gives labels.
    Raises: ValueError for an unknown name, an option that the builder does not take, or a grid for a model without grids.

    Example:
        >>> from spheregeo import grids, models
        >>> model = models.create("pixel-mlp", 3, 5, grids.HEALPix(4), width=8)
        >>> model(torch.zeros(2, 3, 192)).shape
        torch.Size([2, 5, 192])
    """
    from spheregeo.models.on_grid import OnGrid

    entry = _entry(name)
    if entry.domain != "grid" and grid is not None:
        raise ValueError(f"grid is {grid!r} but model {name!r} works on {entry.domain!r}; expected None")
    options = _from_text(options)
    chosen = options.pop("native", None) if entry.domain == "grid" else None
    _check_options(name, options)
    native = chosen if chosen is not None else grid
    native = native if entry.native is None else entry.native(native)
    model = entry.builder(in_channels, out_channels, native, **options)
    return model if native == grid else OnGrid(model, grid, native, entry.outputs[0])

"""Short names for ``--model.network``: "disco" is a U-Net to a task of fields and a classifier to a task of labels.

``options`` of a recipe may be filed under such a name, or under a model's: ``{disco: {position: true}}`` holds for DISCO
networks alone, so that the same recipe serves networks that take other options. Both are arguments of
:func:`spheregeo.models.register`.
"""

from __future__ import annotations

from typing import Any

from spheregeo.checks import nearest
from spheregeo.models import registry

_OUTPUTS = {
    "field": "a value at every point",
    "label": "one label for each sample",
    "codec": "compressed fields",
    "pose": "a distribution of rotations",
    "completion": "a field of elements about each molecule",
}
_DOMAINS = {
    "grid": "signals on grids",
    "points": "clouds of points",
    "molecule": "molecules",
    "voxels": "volumes",
    "images": "images",
    "poses": "images of posed things",
}


def resolve(name: str, output: str = "field", domain: str = "grid") -> str:
    """Return the registered name of a network, given by that name or by an alias.

    Args:
        name: such as "gauge" or "sphere-unet-base".
        output: what the task needs, such as "field" or "label".
        domain: what the task's samples live on, such as "grid", "points" or "molecule".

    Raises: ValueError for an unknown name, or a network that gives something else or lives on something else.
    """
    chosen = registry.find(name, output, domain) or name
    known = registry.names(output, domain)
    if chosen in known:
        return chosen
    short = sorted(alias for alias in registry.aliases() if registry.find(alias, output, domain))
    choice = f"those that do are {', '.join(known)}" + (f", or in short {', '.join(short)}" if short else "")
    if chosen in registry.names() and registry.domain_of(chosen) != domain:
        works, this = (_DOMAINS.get(d, repr(d)) for d in (registry.domain_of(chosen), domain))
        raise ValueError(f"network {name!r} works on {works}, this task on {this}; {choice}")
    if chosen in registry.names():
        kind = _OUTPUTS.get(output, repr(output))
        raise ValueError(f"network {name!r} does not give {kind}, which this task wants; {choice}")
    close = nearest(name, [*known, *short])
    raise ValueError(f"no model is named {name!r}{close}; {choice.replace('that do', 'for this task')}")


def options_of(name: str, options: dict[str, Any] | None) -> dict[str, Any]:
    """Return the options that hold for a network: those filed under no name, and those under its own name or family.

    Args:
        name: registered name of the network.
        options: options by name; an entry under a model's or a family's name holds options of these networks alone.

    Raises: ValueError when what is filed under a name is no mapping.

    Example:
        >>> options_of("sphere-unet-base", {"norm": "group", "disco": {"position": True}, "gauge": {"spacings": 2.0}})
        {'norm': 'group', 'position': True}
    """
    own = {name, registry.family_of(name) if name in registry.names() else None}
    filing = {*registry.families(), *registry.names()}
    found: dict[str, Any] = {}
    filed: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in filing:
            found[key] = value
        elif value is not None and not isinstance(value, dict):
            raise ValueError(f"options of {key!r} are {value!r}; expected a mapping such as {{width: 16}}")
        elif key in own:
            filed.update(value or {})
    return {**found, **filed}

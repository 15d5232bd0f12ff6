"""Short names for ``--model.network``: each stands for a U-Net where fields are wanted and a classifier where labels are.

``options`` of a recipe may be filed under such a name, or under a model's: ``{disco: {position: true}}`` holds for DISCO
networks alone, so that the same recipe serves networks that take other options.
"""

from __future__ import annotations

from typing import Any

from spheregeo.models import registry

# alias: (network for fields, network for labels)
ALIASES = {
    "disco": ("sphere-unet-small", "disco-classifier"),
    "gauge": ("gauge-unet", "gauge-classifier"),
    "healpix": ("healpix-unet", "healpix-classifier"),
    "icosahedral": ("icosahedral-unet", "icosahedral-classifier"),
    "planar": ("planar-unet", "planar-cnn"),
}
# Further networks that take the options filed under an alias.
KIN = {"sphere-unet": "disco", "sphere-unet-base": "disco"}


def resolve(name: str, output: str = "field", domain: str = "grid") -> str:
    """The registered name of a network, given by that name or by an alias.

    Args:
        name: such as "gauge" or "sphere-unet-base".
        output: what the task wants, "field" or "label".
        domain: what the task's samples live on, "grid", "points" or "molecule".

    Raises: ValueError for an unknown name, or a network that gives something else or lives on something else.
    """
    wanted = registry.OUTPUTS.index(output)
    chosen = ALIASES[name][wanted] if name in ALIASES else name
    known = registry.names(output, domain)
    if chosen in known:
        return chosen
    short = [alias for alias, pair in ALIASES.items() if pair[wanted] in known]
    choice = f"those that do are {', '.join(known)}" + (f", or in short {', '.join(short)}" if short else "")
    if chosen in registry.names() and registry.domain_of(chosen) != domain:
        works = {"grid": "signals on grids", "points": "clouds of points", "molecule": "molecules"}
        raise ValueError(
            f"network {name!r} works on {works[registry.domain_of(chosen)]}, this task on {works[domain]}; {choice}"
        )
    if chosen in registry.names():
        kinds = {"field": "a value at every point", "label": "one label for each sample"}
        raise ValueError(f"network {name!r} does not give {kinds[output]}, which this task wants; {choice}")
    raise ValueError(f"no model is named {name!r}; {choice.replace('that do', 'for this task')}")


def options_of(name: str, options: dict[str, Any] | None) -> dict[str, Any]:
    """The options that hold for a registered network: those filed under no name, and those under its own.

    Raises: ValueError when what is filed under a name is no mapping.
    """
    kin = {name, KIN.get(name, name), *(alias for alias, pair in ALIASES.items() if name in pair)}
    found: dict[str, Any] = {}
    filed: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in ALIASES and key not in registry.names():
            found[key] = value
        elif value is not None and not isinstance(value, dict):
            raise ValueError(f"options of {key!r} are {value!r}; expected a mapping such as {{width: 16}}")
        elif key in kin:
            filed.update(value or {})
    return {**found, **filed}

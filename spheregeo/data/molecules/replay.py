"""Frames of an earlier training among those of a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.molecules.molecules import Molecules


def with_replayed(own: Molecules, others: Molecules, share: float, seed: int, first: int) -> Molecules:
    """The molecules with a drawing of others behind them, which are marked as replayed.

    Args:
        own: molecules of the new training.
        others: those of an earlier one; all of them where they are fewer than wanted.
        share: share of the whole that the others are to be.
        seed: seed of the drawing.
        first: number from which the others' ``index`` counts on.
    """
    wanted = max(1, round(len(own) * share / (1 - share)))
    order = np.random.RandomState(seed).permutation(len(others))[:wanted]
    drawn = others.select(np.sort(order))
    names = dict.fromkeys((*own.type_names, *drawn.type_names, "none"))
    parts = []
    for part, replayed in ((own, False), (drawn, True)):
        filled = _filled(part, own, drawn)
        types = list(names).index("none") * torch.ones(len(part), dtype=torch.int64)
        if part.types is not None:
            places = torch.tensor([list(names).index(name) for name in part.type_names])
            types = places[part.types]
        parts.append({**filled, "types": types, "replayed": torch.full((len(part),), replayed)})
    joined: dict[str, Any] = {
        key: None if parts[0][key] is None else torch.cat([part[key] for part in parts]) for key in parts[0]
    }
    typed = own.types is not None or drawn.types is not None
    assert drawn.index is not None and own.index is not None
    return replace(
        own, **{**joined, "types": joined["types"] if typed else None},
        ptr=torch.cat([own.ptr, own.ptr[-1] + drawn.ptr[1:]]), type_names=tuple(names) if typed else (),
        index=torch.cat([own.index, drawn.index + first]), groups=None,
        names=tuple(m.name(k) for m in (own, drawn) for k in range(len(m))),
        targets={}, vectors={}, atomic={}, units={},
    )  # fmt: skip


def _filled(part: Molecules, *all_parts: Molecules) -> dict[str, Any]:
    """The tensors of molecules, with empty values of what other parts have and they do not."""
    count, atoms = len(part), len(part.numbers)
    nan, none = torch.nan, torch.zeros
    empty: dict[str, Tensor] = {
        "forces": torch.full((atoms, 3), nan, dtype=torch.float64),
        "stress": torch.full((count, 3, 3), nan, dtype=torch.float64),
        "cell": none(count, 3, 3, dtype=torch.float64),
        "pbc": none(count, 3, dtype=torch.bool),
        "tags": none(atoms, dtype=torch.int64),
        "fixed": none(atoms, dtype=torch.bool),
        "weights": torch.ones(count, 3, dtype=torch.float64),
    }
    found: dict[str, Any] = {
        "numbers": part.numbers,
        "positions": part.positions,
        "energy": part.energy,
    }
    for name, value in empty.items():
        held = getattr(part, name)
        wanted = any(getattr(one, name) is not None for one in all_parts)
        found[name] = held if held is not None or not wanted else value
    return found

"""Which frames belong together: by type and weight of a configuration, and by the system whose trajectory they are cut from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.molecules.keys import keys_of, number, results

TYPE_KEY = "config_type"
ISOLATED = ("isolatedatom", "isolated_atom", "free_atom")  # types of free atoms, in lower case
WEIGHT_KEYS = ("config_energy_weight", "config_forces_weight", "config_stress_weight")
# Keys that usually say which system, trajectory or relaxation a frame is of.
GROUP_KEYS = (
    "system", "system_id", "sid", "group", "trajectory", "trajectory_id", "traj", "traj_id", "relaxation", "relaxation_id",
    "mol_id", "molecule_id", "mp_id", "material_id",
)  # fmt: skip
NEAR = 1.0  # Å; atoms of frames that follow one another in a trajectory have moved less, root mean square
_BLOCK = re.compile(r"block:(\d{1,9})")


def configurations(frames: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
    """Types and weights of frames as fields of :class:`~spheregeo.data.molecules.molecules.Molecules`; only what some frame has.

    The type is ``config_type``; ``config_weight`` weighs a frame, ``config_energy_weight``, ``config_forces_weight`` and
    ``config_stress_weight`` one of its labels.

    Args:
        frames: ASE's Atoms.
        places: what each frame is called in messages.

    Raises: ValueError for a weight that is no number, or below 0.
    """
    found: dict[str, Any] = {}
    types = [_text(frame, TYPE_KEY) for frame in frames]
    if any(one is not None for one in types):
        named = ["none" if one is None else one for one in types]
        names = sorted(set(named))
        found |= {"types": [names.index(one) for one in named], "type_names": tuple(names)}
    if any(key in frame.info for frame in frames for key in ("config_weight", *WEIGHT_KEYS)):
        found["weights"] = [
            [_weight(frame, "config_weight", place) * _weight(frame, key, place) for key in WEIGHT_KEYS]
            for frame, place in zip(frames, places)
        ]
    return found


def _weight(frame: Any, key: str, place: str) -> float:
    value = number(frame.info.get(key, 1.0), f"{key!r} of {place}")
    if value < 0:
        raise ValueError(f"{key!r} of {place} is {value:g}; expected 0 or more")
    return value


def _text(frame: Any, key: str) -> str | None:
    for place in (frame.info, results(frame)):
        if key in place and np.ndim(place[key]) == 0:
            return str(place[key])
    return None


def group_frames(
    frames: Sequence[Any], by: str, places: Sequence[str], told: dict[str, str] | None = None
) -> np.ndarray:
    """The number of the group of each frame (N,): frames of one group never stand on both sides of a split.

    Args:
        frames: ASE's Atoms.
        by: "frame", each frame by itself; "block:N", N frames in turn; the key of the frames that names their group; or "auto":
            one of the usual keys (``system``, ``sid``, ``trajectory``, ...), else, where frames are of different atoms, runs of
            frames in which the same atoms move little, else each frame by itself.
        places: what each frame is called in messages.
        told: takes one line that says how.

    Raises: ValueError for a key that a frame does not have.
    """
    block = _BLOCK.fullmatch(by)
    if by == "frame":
        return _said(told, np.arange(len(frames)), "by frame")
    if block:
        size = int(block[1])
        if size < 1:
            raise ValueError(f"split_by is {by!r}; expected at least one frame in a block")
        return _said(told, np.arange(len(frames)) // size, f"by blocks of {size} frames in turn")
    if by != "auto":
        for frame, place in zip(frames, places):
            if _text(frame, by) is None and len(frame) > 1:
                raise ValueError(
                    f"{place} has no {by!r} to split by; it has {', '.join(keys_of(frame)) or 'nothing'}: correct split_by "
                    "(or auto, frame, block:N)"
                )
        return _said(told, _numbered([_text(frame, by) for frame in frames]), f"by {by!r}")
    whole = [k for k, frame in enumerate(frames) if len(frame) > 1]
    for key in GROUP_KEYS:
        named = [_text(frame, key) for frame in frames]
        of = {named[k] for k in whole}
        if None not in of and 3 <= len(of) < len(whole):
            return _said(told, _numbered(named), f"by {key!r}")
    kinds = {frames[k].numbers.tobytes() for k in whole}
    if len(kinds) < 2:
        return _said(
            told,
            np.arange(len(frames)),
            "by frame, all being of the same atoms (--data.split_by block:N keeps N frames in turn together)",
        )
    starts = [k == 0 or not _follows(frames[k - 1], frames[k]) for k in range(len(frames))]
    if all(starts) or sum(starts) < 3:
        return _said(told, np.arange(len(frames)), "by frame")
    return _said(told, np.cumsum(starts) - 1, "by runs of frames of one system")


def _said(told: dict[str, str] | None, groups: np.ndarray, how: str) -> np.ndarray:
    if told is not None:
        told["split"] = how
    return groups


def _numbered(named: Sequence[str | None]) -> np.ndarray:
    order = {name: k for k, name in enumerate(dict.fromkeys(named))}
    return np.array([order[name] for name in named])


def _follows(before: Any, after: Any) -> bool:
    """Whether a frame is of the system before it: the same atoms, which have moved little, whatever the whole has turned."""
    from ase.geometry import find_mic
    from scipy.spatial.transform import Rotation

    if not np.array_equal(before.numbers, after.numbers) or not np.array_equal(before.pbc, after.pbc):
        return False
    if after.pbc.any():
        if not np.allclose(before.cell[:], after.cell[:], atol=0.1 * NEAR, rtol=0.1):
            return False
        moved = find_mic(after.positions - before.positions, after.cell, after.pbc)[1]
        return float(np.sqrt(np.square(moved).mean())) < NEAR
    old, new = (frame.positions - frame.positions.mean(0) for frame in (before, after))
    if len(old) < 3:
        return bool(np.abs(np.linalg.norm(old, axis=1) - np.linalg.norm(new, axis=1)).max() < NEAR)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # atoms on a line: the turn about it is open and changes nothing
        return float(Rotation.align_vectors(new, old)[1]) / np.sqrt(len(old)) < NEAR


def grouped_split(groups: Tensor, val: int, test: int, seed: int, train: int = 0) -> dict[str, Tensor]:
    """Numbers of the frames that test, validate and train: whole groups, in an order by seed.

    Test and validation take groups while these fit into what is asked for, and one at least where any is asked for; training
    takes the rest, or its first ``train`` frames.

    Args:
        groups: number of the group of each frame, (N,).
        val: validation frames.
        test: test frames.
        seed: seed of the order.
        train: training frames; 0 for all that are left.

    Raises: ValueError where groups are too few or too large to leave some for each.
    """
    known, which, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = np.random.RandomState(seed).permutation(len(known)).tolist()
    part = torch.full((len(known),), 2)
    for number_, wanted in ((0, test), (1, val)):
        left, free = wanted, [g for g in order if int(part[g]) == 2]
        for g in free:
            if int(sizes[g]) <= left:
                part[g] = number_
                left -= int(sizes[g])
        if wanted and left == wanted and free:
            part[min(free, key=lambda g: int(sizes[g]))] = number_
    rest = [torch.nonzero(which == g)[:, 0] for g in order if int(part[g]) == 2]
    kept = torch.cat(rest) if rest else which[:0]
    found = {"test": torch.nonzero(part[which] == 0)[:, 0], "val": torch.nonzero(part[which] == 1)[:, 0]}
    if len(kept) < max(train, 1) or (val and not len(found["val"])) or (test and not len(found["test"])):
        raise ValueError(
            f"{len(groups)} frames of {len(known)} systems cannot be split into {train or 'some'} for training, {val} for "
            f"validation and {test} for the test without one on two sides; choose other numbers, or --data.split_by frame"
        )
    return {**found, "train": kept[: train or len(kept)]}

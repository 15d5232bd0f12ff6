r"""Equivariance on images under quarter turns and reflections, which move square pixels: nothing lies between them.

error² = Σ |y_hf − T_h y_f|² / Σ |y_hf|², f being white noise. Fields are scalars, fields of C_n and D_n (``PlanarType``) or
irreps of SO(2) and O(2) in the global frame (``FieldType``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.compare import Comparison
from spheregeo.groups import FieldType, PlanarType

PlaneField = PlanarType | FieldType | int  # a number of scalar channels
Move = tuple[int, bool]  # quarter turns counter-clockwise, after the reflection x -> -x if True


def plane_field(spec: Any, name: str) -> PlaneField:
    """Return the kind of fields on the plane that text or a value stands for.

    Args:
        spec: a ``PlanarType`` or a ``FieldType``; text such as "2x0 + 4xD4" or "4x0 + 2x1"; a number of scalar channels.
        name: of the argument, for errors.

    Raises: ValueError for text that is neither; TypeError for another type.
    """
    if isinstance(spec, (PlanarType, FieldType)) or (isinstance(spec, int) and not isinstance(spec, bool)):
        return spec
    if not isinstance(spec, str):
        raise TypeError(
            f"{name} is {spec!r}; expected a PlanarType, a FieldType, text, or a number of channels"
        )
    return PlanarType.of(spec) if any(letter in spec for letter in "CD") else FieldType(spec)


def declared_plane(module: object, side: str) -> PlaneField | str | None:
    """Return the kind of fields that a module declares; "scalar" for plain channels, None where it declares nothing.

    Args:
        module: looked at are ``in_type``, ``field_type`` and ``in_channels`` (or ``out_...``); a ``Sequential`` is asked child by
            child, from the first for its input, from the last for its output.
        side: "in" or "out".
    """
    for name in (f"{side}_type", "field_type"):
        found = getattr(module, name, None)
        if isinstance(found, (PlanarType, FieldType)):
            return found
    if isinstance(module, nn.Sequential):
        for child in module if side == "in" else reversed(module):
            kind = declared_plane(child, side)
            if kind is not None:
                return kind
    return "scalar" if isinstance(getattr(module, f"{side}_channels", None), int) else None


def width_of(field: PlaneField) -> int:
    """Return the number of channels."""
    return field if isinstance(field, int) else field.dim


def turned_channels(x: Tensor, field: PlaneField | None, angle: float, flip: bool) -> Tensor:
    """Return the values of a field that was reflected and turned, at pixels that stay in their places.

    Args:
        x: the field.
        field: its kind; scalars if None.
        angle: of the turn, counter-clockwise, after the reflection.
        flip: whether it is reflected, x -> -x.

    Shape: (B, dim, ...) -> (B, dim, ...).
    Raises: ValueError for an angle or a reflection that is not in the fields' group.
    """
    if field is None or isinstance(field, int):
        return x
    if isinstance(field, PlanarType):
        if field.group is None:
            return x
        steps = angle * field.group.n / (2 * math.pi)
        if abs(steps - round(steps)) > 1e-9 or (flip and not field.group.reflections):
            raise ValueError(
                f"a turn by {math.degrees(angle):g}°{' with a reflection' if flip else ''} is no element of {field.group}, "
                f"the group of fields of type '{field}'"
            )
        element = field.group.n * flip + round(steps) % field.group.n
        return x.index_select(1, field.permutation(element).to(x.device))
    parts, start = [], 0
    for term in field.terms:
        width = 1 if term.order == 0 else 2
        part = x[:, start : start + term.multiplicity * width]
        start += term.multiplicity * width
        if term.order == 0:
            parts.append(part * (int(term.parity) if flip else 1))
            continue
        pairs = part.unflatten(1, (term.multiplicity, 2))
        c, s = pairs[:, :, 0], pairs[:, :, 1]
        if flip:
            sign = (-1) ** term.order
            c, s = sign * c, -sign * s
        cos, sin = math.cos(term.order * angle), math.sin(term.order * angle)
        parts.append(torch.stack([cos * c - sin * s, sin * c + cos * s], 2).flatten(1, 2))
    return torch.cat(parts, 1)


def quarter_turns(group: str, count: int, generator: torch.Generator) -> list[Move]:
    """Return up to ``count`` turns by multiples of 90° other than the identity; for "o3" in turn with and without a reflection.

    Args:
        group: "so3" or "grid" for turns, "o3" for reflections as well.
        count: number of elements wanted.
        generator: of the choice.
    """
    turns = [(r, False) for r in range(1, 4)]
    order = torch.randperm(3, generator=generator).tolist()
    moves = [turns[k] for k in order]
    if group == "o3":
        flips = [(int(r), True) for r in torch.randperm(4, generator=generator)]
        moves = [move for pair in zip(flips, [*moves, None]) for move in pair if move is not None]
    return moves[:count]


def move_pixels(x: Tensor, move: Move) -> Tensor:
    """Return an image reflected, if asked for, and turned. Shape: (..., H, W) -> (..., H, W) or (..., W, H)."""
    quarters, flip = move
    return torch.rot90(x.flip(-1) if flip else x, quarters, (-2, -1))


def on_plane(
    module: Any,
    shape: tuple[int, int],
    moves: list[Move],
    fields: tuple[PlaneField, PlaneField | None],
    *,
    signals: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    prepare: Callable[[nn.Module, Tensor], Any] | None,
) -> Comparison:
    """Quarter turns and reflections."""
    field_in, field_out = fields
    x = torch.randn(signals, width_of(field_in), *shape, dtype=torch.float64, generator=generator)
    if prepare is not None:
        prepare(module, x.to(device, dtype))

    def output(values: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = module(values.to(device, dtype)).to("cpu", torch.float64)
        wanted = None if field_out is None else width_of(field_out)
        if y.ndim not in (2, 4) or wanted not in (None, y.shape[1]):
            channels = "channels" if wanted is None else wanted
            raise ValueError(f"the module returned shape {tuple(y.shape)}; expected (B, {channels}, H, W)")
        return y

    def moved(values: Tensor, field: PlaneField | None, move: Move) -> Tensor:
        values = turned_channels(values, field, move[0] * math.pi / 2, move[1])
        return move_pixels(values, move) if values.ndim == 4 else values

    y, pairs = output(x), []
    for move in moves:
        found, expected = output(moved(x, field_in, move)), moved(y, field_out, move)
        if found.shape != expected.shape:
            raise ValueError(
                f"the module gives {tuple(found.shape)} for a turned image; expected {tuple(expected.shape)}"
            )
        pairs.append((float((found - expected).square().sum()), float(found.square().sum())))
    return Comparison(pairs)

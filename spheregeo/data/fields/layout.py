"""What channels mean: fields by name, scalars and tangent vectors, with the statistics by which they are normalised.

A vector field has components along east and north in files, (u, v), and along south and east here, (-v, u). Its channels are
divided by one number and nothing is subtracted: a mean of components, or two scales, would be no vector in another frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["FieldInfo", "FieldLayout"]


@dataclass(frozen=True)
class FieldInfo:
    """One field: a scalar, or a vector with its two components.

    Args:
        name: name of the scalar, or of the vector.
        components: names of the components along east and north; empty for a scalar.
        units: units of the values.
        standard_names: names of the variables by the CF conventions, where known.
        mean: mean over the training data, by area; 0 for vectors.
        scale: standard deviation over the training data; of a vector that of a component, over both and about 0.
        change: standard deviation of the change over one step; 0 where nothing is predicted step by step.
        gaps: whether values are missing somewhere, so that a channel says where they are.
        static: whether the field is the same at all times.
        level: indices into the files' dimensions other than time, latitude and longitude.
        missing: values that stand for "no data" in the files, beside those that files state.
        degrees: units of the files' coordinates, "degrees" or "radians"; as the files state them if empty.

    Example:
        >>> FieldInfo("wind", ("u", "v"), "m s-1", scale=10.0).width
        2
    """

    name: str
    components: tuple[str, ...] = ()
    units: str = ""
    standard_names: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    change: float = 0.0
    gaps: bool = False
    static: bool = False
    level: tuple[int, ...] = ()
    missing: tuple[float, ...] = ()
    degrees: str = ""

    @property
    def width(self) -> int:
        """Number of channels."""
        return 2 if self.components else 1

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables that hold the field in files."""
        return self.components or (self.name,)


@dataclass(frozen=True)
class FieldLayout:
    """The fields of a network's input and output, in the order of their channels.

    After the channels of all input fields comes one for each input field with gaps, which is 1 where there are values.

    Args:
        inputs: fields of the input.
        outputs: fields of the output.
        lead: steps from input to output; 0 for the same time.
        hours: hours from input to output; 0 where the data have no time.

    Shape: inputs (..., in_channels, H, W); outputs (..., out_channels, H, W).

    Example:
        >>> layout = FieldLayout((FieldInfo("h"), FieldInfo("wind", ("u", "v"))), (FieldInfo("h"),))
        >>> layout.in_channels, layout.in_type, layout.out_type
        (3, '1x0 + 1x1', '1x0')
    """

    inputs: tuple[FieldInfo, ...]
    outputs: tuple[FieldInfo, ...]
    lead: int = 1
    hours: float = 0.0

    @classmethod
    def from_plain(cls, plain: dict[str, Any] | FieldLayout) -> FieldLayout:
        """Make a layout from what :meth:`to_plain` returned; a layout comes back as it is.

        Args:
            plain: plain types.

        Raises: ValueError for something else.
        """
        if isinstance(plain, FieldLayout):
            return plain
        try:
            sides = [tuple(_info(one) for one in plain[side]) for side in ("inputs", "outputs")]
            return cls(sides[0], sides[1], int(plain["lead"]), float(plain["hours"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"layout is {plain!r}; expected what the data module's attribute layout holds"
            ) from error

    def to_plain(self) -> dict[str, Any]:
        """Return the layout as plain types."""
        sides = {
            side: [
                {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(one).items()} for one in fields
            ]
            for side, fields in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        return {**sides, "lead": self.lead, "hours": self.hours}

    @property
    def in_channels(self) -> int:
        """Channels of the input, those that say where there are values included."""
        return sum(one.width + one.gaps for one in self.inputs)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return sum(one.width for one in self.outputs)

    @property
    def in_type(self) -> str:
        """Type of the input as text, such as "1x0 + 1x1"."""
        gaps = sum(one.gaps for one in self.inputs)
        return _type(self.inputs) + (f" + {gaps}x0" if gaps else "")

    @property
    def out_type(self) -> str:
        """Type of the output as text, such as "1x0 + 1x1"."""
        return _type(self.outputs)

    @property
    def steps(self) -> bool:
        """Whether outputs can be inputs of the next step: every output is an input, at a later time."""
        return self.lead > 0 and {one.name for one in self.outputs} <= {one.name for one in self.inputs}

    def slices(self, side: str) -> dict[str, slice]:
        """Return the channels of each field, by name.

        Args:
            side: "inputs" or "outputs".
        """
        found, start = {}, 0
        for one in getattr(self, side):
            found[one.name] = slice(start, start + one.width)
            start += one.width
        return found

    def carried(self) -> list[int]:
        """Return the channel of the input that each channel of the output continues. Raises: ValueError where there is none."""
        places = self.slices("inputs")
        missing = [one.name for one in self.outputs if one.name not in places]
        if missing:
            raise ValueError(f"{', '.join(missing)} is an output but no input, so it has no value before")
        return [c for one in self.outputs for c in range(places[one.name].start, places[one.name].stop)]

    def normalize(self, values: Tensor, side: str) -> Tensor:
        """Return (values - mean) / scale of each field.

        Args:
            values: in the data's units, (..., channels, H, W), without channels that say where there are values.
            side: "inputs" or "outputs".
        """
        mean, scale = (v.to(values) for v in self.statistics(side))
        return (values - mean[:, None, None]) / scale[:, None, None]

    def restore(self, values: Tensor, side: str) -> Tensor:
        """Return the values whose :meth:`normalize` is given.

        Args:
            values: normalised, (..., channels, H, W).
            side: "inputs" or "outputs".
        """
        mean, scale = (v.to(values) for v in self.statistics(side))
        return values * scale[:, None, None] + mean[:, None, None]

    def statistics(self, side: str) -> tuple[Tensor, Tensor]:
        """Return mean and scale of each channel, (channels,) float64.

        Args:
            side: "inputs" or "outputs".
        """
        fields: Sequence[FieldInfo] = getattr(self, side)
        return (
            torch.tensor([one.mean for one in fields for _ in range(one.width)], dtype=torch.float64),
            torch.tensor([one.scale for one in fields for _ in range(one.width)], dtype=torch.float64),
        )

    def as_input(self, values: Tensor) -> Tensor:
        """Return a network's input from values with NaN where they are missing: normalised, filled with 0, gaps marked.

        Args:
            values: in the data's units, (..., channels of all input fields, H, W).
        """
        normal = self.normalize(values, "inputs")
        there = torch.isfinite(normal)
        marks = [
            there[..., places, :, :].all(-3, keepdim=True)
            for one, places in zip(self.inputs, self.slices("inputs").values(), strict=True)
            if one.gaps
        ]
        return torch.cat([torch.where(there, normal, 0.0), *(m.to(normal) for m in marks)], -3)


def _type(fields: Sequence[FieldInfo]) -> str:
    return " + ".join("1x1" if one.components else "1x0" for one in fields)


def _info(plain: dict[str, Any]) -> FieldInfo:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    return FieldInfo(**values)

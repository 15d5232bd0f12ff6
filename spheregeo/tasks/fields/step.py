"""One step of a prediction and many: the network's answer added to what it began with, and fed back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.data.fields.layout import FieldLayout


class Step(nn.Module):
    """A network of normalised fields whose output is the change over one step, or the fields themselves.

    Args:
        network: network from in_channels to out_channels.
        layout: fields of input and output.
        increment: whether the output is the change, in units of the usual change of each field over one step.

    Shape: (B, in_channels, *shape) -> (B, out_channels, *shape), both normalised.
    Equivariance: that of the network.
    Raises: ValueError for changes of an output that is no input.

    Example:
        >>> from spheregeo.data import FieldInfo, FieldLayout
        >>> layout = FieldLayout((FieldInfo("h", change=0.1),), (FieldInfo("h", change=0.1),))
        >>> Step(nn.Identity(), layout, increment=True)(torch.ones(1, 1, 4, 8)).unique()
        tensor([1.1000])
    """

    factor: Tensor

    def __init__(self, network: nn.Module, layout: FieldLayout, increment: bool) -> None:
        super().__init__()
        self.network, self.layout, self.increment = network, layout, increment
        self.in_channels, self.out_channels = layout.in_channels, layout.out_channels
        self.field_in, self.field_out = layout.in_type, layout.out_type
        self._carried = layout.carried() if increment or layout.steps else []
        self.register_buffer("factor", usual_change(layout, increment)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.network(image)
        if not self.increment:
            return found
        factor = self.factor.to(found).reshape(-1, *(1 for _ in found.shape[2:]))
        return image[:, self._carried] + factor * found

    def roll_out(self, image: Tensor, later: Tensor | None, steps: int) -> Tensor:
        """Return the fields after each step, each predicted from those before.

        Args:
            image: the first input.
            later: inputs of the steps after the first, of which what is not predicted is used; those of ``image`` if None.
            steps: number of steps.

        Shape: image (B, in_channels, *shape), later (B, steps - 1, in_channels, *shape) -> (B, steps, out_channels, *shape).
        Raises: ValueError for more than one step where outputs are no inputs.
        """
        if steps > 1 and not self.layout.steps:
            raise ValueError(
                f"steps is {steps}; expected 1, because some outputs are no inputs of a later time: there is no next step"
            )
        found = []
        marks = self._marks(image)
        for k in range(steps):
            found.append(self(image))
            if k + 1 < steps:
                image = (image if later is None else later[:, k]).clone()
                image[:, self._carried] = found[-1].to(image.dtype) * marks[0]
                if marks[2] is not None:
                    image[:, marks[1]] = marks[2]
        return torch.stack(found, 1)

    def _marks(self, image: Tensor) -> tuple[Tensor | float, list[int], Tensor | None]:
        """Where carried fields have values at the beginning, 1 or 0 for each of their channels, and the channels that say so."""
        layout = self.layout
        place, of_field = sum(one.width for one in layout.inputs), {}
        for one in layout.inputs:
            if one.gaps:
                of_field[one.name], place = place, place + 1
        carried = [(one, of_field[one.name]) for one in layout.outputs if one.name in of_field]
        if not carried:
            return 1.0, [], None
        ones = torch.ones_like(image[:, :1])
        parts = [
            (image[:, [of_field[one.name]]] if one.name in of_field else ones).expand(
                -1, one.width, *image.shape[2:]
            )
            for one in layout.outputs
        ]
        channels = [c for _, c in carried]
        return torch.cat(parts, 1), channels, image[:, channels]


def usual_change(layout: FieldLayout, increment: bool) -> Tensor:
    """Size of an error of one in the loss for each output channel, (out_channels,), normalised: the usual change or 1."""
    return torch.tensor(
        [
            one.change / one.scale if increment and one.change > 0 else 1.0
            for one in layout.outputs
            for _ in range(one.width)
        ]
    )

r"""Affine layers of a flow: coupling between halves of the fields, and autoregressive maps that see earlier fields.

    coupling:        z_a = x_a,   z_b = e^s(x_a) x_b + t(x_a);      log|det| = Σ s over fields, orientations and pixels
    autoregressive:  y_i = e^s_i(x_<i) x_i + t_i(x_<i)

Fields are split and ordered, never the orientations of a field nor pixels: the order of fields is the only one that a rotation
leaves alone. Scales and shifts are fields of the kind that they act on, made by group convolutions, so both directions commute
with the group.
Reference: Bose, Brubaker & Kobyzev 2021, arXiv 2110.08649; Germain et al. 2015, arXiv 1502.03509 (masks); Kingma et al. 2016,
arXiv 1606.04934 (inverse autoregressive flows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.plane.flows.layer import FlowLayer, doubled, field_of_channel, halves, part
from spheregeo.nn.plane.group.conv import GroupConv2d


class GroupCoupling(FlowLayer):
    """Affine coupling: half of the fields scale and shift the other half.

    Args:
        field_type: two fields or more, such as ``"4xC4"``.
        hidden: regular fields between the convolutions that make scales and shifts.
        kernel_size: odd size of the first and last convolution.
        swap: whether the first half is changed and the second one kept.
        bound: largest log-scale, by tanh.
        group: the group, where all fields are trivial.

    Shape: (B, dim, H, W) -> the same and log|det| (B,).
    Equivariance: the group of the fields, exact (1e-15 measured in float64).
    Raises: ValueError for a single field, and for input of another type.
    Reference: Bose, Brubaker & Kobyzev 2021, arXiv 2110.08649; Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803.

    Example:
        >>> coupling = GroupCoupling("4xC4", hidden=4)
        >>> x = torch.randn(2, 16, 5, 5)
        >>> bool(torch.allclose(coupling.inverse(coupling(x)[0]), x, atol=1e-5))
        True
    """

    kept: Tensor
    changed: Tensor

    def __init__(
        self,
        field_type: str | PlanarType,
        hidden: int = 8,
        kernel_size: int = 3,
        *,
        swap: bool = False,
        bound: float = 2.0,
        group: str | PlanarGroup | None = None,
    ) -> None:
        super().__init__(field_type, group)
        count = self.field_type.num_fields
        if count < 2:
            raise ValueError(
                f"field_type is '{self.field_type}'; expected two fields or more, which are split in halves"
            )
        check_least(hidden=(hidden, 1))
        first = [(k < count - count // 2) != swap for k in range(count)]
        given, kept = part(self.field_type, first)
        target, changed = part(self.field_type, [not f for f in first])
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("changed", changed, persistent=False)
        for name, channels in zip(("scales", "shifts"), halves(target), strict=True):
            self.register_buffer(name, channels, persistent=False)
        inside = f"{hidden}x{self.group}"
        common: dict[str, Any] = {"padding": "same", "group": self.group}
        self.net = nn.Sequential(
            GroupConv2d(given, inside, kernel_size, **common), nn.ELU(), GroupConv2d(inside, inside, 1, **common), nn.ELU(),
            GroupConv2d(inside, doubled(target), kernel_size, **common),
        )  # fmt: skip
        self.bound = bound
        _quiet(self.net[-1])

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        found = self.net(kept).to(kept.dtype)  # e^s and e^-s undo each other in the digits of x
        return self.bound * (found[:, self.get_buffer("scales")] / self.bound).tanh(), found[
            :, self.get_buffer("shifts")
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(self.checked(x)[:, self.kept])
        z = x.index_copy(1, self.changed, (scale.exp() * x[:, self.changed] + shift).to(x.dtype))
        return z, scale.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        scale, shift = self._scale_and_shift(self.checked(z, "z")[:, self.kept])
        return z.index_copy(1, self.changed, ((z[:, self.changed] - shift) * (-scale).exp()).to(z.dtype))


class _MaskedConv(GroupConv2d):
    """A group convolution whose output fields see input fields of lower degree alone."""

    mask: Tensor

    def __init__(self, *args: Any, sees: Tensor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows, columns = field_of_channel(self.out_type), field_of_channel(self.in_type)
        self.register_buffer("mask", sees[rows][:, columns][:, :, None, None], persistent=False)

    def kernel(self) -> Tensor:
        return super().kernel() * self.mask


class GroupAutoregressive(FlowLayer):
    """Affine autoregressive map: each field is scaled and shifted by what the fields before it give.

    One direction is a single pass, the other one a pass for each field. Inverse autoregressive flows sample in one pass.

    Args:
        field_type: fields, such as ``"4xC4"``.
        hidden: regular fields between the convolutions for each field of ``field_type``.
        kernel_size: odd size of the convolutions.
        fast: "sample", where ``inverse`` takes one pass, or "density", where ``forward`` does.
        reverse: whether the last field comes first.
        bound: largest log-scale, by tanh.
        group: the group, where all fields are trivial.

    Shape: (B, dim, H, W) -> the same and log|det| (B,).
    Equivariance: the group of the fields, exact (1e-15 measured in float64).
    Raises: ValueError for another direction, and for input of another type.
    Reference: Kingma et al. 2016, arXiv 1606.04934; Germain et al. 2015, arXiv 1502.03509.

    Example:
        >>> layer = GroupAutoregressive("3xC4", hidden=2)
        >>> x = torch.randn(2, 12, 5, 5)
        >>> bool(torch.allclose(layer.inverse(layer(x)[0]), x, atol=1e-5))
        True
    """

    def __init__(
        self,
        field_type: str | PlanarType,
        hidden: int = 4,
        kernel_size: int = 3,
        *,
        fast: str = "sample",
        reverse: bool = False,
        bound: float = 2.0,
        group: str | PlanarGroup | None = None,
    ) -> None:
        super().__init__(field_type, group)
        if fast not in ("sample", "density"):
            raise ValueError(f"fast is {fast!r}; expected 'sample' or 'density'")
        check_least(hidden=(hidden, 1))
        self.fast, self.bound = fast, bound
        count = self.field_type.num_fields
        degree = torch.arange(1, count + 1)
        degree = degree.flip(0) if reverse else degree
        inner = torch.arange(max(count - 1, 1)).repeat(hidden) + 1  # degrees 1 … count − 1
        target = doubled(self.field_type)
        pairs = degree.repeat_interleave(2)
        inside = f"{len(inner)}x{self.group}"
        common: dict[str, Any] = {"padding": "same", "group": self.group}
        self.net = nn.Sequential(
            _MaskedConv(self.field_type, inside, kernel_size, sees=degree[None] <= inner[:, None], **common), nn.ELU(),
            _MaskedConv(inside, inside, 1, sees=inner[None] <= inner[:, None], **common), nn.ELU(),
            _MaskedConv(inside, target, kernel_size, sees=inner[None] < pairs[:, None], **common),
        )  # fmt: skip
        for name, channels in zip(("scales", "shifts"), halves(self.field_type), strict=True):
            self.register_buffer(name, channels, persistent=False)
        # channels of each field, in the order in which fields are found
        field = field_of_channel(self.field_type)
        self.turns: Sequence[list[int]] = [
            (field == int(f)).nonzero().flatten().tolist() for f in degree.argsort()
        ]
        _quiet(self.net[-1])

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.net(x).to(x.dtype)  # e^s and e^-s undo each other in the digits of x
        return self.bound * (found[:, self.get_buffer("scales")] / self.bound).tanh(), found[
            :, self.get_buffer("shifts")
        ]

    def _pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(x)
        return (scale.exp() * x + shift).to(x.dtype), scale.flatten(1).sum(1)

    def _by_field(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, logdet = torch.zeros_like(y), y.new_zeros(len(y))
        for channels in self.turns:
            scale, shift = self._scale_and_shift(x)
            index = torch.tensor(channels, device=y.device)
            found = (y[:, index] - shift[:, index]) * (-scale[:, index]).exp()
            x = x.index_copy(1, index, found.to(x.dtype))
            logdet = logdet - scale[:, index].flatten(1).sum(1)
        return x, logdet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.checked(x)
        return self._by_field(x) if self.fast == "sample" else self._pass(x)

    def inverse(self, z: Tensor) -> Tensor:
        self.checked(z, "z")
        return (self._pass(z) if self.fast == "sample" else self._by_field(z))[0]


@torch.no_grad()
def _quiet(conv: nn.Module) -> None:
    """Draw the last convolution small, so that the layer begins near the identity."""
    assert isinstance(conv, GroupConv2d)
    for weight in conv.weights:
        weight.mul_(0.05)

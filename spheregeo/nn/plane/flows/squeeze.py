r"""Blocks of 2 x 2 pixels as fields: half the size, four times as many fields, in the group's own order.

Turns of an image of even size permute its 2 x 2 blocks and the four corners of a block. Corners (and, for regular fields,
pairs of an element and a corner) fall into orbits of the group; an orbit in which only the identity leaves a point in place is a
regular field.
Checkerboard masks are no alternative: for even sizes a quarter turn swaps their colours.
Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.plane.flows.layer import FlowLayer


class GroupSqueeze(FlowLayer):
    """Blocks of 2 x 2 pixels become regular fields: C fields of C4 become 4 C fields, a plain channel one field of C4.

    Args:
        field_type: regular or trivial fields of C1, C2, C4, D1, D2, or regular ones of D4. The four corners of a block are no
            regular field of D4, whose diagonal reflections leave two of them in place: take C4 for plain images.
        group: the group, where all fields are trivial.

    Shape: (B, dim, H, W), H and W even -> (B, 4 dim, H/2, W/2) and log|det| (B,), zero.
    Equivariance: the group of the fields, exact.
    Raises: ValueError for fields whose blocks are no regular fields, and for odd sizes.
    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803.

    Example:
        >>> squeeze = GroupSqueeze("1x0", "C4")
        >>> str(squeeze.out_type), squeeze(torch.randn(2, 1, 8, 8))[0].shape
        ('1xC4', torch.Size([2, 4, 4, 4]))
    """

    order: Tensor
    back: Tensor

    def __init__(self, field_type: str | PlanarType, group: str | PlanarGroup | None = None) -> None:
        super().__init__(field_type, group)
        group = self.group
        if not group.is_exact:
            raise ValueError(
                f"group is {group}; expected n of 1, 2 or 4: other turns do not map blocks onto blocks"
            )
        corners = torch.arange(4).view(2, 2)
        moved = torch.stack([group.turn(corners, h).flatten() for h in range(group.size)])  # corner h⁻¹k
        channel, order = 0, []
        for count, sub in self.field_type.terms:
            width = self.field_type.width(sub)
            one = PlanarType(((1, sub),), self.field_type.group)
            # [h, (s, k)] -> h⁻¹ (s, k), as channels of a field after pixels have become channels
            taken = torch.stack([one.permutation(h, group) for h in range(group.size)])
            points = (4 * taken[:, :, None] + moved[:, None, :]).flatten(1)
            forth = torch.stack([points[group.inverse(h)] for h in range(group.size)])  # h (s, k)
            fields, seen = [], set()
            for point in range(4 * width):
                orbit = forth[:, point].tolist()
                if point in seen:
                    continue
                if len(set(orbit)) < group.size:
                    raise ValueError(
                        f"field_type is '{self.field_type}'; expected fields whose 2 x 2 blocks are regular fields of {group}: "
                        "trivial ones of C1, C2, C4, D1 or D2, or regular ones"
                    )
                seen.update(orbit)
                fields.append(orbit)
            for _ in range(count):
                order += [channel + p for orbit in fields for p in orbit]
                channel += 4 * width
        self.out_type = PlanarType.of(f"{len(order) // group.size}x{group}")
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.checked(x)
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected an even height and width: pad or crop by one pixel"
            )
        return F.pixel_unshuffle(x, 2)[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(self.checked(z, "z")[:, self.back], 2)

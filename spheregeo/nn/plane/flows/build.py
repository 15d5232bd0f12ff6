"""A whole flow for images of a given size."""

from __future__ import annotations

from collections.abc import Sequence

from spheregeo.checks import check_count
from spheregeo.groups import PlanarGroup
from spheregeo.nn.plane.flows.coupling import GroupCoupling
from spheregeo.nn.plane.flows.flow import Flow, InvariantNormal
from spheregeo.nn.plane.flows.layer import FlowLayer
from spheregeo.nn.plane.flows.pointwise import GroupActNorm, GroupMix, Logit
from spheregeo.nn.plane.flows.squeeze import GroupSqueeze
from spheregeo.nn.plane.group.conv import pair


def group_flow(
    in_channels: int,
    size: Sequence[int],
    group: str | PlanarGroup = "C4",
    *,
    width: int = 12,
    depth: int = 6,
    squeezes: int = 2,
) -> Flow:
    """Return a flow of images in [0, 1]: logit, squeezes, then steps of norm, mix and coupling with halves in turn.

    Args:
        in_channels: plain channels of the images.
        size: rows and columns, multiples of 2^squeezes.
        group: "C1", "C2", "C4", "D1" or "D2", whose turns of an image leave its density as it is.
        width: regular fields between the convolutions of a coupling.
        depth: steps.
        squeezes: how often 2 x 2 pixels become fields.

    Raises: ValueError for sizes that are no multiples, and groups that squeezes do not respect.
    """
    rows, columns = pair("size", tuple(size))
    step = 2 ** check_count("squeezes", squeezes)
    if rows % step or columns % step:
        raise ValueError(
            f"size is {(rows, columns)}; expected multiples of {step} for {squeezes} squeezes: pad or crop the images"
        )
    group = PlanarGroup.of(group)
    layers: list[FlowLayer] = [Logit(f"{in_channels}x0", group)]
    for _ in range(squeezes):
        layers.append(GroupSqueeze(layers[-1].out_type, group))
    fields = layers[-1].out_type
    for k in range(check_count("depth", depth)):
        layers += [GroupActNorm(fields), GroupMix(fields), GroupCoupling(fields, width, swap=bool(k % 2))]
    layers.append(GroupActNorm(fields))
    return Flow(layers, InvariantNormal(fields, (rows // step, columns // step)))

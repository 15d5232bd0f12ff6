"""ResNet-18 of regular fields of D4 (p4m) beside a plain one of as many multiplications and additions, and beside e2cnn's.

e2cnn (0.2.3) is optional: where it cannot be imported its rows are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.models.plane.group_cnn import GroupResNet, halved
from spheregeo.nn.plane import to_plain

SIZE, WIDTH, CLASSES = 33, 8, 10


def ours(batch: int, width: int) -> Callable[[], Work]:
    def build() -> Work:
        torch.manual_seed(0)
        model = GroupResNet(3, CLASSES, width=width, depth=4, stem=1).train()
        x = torch.randn(batch, 3, SIZE, SIZE)
        return Work(lambda: model(x), tuple(model.parameters()))

    return build


def plain(batch: int, width: int) -> Callable[[], Work]:
    """The same network with its expanded kernels as plain weights: equal shapes, so equal multiplications and additions."""

    def build() -> Work:
        torch.manual_seed(0)
        model = to_plain(GroupResNet(3, CLASSES, width=width, depth=4, stem=1)).train()
        x = torch.randn(batch, 3, SIZE, SIZE)
        return Work(lambda: model(x), tuple(model.parameters()))

    return build


def peer(batch: int, width: int) -> Callable[[], Work]:
    def build() -> Work:
        from e2cnn import gspaces
        from e2cnn import nn as enn

        torch.manual_seed(0)
        space = gspaces.FlipRot2dOnR2(4)
        kinds: dict[int, Any] = {}

        def regular(fields: int) -> Any:
            return kinds.setdefault(fields, enn.FieldType(space, fields * [space.regular_repr]))

        def conv(into: Any, out: Any, size: int) -> nn.Sequential:
            layer = enn.R2Conv(into, out, size, padding=size // 2, bias=False, initialize=False)
            nn.init.normal_(layer.weights, std=0.1)
            return nn.Sequential(layer, enn.InnerBatchNorm(out))

        class Block(nn.Module):
            def __init__(self, into: Any, out: Any, halve: bool) -> None:
                super().__init__()
                self.into, self.out, self.halve = into, out, halve
                self.first, self.second = conv(into, out, 3), conv(out, out, 3)
                self.skip = None if into == out else conv(into, out, 1)

            def forward(self, x: Tensor) -> Tensor:
                given = enn.GeometricTensor(halved(x) if self.halve else x, self.into)
                y = enn.GeometricTensor(torch.relu(self.first(given).tensor), self.out)
                skip = given if self.skip is None else self.skip(given)
                return torch.relu(self.second(y).tensor + skip.tensor)

        start = enn.FieldType(space, 3 * [space.trivial_repr])
        lift = conv(start, regular(width), 3)
        blocks: list[nn.Module] = []
        for level in range(4):
            before, after = regular(width * 2 ** max(level - 1, 0)), regular(width * 2**level)
            blocks += [Block(before, after, level > 0), Block(after, after, False)]
        body, head = nn.Sequential(*blocks), nn.Linear(width * 8, CLASSES)
        x = torch.randn(batch, 3, SIZE, SIZE)

        def forward() -> Tensor:
            y = body(torch.relu(lift(enn.GeometricTensor(x, start)).tensor))
            y = y.mean((2, 3)).unflatten(1, (-1, 8)).amax(2)
            result: Tensor = head(y)
            return result

        return Work(forward, tuple(p for part in (lift, body, head) for p in part.parameters()))

    return build


def _line(batch: int, width: int) -> PointConfiguration:
    builders = {"spheregeo": ours(batch, width), "torch": plain(batch, width)}
    if importlib.util.find_spec("e2cnn") is not None:
        builders["e2cnn"] = peer(batch, width)
    small = None if width == 1 else _line(1, 1)
    return PointConfiguration(
        "plane/group_resnet",
        f"Image({SIZE})",
        "p4m ResNet-18",
        SIZE * SIZE,
        8 * width,
        builders,
        small,
        batch=batch,
    )


def cases() -> list[PointConfiguration]:
    """Return the configurations."""
    return [_line(32, WIDTH)]

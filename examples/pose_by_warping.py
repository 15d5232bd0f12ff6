"""Angle and scale of objects, learnt from few poses and right at all others: in log-polar images both are shifts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.nn import LogPolarWarp, PeriodicConv2d, Warp2d

torch.manual_seed(0)
SIZE = 33
WARP = LogPolarWarp((20, 36), inner=0.06, outer=1.5)
PARTS = torch.tensor(
    [[0.55, 0.0, 0.16], [-0.3, 0.25, 0.2], [-0.1, -0.35, 0.13], [0.15, 0.2, 0.1]]
)  # x, y, width


def objects(angle: Tensor, scale: Tensor) -> Tensor:
    """Images of one object of four blobs, turned and enlarged about the centre, each drawn a little differently."""
    at = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    points = torch.stack(torch.meshgrid(-at, at, indexing="ij")[::-1], -1)  # x to the right, y upwards
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = (cos * points[..., 0] + sin * points[..., 1]) / scale[:, None, None]
    y = (cos * points[..., 1] - sin * points[..., 0]) / scale[:, None, None]
    parts = PARTS * (1 + 0.1 * torch.randn(len(angle), *PARTS.shape))
    off = (x[..., None] - parts[:, None, None, :, 0]) ** 2 + (y[..., None] - parts[:, None, None, :, 1]) ** 2
    return torch.exp(-off / (2 * parts[:, None, None, :, 2] ** 2)).sum(-1)[:, None]


class Pose(nn.Module):
    """Where on the grid of scales and angles does the object stand? The mean of a softmax over the warped image."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.score = nn.Sequential(
            Warp2d(WARP), PeriodicConv2d(1, width, 5), nn.ReLU(), PeriodicConv2d(width, width, 5), nn.ReLU(),
            PeriodicConv2d(width, 1, (7, 9)),
        )  # fmt: skip
        u = WARP.parameters().float().flatten(0, 1)
        self.register_buffer("where", torch.stack([u[:, 0], u[:, 1].cos(), u[:, 1].sin()], 1))
        self.start = nn.Parameter(torch.zeros(2))  # the object's own place on the grid

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, cos, sin = (self.score(x).flatten(1).softmax(1) @ self.where).unbind(1)
        return torch.atan2(sin, cos) - self.start[1], log_scale - self.start[0]


def draw(count: int, reach: float, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    angle = reach * (2 * torch.rand(count) - 1)
    scale = low * (high / low) ** torch.rand(count)
    return objects(angle, scale), angle, scale.log()


net = Pose()
optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(100):
    images, angle, log_scale = draw(16, math.pi / 8, 0.6, 0.8)
    found, size = net(images)
    loss = (1 - torch.cos(found - angle)).mean() + (size - log_scale).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

for name, reach, low, high in (
    ("learnt: within 22.5°, 0.6 to 0.8", math.pi / 8, 0.6, 0.8), ("all angles, the same scales", math.pi, 0.6, 0.8),
    ("all angles, scales 0.4 to 1.1", math.pi, 0.4, 1.1),
):  # fmt: skip
    images, angle, log_scale = draw(200, reach, low, high)
    with torch.no_grad():
        found, size = net(images)
    off = torch.atan2(torch.sin(found - angle), torch.cos(found - angle)).abs().median() * 180 / math.pi
    print(f"{name:<34} angle off by {off:4.1f}°, scale by {100 * (size - log_scale).abs().median():4.1f} %")

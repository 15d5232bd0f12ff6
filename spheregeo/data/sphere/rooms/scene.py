"""What a generated room is made of: axis-aligned boxes, each with a class, a colour and a pattern.

Things are placed in the coordinates of a wall, (u along it, v out of it, z up), and carried to the room's
x, y, z by ``Wall.box``; a chair needs no rotation code that way. All lengths are metres.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np

ROOM_CLASSES = (
    "floor",
    "ceiling",
    "wall",
    "door",
    "window",
    "picture",
    "table",
    "chair",
    "cupboard",
    "sofa",
    "bed",
    "lamp",
)
FLOOR, CEILING, WALL, DOOR, WINDOW, PICTURE, TABLE, CHAIR, CUPBOARD, SOFA, BED, LAMP = range(
    len(ROOM_CLASSES)
)
PLAIN, STRIPES_U, STRIPES_V, CHECKS = range(4)  # patterns over a face's two coordinates (u horizontal)
Colour = tuple[float, float, float]
Span = tuple[float, float]


@dataclass(frozen=True)
class Paint:
    """Colour (display RGB in [0, 1]) and pattern: kind, period in metres, contrast; glow > 0 shines by itself."""

    colour: Colour
    pattern: int = PLAIN
    period: float = 1.0
    contrast: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True)
class Wall:
    """One of four walls seen from inside: 0 is y = 0, 1 is x = length, 2 is y = width, 3 is x = 0."""

    side: int
    room: tuple[float, float, float]

    @property
    def length(self) -> float:
        return self.room[self.side % 2]

    @property
    def reach(self) -> float:
        return self.room[1 - self.side % 2]

    def point(self, u: float, v: float) -> tuple[float, float]:
        x, y, _ = self.room
        return ((u, v), (x - v, u), (x - u, y - v), (v, y - u))[self.side]

    def box(self, u: Span, v: Span, z: Span) -> tuple[list[float], list[float]]:
        (x0, y0), (x1, y1) = self.point(u[0], v[0]), self.point(u[1], v[1])
        return [min(x0, x1), min(y0, y1), z[0]], [max(x0, x1), max(y0, y1), z[1]]


@dataclass
class Scene:
    """A room of given (x, y, z) extent, its boxes, its lights, and the camera in it."""

    room: tuple[float, float, float]
    shell: tuple[Paint, Paint, Paint]  # floor, ceiling, walls
    lower: list[list[float]] = field(default_factory=list)
    upper: list[list[float]] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    paint: list[Paint] = field(default_factory=list)
    footprints: list[tuple[float, float, float, float]] = field(
        default_factory=list
    )  # x0, x1, y0, y1, of furniture
    keep_clear: list[tuple[float, float, float, float]] = field(default_factory=list)  # before doors
    lights: list[tuple[Colour, Colour, Colour]] = field(
        default_factory=list
    )  # position, normal (0 = all round), colour
    camera: Colour = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    def add(self, wall: Wall, label: int, paint: Paint, u: Span, v: Span, z: Span) -> None:
        low, high = wall.box(u, v, z)
        self.lower.append(low)
        self.upper.append(high)
        self.label.append(label)
        self.paint.append(paint)

    def claim(self, wall: Wall, u: Span, v: Span, margin: float = 0.08) -> bool:
        """Reserves a patch of floor, or says that it is taken or outside the room."""
        (x0, y0, _), (x1, y1, _) = wall.box(u, v, (0.0, 0.0))
        if x0 < -1e-9 or y0 < -1e-9 or x1 > self.room[0] + 1e-9 or y1 > self.room[1] + 1e-9:
            return False
        for a0, a1, b0, b1 in self.footprints + self.keep_clear:
            if x0 < a1 + margin and x1 > a0 - margin and y0 < b1 + margin and y1 > b0 - margin:
                return False
        self.footprints.append((x0, x1, y0, y1))
        return True


class Decorator:
    """Draws colours so that no class owns one: wood and white turn up everywhere, and so does everything else."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wood = self.hsv((0.03, 0.12), (0.25, 0.75), (0.2, 0.75))

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def hsv(self, hue: Span = (0.0, 1.0), saturation: Span = (0.0, 1.0), value: Span = (0.0, 1.0)) -> Colour:
        h, s, v = (self.uniform(*span) for span in (hue, saturation, value))
        return colorsys.hsv_to_rgb(h, s, v)

    def furniture(self) -> Colour:
        kind = self.rng.random()
        if kind < 0.3:
            return self.shade(self.wood)
        if kind < 0.55:
            return self.hsv((0.03, 0.12), (0.2, 0.75), (0.15, 0.8))
        if kind < 0.75:
            return self.hsv((0.0, 1.0), (0.0, 0.12), (0.1, 0.97))
        return self.hsv((0.0, 1.0), (0.15, 0.85), (0.15, 0.9))

    def shade(self, colour: Colour, spread: float = 0.12) -> Colour:
        factor = 1 + self.uniform(-spread, spread)
        r, g, b = (min(max(c * factor, 0.02), 0.98) for c in colour)
        return r, g, b

    def paint(self, colour: Colour, patterned: float = 0.4) -> Paint:
        if not self.chance(patterned):
            return Paint(colour)
        kind = int(self.rng.integers(1, 4))
        return Paint(colour, kind, self.uniform(0.06, 0.6), self.uniform(0.05, 0.45))

"""Furnishes a room: doors, windows, furniture, lamps and pictures, each a few boxes at random places and of random sizes."""

from __future__ import annotations

import numpy as np

from spheregeo.data.sphere.rooms.scene import (
    BED,
    CHAIR,
    CUPBOARD,
    DOOR,
    LAMP,
    PICTURE,
    SOFA,
    STRIPES_U,
    TABLE,
    WALL,
    WINDOW,
    Decorator,
    Paint,
    Scene,
    Span,
    Wall,
)

TRIES = 12  # places tried before a thing is left out


def furnish(rng: np.random.Generator) -> Scene:
    """One room with doors, windows, furniture, lamps, pictures and a camera."""
    deco = Decorator(rng)
    room = (deco.uniform(2.6, 4.8), deco.uniform(2.6, 4.8), deco.uniform(2.3, 3.0))
    wall_colour = deco.hsv((0.0, 1.0), (0.0, 0.45), (0.5, 0.97))
    ceiling = wall_colour if deco.chance(0.3) else deco.hsv((0.05, 0.7), (0.0, 0.15), (0.6, 0.98))
    floor = deco.wood if deco.chance(0.5) else deco.hsv((0.0, 1.0), (0.0, 0.6), (0.15, 0.85))
    scene = Scene(room, (deco.paint(floor, 0.7), Paint(ceiling), deco.paint(wall_colour, 0.15)))
    work = Furnisher(scene, deco)
    work.pillar()
    for _ in range(1 + deco.chance(0.3)):
        work.door()
    for _ in range(int(rng.integers(1, 4))):
        work.window()
    large = (
        [work.bed] * deco.chance(0.6) + [work.sofa] * deco.chance(0.7) + [work.dining]
    )  # first, while there is room
    small = (
        [work.cupboard] * int(rng.integers(1, 4))
        + [work.desk] * deco.chance(0.4)
        + [work.dining] * deco.chance(0.5)
    )
    for group in (large, small):
        for index in rng.permutation(len(group)):
            group[index]()
    for _ in range(int(rng.integers(1, 4))):
        work.lone_chair()
    for _ in range(int(rng.integers(1, 6))):
        work.picture()
    work.lamps()
    work.place_camera()
    return scene


class Furnisher:
    """Puts one thing after another into a scene and remembers which stretches of wall are taken."""

    def __init__(self, scene: Scene, deco: Decorator) -> None:
        self.scene, self.deco, self.add = scene, deco, scene.add
        self.walls = [Wall(side, scene.room) for side in range(4)]
        self.taken: list[list[Span]] = [
            [] for _ in self.walls
        ]  # by doors, windows, pictures and what is tall

    def pillar(self) -> None:
        """A full-height wall corner, which turns the room into an L (or a chimney breast)."""
        if not self.deco.chance(0.35):
            return
        wall = self.walls[int(self.deco.rng.integers(4))]
        width, depth = self.deco.uniform(0.3, 0.4) * wall.length, self.deco.uniform(0.1, 0.35) * wall.reach
        if self.scene.claim(wall, (0.0, width), (0.0, depth), 0.0):
            self.add(wall, WALL, self.scene.shell[2], (0.0, width), (0.0, depth), (0.0, self.scene.room[2]))

    def free_stretch(self, wall: Wall, width: float, gap: float = 0.1, anything: bool = False) -> Span | None:
        """A stretch of wall of that width which nothing else holds, or None after a few tries."""
        if width > wall.length - 0.2:
            return None
        taken = [] if anything else self.taken[wall.side]
        for _ in range(TRIES):
            start = self.deco.uniform(0.1, wall.length - 0.1 - width)
            if all(start + width + gap < low or start > high + gap for low, high in taken):
                return start, start + width
        return None

    def door(self) -> None:
        """A leaf with frame, perhaps panels, and a handle; the floor before it stays clear."""
        side = int(self.deco.rng.integers(4))
        wall, width, height = self.walls[side], self.deco.uniform(0.75, 1.1), self.deco.uniform(1.95, 2.15)
        stretch = self.free_stretch(wall, width)
        if stretch is None or not self.scene.claim(wall, stretch, (0.0, 0.06)):
            return
        low, high = wall.box(stretch, (0.0, 0.8), (0.0, 0.0))
        self.scene.footprints.pop()  # a door is flat: it keeps a patch clear but casts no furniture's shadow
        self.scene.keep_clear.append((low[0], high[0], low[1], high[1]))
        self.taken[side].append(stretch)
        kind = self.deco.rng.random()
        colour = self.scene.shell[2].colour if kind < 0.25 else self.deco.furniture()
        frame, (u0, u1) = Paint(self.deco.shade(colour, 0.3)), stretch
        for u, z in (
            ((u0, u0 + 0.07), (0.0, height)),
            ((u1 - 0.07, u1), (0.0, height)),
            ((u0, u1), (height - 0.07, height)),
        ):
            self.add(wall, DOOR, frame, u, (0.0, 0.05), z)
        self.add(wall, DOOR, Paint(colour), (u0 + 0.07, u1 - 0.07), (0.0, 0.03), (0.0, height - 0.07))
        panel = Paint(self.deco.shade(colour, 0.2))
        for z in ((0.15, 0.9), (1.1, height - 0.25)) if self.deco.chance(0.6) else ():
            self.add(wall, DOOR, panel, (u0 + 0.2, u1 - 0.2), (0.03, 0.04), z)
        handle = u1 - 0.2 if self.deco.chance(0.5) else u0 + 0.12
        self.add(wall, DOOR, Paint((0.75, 0.75, 0.7)), (handle, handle + 0.09), (0.03, 0.09), (1.0, 1.05))

    def window(self) -> None:
        """Glass with a frame and bars, which lights the room."""
        side = int(self.deco.rng.integers(4))
        wall, width = self.walls[side], self.deco.uniform(0.7, 2.2)
        low = 0.05 if self.deco.chance(0.2) else self.deco.uniform(0.75, 1.1)
        high = min(max(low + 0.7, self.deco.uniform(1.9, 2.4)), self.scene.room[2] - 0.15)
        stretch = self.free_stretch(wall, width)
        if stretch is None or not self.scene.claim(wall, stretch, (0.0, 0.05), 0.0):
            return
        self.scene.footprints.pop()
        self.taken[side].append(stretch)
        frame = Paint(
            self.deco.hsv((0, 1), (0, 0.1), (0.8, 0.98)) if self.deco.chance(0.6) else self.deco.furniture()
        )
        u0, u1 = stretch
        self.add(
            wall,
            WINDOW,
            Paint((0.7, 0.8, 0.9), glow=self.deco.uniform(0.1, 1.1)),
            stretch,
            (0.0, 0.01),
            (low, high),
        )
        panes = 1 + int(width > 0.9) + int(width > 1.7)
        for k in range(panes + 1):
            at = u0 + (u1 - u0) * k / panes
            self.add(
                wall, WINDOW, frame, (max(at - 0.035, u0), min(at + 0.035, u1)), (0.0, 0.04), (low, high)
            )
        for z in ((low, low + 0.06), (high - 0.06, high)):
            self.add(wall, WINDOW, frame, stretch, (0.0, 0.05), z)
        x, y = wall.point(0.5 * (u0 + u1), 0.02)
        nx, ny = ((0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0))[side]
        power = width * (high - low) * self.deco.uniform(0.4, 1.2)
        self.scene.lights.append(
            ((x, y, 0.5 * (low + high)), (nx, ny, 0.0), (0.95 * power, power, 1.1 * power))
        )

    def against(self, size: Span, tall: bool) -> tuple[Wall, float] | None:
        """A wall and the middle of a free place on it, for something of the given width and depth."""
        for _ in range(TRIES):
            side = int(self.deco.rng.integers(4))
            wall, (width, depth) = self.walls[side], size
            stretch = self.free_stretch(wall, width, 0.03, anything=not tall)
            if stretch is not None and self.scene.claim(wall, stretch, (0.0, depth)):
                if tall:
                    self.taken[side].append(stretch)
                return wall, 0.5 * (stretch[0] + stretch[1])
        return None

    def cupboard(self) -> None:
        """A low or tall cupboard with leaves and knobs, or a bookcase."""
        width, depth = self.deco.uniform(0.6, 1.8), self.deco.uniform(0.35, 0.65)
        height = self.deco.uniform(0.8, 1.1) if self.deco.chance(0.35) else self.deco.uniform(1.6, 2.25)
        place = self.against((width, depth), tall=True)
        if place is None:
            return
        wall, c = place
        colour, left = self.deco.furniture(), place[1] - width / 2
        self.add(
            wall, CUPBOARD, self.deco.paint(colour, 0.3), (left, c + width / 2), (0.0, depth), (0.0, height)
        )
        if self.deco.chance(0.3):  # a bookcase: dark openings with a row of spines in each
            shelves = max(2, round(height / 0.38))
            for k in range(shelves):
                z = (0.06 + (height - 0.06) * k / shelves, (height - 0.06) * (k + 1) / shelves)
                books = Paint(
                    self.deco.hsv((0, 1), (0.1, 0.7), (0.2, 0.7)),
                    STRIPES_U,
                    self.deco.uniform(0.05, 0.15),
                    0.6,
                )
                u = (left + 0.04, c + width / 2 - 0.04)
                self.add(wall, CUPBOARD, books, u, (depth, depth + 0.005), (z[0] + 0.02, z[1] - 0.04))
            return
        leaves, face, knob = (
            max(1, round(width / 0.5)),
            Paint(self.deco.shade(colour, 0.25)),
            Paint(self.deco.furniture()),
        )
        for k in range(leaves):
            u = (left + width * k / leaves + 0.015, left + width * (k + 1) / leaves - 0.015)
            self.add(wall, CUPBOARD, face, u, (depth, depth + 0.02), (0.06, height - 0.03))
            z = (0.5 * height - 0.06, 0.5 * height + 0.06)
            self.add(wall, CUPBOARD, knob, (u[1] - 0.07, u[1] - 0.04), (depth, depth + 0.05), z)

    def sofa(self) -> None:
        """Seat, back, arms and two cushions."""
        width, depth = self.deco.uniform(1.3, 2.3), self.deco.uniform(0.8, 1.0)
        place = self.against((width, depth), tall=False)
        if place is None:
            return
        wall, c = place
        body, cushion = self.deco.paint(self.deco.furniture(), 0.25), self.deco.furniture()
        u0, u1 = c - width / 2, c + width / 2
        seat, back = self.deco.uniform(0.38, 0.46), self.deco.uniform(0.75, 0.95)
        self.add(wall, SOFA, body, (u0, u1), (0.0, depth), (0.05, seat))
        self.add(wall, SOFA, body, (u0, u1), (0.0, 0.22), (seat, back))
        for u in ((u0, u0 + 0.18), (u1 - 0.18, u1)):
            self.add(wall, SOFA, body, u, (0.0, depth), (seat, seat + 0.2))
        for k in range(2):
            at = c + (k - 1) * (width / 2 - 0.22)
            paint = Paint(self.deco.shade(body.colour)) if self.deco.chance(0.6) else Paint(cushion)
            self.add(wall, SOFA, paint, (at + 0.03, at + width / 2 - 0.25), (0.22, 0.36), (seat, back - 0.08))

    def bed(self) -> None:
        """Frame, headboard, mattress, blanket and pillows."""
        width, depth = self.deco.uniform(0.9, 1.9), self.deco.uniform(1.95, 2.15)
        place = self.against((width, depth), tall=False)
        if place is None:
            return
        wall, c = place
        frame = self.deco.paint(self.deco.furniture(), 0.3)
        sheet = self.deco.hsv((0, 1), (0, 0.15), (0.75, 0.98))
        blanket = self.deco.paint(self.deco.hsv((0, 1), (0, 0.8), (0.25, 0.95)), 0.6)
        u0, u1, top = c - width / 2, c + width / 2, self.deco.uniform(0.42, 0.6)
        self.add(wall, BED, frame, (u0, u1), (0.0, depth), (0.0, 0.25))
        self.add(wall, BED, frame, (u0, u1), (0.0, 0.06), (0.0, self.deco.uniform(0.8, 1.2)))
        self.add(wall, BED, Paint(sheet), (u0 + 0.02, u1 - 0.02), (0.06, depth - 0.02), (0.25, top))
        self.add(wall, BED, blanket, (u0, u1), (0.65, depth), (0.22, top + 0.04))
        for k in range(1 + int(width > 1.3)):
            mid = c if width <= 1.3 else c + (k - 0.5) * width / 2
            self.add(
                wall,
                BED,
                Paint(self.deco.shade(sheet)),
                (mid - 0.3, mid + 0.3),
                (0.12, 0.5),
                (top, top + 0.12),
            )

    def table(self, wall: Wall, u: Span, v: Span, height: float, paint: Paint) -> None:
        """A top on four legs."""
        self.add(wall, TABLE, paint, u, v, (height - 0.05, height))
        for a in ((u[0] + 0.02, u[0] + 0.09), (u[1] - 0.09, u[1] - 0.02)):
            for b in ((v[0] + 0.02, v[0] + 0.09), (v[1] - 0.09, v[1] - 0.02)):
                self.add(wall, TABLE, Paint(paint.colour), a, b, (0.0, height - 0.05))

    def chair(self, wall: Wall, u: float, v: float, facing: int, paint: Paint, seat: float) -> None:
        """A chair with its middle at (u, v); its back is on the low-v (0), high-u (1), high-v (2) or low-u (3) side."""
        half, leg = 0.22, 0.04
        self.add(wall, CHAIR, paint, (u - half, u + half), (v - half, v + half), (seat - 0.05, seat))
        backs = (
            ((u - half, u + half), (v - half, v - half + leg)),
            ((u + half - leg, u + half), (v - half, v + half)),
            ((u - half, u + half), (v + half - leg, v + half)),
            ((u - half, u - half + leg), (v - half, v + half)),
        )
        self.add(wall, CHAIR, paint, *backs[facing], (seat, seat + 0.45))
        for a in (u - half, u + half - leg):
            for b in (v - half, v + half - leg):
                self.add(wall, CHAIR, Paint(paint.colour), (a, a + leg), (b, b + leg), (0.0, seat - 0.05))

    def dining(self) -> None:
        """A free-standing table, with chairs on up to four sides or none (a coffee table)."""
        wall, low = self.walls[0], self.deco.chance(0.25)
        width, depth = self.deco.uniform(0.7, 2.0), self.deco.uniform(0.6, 1.1)
        height = self.deco.uniform(0.38, 0.5) if low else self.deco.uniform(0.7, 0.8)
        pull = 0.0 if low else 0.34  # a chair's half and how far it stands out
        for _ in range(TRIES):
            u = self.deco.uniform(0.0, max(0.0, wall.length - width))
            v = self.deco.uniform(0.0, max(0.0, wall.reach - depth))
            if self.scene.claim(wall, (u - pull, u + width + pull), (v - pull, v + depth + pull)):
                break
        else:
            return
        self.table(wall, (u, u + width), (v, v + depth), height, self.deco.paint(self.deco.furniture(), 0.3))
        if low:
            return
        paint = self.deco.paint(self.deco.furniture(), 0.2)
        seat, out = self.deco.uniform(0.42, 0.48), self.deco.uniform(-0.02, 0.12)
        for facing, present in enumerate(self.deco.rng.random(4) < 0.65):
            if present:
                along = (u + width * 0.5, v + depth * 0.5)
                at = (
                    (along[0], v - out),
                    (u + width + out, along[1]),
                    (along[0], v + depth + out),
                    (u - out, along[1]),
                )[facing]
                self.chair(wall, *at, facing, paint, seat)

    def desk(self) -> None:
        """A table against a wall with a chair drawn up."""
        width, depth = self.deco.uniform(1.0, 1.7), self.deco.uniform(0.55, 0.8)
        place = self.against((width, depth + 0.5), tall=False)
        if place is not None:
            wall, c = place
            top = self.deco.paint(self.deco.furniture(), 0.3)
            self.table(wall, (c - width / 2, c + width / 2), (0.0, depth), self.deco.uniform(0.7, 0.78), top)
            paint = self.deco.paint(self.deco.furniture(), 0.2)
            self.chair(wall, c + self.deco.uniform(-0.2, 0.2), depth + 0.15, 2, paint, 0.45)

    def lone_chair(self) -> None:
        """A chair that stands anywhere."""
        wall = self.walls[int(self.deco.rng.integers(4))]
        for _ in range(TRIES):
            u, v = self.deco.uniform(0.25, wall.length - 0.25), self.deco.uniform(0.25, wall.reach - 0.25)
            if self.scene.claim(wall, (u - 0.23, u + 0.23), (v - 0.23, v + 0.23)):
                paint = self.deco.paint(self.deco.furniture(), 0.2)
                self.chair(wall, u, v, int(self.deco.rng.integers(4)), paint, self.deco.uniform(0.42, 0.48))
                return

    def picture(self) -> None:
        """A framed picture, or a white board."""
        side = int(self.deco.rng.integers(4))
        board = self.deco.chance(0.25)
        spans = ((1.2, 2.2), (0.8, 1.2)) if board else ((0.5, 1.3), (0.4, 1.0))
        width, height = (self.deco.uniform(*span) for span in spans)
        stretch = self.free_stretch(self.walls[side], width, 0.05)
        if stretch is None:
            return
        wall, low = self.walls[side], self.deco.uniform(1.15, 1.4)
        high = min(low + height, self.scene.room[2] - 0.1)
        self.taken[side].append(stretch)
        u, edge = stretch, 0.03 if board else 0.06
        inner = Paint((0.93, 0.94, 0.95)) if board else self.deco.paint(self.deco.hsv(value=(0.2, 0.95)), 0.9)
        self.add(wall, PICTURE, Paint(self.deco.furniture()), u, (0.0, 0.03), (low, high))
        self.add(wall, PICTURE, inner, (u[0] + edge, u[1] - edge), (0.0, 0.035), (low + edge, high - edge))

    def lamps(self) -> None:
        """One or two ceiling lamps, and perhaps a standing one in a free corner."""
        wall, (length, width, height) = self.walls[0], self.scene.room
        for k in range(count := 1 + int(self.deco.chance(0.4))):
            u = length * (k + 0.5) / count + self.deco.uniform(-0.3, 0.3)
            v, half, drop = (
                width * self.deco.uniform(0.35, 0.65),
                self.deco.uniform(0.15, 0.45),
                self.deco.uniform(0.05, 0.15),
            )
            warm, power = self.deco.uniform(0.75, 1.0), self.deco.uniform(1.0, 2.5) / count
            tint = (1.0, 0.5 + 0.5 * warm, warm)
            shining = Paint(tint, glow=self.deco.uniform(0.0, 1.0))
            across = (v - half * 0.7, v + half * 0.7)
            self.add(wall, LAMP, shining, (u - half, u + half), across, (height - drop, height))
            emitted = (power * tint[0], power * tint[1], power * tint[2])
            self.scene.lights.append(((u, v, height - drop - 0.05), (0.0, 0.0, -1.0), emitted))
        corner = self.walls[int(self.deco.rng.integers(4))]
        if self.deco.chance(0.45) and self.scene.claim(
            corner, (corner.length - 0.5, corner.length - 0.1), (0.1, 0.5)
        ):
            c, top, metal = corner.length - 0.3, self.deco.uniform(1.3, 1.8), Paint(self.deco.furniture())
            self.add(corner, LAMP, metal, (c - 0.14, c + 0.14), (0.16, 0.44), (0.0, 0.03))
            self.add(corner, LAMP, metal, (c - 0.025, c + 0.025), (0.275, 0.325), (0.0, top - 0.3))
            lit = Paint((1.0, 0.85, 0.6), glow=self.deco.uniform(0.2, 0.9))
            self.add(corner, LAMP, lit, (c - 0.2, c + 0.2), (0.1, 0.5), (top - 0.35, top))
            x, y = corner.point(c, 0.3)
            self.scene.lights.append(((x, y, top), (0.0, 0.0, 0.0), (0.5, 0.42, 0.3)))

    def place_camera(self) -> None:
        """A spot 1.0 to 1.8 m up, away from walls and outside every piece of furniture."""
        length, width, _ = self.scene.room
        best, clearance = (0.5 * length, 0.5 * width), -np.inf
        for _ in range(40):
            x, y = self.deco.uniform(0.6, length - 0.6), self.deco.uniform(0.6, width - 0.6)
            gap = min(
                (max(a0 - x, x - a1, b0 - y, y - b1) for a0, a1, b0, b1 in self.scene.footprints),
                default=np.inf,
            )
            if gap > clearance:
                best, clearance = (x, y), gap
            if clearance > 0.25:
                break
        self.scene.camera = (*best, self.deco.uniform(1.0, 1.8))
        self.scene.yaw = self.deco.uniform(-np.pi, np.pi)

"""Where a missing atom is likeliest: a density on R³ and the elements, drawn from for training, climbed for answers.

The density is p(x, Z) ∝ p0(x) exp(f(x)_Z), f the network's field and p0 a fixed envelope that vanishes at the atoms and far
from all of them, so that p can be normalised. Starts of the climb lie on shells about the atoms; Newton steps take the best to
the tops of their hills, which do not depend on how the shells were turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.grids import Fibonacci

CORE = 0.5  # Å; at this distance from an atom the envelope has fallen by a factor e
OUTER = 3.6  # Å; likewise, from the nearest atom
NEAR, FAR = 0.35, 4.2  # Å; between these distances from an atom places are drawn
SHELLS = (0.75, 0.95, 1.15, 1.4, 1.7, 2.1, 2.6, 3.1)  # Å, radii of the starts
DIRECTIONS = 64
APART = 0.4  # Å between starts that are climbed from
CLIMBED = 24  # starts of a molecule that are climbed from
BELOW = 12.0  # natural logarithms below a molecule's highest start; lower ones are not climbed from
ALIKE = 0.02  # Å and natural logarithms by which tops that a symmetry joins may differ
STEPS, SHORT, LONGEST = 40, 1e-11, 0.2  # of the climb; Å
FLAT = 1e-3  # 1/Å²: curvatures below count as that much
MANY = 16384  # places evaluated at a time


def pairs(counts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of a place and an atom of its molecule, place after place.

    Shape: atoms of each molecule (B,), molecule of each place (Q,) -> atom and place of each pair.
    """
    first, near = counts.cumsum(0) - counts, counts[owner]
    place = torch.repeat_interleave(torch.arange(len(owner), device=owner.device), near)
    before = near.cumsum(0) - near
    return torch.arange(len(place), device=place.device) + torch.repeat_interleave(
        first[owner] - before, near
    ), place


def log_envelope(positions: Tensor, counts: Tensor, queries: Tensor, owner: Tensor) -> Tensor:
    """Logarithm of the fixed factor p0 of the density, (Q,).

    Args:
        positions: of the atoms, (P, 3).
        counts: atoms of each molecule, (B,).
        queries: places, (Q, 3).
        owner: molecule of each place, (Q,).
    """
    atom, place = pairs(counts, owner)
    squared = (positions[atom] - queries[place]).square().sum(1).clamp_min(1e-4)
    zeros = squared.new_zeros(len(queries))
    core = zeros.index_add(0, place, (CORE**2 / squared) ** 3)
    around = zeros.index_add(0, place, torch.exp(-((squared / OUTER**2) ** 4)))
    return around.clamp_min(torch.finfo(squared.dtype).tiny).log() - core


@dataclass(frozen=True)
class Density:
    """The density of a batch of molecules, up to its constant.

    Args:
        network: the network of the field.
        sent: what the atoms send, as the network's ``sent`` gives it.
        positions: of the atoms, (P, 3).
        counts: atoms of each molecule, (B,).
        kinds: atomic numbers that the missing atom may have, (C,).
    """

    network: Any
    sent: Any
    positions: Tensor
    counts: Tensor
    kinds: Tensor

    def log(self, queries: Tensor, owner: Tensor) -> Tensor:
        """log p(x, Z) at places, up to a constant: (Q, 3), (Q,) -> (Q, C)."""
        field = self.network.at(self.sent, self.positions, self.counts, queries, owner)[:, self.kinds]
        envelope = log_envelope(self.positions, self.counts, queries, owner)
        return field + envelope[:, None].to(field)

    def of_place(self, queries: Tensor, owner: Tensor) -> Tensor:
        """log Σ_Z p(x, Z) at places, likewise: (Q, 3), (Q,) -> (Q,)."""
        return self.log(queries, owner).logsumexp(1)


# ---- for training


@dataclass(frozen=True)
class Draws:
    """Places drawn for the loss, as many for each molecule.

    Args:
        queries: the places, (B, Q, 3).
        log_density: logarithm of the density that they are drawn from, (B, Q).
        close: how many come first that are normal about the missing atom with the width of the target.
    """

    queries: Tensor
    log_density: Tensor
    close: int


def draw(
    positions: Tensor, counts: Tensor, truth: Tensor, width: float, count: int, generator: torch.Generator | None = None
) -> Draws:  # fmt: skip
    """Draw places for the loss: a quarter about the missing atom, a quarter about it three times as wide, half on shells.

    Args:
        positions: of the atoms, (P, 3).
        counts: atoms of each molecule, (B,).
        truth: place of the missing atom, (B, 3).
        width: standard deviation of the target, Å.
        count: places of a molecule.
        generator: of the draws; torch's own if None.
    """
    molecules, quarter = len(counts), max(1, count // 4)
    shells = count - 2 * quarter
    like: dict[str, Any] = {"dtype": positions.dtype, "device": positions.device}

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(**like)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(**like)

    widths = truth.new_tensor([width] * quarter + [3 * width] * quarter)
    about = truth[:, None] + widths[:, None] * normal(molecules, 2 * quarter, 3)
    first = counts.cumsum(0) - counts
    atom = first[:, None] + (uniform(molecules, shells) * counts[:, None]).long().clamp_max(
        counts[:, None] - 1
    )
    radius = NEAR * (FAR / NEAR) ** uniform(molecules, shells)
    direction = torch.nn.functional.normalize(normal(molecules, shells, 3), dim=2)
    queries = torch.cat([about, positions[atom] + radius[..., None] * direction], 1)

    squared = (queries - truth[:, None]).square().sum(2)
    parts = [
        math.log(quarter / count) - 1.5 * math.log(2 * math.pi * s * s) - squared / (2 * s * s)
        for s in (width, 3 * width)
    ]
    owner = torch.arange(molecules, device=counts.device).repeat_interleave(count)
    of, place = pairs(counts, owner)
    distance = (positions[of] - queries.reshape(-1, 3)[place]).norm(dim=1)
    on_shell = 1 / (4 * math.pi * math.log(FAR / NEAR) * distance.clamp_min(NEAR) ** 3)
    on_shell = torch.where((distance >= NEAR) & (distance <= FAR), on_shell, 0.0)
    mean = (
        on_shell.new_zeros(len(owner)).index_add(0, place, on_shell).view(molecules, count) / counts[:, None]
    )
    parts.append(math.log(shells / count) + mean.clamp_min(torch.finfo(mean.dtype).tiny).log())
    return Draws(queries, torch.stack(parts).logsumexp(0), quarter)


def cross_entropy(density: Density, draws: Draws, truth: Tensor) -> Tensor:
    """−⟨log p(x, Z)⟩ over places normal about the missing atom, (B,); the constant of p is a weighted mean over all draws.

    Args:
        density: the density of the molecules.
        draws: places, as :func:`draw` gives them.
        truth: column of the missing element among the density's kinds, (B,).
    """
    molecules, count = draws.log_density.shape
    owner = torch.arange(molecules, device=truth.device).repeat_interleave(count)
    logits = density.log(draws.queries.flatten(0, 1), owner).float().view(molecules, count, -1)
    constant = (logits.logsumexp(2) - draws.log_density.to(logits)).logsumexp(1) - math.log(count)
    right = logits[:, : draws.close].gather(2, truth[:, None, None].expand(-1, draws.close, 1))[..., 0]
    return constant - right.mean(1)


# ---- for answers


@dataclass(frozen=True)
class Answers:
    """Where and what the missing atom of each molecule is.

    Args:
        positions: the likeliest place, (B, 3).
        probability: of each kind of element there, (B, C).
        share: density of the place relative to the sum over all tops that were found, those that a symmetry of the rest joins
            counted once, (B,): 1 where there is no other.
    """

    positions: Tensor
    probability: Tensor
    share: Tensor


def starts(positions: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Places on shells about the atoms, each kept by its nearest atom, and their molecules: (Q, 3), (Q,)."""
    directions = Fibonacci(DIRECTIONS).points.to(positions)
    radii = positions.new_tensor(SHELLS)
    offsets = (radii[:, None, None] * directions).reshape(-1, 3)
    queries = (positions[:, None] + offsets).reshape(-1, 3)
    home = torch.arange(len(positions), device=counts.device).repeat_interleave(len(offsets))
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)[home]
    radius = radii.repeat_interleave(len(directions)).repeat(len(positions))
    kept = []
    for part in torch.arange(len(queries), device=counts.device).split(4 * MANY):
        atom, place = pairs(counts, owner[part])
        squared = (positions[atom] - queries[part][place]).square().sum(1)
        least = squared.new_full((len(part),), torch.inf).scatter_reduce(0, place, squared, "amin")
        kept.append(part[least >= (radius[part] - 1e-6) ** 2])
    chosen = torch.cat(kept)
    return queries[chosen], owner[chosen]


def far_apart(
    queries: Tensor, values: Tensor, owner: Tensor, molecules: int, most: int, apart: float
) -> Tensor:
    """Numbers of the highest places of each molecule that are apart from higher ones, best first within a molecule.

    Args:
        queries: places, (Q, 3).
        values: their heights, (Q,).
        owner: their molecules, (Q,).
        molecules: number of molecules.
        most: places of a molecule at most.
        apart: the distance.
    """
    found = []
    for molecule in range(molecules):
        rest = (owner == molecule).nonzero()[:, 0]
        rest = rest[values[rest].argsort(descending=True)]
        for _ in range(most):
            if not len(rest):
                break
            found.append(rest[0])
            rest = rest[(queries[rest] - queries[rest[0]]).square().sum(1) > apart**2]
    return torch.stack(found)


def climb(density: Density, queries: Tensor, owner: Tensor) -> Tensor:
    """Tops of the hills on which places lie: Newton steps with the curvatures' absolute values, halved until they lead upward."""
    x = queries.detach()
    active = torch.arange(len(x), device=x.device)
    for _ in range(STEPS):
        place, of = x[active].requires_grad_(), owner[active]
        height = density.of_place(place, of)
        (slope,) = torch.autograd.grad(height.sum(), place, create_graph=True)
        rows = [torch.autograd.grad(slope[:, i].sum(), place, retain_graph=i < 2)[0] for i in range(3)]
        with torch.no_grad():
            curvature = torch.stack(rows, 1)
            values, axes = torch.linalg.eigh((curvature + curvature.mT) / 2)
            along = (axes.mT @ slope.detach()[..., None])[..., 0] / values.abs().clamp_min(FLAT)
            step = (axes @ along[..., None])[..., 0]
            length = step.norm(dim=1, keepdim=True)
            step = step * (LONGEST / length.clamp_min(LONGEST))
            moved, waiting = place.detach().clone(), torch.ones_like(of, dtype=torch.bool)
            for _ in range(8):
                tried = place.detach() + step
                better = waiting & (density.of_place(tried, of) >= height.detach())
                moved[better] = tried[better]
                waiting &= ~better
                if not bool(waiting.any()):
                    break
                step = step / 2
            change = (moved - place.detach()).norm(dim=1)
            x[active] = moved
            active = active[change > SHORT]
        if not len(active):
            break
    return x


def likeliest(density: Density) -> Answers:
    """The likeliest place of the missing atom of each molecule, and the elements' probabilities there; works in float64."""
    molecules = len(density.counts)
    with torch.no_grad():
        queries, owner = starts(density.positions, density.counts)
        heights = torch.cat([
            density.of_place(q, o) for q, o in zip(queries.split(MANY), owner.split(MANY), strict=True)
        ])  # fmt: skip
        chosen = far_apart(queries, heights, owner, molecules, CLIMBED, APART)
        highest = heights.new_full((molecules,), -torch.inf).scatter_reduce(0, owner, heights, "amax")
        chosen = chosen[heights[chosen] >= highest[owner[chosen]] - BELOW]
    tops, owner = climb(density, queries[chosen], owner[chosen]), owner[chosen]
    with torch.no_grad():
        logits = density.log(tops, owner)
        heights = logits.logsumexp(1)
        best: list[Tensor] = []
        shares: list[Tensor] = []
        for molecule in range(molecules):
            own = (owner == molecule).nonzero()[:, 0]
            own = own[heights[own].argsort(descending=True)]
            best.append(own[0])
            kept = different(density, molecule, tops[own], heights[own])
            shares.append(1 / (heights[own][kept] - heights[own[0]]).exp().sum())
        top = torch.stack(best)
        return Answers(tops[top], logits[top].softmax(1), torch.stack(shares))


def different(density: Density, molecule: int, tops: Tensor, heights: Tensor) -> list[int]:
    """Numbers of the tops of a molecule that no symmetry of it joins, by their heights and distances from its atoms."""
    first = int(density.counts[:molecule].sum())
    atoms = density.positions[first : first + int(density.counts[molecule])]
    distances = torch.cdist(tops, atoms).sort(1).values
    kept: list[int] = []
    for k in range(len(tops)):
        same = ((distances[kept] - distances[k]).abs().amax(1) < ALIKE) & (
            (heights[kept] - heights[k]).abs() < ALIKE
        )
        if not bool(same.any()):
            kept.append(k)
    return kept

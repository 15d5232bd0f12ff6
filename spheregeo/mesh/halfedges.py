"""Half-edges of a triangle mesh and the ordered ring round each vertex, without a loop over vertices.

Half-edge h = 3 f + c runs from corner c of face f to corner c + 1; its twin runs the other way in the neighbouring
face, or is -1 on a border. Round a vertex, counter-clockwise, half-edge h is followed by twin(prev(h)): a permutation
whose cycles are closed fans and whose chains, begun by a border half-edge, are open ones. All chains are walked at
once, so the number of steps is the largest degree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def twins(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Index of the half-edge that runs the other way, -1 on a border. Shape: (F, 3) -> (3F,) int64.

    Raises: ValueError for a face with a repeated vertex, an edge of three faces, or neighbours turned differently.
    """
    source = faces.reshape(-1)
    target = faces[:, [1, 2, 0]].reshape(-1)
    if (source == target).any():
        face = int(np.flatnonzero(source == target)[0]) // 3
        raise ValueError(f"faces[{face}] is {faces[face].tolist()}; expected three different vertices")
    low, high = np.minimum(source, target), np.maximum(source, target)
    key = low * num_vertices + high
    order = np.argsort(key, kind="stable")
    same = key[order[1:]] == key[order[:-1]]
    third = np.flatnonzero(same[1:] & same[:-1])
    if len(third):
        h = order[third[0]]
        count = int((key == key[h]).sum())
        raise ValueError(
            f"edge ({low[h]}, {high[h]}) belongs to {count} faces; expected at most two: split or remove the others"
        )
    first = order[:-1][same]
    second = order[1:][same]
    turned = np.flatnonzero(source[first] == source[second])
    if len(turned):
        h, g = first[turned[0]], second[turned[0]]
        raise ValueError(
            f"faces[{h // 3}] and faces[{g // 3}] run along edge ({low[h]}, {high[h]}) the same way; "
            "expected neighbours that are oriented alike: turn one of them round"
        )
    twin = np.full(len(source), -1, dtype=np.int64)
    twin[first], twin[second] = second, first
    return twin


@dataclass(frozen=True, eq=False)
class VertexRings:
    """Neighbours of each vertex in counter-clockwise order, fan by fan, as compressed rows of slots.

    Shape: indptr (V + 1,), indices (N,) int64 neighbours. ``half_edge`` (N,) is the half-edge of each slot, whose corner
    opens counter-clockwise of it; -1 on the last slot of an open fan. ``reverse`` (N,) is the slot of the opposite
    direction. ``fan_start``, ``fan_length`` (fans,) slots and ``closed`` (fans,) bool describe the fans.
    """

    indptr: np.ndarray
    indices: np.ndarray
    half_edge: np.ndarray
    reverse: np.ndarray
    fan_start: np.ndarray
    fan_length: np.ndarray
    closed: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Vertex of each slot, (N,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def accumulate(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per slot the sum of ``values`` over the earlier slots of its fan, and per fan the sum over all of it."""
        order = np.argsort(-self.fan_length, kind="stable")
        begin, length = self.fan_start[order], self.fan_length[order]
        longest = int(length[0]) if len(length) else 0
        running = np.zeros(len(self.indices))
        # how many fans have more than k slots; they come first
        more = np.searchsorted(-length, -np.arange(longest), side="left")
        for k in range(1, longest):
            slot = begin[: more[k]] + k
            running[slot] = running[slot - 1] + values[slot - 1]
        last = self.fan_start + self.fan_length - 1
        return running, running[last] + np.where(self.closed, values[last], 0.0)


def ordered_rings(faces: np.ndarray, num_vertices: int) -> VertexRings:
    """Ordered rings of every vertex; a border vertex's ring begins and ends on the border.

    A vertex where several fans meet in a point has them one after another; one without faces has an empty row.
    Raises: ValueError for what is no oriented surface, see :func:`twins`.
    """
    twin = twins(faces, num_vertices)
    count = len(twin)
    h = np.arange(count)
    previous = np.where(h % 3 == 0, h + 2, h - 1)
    following = twin[previous]
    source = faces.reshape(-1)
    fan = np.full(count, -1, dtype=np.int64)
    place = np.zeros(count, dtype=np.int64)
    heads: list[np.ndarray] = []
    lengths: list[np.ndarray] = []

    def walk(starts: np.ndarray) -> None:
        ids = np.arange(len(starts)) + sum(len(x) for x in heads)
        length = np.zeros(len(starts), dtype=np.int64)
        here, who, k = starts, np.arange(len(starts)), 0
        while len(here):
            fan[here], place[here], length[who] = ids[who], k, k + 1
            here = following[here]
            on = (here >= 0) & (here != starts[who])
            here, who, k = here[on], who[on], k + 1
        heads.append(starts)
        lengths.append(length)

    walk(np.flatnonzero(twin < 0))
    num_open = len(heads[0])
    left = np.flatnonzero(fan < 0)
    while len(left):  # once, and again for vertices where several closed fans meet
        walk(left[np.unique(source[left], return_index=True)[1]])
        left = left[fan[left] < 0]
    head, length = np.concatenate(heads), np.concatenate(lengths)
    closed = np.arange(len(head)) >= num_open
    length = length + ~closed  # an open fan has one neighbour more than it has faces
    order = np.argsort(source[head], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    start = np.concatenate([[0], np.cumsum(length[order])])
    begin = start[:-1][rank]  # first slot of each fan
    slot = begin[fan] + place
    total = int(start[-1])
    indices, half_edge, reverse = (np.full(total, -1, dtype=np.int64) for _ in range(3))
    half_edge[slot] = h
    indices[slot] = faces[:, [1, 2, 0]].reshape(-1)
    paired = twin >= 0
    reverse[slot[paired]] = slot[twin[paired]]
    # the last neighbour of an open fan is reached against a border half-edge
    end = (begin + length - 1)[:num_open]
    against = previous[half_edge[end - 1]]
    indices[end] = source[against]
    reverse[end], reverse[slot[against]] = slot[against], end
    degree = np.bincount(source[head], weights=length, minlength=num_vertices).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(degree)])
    return VertexRings(indptr, indices, half_edge, reverse, start[:-1], length[order], closed[order])

"""What the portable engine prepares from a pattern, once: rows of similar length together, boundaries as Python's numbers.

At run time nothing is read from a device: an evaluation is gathers, batched products and sorted sums of sizes that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.patterns import CSRPattern, Pattern, RingPattern

CLASSES = 8  # most lengths that rows are padded to
SAVED = 0.03, 1 << 17  # share and number of the copied points that one more class, two operations, must save
CHUNK_BYTES = (
    1 << 26
)  # of copied features at a time on a CPU; elsewhere four times the features where that is more

Made = TypeVar("Made")


def kept(structure: Any, key: Hashable, make: Callable[[], Made]) -> Made:
    """What is made of a structure, with the structure and with the tensors it consists of, around which others are built anew."""
    found: Made | None = structure.memo.get(key)
    if found is None:
        found = structure.memo[key] = made_of(structure.tensors, (key, tuple(structure.sizes)), make)
    return found


def budget(*features: Tensor | None) -> int:
    """Bytes of intermediate results at a time."""
    given = [t for t in features if t is not None]
    if given[0].device.type == "cpu":
        return CHUNK_BYTES
    return max(CHUNK_BYTES, *(4 * t.numel() * t.element_size() for t in given))


def lengths_of_classes(lengths: np.ndarray, columns: int = 1) -> np.ndarray:
    """The length that each row is padded to, one of at most eight, so that few entries, of ``columns`` points, are added."""
    levels, place = np.unique(np.maximum(lengths, 1), return_inverse=True)
    counts = np.bincount(place, minlength=len(levels))
    if len(levels) > 64:  # the upper ends of 64 groups of as many rows
        ends = np.searchsorted(np.cumsum(counts), np.linspace(0, counts.sum(), 65)[1:] - 0.5)
        ends = np.unique(np.append(ends, len(levels) - 1))
        merged = np.searchsorted(ends, np.arange(len(levels)))
        counts = np.bincount(merged, weights=counts).astype(np.int64)
        levels, place = levels[ends], merged[place]
    number, before = len(levels), np.concatenate([[0], np.cumsum(counts)])
    # padded[i, j]: entries of levels i ... j - 1 as one class
    padded = np.where(
        np.arange(number)[:, None] <= np.arange(number),
        (before[1:] - before[:-1, None]) * levels,
        np.inf,
    )
    best, cuts = padded[0].copy(), []
    worth = max(SAVED[0] * float((counts * levels).sum()), SAVED[1] / columns)
    ends = np.zeros(number, dtype=np.int64)
    for _ in range(min(CLASSES, number) - 1):
        total = best[:-1, None] + padded[1:]  # the last class begins after level i
        cut = np.concatenate([[0], total.argmin(0)[1:]])
        following = np.concatenate([best[:1], total[cut[1:], np.arange(1, number)]])
        if best[-1] - following[-1] < worth:
            break
        cuts.append(cut)
        best = following
    tops, last = [], number - 1
    for cut in reversed(cuts):
        tops.append(last)
        last = int(cut[last])
    upper = np.array(sorted({*tops, last}))
    return levels[upper[np.searchsorted(upper, place)]]


@dataclass(frozen=True)
class Class:
    """Rows ``first`` ... ``last`` of the plan's order, each of ``length`` entries, from entry ``start`` of the plan on."""

    first: int
    last: int
    length: int
    start: int


@dataclass(frozen=True)
class RowPlan:
    """Rows in classes of one length: ``order`` are the rows as they stand in the plan, ``place`` where each row stands.

    ``entry`` (E,) is each padded entry's number in the pattern; that of the row's first where it is ``blank``.
    """

    classes: tuple[Class, ...]
    order: np.ndarray
    place: np.ndarray
    entry: np.ndarray
    blank: np.ndarray

    @classmethod
    def of(cls, indptr: np.ndarray, columns: int = 1) -> RowPlan:
        """The plan of compressed rows, each of ``columns`` points."""
        lengths = np.diff(indptr)
        padded = lengths_of_classes(lengths, columns) if len(lengths) else lengths
        order = np.argsort(padded, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        classes, entry, blank, start = [], [], [], 0
        levels, counts = np.unique(padded, return_counts=True)
        ends = np.cumsum(counts)
        top = max(int(indptr[-1]) - 1, 0) if len(indptr) else 0
        for length, first, last in zip(levels.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
            rows = order[first:last]
            slot = np.arange(length)
            missing = slot >= lengths[rows, None]
            number = np.where(missing, np.minimum(indptr[rows], top)[:, None], indptr[rows, None] + slot)
            entry.append(number.reshape(-1))
            blank.append(missing.reshape(-1))
            classes.append(Class(first, last, length, start))
            start += length * (last - first)
        none = np.zeros(0, dtype=np.int64)
        return cls(
            tuple(classes),
            order,
            place,
            np.concatenate([none, *entry]),
            np.concatenate([none.astype(bool), *blank]),
        )

    def chunks(self, per_entry: int, per_row: int, most: int) -> Iterator[list[Class]]:
        """Parts of classes whose entries fit ``most`` bytes each, in lists whose rows fit it together."""
        together: list[Class] = []
        held = 0
        for c in self.classes:
            step = max(1, most // max(1, c.length * per_entry, per_row))
            for first in range(c.first, c.last, step):
                last = min(first + step, c.last)
                size = (last - first) * per_row
                if together and held + size > most:
                    yield together
                    together, held = [], 0
                together.append(Class(first, last, c.length, c.start + (first - c.first) * c.length))
                held += size
        if together:
            yield together


def host(t: Tensor) -> np.ndarray:
    """A tensor's numbers, for plans."""
    return t.detach().cpu().numpy()


def moved(numbers: np.ndarray, like: Tensor, limit: int | None = None) -> Tensor:
    """Whole numbers on the device of a tensor; of 32 bits where all are below ``limit`` and these suffice."""
    small = limit is not None and limit < 1 << 31
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int32 if small else np.int64)).to(
        like.device, copy=True
    )


@dataclass(frozen=True)
class Sums:
    """Sums of rows that belong together, in a fixed order: ``order`` sorts them, ``lengths`` are their numbers."""

    order: Tensor
    lengths: Tensor | None  # None: one row for each sum
    number: int

    @classmethod
    def of(cls, group: np.ndarray, number: int, like: Tensor, keep: np.ndarray | None = None) -> Sums:
        """Of the group (rows,) of each row; rows outside ``keep`` are left out."""
        rows = np.arange(len(group)) if keep is None else np.nonzero(keep)[0]
        order = rows[np.argsort(group[rows], kind="stable")]
        counts = np.bincount(group[rows], minlength=number)
        lengths = None if bool((counts == 1).all()) else moved(counts, like)
        return cls(moved(order, like), lengths, number)

    def __call__(self, terms: Tensor) -> Tensor:
        """(rows, ...) -> (groups, ...)."""
        return summed(terms.index_select(0, self.order), self.lengths, self.number)


def summed(terms: Tensor, lengths: Tensor | None, number: int) -> Tensor:
    """Sums of stretches of rows, the same in every run: (rows, ...) -> (number, ...)."""
    if lengths is None:
        return terms
    if not terms.shape[0] or not number:
        return terms.new_zeros(number, *terms.shape[1:])
    flat = terms.reshape(terms.shape[0], -1)
    found = torch.segment_reduce(flat, "sum", lengths=lengths, axis=0, unsafe=True, initial=0)
    return found.view(number, *terms.shape[1:])


@dataclass(frozen=True)
class LinearPlan:
    """A pattern's rows in classes, with what is gathered for them.

    ``index`` (E,) names for each entry the row of the features, or for rings the place among their rings, each written twice in
    a row, where a turn of the ring begins. ``rings`` (2 R M,) writes them so. ``points`` is where each target point stands
    among the plan's rows of ``columns`` points, ``targets`` the target point at each place.
    """

    rows: RowPlan
    columns: int
    index: Tensor
    rings: Tensor | None
    points: Tensor
    targets: Tensor
    value: Tensor  # (E,) column of the table, its number of columns for none
    sums: Sums  # entries of each column of the table
    memo: dict[Any, Any]

    @classmethod
    def of(cls, pattern: Pattern, order: Tensor | None) -> LinearPlan:
        """The plan; ``order`` are the columns of the table that the pattern's own columns copy."""
        assert isinstance(pattern, CSRPattern | RingPattern)
        like = pattern.indptr
        rows = RowPlan.of(host(like), pattern.columns if isinstance(pattern, RingPattern) else 1)
        entry, blank = rows.entry, rows.blank
        if isinstance(pattern, CSRPattern):
            columns, rings = 1, None
            index = moved(
                host(pattern.indices)[entry] if len(host(pattern.indices)) else 0 * entry,
                like,
                pattern.num_source,
            )
            none = np.zeros(0, dtype=np.int64)
            lengths = np.concatenate([none, *(np.full(c.last - c.first, c.length) for c in rows.classes)])
            first = np.repeat(np.cumsum(lengths) - lengths, lengths)
            own = np.repeat(host(pattern.start)[rows.order], lengths) + np.arange(len(entry)) - first
            points, targets = rows.place, rows.order
        else:
            columns, m = pattern.columns, pattern.columns
            j = np.arange(2 * m) % m
            base, stride = host(pattern.source_base)[:, None], host(pattern.source_stride)[:, None]
            rings = moved((base + stride * j).reshape(-1), like, pattern.num_source)
            ring, shift = host(pattern.ring).astype(np.int64), host(pattern.shift)
            index = (
                moved(ring[entry] * 2 * m + shift[entry], like, 2 * m * len(base))
                if len(ring)
                else moved(entry, like)
            )
            own = entry
            j = np.arange(m)
            base, stride = host(pattern.target_base)[:, None], host(pattern.target_stride)[:, None]
            targets = (base + stride * j)[rows.order].reshape(-1)
            points = np.empty_like(targets)
            points[targets] = np.arange(len(targets))
        own = np.where(blank, 0, own)
        if order is not None:
            own = host(order)[own] if len(order) else own
        value = np.where(blank, -1, own)
        sums = Sums.of(own, pattern.num_values, like, ~blank) if order is None else Sums.of(own[:0], 0, like)
        return cls(
            rows,
            columns,
            index,
            rings,
            moved(points, like),
            moved(targets, like),
            moved(value, like),
            sums,
            {},
        )

    def windows(self, x: Tensor) -> Tensor:
        """Features (Q, B C), of which ``index`` names rows: (·, columns B C)."""
        if self.rings is None:
            return x
        twice = x.index_select(0, self.rings)
        width = twice.shape[1]
        if not twice.shape[0]:
            return twice.new_zeros(1, self.columns * width)
        return twice.as_strided((twice.shape[0] - self.columns + 1, self.columns * width), (width, 1))

    def coefficients(self, v: Tensor) -> Tensor:
        """(E, K), zero where an entry is none; kept for the table they were read from last, if it is the same object."""
        version = None if v.is_inference() else v._version
        known = self.memo.get("coefficients")
        if known is not None and known[1] is v and known[0] == version:
            found: Tensor = known[2]
            return found
        with torch.inference_mode(False):
            table = torch.cat([v, v.new_zeros(v.shape[0], 1)], 1).T.contiguous()
            found = table.index_select(0, torch.where(self.value < 0, v.shape[1], self.value))
        if version is not None and found.numel() * found.element_size() <= CHUNK_BYTES:
            self.memo["coefficients"] = (version, v, found)
        return found


def parts(classes: Sequence[Class]) -> tuple[int, int]:
    """The rows of a list of parts of classes: they follow one another."""
    return classes[0].first, classes[-1].last

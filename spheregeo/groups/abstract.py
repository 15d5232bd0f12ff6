r"""Finite groups as multiplication tables: cyclic, dihedral, polyhedral, symmetric, alternating and Q8, and products of them.

Elements are numbers, 0 is the identity, and ``table[a, b]`` is the number of ab. Everything else follows from the table alone:
inverses, subgroups, cosets gH, double cosets H g K, conjugacy classes.
Reference: Dixon & Mortimer 1996, Permutation Groups, ch. 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from spheregeo.groups.finite import icosahedral, multiplication_table, octahedral, tetrahedral
from spheregeo.lazy import cached_property

LARGEST = 1024
_NAMED = re.compile(r"([CDASQ])(\d+)")
_SOLIDS = {"T": tetrahedral, "O": octahedral, "I": icosahedral}
# the quaternions i and j as matrices of determinant 1 over the field of five elements
_Q8 = (((2, 0), (0, 3)), ((0, 1), (4, 0)))


@dataclass(frozen=True, eq=False, repr=False)
class FiniteGroup:
    """A finite group given by its multiplication table.

    Args:
        table: number of the product ab at [a, b]; element 0 is the identity.
        name: what messages and tables call the group.

    Shape: table (n, n) int64.
    Raises: ValueError for a table that is no group's.

    Example:
        >>> from spheregeo.groups import FiniteGroup
        >>> group = FiniteGroup.of("D4")
        >>> group.order, len(group.classes)
        (8, 5)
    """

    table: Tensor
    name: str = "G"

    def __post_init__(self) -> None:
        table = self.table
        if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table) or table.is_floating_point():
            raise ValueError(
                f"table has shape {tuple(table.shape)} and type {table.dtype}; expected (n, n) integers"
            )
        everything = torch.arange(len(table))
        square = torch.equal(table[0], everything) and torch.equal(table[:, 0], everything)
        for lines in (table, table.T):
            square = square and torch.equal(lines.sort(1).values, everything.expand_as(table))
        if not square:
            raise ValueError(
                "table is no group's: element 0 is no identity, or a row or column repeats an element"
            )
        for a in range(len(table)):
            if not torch.equal(table[table[a]], table[a][table]):
                raise ValueError(f"table is no group's: (ab)c is not a(bc) for a = {a}")

    # ---- ways to make one

    @classmethod
    def of(cls, name: str | FiniteGroup) -> FiniteGroup:
        """Return the group of a name, or the group itself.

        Args:
            name: "C6", "D4", "T", "O", "I" (rotations of the solids), "A5", "S4", "Q8", direct products such as "C10xC10xC2", or
                "(C5xC5):Q8", the quaternions acting on the plane over five elements. An element of D_n has the number
                n m + r: a reflection if m is 1, then the turn by 2πr/n, as in planar groups.

        Raises: ValueError for other names, and for more than 1024 elements.
        """
        if isinstance(name, FiniteGroup):
            return name
        text = name.replace(" ", "").replace("×", "x")
        if text == "(C5xC5):Q8":
            return cls.from_permutations([*_on_plane(_Q8), *_shifts()], text)
        parts = [_simple(part, name) for part in text.split("x")]
        found = parts[0]
        for part in parts[1:]:
            found = found.times(part)
        return found

    @classmethod
    def from_matrices(cls, elements: Tensor, name: str = "G") -> FiniteGroup:
        """Return the group of a closed stack of matrices, identity first.

        Args:
            elements: the matrices, such as :func:`~spheregeo.groups.octahedral` returns.
            name: name of the group.

        Shape: elements (n, d, d). Raises: ValueError for a stack that is not closed.
        """
        return cls(multiplication_table(elements), name)

    @classmethod
    def from_permutations(cls, generators: Sequence[Sequence[int]], name: str = "G") -> FiniteGroup:
        """Return the group that permutations generate; the product ab does b first.

        Args:
            generators: images of the points 0 … k − 1 under each generator.
            name: name of the group.

        Raises: ValueError for lists that are no permutations, and for more than 1024 elements.
        """
        if not len(generators):
            raise ValueError("generators is empty; expected one permutation or more")
        points = len(generators[0])
        given = [tuple(int(i) for i in g) for g in generators]
        if any(sorted(g) != list(range(points)) for g in given):
            raise ValueError(f"generators hold what is no permutation of 0 … {points - 1}")
        elements, numbers = [tuple(range(points))], {tuple(range(points)): 0}
        for element in elements:  # grows while it is read
            for g in given:
                new = tuple(g[i] for i in element)
                if new not in numbers:
                    numbers[new] = len(elements)
                    elements.append(new)
            if len(elements) > LARGEST:
                raise ValueError(f"generators make more than {LARGEST} elements")
        table = [[numbers[tuple(a[i] for i in b)] for b in elements] for a in elements]
        return cls(torch.tensor(table), name)

    def times(self, other: FiniteGroup) -> FiniteGroup:
        """Return the direct product; the pair (a, b) has the number a · other.order + b.

        Args:
            other: the second factor.
        """
        _check_order(self.order * other.order, f"{self.name}x{other.name}")
        a, b = self.table, other.table
        table = (a[:, None, :, None] * len(b) + b[None, :, None, :]).reshape(len(a) * len(b), -1)
        return FiniteGroup(table, f"{self.name}x{other.name}")

    # ---- what the table tells

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.table)

    @cached_property
    def inverse(self) -> Tensor:
        """Number of the inverse of each element. Shape: (n,)."""
        return (self.table == 0).int().argmax(1)

    @cached_property
    def relative(self) -> Tensor:
        """Number of a⁻¹b at [a, b]. Shape: (n, n)."""
        return self.table[self.inverse]

    @cached_property
    def classes(self) -> list[Tensor]:
        """The conjugacy classes, each the sorted numbers of its elements."""
        conjugates = self.table[self.table, self.inverse[:, None]]  # [a, x] -> a x a⁻¹
        return _parts(conjugates.T)

    def subgroup(self, generators: Sequence[int]) -> Tensor:
        """Return the sorted numbers of the elements that some elements generate; () gives the trivial subgroup.

        Args:
            generators: numbers of elements.

        Raises: ValueError for numbers outside the group.
        """
        if any(not 0 <= g < self.order for g in generators):
            raise ValueError(
                f"generators are {list(generators)}; expected numbers of elements, 0 … {self.order - 1}"
            )
        found = torch.zeros(1, dtype=torch.int64)
        step = torch.tensor([0, *generators])
        while True:
            more = self.table[found[:, None], step].unique()
            if len(more) == len(found):
                return more
            found = more

    @cached_property
    def generators(self) -> list[int]:
        """Numbers of a few elements that generate the group."""
        chosen: list[int] = []
        known = self.subgroup(())
        while len(known) < self.order:
            outside = [g for g in range(self.order) if not bool((known == g).any())]
            sizes = [(len(self.subgroup([*chosen, g])), -g) for g in outside]
            chosen.append(-max(sizes)[1])
            known = self.subgroup(chosen)
        return chosen

    @cached_property
    def subgroups(self) -> list[Tensor]:
        """Subgroups that one or two elements generate, one of each class of conjugates, by size.

        These are all subgroups of cyclic, dihedral and polyhedral groups.
        """
        found: dict[tuple[int, ...], Tensor] = {}
        seen: set[tuple[int, ...]] = set()
        firsts = [int(c[0]) for c in self.classes]
        for a, b in product(firsts, range(self.order)):
            group = self.subgroup([a, b])
            key = tuple(group.tolist())
            if key in seen:
                continue
            found[key] = group
            conjugates = self.table[self.table[:, group], self.inverse[:, None]].sort(1).values
            seen.update(tuple(c) for c in conjugates.tolist())
        return sorted(found.values(), key=len)

    def check_subgroup(self, subgroup: Tensor | Sequence[int], what: str = "subgroup") -> Tensor:
        """Return a subgroup's numbers, sorted.

        Args:
            subgroup: numbers of its elements.
            what: name of the argument in messages.

        Raises: ValueError for elements that are no subgroup.
        """
        given = torch.as_tensor(subgroup, dtype=torch.int64).reshape(-1).unique()
        closed = self.subgroup(given.tolist())
        if not torch.equal(given, closed):
            raise ValueError(
                f"{what} is {given.tolist()}, which is not closed; it generates {closed.tolist()}"
            )
        return closed

    def cosets(self, subgroup: Tensor | Sequence[int]) -> list[Tensor]:
        """Return the left cosets gH, each the sorted numbers of its elements; H itself first.

        Args:
            subgroup: numbers of the elements of H.

        Raises: ValueError for elements that are no subgroup.
        """
        return _parts(self.table[:, self.check_subgroup(subgroup)])

    def coset_index(self, subgroup: Tensor | Sequence[int]) -> Tensor:
        """Return the number of the left coset gH of each element g. Shape: -> (n,)."""
        return _labels(self.cosets(subgroup), self.order)

    def action_on_cosets(self, subgroup: Tensor | Sequence[int]) -> Tensor:
        """Return where each element g takes each coset: [g, k] is the number of g · coset k. Shape: -> (n, |G/H|)."""
        cosets = self.cosets(subgroup)
        first = torch.stack([c[0] for c in cosets])
        return _labels(cosets, self.order)[self.table[:, first]]

    def double_cosets(self, left: Tensor | Sequence[int], right: Tensor | Sequence[int]) -> list[Tensor]:
        """Return the double cosets H g K, each the sorted numbers of its elements; the one of the identity first.

        Args:
            left: numbers of the elements of H.
            right: numbers of the elements of K.

        Raises: ValueError for elements that are no subgroup.
        """
        h, k = self.check_subgroup(left, "left"), self.check_subgroup(right, "right")
        products = self.table[self.table[h].T][:, :, k]  # [g, h, k] -> h g k
        return _parts(products.flatten(1))

    def __repr__(self) -> str:
        return f"<{self.name}, a finite group of {self.order} elements>"


def _parts(members: Tensor) -> list[Tensor]:
    """Different sets among the rows, in the order of their smallest members. Shape: (n, k)."""
    parts, done = [], torch.zeros(len(members), dtype=torch.bool)
    for g in range(len(members)):
        if not done[g]:
            parts.append(members[g].unique())
            done[parts[-1]] = True
    return parts


def _labels(parts: Sequence[Tensor], count: int) -> Tensor:
    labels = torch.empty(count, dtype=torch.int64)
    for k, part in enumerate(parts):
        labels[part] = k
    return labels


def _check_order(order: int, name: str) -> None:
    if order > LARGEST:
        raise ValueError(
            f"group {name} has {order} elements; expected at most {LARGEST}, a table of which fits"
        )


def _simple(text: str, given: str) -> FiniteGroup:
    if text in _SOLIDS:
        return FiniteGroup.from_matrices(_SOLIDS[text](), text)
    match = _NAMED.fullmatch(text)
    kind, n = (match[1], int(match[2])) if match else ("", 0)
    if kind in ("C", "D"):
        _check_order(n if kind == "C" else 2 * n, text)
    if kind == "C" and n >= 1:
        r = torch.arange(n)
        return FiniteGroup((r[:, None] + r) % n, text)
    if kind == "D" and n >= 1:
        m, r = torch.arange(2 * n) // n, torch.arange(2 * n) % n
        turn = (r[:, None] + (1 - 2 * m)[:, None] * r) % n
        return FiniteGroup(n * (m[:, None] ^ m) + turn, text)
    if kind == "A" and 3 <= n <= 6:
        cycles = []
        for k in range(2, n):
            points = list(range(n))
            points[0], points[1], points[k] = 1, k, 0
            cycles.append(points)
        return FiniteGroup.from_permutations(cycles, text)
    if kind == "S" and 2 <= n <= 6:
        return FiniteGroup.from_permutations([[1, 0, *range(2, n)], [*range(1, n), 0]], text)
    if text == "Q8":
        return FiniteGroup.from_permutations(_on_plane(_Q8), text)
    raise ValueError(
        f"group is {given!r}; expected C_n, D_n, T, O, I, A3 … A6, S2 … S6, Q8, products such as 'C5xC5', or '(C5xC5):Q8'"
    )


def _on_plane(matrices: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Permutations of the points 5a + b of the plane over five elements."""
    points = list(product(range(5), repeat=2))
    return [
        [5 * ((p * a + q * b) % 5) + (r * a + s * b) % 5 for a, b in points] for (p, q), (r, s) in matrices
    ]


def _shifts() -> list[list[int]]:
    points = list(product(range(5), repeat=2))
    return [[5 * ((a + 1) % 5) + b for a, b in points], [5 * a + (b + 1) % 5 for a, b in points]]

r"""Finite groups of the plane, C_n and D_n, and the fields that layers of group convolutions carry.

Element h = n m + r of D_n reflects x -> -x if m = 1 and then turns by 2 pi r/n, counter-clockwise with y upwards; C_n has m = 0
alone. Elements act on signals by (h f)(p) = f(h⁻¹ p): on arrays of square pixels, ``flip`` of the last axis and ``rot90``.
Reference: Cohen & Welling 2016, arXiv:1602.07576; Weiler & Cesa 2019, arXiv:1911.08251.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from spheregeo.checks import check_least

_GROUP = re.compile(r"([CD])([1-9]\d*)")
_TERM = re.compile(r"([1-9]\d*)\s*[x×]\s*(0|([CD][1-9]\d*)(?:/([CD][1-9]\d*))?)")


@dataclass(frozen=True, repr=False)
class PlanarGroup:
    """Group of n turns about the origin, with ``reflections`` also their products with the reflection x → −x.

    Args:
        n: number of turns.
        reflections: whether the group is D_n, of 2n elements, rather than C_n.

    Raises: ValueError for n below 1.
    Reference: Cohen & Welling 2016, arXiv:1602.07576, sections 4.2 and 4.3.

    Example:
        >>> group = PlanarGroup.of("D4")
        >>> group.size, group.product(4, 1)  # a quarter turn and then the reflection
        (8, 7)
    """

    n: int
    reflections: bool = False

    def __post_init__(self) -> None:
        check_least(n=(self.n, 1))

    @classmethod
    def of(cls, spec: str | PlanarGroup) -> PlanarGroup:
        """Return the group itself, or the one that text such as "C8" or "D4" names.

        Args:
            spec: the group or its name.

        Raises: ValueError for other text.
        """
        if isinstance(spec, PlanarGroup):
            return spec
        match = _GROUP.fullmatch(spec.strip())
        if match is None:
            raise ValueError(
                f"group is {spec!r}; expected a name such as 'C8' (turns) or 'D4' (also reflections)"
            )
        return cls(int(match[2]), match[1] == "D")

    @property
    def size(self) -> int:
        """Number of elements, 2n with reflections."""
        return 2 * self.n if self.reflections else self.n

    @property
    def is_exact(self) -> bool:
        """Whether the elements map square pixels onto square pixels: n is 1, 2 or 4."""
        return self.n in (1, 2, 4)

    def product(self, a: int, b: int) -> int:
        """Return the index of a·b, which applies b first.

        Args:
            a, b: indices of elements.
        """
        (m, r), (k, s) = divmod(a, self.n), divmod(b, self.n)
        return (m ^ k) * self.n + (r + (-s if m else s)) % self.n

    def inverse(self, a: int) -> int:
        """Return the index of the inverse of an element.

        Args:
            a: index of the element.
        """
        m, r = divmod(a, self.n)
        return a if m else -r % self.n

    @property
    def table(self) -> Tensor:
        """Index of every product a·b. Shape: (size, size) int64."""
        return _tables(self)[0]

    @property
    def relative(self) -> Tensor:
        """Index of every h⁻¹·s, which permutes the channels of a regular field. Shape: (size, size) int64."""
        return _tables(self)[1]

    @property
    def matrices(self) -> Tensor:
        """Matrices of the elements on (x, y), x to the right and y upwards. Shape: (size, 2, 2) float64."""
        return _matrices(self)

    def subgroup(self, spec: str | PlanarGroup) -> tuple[int, ...]:
        """Return the indices of the elements of a subgroup: k turns with k a divisor of n, and for D_k the reflection.

        Args:
            spec: the subgroup or its name, such as "C2" or "D1".

        Raises: ValueError for what is no subgroup.
        """
        sub = PlanarGroup.of(spec)
        if self.n % sub.n or (sub.reflections and not self.reflections):
            raise ValueError(f"{sub} is no subgroup of {self}")
        step = self.n // sub.n
        return tuple(m * self.n + step * r for m in range(1 + sub.reflections) for r in range(sub.n))

    def turn(self, x: Tensor, h: int) -> Tensor:
        """Return f(h⁻¹ p) on square pixels, exactly. Elements with an odd number of quarter turns swap height and width.

        Args:
            x: images; array rows run downwards.
            h: index of the element.

        Shape: (..., H, W) -> (..., H, W) or (..., W, H).
        Raises: ValueError for groups that are not exact on pixels, and for an index outside the group.
        """
        if not self.is_exact:
            raise ValueError(
                f"group is {self}; expected n of 1, 2 or 4: other turns do not map pixels onto pixels"
            )
        if not 0 <= h < self.size:
            raise ValueError(f"h is {h}; expected an index below {self.size} for group {self}")
        m, r = divmod(h, self.n)
        return torch.rot90(x.flip(-1) if m else x, r * (4 // self.n), (-2, -1))

    def __str__(self) -> str:
        return f"{'D' if self.reflections else 'C'}{self.n}"

    def __repr__(self) -> str:
        return f"PlanarGroup.of('{self}')"


@dataclass(frozen=True, init=False, repr=False)
class PlanarType:
    """A stack of fields of a planar group, such as ``PlanarType.of("3x0 + 16xD4 + 4xD4/C2")``.

    ``0`` is a trivial field (one channel, kept by every element), ``D4`` a regular field (one channel for each element of the
    group) and ``D4/C2`` a quotient field (one channel for each coset of a subgroup: what a turn by C2 does not change). Fields
    lie one after another, the channels of a field side by side, elements in the group's order. Neighbouring terms of one kind are
    merged, so types are equal where their channels are.

    Args:
        terms: (number of fields, subgroup or None) for each kind, None for a trivial field, "C1" for a regular one.
        group: the group; None where all fields are trivial.

    Shape: ``dim`` channels.
    Raises: ValueError for fields of two groups, numbers below 1, subgroups that are none.

    Example:
        >>> fields = PlanarType.of("3x0 + 16xD4 + 4xD4/C2")
        >>> fields.dim, fields.num_fields
        (147, 23)
    """

    terms: tuple[tuple[int, str | None], ...]
    group: PlanarGroup | None

    def __init__(
        self, terms: tuple[tuple[int, str | None], ...], group: PlanarGroup | str | None = None
    ) -> None:
        group = None if group is None else PlanarGroup.of(group)
        if not terms:
            raise ValueError("a type needs at least one term, such as '16xD4'")
        merged: list[tuple[int, str | None]] = []
        for number, sub in terms:
            check_least(fields=(number, 1))
            if sub is not None:
                if group is None:
                    raise ValueError(f"group is None but a field has the subgroup {sub}; expected a group")
                sub = str(PlanarGroup.of(sub))
                group.subgroup(sub)
            if merged and merged[-1][1] == sub:
                merged[-1] = (merged[-1][0] + number, sub)
            else:
                merged.append((number, sub))
        object.__setattr__(self, "terms", tuple(merged))
        object.__setattr__(self, "group", group if any(sub is not None for _, sub in merged) else None)

    @classmethod
    def of(cls, spec: str | PlanarType) -> PlanarType:
        """Return the type itself, or the one that text such as "3x0 + 16xD4 + 4xD4/C2" describes.

        Args:
            spec: the type or its text.

        Raises: ValueError for other text, and for fields of two groups.
        """
        if isinstance(spec, PlanarType):
            return spec
        terms: list[tuple[int, str | None]] = []
        names: set[str] = set()
        for part in str(spec).split("+"):
            match = _TERM.fullmatch(part.strip())
            if match is None:
                raise ValueError(
                    f"type is {spec!r} and its term {part.strip()!r} cannot be read; expected a sum of terms such as "
                    "'3x0 + 16xD4 + 4xD4/C2': trivial, regular and quotient fields"
                )
            terms.append((int(match[1]), None if match[3] is None else match[4] or "C1"))
            names.update([match[3]] if match[3] else [])
        if len(names) > 1:
            raise ValueError(f"type is {spec!r}, fields of {' and '.join(sorted(names))}; expected one group")
        return cls(tuple(terms), names.pop() if names else None)

    @property
    def dim(self) -> int:
        """Number of channels."""
        return sum(number * self.width(sub) for number, sub in self.terms)

    @property
    def num_fields(self) -> int:
        """Number of fields of all kinds."""
        return sum(number for number, _ in self.terms)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each field, in order."""
        return tuple(self.width(sub) for number, sub in self.terms for _ in range(number))

    def width(self, sub: str | None) -> int:
        """Return the channels of one field of a kind.

        Args:
            sub: its subgroup, as in ``terms``.
        """
        return 1 if sub is None or self.group is None else self.group.size // PlanarGroup.of(sub).size

    def permutation(self, h: int, group: PlanarGroup | str | None = None) -> Tensor:
        """Return the channel of f that each channel of T_h f is, before pixels move.

        Args:
            h: index of an element.
            group: the group of h, for a type of trivial fields alone, which has none.

        Shape: (dim,) int64.
        Raises: ValueError for an index outside the group, or another group than the fields'.
        """
        acting = self._acting(group)
        if not 0 <= h < acting.size:
            raise ValueError(f"h is {h}; expected an index below {acting.size} for group {acting}")
        start, parts = 0, []
        for number, sub in self.terms:
            one = torch.zeros(1, dtype=torch.int64) if sub is None else cosets(acting, sub)[1][h]
            first = start + len(one) * torch.arange(number)
            parts.append((first[:, None] + one).flatten())
            start += number * len(one)
        return torch.cat(parts)

    def act(self, x: Tensor, h: int, group: PlanarGroup | str | None = None) -> Tensor:
        """Return T_h f: channels permuted and pixels moved, exactly.

        Args:
            x: fields of this type on square pixels.
            h: index of an element of the group, which must be exact on pixels.
            group: the group of h, for a type of trivial fields alone, which has none.

        Shape: (..., dim, H, W) -> (..., dim, H, W), or (..., dim, W, H) for odd quarter turns.
        Raises: ValueError for other channels, groups that are not exact on pixels, an index outside the group.
        """
        if x.ndim < 3 or x.shape[-3] != self.dim:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (..., {self.dim}, H, W), fields of type '{self}'"
            )
        moved = self.permutation(h, group).to(x.device)
        return self._acting(group).turn(x.index_select(-3, moved), h)

    def _acting(self, group: PlanarGroup | str | None) -> PlanarGroup:
        given = None if group is None else PlanarGroup.of(group)
        if self.group is not None and given not in (None, self.group):
            raise ValueError(f"group is {given}; expected {self.group}, that of type '{self}'")
        found = self.group or given
        if found is None:
            raise ValueError(
                f"type '{self}' has trivial fields alone, which no group is read off; give group"
            )
        return found

    def __str__(self) -> str:
        kinds = {None: "0", "C1": str(self.group)}
        return " + ".join(f"{number}x{kinds.get(sub, f'{self.group}/{sub}')}" for number, sub in self.terms)

    def __repr__(self) -> str:
        return f"PlanarType.of('{self}')"


@cache
@torch.inference_mode(False)  # kept tensors serve training, too
def cosets(group: PlanarGroup, sub: str) -> tuple[Tensor, Tensor]:
    """Return the left cosets s·K of a subgroup K, and how elements move them: the coset h⁻¹·s·K for each h and s.

    Args:
        group: the group.
        sub: name of the subgroup, such as "C1", whose cosets are the elements, or "C2".

    Shape: coset of each element (size,), moved (size, cosets) int64; cosets are numbered by their first elements.
    Raises: ValueError for what is no subgroup.
    """
    within = group.subgroup(sub)
    number = [-1] * group.size
    firsts: list[int] = []
    for s in range(group.size):
        if number[s] < 0:
            for k in within:
                number[group.product(s, k)] = len(firsts)
            firsts.append(s)
    which = torch.tensor(number)
    return which, which[group.relative[:, firsts]]


@cache
@torch.inference_mode(False)  # kept tensors serve training, too
def _tables(group: PlanarGroup) -> tuple[Tensor, Tensor]:
    every = range(group.size)
    products = torch.tensor([[group.product(a, b) for b in every] for a in every])
    return products, products[[group.inverse(a) for a in every]]


@cache
@torch.inference_mode(False)  # kept tensors serve training, too
def _matrices(group: PlanarGroup) -> Tensor:
    out = []
    for h in range(group.size):
        m, r = divmod(h, group.n)
        quarters, rest = divmod(4 * r, group.n)  # whole quarter turns have exact zeros and ones
        angle = math.pi / 2 * (rest / group.n)
        cos, sin = math.cos(angle), math.sin(angle)
        for _ in range(quarters):
            cos, sin = -sin, cos
        sign = -1.0 if m else 1.0
        out.append([[sign * cos, -sin], [sign * sin, cos]])
    return torch.tensor(out, dtype=torch.float64) + 0.0

r"""Largest (smallest) sums of values and coefficients: over shifts of planes, and over the nonzeros of any pattern.

(max, +) is the semiring of dilation and of pooling with a learned structuring function, (min, +) that of erosion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.max_plus import MaxRows, Stencil, contract
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.patterns import Pattern
from spheregeo.sparse.patterns.base import counts_to_indptr
from spheregeo.sparse.registry import check_engine

SEMIRINGS = ("max", "min")


def _check_semiring(semiring: str) -> None:
    if semiring not in SEMIRINGS:
        raise ValueError(f"semiring is {semiring!r}; expected 'max' or 'min'")


def max_plus_planes(
    x: Tensor,
    kernel: Tensor,
    shifts: Sequence[tuple[int, int, int]],
    *,
    semiring: str = "max",
    engine: str | None = None,
) -> Tensor:
    r"""y[b, d, o, p] = max over inputs c of the group and taps t of x[b, c, o + turn_t, p + shift_t] + kernel[d, c, o, t].

    The axis of turns is periodic; outside the plane nothing is seen. Of equal sums the first tap gets the gradient; there are
    derivatives of every order.

    Args:
        x: planes.
        kernel: coefficients; −∞ for a tap that an output does not have (+∞ in the semiring "min").
        shifts: (turn, down, right) of each tap, in places of the array.
        semiring: "max", or "min" for smallest sums.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: x (B, C, O, H, W), kernel (D, C / groups, O, T) or, alike for all turns, (D, C / groups, 1, T) -> (B, D, O, H, W).
    Raises: ValueError for shapes that disagree, no taps, or an unknown semiring or engine.

    Example:
        >>> x = torch.tensor([[[[[0.0, 5.0, 1.0]]]]])
        >>> max_plus_planes(x, torch.tensor([[[[0.0, -1.0]]]]), [(0, 0, 0), (0, 0, 1)])
        tensor([[[[[4., 5., 1.]]]]])
    """
    _check_semiring(semiring)
    if x.ndim != 5 or kernel.ndim != 4:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and kernel {tuple(kernel.shape)}; expected (B, C, turns, H, W) and "
            "(D, C / groups, turns or 1, taps)"
        )
    channels, turns = x.shape[1], x.shape[2]
    outputs, inputs, of_turns, taps = kernel.shape
    if not inputs or channels % inputs or outputs % (channels // inputs):
        raise ValueError(
            f"kernel has {outputs} outputs of {inputs} inputs and x {channels} channels; expected channels that are a multiple "
            "of the inputs, and outputs that are one of the number of groups"
        )
    if of_turns not in (1, turns) or not taps or taps != len(shifts):
        raise ValueError(
            f"kernel has {of_turns} turns and {taps} taps, x has {turns} turns, and there are {len(shifts)} shifts; expected "
            "1 turn or those of x, and a shift for every tap, one at least"
        )
    name = check_engine(engine)
    structure = Stencil(channels, inputs, tuple((int(a), int(b), int(c)) for a, b, c in shifts))
    kernel = kernel.to(x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32)
    kernel = kernel.expand(-1, -1, turns, -1)
    if not x.numel():
        return x.sum() * kernel.sum() * x.new_zeros(structure.result(x, kernel))
    if semiring == "min":
        return -contract(name, structure, ([], structure.sizes), -x, -kernel)
    return contract(name, structure, ([], structure.sizes), x, kernel)


class MaxPlusMap(FixedMap):
    r"""y_p = max over the nonzeros t of row p of x at t's source plus t's coefficient, channel by channel.

    Args:
        pattern: which source points each target point sees.
        semiring: "max", or "min" for smallest sums.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: ``map(x, values)``: x (B, C, Q), values (C, T) or, alike for all channels, (T,), for the T columns of the pattern's
        table -> (B, C, P); a row without nonzeros gives −∞ (+∞).
    Raises: ValueError for shapes that disagree or an unknown semiring.

    Example:
        >>> from spheregeo.sparse import CSRPattern, MaxPlusMap
        >>> pattern = CSRPattern.of(torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), 2)
        >>> MaxPlusMap(pattern)(torch.tensor([[[1.0, 3.0]]]), torch.tensor([0.5, 0.0, -1.0]))
        tensor([[[1.5000, 2.0000]]])
    """

    def __init__(self, pattern: Pattern, *, semiring: str = "max", engine: str | None = None) -> None:
        super().__init__(engine)
        _check_semiring(semiring)
        self.semiring = semiring
        self.num_source, self.num_target = pattern.num_source, pattern.num_target
        self.num_values, self.num_nonzeros, self.kind = pattern.num_values, pattern.num_nonzeros, pattern.kind
        target, source, column = pattern.coo()
        order = target.argsort(stable=True)
        self._keep("indptr", counts_to_indptr(torch.bincount(target, minlength=pattern.num_target)))
        self._keep("source", source[order].to(torch.int32))
        self._keep("column", column[order].to(torch.int32))

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        """Features to their largest (smallest) sums with coefficients."""
        if x.ndim != 3 or x.shape[2] != self.num_source:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, {self.num_source})")
        if values.ndim == 1:
            values = values.expand(x.shape[1], -1)
        if values.shape != (x.shape[1], self.num_values):
            raise ValueError(
                f"values has shape {tuple(values.shape)}; expected ({self.num_values},) or ({x.shape[1]}, {self.num_values})"
            )
        if not x.numel():
            return x.sum() * values.sum() * x.new_zeros(*x.shape[:2], self.num_target)
        values = values.to(x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32)
        tensors = self._given(("indptr", "source", "column"))
        structure: MaxRows | None = self._made.get("structure")
        if torch.compiler.is_compiling() or structure is None or structure.indptr is not tensors[0]:
            structure = MaxRows(tensors[0], tensors[1], tensors[2], self.num_source, self.num_values)
            if not torch.compiler.is_compiling():
                self._made["structure"] = structure
        parts = tensors, structure.sizes
        if self.semiring == "min":
            return -contract(self.engine, structure, parts, -x, -values)
        return contract(self.engine, structure, parts, x, values)

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, nonzeros={self.num_nonzeros}, semiring={self.semiring!r}, "
            f"kind={self.kind!r}, engine={self.engine!r}"
        )

r"""Maps of irreps features at one point: linear, and dropout of whole copies.

By Schur's lemma an O(3)-equivariant linear map sends irrep l, p to the same l, p and mixes copies alone: a real matrix for each
irrep, the same for all components. A bias is legal on even scalars (0e) only; on 0o it would break inversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from e3nn.o3 import Irrep, Irreps, Linear
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.autograd import is_watched
from spheregeo.nn.irreps.copies import PerCopy
from spheregeo.nn.irreps.layout import (
    EVEN,
    as_irreps,
    check_features,
    check_layout,
    join_rows,
    places_of,
    split_rows,
)
from spheregeo.nn.irreps.linear_product import Mix, Plan, Product
from spheregeo.nn.irreps.stack_layout import StackLayout
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of
from spheregeo.nn.kept import KeptInEvaluation


def _plan(source: StackLayout, target: StackLayout) -> Plan:
    begin = {ir: i for i, ir in enumerate(source.irs)}
    products, numel, weights_of = [], 0, {}
    for j, ir in enumerate(target.irs):
        copies = target.copies[j]
        if ir in begin:
            i = begin[ir]
            weights_of[ir] = (j, numel)
            products.append(
                Product(ir.dim, source.copies[i], copies, source.starts[i], target.starts[j], numel)
            )
            numel += source.copies[i] * copies
        else:
            products.append(Product(ir.dim, 0, copies, 0, target.starts[j], -1))
    adjoint = []
    for i, ir in enumerate(source.irs):
        if ir in weights_of:
            j, k = weights_of[ir]
            adjoint.append(
                Product(ir.dim, target.copies[j], source.copies[i], target.starts[j], source.starts[i], k)
            )
        else:
            adjoint.append(Product(ir.dim, 0, source.copies[i], 0, source.starts[i], -1))
    dims = (sum(source.widths), sum(target.widths))
    return Plan(tuple(products), tuple(adjoint), *dims, source.in_order, target.in_order, numel)


class IrrepsLinear(KeptInEvaluation):
    """Equivariant linear map of irreps features, one matrix product per irrep; the self-interaction.

    ``weight`` holds a (copies in, copies out) matrix for each irrep of the output that the input has, in the order of
    appearance in the output, terms of one irrep side by side; ``matrices`` shows them. Weights are drawn so that input of
    unit component variance gives output of unit component variance, and used as they stand; e3nn's are N(0, 1) and divided
    by the root of the fan-in at each call, see ``from_e3nn``. Irreps that the input lacks come out as zero.

    Args:
        irreps_in: of the input.
        irreps_out: of the output.
        bias: whether a learned number is added to each even scalar (0e).
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps_in.dim) -> (..., irreps_out.dim), or stacks -> stacks.
    Equivariance: O(3), exact (relative error 2e-16 measured in float64, 1e-7 in float32).
    Raises: ValueError where the output has no irrep of the input, for features of other irreps or another layout.
    Reference: Thomas et al. 2018, arXiv:1802.08219, section 4.2 ("self-interaction"); equals ``e3nn.o3.Linear``.

    Example:
        >>> linear = IrrepsLinear("8x0e + 4x1o", "16x0e + 2x1o")
        >>> linear(torch.randn(10, 20)).shape
        torch.Size([10, 22])
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        bias: bool = True,
        *,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self.layout = check_layout(layout)
        self.source, self.target = StackLayout(self.irreps_in, layout), StackLayout(self.irreps_out, layout)
        self.plan = _plan(self.source, self.target)
        if not self.plan.numel:
            raise ValueError(
                f"irreps_out is {self.irreps_out}, none of which irreps_in {self.irreps_in} has; the map would be zero"
            )
        self._sizes = [p.copies_in * p.copies_out for p in self.plan.products if p.weights >= 0]
        self.weight = nn.Parameter(torch.empty(self.plan.numel))
        scalars = self.irreps_out.count(EVEN)
        self.bias = nn.Parameter(torch.zeros(scalars)) if bias and scalars else None
        self._bias_at = next((p.start_out for p, ir in self._parts() if ir == EVEN), 0)
        self._sources = [self.source.irs.index(ir) if ir in self.source.irs else -1 for ir in self.target.irs]
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self.reset_parameters()

    def _parts(self) -> Iterator[tuple[Product, Irrep]]:
        return zip(self.plan.products, self.target.irs, strict=True)

    @property
    def matrices(self) -> dict[Irrep, Tensor]:
        """Views of ``weight``, one (copies in, copies out) matrix for each irrep that input and output share."""
        return {
            ir: self.weight.narrow(0, p.weights, p.copies_in * p.copies_out).view(p.copies_in, p.copies_out)
            for p, ir in self._parts()
            if p.weights >= 0
        }

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights anew, N(0, 1/fan-in), and set the bias to zero."""
        for matrix in self.matrices.values():
            matrix.normal_(std=1 / math.sqrt(matrix.shape[0]))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            return Stacks.of(self._products(x.parts), self._terms[1])
        check_features(x, self.irreps_in)
        if is_watched():
            return self.target.join(self._products(self.source.split(x)))
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        rows = x.reshape(-1, self.plan.dim_in)
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        tables = (*self.source.tables(), *self.target.tables())
        y = Mix.apply(rows, weight, bias, self._bias_at, self.plan, False, *tables)
        return y.reshape(*x.shape[:-1], self.plan.dim_out)

    def _products(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """One matrix product for each stack, in plain torch."""
        first = parts[0]
        if torch.is_autocast_enabled(first.device.type):
            first = first.to(torch.get_autocast_dtype(first.device.type))
        dtype = first.dtype
        matrices = iter(self.kept(dtype, lambda: self._turned(dtype), [self.weight]))
        out = []
        for p, source in zip(self.plan.products, self._sources, strict=True):
            bias = None
            if self.bias is not None and p.start_out == self._bias_at:
                bias = self.bias.to(dtype)
            if p.weights >= 0:
                part = parts[source]
                out.append(
                    functional.linear(part if part.dtype is dtype else part.to(dtype), next(matrices), bias)
                )
            else:
                part = first.new_zeros(*first.shape[:-2], p.degree, p.copies_out)
                out.append(part if bias is None else part + bias)
        return out

    def _turned(self, dtype: torch.dtype) -> list[Tensor]:
        """The matrices as torch's linear maps take them: (copies out, copies in) each."""
        weights = iter(self.weight.to(dtype).split(self._sizes))
        products = [p for p in self.plan.products if p.weights >= 0]
        return [next(weights).view(p.copies_in, p.copies_out).T for p in products]

    @torch.no_grad()
    def load_e3nn(self, linear: Linear) -> IrrepsLinear:
        """Take weights and bias of an e3nn ``Linear`` between the same irreps, its normalisation included; returns self.

        Raises: ValueError for other irreps, weights that are not its own, or a bias that this layer lacks.
        """
        ours = (self.irreps_in, self.irreps_out)
        theirs = tuple(as_irreps(irreps) for irreps in (linear.irreps_in, linear.irreps_out))
        if ours != theirs or linear.weight_numel != linear.weight.numel():
            raise ValueError(
                f"linear maps {theirs[0]} to {theirs[1]}; expected {ours[0]} to {ours[1]}, own weights"
            )
        if linear.bias_numel and self.bias is None:
            raise ValueError("linear has a bias, and this layer has none; build it with bias=True")
        self.weight.zero_()
        if self.bias is not None:
            self.bias.zero_()
        read, read_bias = 0, 0
        for ins in linear.instructions:
            ir = linear.irreps_out[ins.i_out].ir
            column = sum(mul for mul, other in linear.irreps_out[: ins.i_out] if other == ir)
            size = math.prod(ins.path_shape)
            if ins.i_in < 0:
                assert self.bias is not None
                self.bias[column : column + size] = linear.bias[read_bias : read_bias + size].to(self.bias)
                read_bias += size
                continue
            row = sum(mul for mul, other in linear.irreps_in[: ins.i_in] if other == ir)
            matrix = linear.weight[read : read + size].reshape(ins.path_shape)
            read += size
            if size:
                rows, columns = ins.path_shape
                weight = self.matrices[ir]
                weight[row : row + rows, column : column + columns] = (ins.path_weight * matrix).to(weight)
        return self

    @classmethod
    def from_e3nn(cls, linear: Linear, *, layout: str = "mul_ir") -> IrrepsLinear:
        """Make the map of an e3nn ``Linear``, in the dtype of its weights."""
        ours = cls(linear.irreps_in, linear.irreps_out, linear.bias_numel > 0, layout=layout)
        return ours.to(linear.weight).load_e3nn(linear)

    def extra_repr(self) -> str:
        layout = "" if self.layout == "mul_ir" else f", layout={self.layout!r}"
        return f"'{self.irreps_in}', '{self.irreps_out}', bias={self.bias is not None}{layout}"


class IrrepsDropout(nn.Module):
    """Dropout of whole copies: all components of an irrep go or stay together, and what stays is divided by 1 - p.

    Args:
        irreps: of the features.
        p: probability that a copy is set to zero, in training.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), exact for the mask drawn; nothing happens in evaluation.
    Raises: ValueError for p outside [0, 1), or features of other irreps.
    Reference: Srivastava et al. 2014; ``e3nn.nn.Dropout``.

    Example:
        >>> dropout = IrrepsDropout("8x0e + 4x1o", 0.1)
        >>> dropout(torch.randn(10, 20)).shape
        torch.Size([10, 20])
    """

    def __init__(self, irreps: str | Irreps, p: float = 0.5, *, layout: str = "mul_ir") -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; expected a probability in [0, 1)")
        self.irreps, self.p, self.layout = as_irreps(irreps), p, check_layout(layout)
        self.num_copies = self.irreps.num_irreps
        self.copies = PerCopy(self.irreps)
        self._terms, self._places = terms_of(self.irreps), places_of(self.irreps)

    def forward(self, x: Features) -> Features:
        if not isinstance(x, Stacks):
            check_features(x, self.irreps)
            if not self.training or self.p == 0:
                return x
            stacks = Stacks.of(split_rows(x, self._places, self.layout), self._terms)
            return join_rows(self._dropped(stacks).parts, self._places, self.layout)
        check_stacks(x, self._terms)
        return self._dropped(x) if self.training and self.p > 0 else x

    def _dropped(self, x: Stacks) -> Stacks:
        like = x.parts[0]
        keep = torch.empty(*x.shape, self.num_copies, dtype=like.dtype, device=like.device)
        keep = keep.bernoulli_(1 - self.p) / (1 - self.p)
        return x.scale(self.copies.by_stack(keep))

    def extra_repr(self) -> str:
        return f"'{self.irreps}', p={self.p}"

r"""Generalised convolution between functions on quotients G/H -> G/K of a finite group.

A linear map between functions on G/H and on G/K commutes with G exactly if it is a convolution with a filter that is constant on
the double cosets HgK, so there are as many free numbers as double cosets:

    y(uK) = Σ_{xH} χ(x⁻¹u) f(xH),      χ(h g k) = χ(g).

Reference: Kondor & Trivedi 2018, arXiv 1802.03690.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least, check_tensor
from spheregeo.groups import FiniteGroup


class QuotientConv(nn.Module):
    """Convolution of functions on the cosets G/H to functions on the cosets G/K, any linear map that commutes with G.

    The trivial subgroup () means functions on the group itself, the whole group means one invariant number. Cosets are numbered
    as :meth:`~spheregeo.groups.FiniteGroup.cosets` lists them, and are the fastest index of the channels.

    Args:
        group: the group, or its name, such as "O", the 24 rotations of the cube.
        in_fields: functions on G/H that come in.
        out_fields: functions on G/K that go out.
        in_subgroup: numbers of the elements of H.
        out_subgroup: numbers of the elements of K.
        bias: whether to add a learned constant to each function that goes out.

    Shape: (B, in_fields · |G/H|, *) -> (B, out_fields · |G/K|, *).
    Equivariance: the group acts by (g f)(x) = f(g⁻¹x), exact (1e-15 measured in float64).
    Raises: ValueError for elements that are no subgroup, and for input of another number of channels.
    Reference: Kondor & Trivedi 2018, arXiv 1802.03690.

    Example:
        >>> import torch
        >>> from spheregeo.groups import FiniteGroup
        >>> from spheregeo.nn import QuotientConv
        >>> cube = FiniteGroup.of("O")
        >>> faces = next(h for h in cube.subgroups if len(h) == 4)  # turns about an axis: six cosets
        >>> QuotientConv(cube, 2, 3, in_subgroup=faces)(torch.randn(5, 12)).shape
        torch.Size([5, 72])
    """

    index: Tensor

    def __init__(
        self,
        group: str | FiniteGroup,
        in_fields: int,
        out_fields: int,
        *,
        in_subgroup: Sequence[int] | Tensor = (),
        out_subgroup: Sequence[int] | Tensor = (),
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_least(in_fields=(in_fields, 1), out_fields=(out_fields, 1))
        self.group = group = FiniteGroup.of(group)
        self.in_subgroup = group.check_subgroup([0, *map(int, in_subgroup)], "in_subgroup")
        self.out_subgroup = group.check_subgroup([0, *map(int, out_subgroup)], "out_subgroup")
        self.in_fields, self.out_fields = in_fields, out_fields
        double = group.double_cosets(self.in_subgroup, self.out_subgroup)
        label = torch.empty(group.order, dtype=torch.int64)
        for k, members in enumerate(double):
            label[members] = k
        x = torch.stack([c[0] for c in group.cosets(self.in_subgroup)])
        u = torch.stack([c[0] for c in group.cosets(self.out_subgroup)])
        self.register_buffer("index", label[group.relative[x][:, u]].T.contiguous(), persistent=False)
        self.num_parameters = len(double)  # of each pair of functions
        self.weight = nn.Parameter(torch.empty(out_fields, in_fields, len(double)))
        self.bias = nn.Parameter(torch.empty(out_fields)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of variance 1/fan-in; zero bias."""
        self.weight.normal_(0, 1 / math.sqrt(self.in_fields * self.index.shape[1]))
        if self.bias is not None:
            self.bias.zero_()

    def matrix(self) -> Tensor:
        """Return the convolution as a matrix. Shape: (out_fields · |G/K|, in_fields · |G/H|)."""
        return self.weight[:, :, self.index].transpose(1, 2).flatten(2).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.in_fields * self.index.shape[1]
        check_tensor(x, "x")
        if x.ndim < 2 or x.shape[1] != channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected {channels} channels on axis 1: {self.in_fields} functions on "
                f"{self.index.shape[1]} cosets"
            )
        y = (x.movedim(1, -1) @ self.matrix().to(x.dtype).T).movedim(-1, 1)
        if self.bias is not None:
            constants = self.bias.to(y.dtype).repeat_interleave(self.index.shape[0])
            y = y + constants.view(-1, *[1] * (y.ndim - 2))
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.group.name}, {self.in_fields} on {self.index.shape[1]} cosets -> {self.out_fields} on "
            f"{self.index.shape[0]}, {self.num_parameters} numbers each"
        )
